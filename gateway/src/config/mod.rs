//! Configuration as people write it, layered and checked into a [`plan::Plan`].
//!
//! [`load`] reads the files and the environment ([`layers`]), walks the merged tree section by
//! section and collects *every* problem with its file, line and hint, then builds the plan. It
//! opens no socket and no serial port: a configuration is checked on any computer.
//!
//! Reading order: `layers` (files to tree), `section` (tree to typed values), `general`, `bus`,
//! `source`, `machine`, `output`, `rule` (one section each), `assemble` (to the plan).

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::path::Path;

use andon_adapters::profile::Library;

mod assemble;
mod bus;
mod fed;
mod general;
pub mod keys;
mod layers;
mod machine;
mod named;
mod node;
mod output;
pub(crate) mod period;
pub mod plan;
mod problem;
mod rule;
mod section;
mod source;

pub(crate) use bus::TURNAROUND_RANGE;
pub(crate) use problem::did_you_mean;
pub use problem::{Excerpt, Problem};

use crate::history::SERIES_MAX;
use plan::Plan;
use problem::Report;
use section::Section;
pub(crate) use section::say;

/// A configuration without fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What runs.
    pub plan: Plan,
    /// What works but should be known.
    pub warnings: Vec<Problem>,
}

/// Reads and checks the configuration at `path`: a file, or a folder with `andon.toml`;
/// `conf.d/*.toml` beside it and `ANDON__SECTION__KEY` of the environment are layered on top.
///
/// # Errors
/// Every problem found, in the order of files and lines.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    load_with(path, env::vars_os())
}

/// [`load`] with an environment of the caller's.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Vec<Problem>> {
    let report = Report::default();
    let layers = layers::read(path, environment, &report);
    let root = layers.root.as_ref();
    let plan = root
        .and_then(|root| Section::open(root, String::new(), &report))
        .and_then(|root| check(&root, &layers.folder));
    let (problems, warnings) = report.into_sorted(&layers.files);
    match plan {
        Some(plan) if problems.is_empty() => Ok(Loaded { plan, warnings }),
        _ => Err(problems),
    }
}

/// Walks the sections. `None` only after a problem was reported.
fn check(root: &Section<'_>, folder: &Path) -> Option<Plan> {
    let site = general::site(root);
    let trust_wall = general::trust_wall(root);
    let state_dir = general::state_dir(root, folder);
    let journal = general::journal(root);
    let history = general::history(root);
    let mqtt = general::mqtt(root, folder, site.as_ref().map(|site| &*site.id));
    let store = general::store(root, folder);
    let http = general::http(root);
    let library = library(root, folder);
    let buses = bus::buses(root, folder);
    let sources = source::sources(root, &buses, &library, folder);
    let machines = machine::machines(root, &sources);
    let outputs = output::outputs(root, &sources, &machines);
    unused(root, &sources, &machines, &outputs);
    unused_buses(root, &buses, &sources);
    silent(root, &machines);
    let shop = assemble::shop(&buses.list, &sources.list, &machines.list, &outputs.list);
    if let Some((message, hint)) = unkept(shop.engine.items.len()) {
        root.warn("history", message, Some(hint.to_owned()));
    }
    let (faces, rules) = rule::rules(root, &machines, &outputs, &shop.engine);
    Some(Plan {
        site: site?,
        trust_wall: trust_wall?,
        state_dir: state_dir?,
        journal: journal?,
        history: history?,
        mqtt,
        store,
        http: http?,
        buses: shop.buses,
        brokers: shop.brokers,
        devices: shop.devices,
        machines: shop.faces,
        rules: faces,
        outputs: shop.outputs,
        engine: andon_engine::plan::Plan { rules, ..shop.engine }.into(),
    })
}

/// The embedded profiles and those of the overlay folder; what is wrong with these is reported
/// in their own files.
fn library(root: &Section<'_>, folder: &Path) -> Library {
    let dir = general::profiles_dir(root, folder);
    let (library, problems) = Library::load(dir.as_deref());
    for problem in problems {
        root.report.add(Problem {
            file: problem.file.into(),
            line: problem.line,
            key: problem.key,
            message: problem.message,
            hint: problem.hint,
            excerpt: None,
        });
    }
    library
}

/// Warns of sources that nothing reads: usually a machine was forgotten.
fn unused(
    root: &Section<'_>,
    sources: &named::Named<'_, source::Source>,
    machines: &named::Named<'_, machine::Machine>,
    outputs: &named::Named<'_, output::Output>,
) {
    let items = machines.list.iter().flat_map(|machine| &machine.items).map(|item| item.source);
    let used: HashSet<usize> =
        items.chain(outputs.list.iter().map(|output| output.source)).collect();
    let Some(section) = root.table("source") else { return };
    for (position, source) in sources.list.iter().enumerate() {
        if !used.contains(&position) {
            let hint = "name it in a machine's source or items".to_owned();
            section.warn(&source.id, "no machine uses it; it is not polled", Some(hint));
        }
    }
}

/// Says of which machines nothing tells what they do, although a power or a contact could: the board
/// shows their values and no state. One warning for all, and `activity = []` says that it is meant.
fn silent(root: &Section<'_>, machines: &named::Named<'_, machine::Machine>) {
    /// Named beside the first.
    const NAMED: usize = 3;
    let Some(section) = root.table("machine") else { return };
    let unsaid = |it: &&machine::Machine| {
        let written = section.table(&it.id).is_some_and(|machine| machine.has("activity"));
        it.could_tell() && it.activity.is_empty() && !written
    };
    let mut ids = machines.list.iter().filter(unsaid).map(|it| &*it.id);
    let Some(first) = ids.next() else { return };
    let also: Vec<&str> = ids.by_ref().take(NAMED).collect();
    let more = ids.count();
    let mut message = "nothing tells what it does: the board shows its values only".to_owned();
    if !also.is_empty() {
        message += &format!("; nor of {}", also.join(", "));
    }
    if more > 0 {
        message += &format!(" and {more} more");
    }
    let hint =
        "add activity = { from = \"power.active\", … }, or activity = [] if values are enough";
    section.warn(first, message, Some(hint.to_owned()));
}

/// What is to be said of more values than history keeps; `None`: it keeps them all.
fn unkept(items: usize) -> Option<(String, &'static str)> {
    let beyond = items.checked_sub(SERIES_MAX).filter(|beyond| *beyond > 0)?;
    let message = format!(
        "{items} values are configured and history keeps {SERIES_MAX}: {beyond} of them will have no \
         curves of more than an hour and be in no export"
    );
    Some((message, "leave out what nobody needs with a machine's items, or use a second gateway"))
}

/// Warns of buses without a source: they are opened, and nobody is asked.
fn unused_buses(
    root: &Section<'_>,
    buses: &named::Named<'_, bus::Bus>,
    sources: &named::Named<'_, source::Source>,
) {
    let used: HashSet<usize> = sources.list.iter().filter_map(source::Source::bus).collect();
    if buses.list.is_empty() {
        return;
    }
    let Some(section) = root.table("bus") else { return };
    for (position, bus) in buses.list.iter().enumerate() {
        if !used.contains(&position) {
            let hint = format!("write bus = \"{}\" into a source, or take it out", bus.id);
            section.warn(&bus.id, "no source is on it", Some(hint));
        }
    }
}

#[cfg(test)]
mod tests;
