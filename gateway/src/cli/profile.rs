//! `andon profile`: checks device profiles, lists those that there are, prints their schema.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use andon_adapters::profile::{self, Library, PROFILE_BYTES_MAX, Problem};
use andon_adapters::{catalogue, protocol};
use andon_engine::item::{self, Item};
use serde_json::json;

use super::EXIT_CONFIG;
use crate::kinds::Kind;

/// Most files of one folder that are checked.
const FILES_MAX: usize = 1024;

/// Work with device profiles
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ProfileCommand,
}

/// What `andon profile` does.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ProfileCommand {
    /// Check profiles and run their examples
    Check {
        /// Profile files, VENDOR/DEVICE.toml, or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Report as JSON on stdout
        #[arg(long)]
        json: bool,
    },
    /// List the profiles that there are
    List {
        /// A folder of profiles beside those in the binary
        #[arg(long = "profiles", alias = "dir", value_name = "DIR")]
        dir: Option<PathBuf>,
        /// List as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the protocols beside Modbus: how each is reached, what it offers, how far it was tried
    Protocols {
        /// List as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the kinds of machines: first bands, hazards, whether the supply may be cut
    Kinds {
        /// List as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the names that items may have, with unit and plausible range
    Items {
        /// List as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of a profile, for editors
    Schema,
}

/// Runs `andon profile`: 0, or 78 when a profile has problems.
pub fn run(args: &ProfileArgs) -> ExitCode {
    let (stdout, stderr, code) = match &args.command {
        ProfileCommand::Check { files, json } => check(files, *json),
        ProfileCommand::List { dir, json } => list(dir.as_deref(), *json),
        ProfileCommand::Protocols { json } => (protocols(*json), String::new(), 0),
        ProfileCommand::Kinds { json } => (kinds(*json), String::new(), 0),
        ProfileCommand::Items { json } => (items(*json), String::new(), 0),
        ProfileCommand::Schema => (format!("{:#}\n", profile::json_schema()), String::new(), 0),
    };
    super::tell(&stdout, &stderr, code)
}

fn check(files: &[PathBuf], as_json: bool) -> (String, String, u8) {
    let mut stdout = String::new();
    let mut problems = Vec::new();
    for file in &whole(files) {
        match check_file(file) {
            Ok(summary) if !as_json => {
                let _ = writeln!(stdout, "{}: {summary}", file.display());
            }
            Ok(_) => {}
            Err(found) => problems.extend(found),
        }
    }
    if as_json {
        let all: Vec<_> = problems.iter().map(as_value).collect();
        stdout = format!("{}\n", json!({ "ok": problems.is_empty(), "problems": all }));
    }
    let code = if problems.is_empty() { 0 } else { EXIT_CONFIG };
    (stdout, listing(&problems), code)
}

/// The files, with those of a folder in its place: in it or one folder below, in order. A folder
/// without any stays, and is then said to hold none.
fn whole(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for given in files {
        let mut found = entries(given);
        let below: Vec<PathBuf> = found.iter().filter(|it| it.is_dir()).cloned().collect();
        found.extend(below.iter().flat_map(|folder| entries(folder)));
        found.retain(|file| file.extension().is_some_and(|it| it == "toml") && !file.is_dir());
        found.sort();
        found.truncate(FILES_MAX);
        if found.is_empty() {
            found.push(given.clone());
        }
        all.append(&mut found);
    }
    all
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// One file's summary, or its problems under the name that it was given by.
fn check_file(file: &Path) -> Result<String, Vec<Problem>> {
    let problem = |message: String| {
        let file = file.display().to_string();
        vec![Problem { file, line: 0, key: String::new(), message, hint: None }]
    };
    let meta = fs::metadata(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    if meta.is_dir() {
        return Err(problem("a folder without profiles, VENDOR/DEVICE.toml".to_owned()));
    }
    if meta.len() > PROFILE_BYTES_MAX as u64 {
        return Err(problem(format!("longer than {PROFILE_BYTES_MAX} bytes")));
    }
    let text =
        fs::read_to_string(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let id = id_of(file).map_err(problem)?;
    let found = profile::check(&text, &id).map_err(|mut problems| {
        for problem in &mut problems {
            problem.file = file.display().to_string();
        }
        problems
    })?;
    let (items, examples) = (found.items.len(), found.examples.len());
    Ok(format!("{} ({}): {items} items, {examples} examples", found.id, found.evidence.word()))
}

/// The id that a file has as a profile: its folder and its name without ending, whatever path leads
/// there.
///
/// # Errors
/// When a configuration could not name it so.
fn id_of(file: &Path) -> Result<String, String> {
    let whole = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let Some(vendor) = whole.parent().and_then(Path::file_name) else {
        return Err("a profile is in a folder of its vendor: VENDOR/DEVICE.toml".to_owned());
    };
    let vendor = match file.parent().and_then(Path::file_name) {
        Some(given) => given.to_string_lossy(),
        None => vendor.to_string_lossy(),
    };
    let id = format!("{vendor}/{name}");
    let lower: String = id.to_lowercase().replace(['_', ' '], "-");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/.".contains(c);
    if lower != id || !id.chars().all(plain) {
        let message = format!("\"{id}\" cannot be a profile's id, of a-z, 0-9 and -");
        return Err(format!("{message}; name folder and file {lower}.toml"));
    }
    Ok(id)
}

fn protocols(as_json: bool) -> String {
    let mut text = String::new();
    for protocol in protocol::ALL {
        let device = catalogue::offers(protocol);
        let items: Vec<&str> =
            device.iter().flat_map(|device| device.items()).map(|item| &**item).collect();
        let stops: Vec<&str> =
            device.iter().flat_map(|device| device.stops()).map(|stop| stop.word()).collect();
        if as_json {
            let options: Vec<_> = protocol
                .options
                .iter()
                .map(|(name, meaning)| json!({ "name": name, "meaning": meaning }))
                .collect();
            let line = json!({
                "name": protocol.name,
                "title": protocol.title,
                "reach": catalogue::reach(protocol),
                "evidence": protocol.evidence,
                "source": protocol.source,
                "items": items,
                "stops": stops,
                "options": options,
            });
            let _ = writeln!(text, "{line}");
            continue;
        }
        let (reach, stops) = (catalogue::reach(protocol), stops.join(", "));
        let _ = writeln!(text, "{:<14} {}\n               {reach}", protocol.name, protocol.title);
        if !stops.is_empty() {
            let _ = writeln!(text, "               stops: {stops}");
        }
        let _ = writeln!(text, "               {}", protocol.evidence);
    }
    text
}

fn list(dir: Option<&Path>, as_json: bool) -> (String, String, u8) {
    let (library, problems) = Library::load(dir);
    let profiles = library.ids().filter_map(|id| library.get(id));
    let stdout = if as_json {
        let all: Vec<_> = profiles
            .map(|profile| {
                let items: Vec<_> = profile.items.iter().map(|item| &*item.item.name).collect();
                json!({
                    "id": &*profile.id,
                    "title": profile.title,
                    "evidence": profile.evidence.word(),
                    "items": items,
                })
            })
            .collect();
        format!("{}\n", json!({ "profiles": all }))
    } else {
        let widest = library.ids().map(str::len).max().unwrap_or(0);
        profiles.fold(String::new(), |mut text, profile| {
            let evidence = profile.evidence.word();
            let _ = writeln!(text, "{:<widest$} {evidence:<10} {}", &*profile.id, profile.title);
            text
        })
    };
    let code = if problems.is_empty() { 0 } else { EXIT_CONFIG };
    (stdout, listing(&problems), code)
}

/// The closed list of items. A place may be numbered (`.nozzle-2`), a channel goes up to 32.
fn items(as_json: bool) -> String {
    let mut text = String::new();
    for item in item::names().filter_map(|name| Item::named(&name).ok()) {
        let kind = match item.kind {
            item::Kind::Gauge => "gauge",
            item::Kind::Counter => "counter",
            item::Kind::Flag => "flag",
            item::Kind::Text => "text",
        };
        let (unit, least, greatest) = (item.unit.symbol(), item.least, item.greatest);
        let numbers = matches!(item.kind, item::Kind::Gauge | item::Kind::Counter);
        let _ = if as_json {
            let range = numbers.then_some([least, greatest]);
            let line = json!({ "item": item.name, "kind": kind, "unit": unit, "range": range });
            writeln!(text, "{line}")
        } else if numbers {
            writeln!(text, "{:<28} {kind:<8} {unit:<8} {least} to {greatest}", item.name)
        } else {
            writeln!(text, "{:<28} {kind}", item.name)
        };
    }
    text
}

/// The ready-made kinds. Durations in JSON are in milliseconds, powers in watts.
fn kinds(as_json: bool) -> String {
    if as_json {
        let kind = |kind: &Kind| {
            let bands = &kind.activity;
            json!({
                "kind": kind.id,
                "name": kind.name,
                "idle_above": bands.idle_above,
                "run_above": bands.run_above,
                "enter_for_ms": bands.enter_for.as_millis(),
                "exit_for_ms": bands.exit_for.as_millis(),
                "key_items": kind.key_items,
                "hazards": kind.hazards,
                "supply_cut": kind.supply_cut,
            })
        };
        let all: Vec<_> = crate::kinds::all().iter().map(kind).collect();
        return format!("{}\n", json!({ "kinds": all }));
    }
    let mut text = String::new();
    for kind in crate::kinds::all() {
        let bands = &kind.activity;
        let cut = if kind.supply_cut.harmless { "harmless" } else { "NOT harmless" };
        let _ = writeln!(
            text,
            "{:<15} {} / {}\n  starts with   idle above {} W, run above {} W, enter {} s, exit {} s\n  \
             supply cut    {cut}: {}",
            kind.id,
            kind.name.en,
            kind.name.zh,
            bands.idle_above,
            bands.run_above,
            bands.enter_for.as_secs_f64(),
            bands.exit_for.as_secs_f64(),
            kind.supply_cut.en,
        );
        for hazard in &kind.hazards {
            let _ = writeln!(text, "  hazard        {}", hazard.en);
        }
    }
    text + "other           any other machine\n  starts with   nothing: write its bands yourself, or let \
            andon learn propose them\n  supply cut    unknown: ask its manual\n"
}

fn listing(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    })
}

fn as_value(problem: &Problem) -> serde_json::Value {
    let Problem { file, line, key, message, hint } = problem;
    json!({ "file": file, "line": line, "key": key, "message": message, "hint": hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/profiles")
    }

    #[test]
    fn the_profiles_in_the_tree_pass_and_are_listed() {
        let file = profiles().join("eastron/sdm120.toml");
        let (stdout, stderr, code) = check(&[file], false);
        assert_eq!((stderr.as_str(), code), ("", 0));
        assert!(stdout.contains("eastron/sdm120 (datasheet)"), "{stdout}");
        let (stdout, _, code) = list(None, false);
        assert_eq!(code, 0);
        assert!(stdout.lines().any(|line| line.starts_with("eastron/sdm120 ")), "{stdout}");
        let second =
            |line: &str| line.find(' ').map(|at| line.len() - line[at..].trim_start().len());
        let columns: Vec<_> = stdout.lines().map(second).collect();
        assert!(columns.iter().all(|it| *it == columns[0]), "{stdout}");
    }

    #[test]
    fn kinds_are_listed_for_people_and_for_programs() {
        let text = kinds(false);
        assert!(text.contains("kiln            Kiln / 窑炉\n"), "{text}");
        assert!(text.contains("  starts with   idle above 2 W, run above 200 W"), "{text}");
        assert!(text.contains("\nother           any other machine\n"), "{text}");
        let all: serde_json::Value = serde_json::from_str(&kinds(true)).unwrap();
        assert_eq!(all["kinds"].as_array().unwrap().len(), crate::kinds::all().len());
        assert_eq!(all["kinds"][0]["exit_for_ms"], 90_000);
    }

    #[test]
    fn the_names_that_items_may_have_are_listed() {
        let text = items(false);
        assert!(text.lines().any(|line| line.starts_with("power.active ") && line.contains(" W ")));
        assert!(text.lines().any(|line| line.starts_with("execution ")), "{text}");
        assert!(items(true).lines().all(|line| line.starts_with('{')));
    }

    #[test]
    fn every_profile_of_a_folder_is_checked() {
        let (stdout, stderr, code) = check(&[profiles().join("eastron")], false);
        assert_eq!((stderr.as_str(), code), ("", 0));
        assert!(stdout.contains("eastron/sdm120 (") && stdout.contains("eastron/sdm630 ("));
        let (stdout, _, code) = check(&[profiles()], false);
        assert_eq!((stdout.lines().count(), code), (Library::load(None).0.ids().count(), 0));
        let (_, stderr, code) = check(&[profiles().join("../src/grbl")], false);
        assert!(code == 78 && stderr.contains("a folder without profiles"), "{stderr}");
    }

    #[test]
    fn an_id_has_its_vendor_whatever_path_leads_there_and_no_capitals() {
        let id = |path: &str| id_of(Path::new(path));
        assert_eq!(id("/nonexistent/hengtai/ht-330.toml").unwrap(), "hengtai/ht-330");
        // Relative to the folder that tests run in.
        assert_eq!(id("./Cargo.toml").unwrap_err().rsplit(' ').next(), Some("gateway/cargo.toml"));
        let capitals = id("/nonexistent/Hengtai/HT_330.toml").unwrap_err();
        assert!(capitals.ends_with("name folder and file hengtai/ht-330.toml"), "{capitals}");
        assert!(id("/device.toml").unwrap_err().contains("VENDOR/DEVICE"));
    }

    #[test]
    fn problems_name_the_file_as_it_was_given() {
        let missing = PathBuf::from("/nonexistent/vendor/device.toml");
        let wrong = profiles().join("../Cargo.toml");
        let (stdout, stderr, code) = check(&[missing, wrong.clone()], true);
        assert_eq!(code, 78);
        assert!(stderr.contains("/nonexistent/vendor/device.toml: cannot be read"), "{stderr}");
        assert!(stderr.contains(&wrong.display().to_string()), "{stderr}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["ok"], false);
    }
}
