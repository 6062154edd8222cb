//! `andon meter`: the address and the transformer ratio of one meter, changed from here.
//!
//! Only what a profile describes is written, only after two answers were typed, and only when
//! nobody else is at the new address. Then it is read back. Run it with that one meter connected:
//! two at one address would both take the new one.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use andon_adapters::profile::{Library, Profile, Setting, SettingKind};
use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::Usage;
use crate::bus::{Fault, Setter};
use crate::config::plan::{Link, Parity};

/// What must be typed to have it written.
const WORD: &str = "write";
/// Longest line that is read from a person.
const TYPED_MAX: u64 = 256;

/// Arguments of `andon meter`.
#[derive(Debug, Args)]
pub struct MeterArgs {
    #[command(subcommand)]
    command: MeterCommand,
}

#[derive(Debug, Subcommand)]
enum MeterCommand {
    /// Give the one connected meter another unit id
    SetAddress {
        #[command(flatten)]
        meter: Which,
        /// The new unit id
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=247))]
        to: u8,
    },
    /// Tell the one connected meter the ratio of its current transformers
    SetCtRatio {
        #[command(flatten)]
        meter: Which,
        /// Primary to secondary: 40 for 200 A to 5 A
        #[arg(long)]
        to: f64,
    },
}

/// Which meter, and how it is reached.
#[derive(Debug, Args)]
struct Which {
    /// The serial port, /dev/serial/by-id/…
    port: PathBuf,
    /// What it is
    #[arg(long, value_name = "VENDOR/DEVICE")]
    profile: String,
    /// Its unit id now
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=247))]
    unit: u8,
    /// The speed of the line
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// The parity of the line: N, E or O
    #[arg(long, default_value_t = 'N')]
    parity: char,
    /// Stop bits, 1 or 2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// A folder of profiles beside those in the binary
    #[arg(long = "profiles", value_name = "DIR")]
    overlay: Option<PathBuf>,
}

/// Changes the setting.
///
/// # Errors
/// When the profile does not say how, somebody did not type what was asked for, another unit
/// answers at the new address, or the meter does not hold the new value.
pub async fn run(args: MeterArgs) -> anyhow::Result<()> {
    let (which, kind, value) = match args.command {
        MeterCommand::SetAddress { meter, to } => (meter, SettingKind::Address, f64::from(to)),
        MeterCommand::SetCtRatio { meter, to } => (meter, SettingKind::CtRatio, to),
    };
    let (library, problems) = Library::load(which.overlay.as_deref());
    for problem in &problems {
        tracing::warn!("{problem}");
    }
    let profile = library
        .get(&which.profile)
        .with_context(|| format!("there is no profile \"{}\"", which.profile))?;
    let setting = setting(&profile, kind, value)?;
    let parity = match which.parity.to_ascii_uppercase() {
        'N' => Parity::None,
        'E' => Parity::Even,
        'O' => Parity::Odd,
        other => bail!(Usage(format!("--parity {other}: N, E or O"))),
    };
    let (port, baud, stop_bits) = (which.port.clone(), which.baud, which.stop_bits);
    let link = Link::Rtu { port, baud, parity, stop_bits };
    let told = which.port.display();
    let mut setter = Setter::open(&link).await.with_context(|| format!("{told}"))?;
    let done = change(&mut setter, &profile, setting, which.unit, value, &mut typed).await?;
    super::say(&done)
}

/// The setting, when the profile says how it is written and the value is one that it takes.
fn setting(profile: &Profile, kind: SettingKind, value: f64) -> anyhow::Result<&Setting> {
    let setting = profile.setting(kind).with_context(|| {
        format!("profile {} does not say how its {} is set", profile.id, kind.word())
    })?;
    let beyond =
        || Usage(format!("{value} is not between {} and {}", setting.least, setting.greatest));
    ensure!(setting.encode(value).is_some(), beyond());
    Ok(setting)
}

