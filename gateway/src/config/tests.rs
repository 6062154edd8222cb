//! The checker from without: text in, a plan or problems out. Here are a folder of a test's own and
//! the smallest shop; the tests are beside, by subject.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use super::{Loaded, Problem, load_with};

mod layers;
mod machines;
mod sources;
mod warnings;
mod whole;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "andon-config-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = Self(env::temp_dir().join(name));
        for (file, text) in files {
            let path = folder.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
        let pairs = environment.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        load_with(&self.0, pairs)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const SHOP: &str = r#"
[site]
id = "lab"
time_zone = "Asia/Shanghai"
[bus.panel]
type = "modbus-rtu"
port = "/dev/serial/by-id/usb-A"
baud = 9600
[source.meter]
bus = "panel"
unit_id = 3
profile = "eastron/sdm120"
period = "2 s"
ct_ratio = 20
[machine.saw]
kind = "table-saw"
items = { "power.active" = "meter.power.active" }
activity = { from = "power.active", idle_above = "15 W", run_above = "0.12 kW" }
[machine.twin]
kind = "other"
items = { "power.active.l1" = "meter.power.active" }
"#;

fn told(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    })
}

/// What is made of this text alone, which is sound.
fn sound(text: &str) -> Loaded {
    Folder::new(&[("andon.toml", text)]).load(&[]).map_err(|problems| told(&problems)).unwrap()
}

/// What is wrong with this text alone; nothing when it is sound.
fn wrong(text: &str) -> String {
    match Folder::new(&[("andon.toml", text)]).load(&[]) {
        Ok(_) => String::new(),
        Err(problems) => told(&problems),
    }
}
