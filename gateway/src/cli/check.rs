//! `andon check`: says everything that is wrong with a configuration, without touching a device.
//!
//! Problems and warnings go to stderr, the summary (or `--json`) to stdout; exit code 78
//! (`EX_CONFIG`) when anything is wrong.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::EXIT_CONFIG;
use super::plan::overloads;
use crate::config::plan::Plan;
use crate::config::{self, Problem};

/// Check a configuration and report every problem at once
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration: a file, or a folder with andon.toml and conf.d in it
    #[arg(long, value_name = "PATH", env = "ANDON_CONFIG", default_value = "/etc/andon")]
    pub config: PathBuf,
    /// Report as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Runs `andon check`: 0 when the configuration is without fault, 78 when not.
pub fn run(args: &CheckArgs) -> ExitCode {
    let (stdout, stderr, code) = check(args);
    super::tell(&stdout, &stderr, code)
}

/// What goes to stdout, to stderr, and the exit code.
fn check(args: &CheckArgs) -> (String, String, u8) {
    let (problems, warnings, plan) = match config::load(&args.config) {
        Ok(loaded) => {
            let mut warnings = loaded.warnings;
            warnings.extend(overloaded(args, &loaded.plan));
            (Vec::new(), warnings, Some(loaded.plan))
        }
        Err(problems) => (problems, Vec::new(), None),
    };
    let code = if plan.is_some() { 0 } else { EXIT_CONFIG };
    let mut stderr = listing(&problems, "");
    stderr += &listing(&warnings, "warning: ");
    if !problems.is_empty() {
        let _ = writeln!(stderr, "{}", count(problems.len(), "problem"));
    }
    let stdout = if args.json {
        format!("{}\n", json!({ "ok": code == 0, "problems": problems, "warnings": warnings }))
    } else {
        let warned = match warnings.len() {
            0 => String::new(),
            some => format!(", {}", count(some, "warning")),
        };
        plan.as_ref().map(|plan| format!("{}{warned}\n", summary(plan))).unwrap_or_default()
    };
    (stdout, stderr, code)
}

/// Buses that cannot do what they are asked, as warnings: it is a promise, not a fault of writing.
fn overloaded(args: &CheckArgs, plan: &Plan) -> Vec<Problem> {
    let warning = |over: super::plan::Overload| {
        let (message, hint) = over.words();
        Problem {
            file: args.config.to_string_lossy().into(),
            line: 0,
            key: format!("bus.{}", over.bus),
            message,
            hint: Some(hint.to_owned()),
            excerpt: None,
        }
    };
    overloads(&plan.state_dir, &plan.buses).into_iter().map(warning).collect()
}

/// Problems as a person reads them, each on lines of its own.
pub(super) fn listing(problems: &[Problem], before: &str) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{before}{problem}");
        text
    })
}

/// One line: what the configuration holds.
fn summary(plan: &Plan) -> String {
    let units: usize = plan.buses.iter().map(|bus| bus.units.len()).sum();
    let sources = units + plan.devices.len();
    format!(
        "{}: {}, {}, {}, {}, {}: no problems",
        plan.site.id,
        count(plan.buses.len() + plan.brokers.len(), "bus"),
        count(sources, "source"),
        count(plan.machines.len(), "machine"),
        count(plan.outputs.len(), "output"),
        count(plan.rules.len(), "rule"),
    )
}

/// So many of a thing: `1 problem`, `2 problems`.
pub(super) fn count(n: usize, noun: &str) -> String {
    match (n, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "bus") => format!("{n} buses"),
        _ => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::journal::tests::Folder;

    fn of(path: &str, json: bool) -> (String, String, u8) {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        check(&CheckArgs { config, json })
    }

    #[test]
    fn a_sound_configuration_is_one_line_and_exit_0() {
        let (stdout, _, code) = of("deploy/andon.toml", false);
        assert_eq!(code, 0);
        assert_eq!(stdout.lines().count(), 1);
        assert!(stdout.ends_with(": no problems\n"), "{stdout}");
    }

    #[test]
    fn a_bus_that_is_asked_for_too_much_is_a_warning_and_exit_0() {
        let folder = Folder::new("check-overload");
        let file = folder.path().join("andon.toml");
        std::fs::create_dir_all(folder.path()).unwrap();
        let meters = (1..=6).map(|unit| {
            format!(
                "[source.m{unit}]\nbus = \"panel\"\nunit_id = {unit}\nprofile = \"eastron/sdm630\"\n\
                 [machine.k{unit}]\nkind = \"other\"\nsource = \"m{unit}\"\nactivity = []\n"
            )
        });
        let bus = "site = { id = \"shop\", time_zone = \"UTC\" }\nstate.dir = \"state\"\n\
                   bus.panel = { type = \"modbus-rtu\", port = \"/dev/null\", baud = 2400 }\n";
        std::fs::write(&file, bus.to_owned() + &meters.collect::<String>()).unwrap();
        let (stdout, stderr, code) = check(&CheckArgs { config: file.clone(), json: false });
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.ends_with("no problems, 1 warning\n"), "{stdout}");
        assert!(stderr.contains("bus.panel: is asked for"), "{stderr}");
        assert!(stderr.contains("andon plan"), "{stderr}");
        let (stdout, _, _) = check(&CheckArgs { config: file, json: true });
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(
            (&report["ok"], report["warnings"].as_array().unwrap().len()),
            (&true.into(), 1)
        );
    }

    #[test]
    fn a_broken_one_is_exit_78_with_every_problem_on_stderr_and_in_json() {
        let (stdout, stderr, code) = of("tests/data/broken/no-such-file", true);
        assert_eq!(code, 78);
        let named = "tests/data/broken/no-such-file: cannot be read";
        assert!(stderr.lines().next().is_some_and(|line| line.contains(named)), "{stderr}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let problems = report["problems"].as_array().unwrap();
        assert!(problems[0]["file"].as_str().unwrap().ends_with("tests/data/broken/no-such-file"));
        assert!(stderr.ends_with(&format!("{}\n", count(problems.len(), "problem"))));
    }
}