/// Asks, writes and reads back. Returns what to tell.
async fn change(
    setter: &mut Setter,
    profile: &Profile,
    setting: &Setting,
    unit: u8,
    value: f64,
    ask: &mut impl FnMut(&str) -> std::io::Result<String>,
) -> anyhow::Result<String> {
    let what = setting.kind.word();
    let before = setter.current(unit, setting).await.map_err(|fault| because(unit, fault))?;
    let before = before.with_context(|| format!("its {what} register holds no number"))?;
    let address = setting.kind == SettingKind::Address;
    if address {
        let fits = before.to_bits() == f64::from(unit).to_bits();
        ensure!(fits, "unit {unit} says that its address is {before}: is it a {}?", profile.title);
        ensure!(before.to_bits() != value.to_bits(), "its address is {value} already");
    }
    let new_unit = if address { whole(value)? } else { unit };
    if address && setter.is_taken(new_unit, setting).await.map_err(|it| because(new_unit, it))? {
        bail!("another unit answers at {new_unit}: two at one address could not be told apart");
    }
    let mut question = format!(
        "{}, unit {unit}: {what} is {before} and is to become {value}.\n\
         Only this one meter may be connected. Its documents must agree with the profile.\n",
        profile.title
    );
    if !setting.notes.is_empty() {
        question.push_str(&format!("{}\n", setting.notes));
    }
    let first = ask(&format!("{question}Type the new {what} to go on: "))?;
    ensure!(first.trim().parse() == Ok(value), "that was not {value}; nothing was written");
    let second = ask(&format!("Type {WORD} to have it written: "))?;
    ensure!(second.trim() == WORD, "that was not \"{WORD}\"; nothing was written");
    setter.write(unit, setting, value).await.map_err(|fault| because(unit, fault))?;
    let mut held = Err(Fault::Timeout);
    // Some models apply an address only after a restart, whatever their documents say.
    let places = if setting.after_restart { vec![unit] } else { vec![new_unit, unit] };
    for at in places {
        held = setter.holds(at, setting, value).await;
        if held == Ok(true) {
            let later = address && at == unit || setting.after_restart;
            return Ok(if later {
                format!("{what} is {value} once the meter has been without power: do that now")
            } else {
                format!("{what} is {value}: written and read back")
            });
        }
    }
    match held {
        Ok(_) => bail!("it was written, but the meter holds something else"),
        Err(fault) => Err(because(new_unit, fault).context("it was written, but not read back")),
    }
}

/// A unit id that a setting's bounds have let through.
fn whole(value: f64) -> anyhow::Result<u8> {
    (1..=247u8).find(|unit| f64::from(*unit).to_bits() == value.to_bits()).context("no unit id")
}

fn because(unit: u8, fault: Fault) -> anyhow::Error {
    match fault {
        Fault::Timeout => anyhow::anyhow!("unit {unit} does not answer"),
        Fault::Garbled => anyhow::anyhow!(
            "what unit {unit} answers is garbled: more than one meter, or another speed or parity"
        ),
        Fault::Exception(code) => anyhow::anyhow!("unit {unit} refuses (exception {code})"),
        Fault::Disconnected => anyhow::anyhow!("the port is gone"),
    }
}

