//! A broker behind TLS and a login, as brokers on the internet are: gateway and recorder reach it,
//! and say what is wrong when the password or the roots are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use andon_tests::andon;
use andon_tests::compare::stored;
use andon_tests::peers::{Mosquitto, VictoriaMetrics};
use andon_tests::process::{Process, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::{SITE, Workshop};
use anyhow::{Result, ensure};

const PATIENCE: Duration = Duration::from_secs(30);

const USER: &str = "workshop";
const PASSWORD: &str = "nine wet cats";

/// A secret that its owner alone may read.
fn secret(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

struct Shop {
    dir: PathBuf,
    broker: Mosquitto,
    store: VictoriaMetrics,
    meter: Simulator,
}

impl Shop {
    fn start(name: &str) -> Result<Option<Self>> {
        let dir = work_dir(name)?;
        let Some(broker) = Mosquitto::start_secured(&dir, USER, PASSWORD)? else { return Ok(None) };
        let Some(store) = VictoriaMetrics::start(&dir)? else { return Ok(None) };
        let mut meter =
            Simulator::start("meter", &dir, &["eastron/sdm120", "--tcp", "127.0.0.1:0"])?;
        meter.say("set power.active=1500")?;
        secret(&dir.join("right"), &format!("{PASSWORD}\n"))?;
        secret(&dir.join("wrong"), "nine dry cats")?;
        Ok(Some(Self { dir, broker, store, meter }))
    }

    fn gateway(&self, password: &str, roots: &str) -> Result<Process> {
        let dir = &self.dir;
        let mqtt = format!(
            "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\npassword_file = \"{}\"\n\
             ca_file = \"{}\"\nrecorder = \"main\"\n",
            self.broker.port,
            dir.join(password).display(),
            dir.join(roots).display()
        );
        let workshop = Workshop::new(dir).with(&mqtt).tcp_bus("panel", self.meter.port()?);
        andon::run(dir, &workshop.meter("panel", 1, "100 ms").write(dir)?)
    }

    fn recorder(&self, name: &str, password: &str, roots: &str) -> Result<Process> {
        let broker = format!("127.0.0.1:{}", self.broker.port);
        let mut command = andon::andon(&["record", "--name", name, "--broker", &broker]);
        command.args(["--site", SITE, "--store", &self.store.url(), "--user", USER]);
        command.arg("--password-file").arg(self.dir.join(password));
        command.arg("--ca-file").arg(self.dir.join(roots));
        command.arg("--state").arg(self.dir.join("record"));
        Process::start(&format!("record-{name}-{password}-{roots}"), &self.dir, &mut command)
    }
}

#[test]
fn values_go_over_tls_with_a_login_and_are_confirmed() -> Result<()> {
    let Some(shop) = Shop::start("secured")? else { return Ok(()) };
    let mut gateway = shop.gateway("right", "ca.pem")?;
    let _recorder = shop.recorder("main", "right", "ca.pem")?;
    let key = ("panel-1".to_owned(), "power.active".to_owned());
    wait_for("twenty values in the store", PATIENCE, || {
        let found = stored(&shop.store.url()).unwrap_or_default();
        let values = found.get(&key).cloned().unwrap_or_default();
        values.iter().filter(|&&(_, value)| value == 1500.0).count() >= 20
    })?;
    let url = gateway.wait_for_line("board: http://", PATIENCE)?.replace("board: ", "");
    wait_for("the confirmation", PATIENCE, || {
        let picture = andon::get(&format!("{}/api/v1/picture", url.trim())).unwrap_or_default();
        let mqtt = &picture["gateway"]["mqtt"];
        mqtt["state"] == "up" && mqtt["behind"].as_u64().is_some_and(|behind| behind < 100)
    })
}

#[test]
fn a_wrong_password_and_wrong_roots_are_named() -> Result<()> {
    let Some(shop) = Shop::start("refused")? else { return Ok(()) };
    let refused = "the broker refuses this user name and password";
    let untrusted = "no TLS with the broker";
    for (password, roots, why) in [("wrong", "ca.pem", refused), ("right", "other.pem", untrusted)]
    {
        let mut gateway = shop.gateway(password, roots)?;
        let told = gateway.wait_for_line(why, PATIENCE)?;
        ensure!(told.contains("WARN"), "{told}");
        let url = gateway.wait_for_line("board: http://", PATIENCE)?.replace("board: ", "");
        let picture = andon::get(&format!("{}/api/v1/picture", url.trim()))?;
        let mqtt = &picture["gateway"]["mqtt"];
        ensure!(mqtt["state"] == "down", "{mqtt}");
        wait_for("the board to say why", PATIENCE, || {
            let picture = andon::get(&format!("{}/api/v1/picture", url.trim())).unwrap_or_default();
            let told = picture["gateway"]["mqtt"]["why"].as_str().map(str::to_owned);
            told.is_some_and(|told| told.contains(why))
        })?;
        let mut recorder = shop.recorder("main", password, roots)?;
        recorder.wait_for_line(why, PATIENCE)?;
        let secrets = [PASSWORD, "nine dry cats"];
        for log in [&gateway.log, &recorder.log] {
            let log = std::fs::read_to_string(log)?;
            ensure!(!secrets.iter().any(|secret| log.contains(secret)), "a secret in a log");
        }
    }
    Ok(())
}