/// Asks on stderr and reads a line from stdin.
fn typed(question: &str) -> std::io::Result<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut line = String::new();
    let mut stdin = std::io::Read::take(std::io::stdin().lock(), TYPED_MAX);
    stdin.read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::simulate::{Bench, Device};

    /// Devices on a pseudo-terminal, their witness and a setter.
    struct Line {
        folder: PathBuf,
        setter: Setter,
        _bench: Bench,
    }

    impl Line {
        async fn of(name: &str, devices: &[(u8, &str)]) -> Self {
            let device = |&(unit, id): &(u8, &str)| Device::new(unit, profile(id));
            Self::with(name, devices.iter().map(device)).await
        }

        async fn with(name: &str, devices: impl IntoIterator<Item = Device>) -> Self {
            let name = format!("andon-meter-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let bench = Bench::new(devices);
            bench.log_to(&folder.join("witness")).unwrap();
            let port = bench.start_rtu(115_200, Some(&folder.join("line"))).unwrap();
            let parity = Parity::None;
            let link = Link::Rtu { port, baud: 115_200, parity, stop_bits: 1 };
            let setter = Setter::open(&link).await.unwrap();
            Self { folder, setter, _bench: bench }
        }

        /// What was written, as the witness tells it.
        fn written(&self) -> Vec<String> {
            written(&self.folder.join("witness"))
        }
    }

    impl Drop for Line {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }

    fn written(log: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(log).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &serde_json::Value| {
                line["kind"] == "setting" || matches!(line["function"].as_u64(), Some(5..))
            })
            .filter(|line| line["kind"] != "reply")
            .map(|line| match line["kind"].as_str() {
                Some("setting") => format!("{} = {}", line["setting"], line["value"]),
                _ => format!("function {}", line["function"]),
            })
            .collect()
    }

    fn profile(id: &str) -> std::sync::Arc<Profile> {
        Library::load(None).0.get(id).unwrap()
    }

    /// Changes a setting with these answers typed.
    async fn change_to(
        line: &mut Line,
        id: &str,
        kind: SettingKind,
        (unit, value): (u8, f64),
        answers: [&str; 2],
    ) -> Result<String, String> {
        let profile = profile(id);
        let setting = setting(&profile, kind, value).map_err(|error| error.to_string())?;
        let mut answers = answers.into_iter();
        let mut ask = |_: &str| Ok(answers.next().unwrap_or_default().to_owned());
        let changed = change(&mut line.setter, &profile, setting, unit, value, &mut ask).await;
        changed.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_address_is_written_once_and_read_back_at_the_new_one() {
        for (name, id, function) in
            [("eastron", "eastron/sdm120", 16), ("pzem", "peacefair/pzem-004t-v3", 6)]
        {
            let mut line = Line::of(name, &[(1, id)]).await;
            let answers = ["7", "write"];
            let done = change_to(&mut line, id, SettingKind::Address, (1, 7.0), answers).await;
            assert_eq!(done.as_deref(), Ok("address is 7: written and read back"));
            let told = [format!("function {function}"), "\"address\" = 7.0".to_owned()];
            assert_eq!(line.written(), told);
            let again = change_to(&mut line, id, SettingKind::Address, (1, 9.0), answers).await;
            assert_eq!(again, Err("unit 1 does not answer".to_owned()));
        }
    }

    /// The simulated meter waits for its restart although the profile does not say so.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_meter_that_waits_for_a_restart_is_found_at_its_old_address() {
        let text = include_str!("../../../adapters/profiles/eastron/sdm120.toml");
        let text = text.replacen("function = 16", "function = 16\nafter_restart = true", 1);
        let waits = andon_adapters::profile::check(&text, "eastron/sdm120").unwrap();
        let mut line = Line::with("restart", [Device::new(1, waits.into())]).await;
        let address = SettingKind::Address;
        let answers = ["7", "write"];
        let done = change_to(&mut line, "eastron/sdm120", address, (1, 7.0), answers).await;
        let later = "address is 7 once the meter has been without power: do that now";
        assert_eq!(done.as_deref(), Ok(later));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_ratio_is_written_and_read_back() {
        let mut line = Line::of("ratio", &[(3, "chint/dtsu666")]).await;
        let kind = SettingKind::CtRatio;
        let done = change_to(&mut line, "chint/dtsu666", kind, (3, 40.0), ["40", "write"]).await;
        assert_eq!(done.as_deref(), Ok("ct_ratio is 40: written and read back"));
        let done =
            change_to(&mut line, "chint/dtsu666", kind, (3, 10_000.0), ["10000", "write"]).await;
        assert_eq!(done, Err("10000 is not between 1 and 9999".to_owned()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_written_without_two_right_answers() {
        let mut line = Line::of("unsure", &[(1, "eastron/sdm120")]).await;
        let address = SettingKind::Address;
        for answers in [["8", "write"], ["", "write"], ["7", "yes"], ["7", ""]] {
            let done = change_to(&mut line, "eastron/sdm120", address, (1, 7.0), answers).await;
            assert!(done.unwrap_err().contains("nothing was written"));
        }
        assert_eq!(line.written(), [""; 0]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_unit_at_the_new_address_forbids_it() {
        let mut line = Line::of("taken", &[(1, "eastron/sdm120"), (7, "renke/rs-ws")]).await;
        let address = SettingKind::Address;
        let answers = ["7", "write"];
        let done = change_to(&mut line, "eastron/sdm120", address, (1, 7.0), answers).await;
        assert!(done.unwrap_err().starts_with("another unit answers at 7"));
        let done = change_to(&mut line, "eastron/sdm120", address, (1, 1.0), answers).await;
        assert_eq!(done, Err("its address is 1 already".to_owned()));
        let done = change_to(&mut line, "abb/b23", address, (1, 2.0), answers).await;
        assert_eq!(done, Err("profile abb/b23 does not say how its address is set".to_owned()));
        assert_eq!(line.written(), [""; 0]);
    }
}
