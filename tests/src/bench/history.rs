//! History beside stores that people use: the same day of a hundred series at 1 Hz, written, taken
//! together as each of them does in the end, and asked for curves.
//!
//! andon writes through its history alone (`gateway/examples/history_cost.rs`), without the journal
//! that feeds it; the stores take line protocol over HTTP, which is how they are fed. CPU is counted
//! until nothing is left to be merged or compacted. Curves are asked over HTTP from all of them, in
//! turns: least, greatest and mean of the same steps; andon says last and coverage too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Pace;
use super::stores::{self, Kind, Store};
use super::table::{Row, Table, median};
use crate::andon;
use crate::process::Process;
use crate::workshop::Workshop;

/// Days that are stored; andon merges whole ones.
const DAYS: u64 = 1;
/// The begin of the days, Unix milliseconds.
const BEGIN_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;
/// Points of a curve, at most.
const POINTS: usize = 1000;
/// How often a question is asked of each store, at least.
const ASKED: usize = 5;
/// How often the days are written: each time takes most of a minute.
const WRITTEN: usize = 3;
/// Machines, and items of each.
const MACHINES: usize = 10;
const ITEMS: &[&str] = &[
    "temperature.1",
    "temperature.2",
    "temperature.3",
    "temperature.4",
    "power.1",
    "power.2",
    "power.3",
    "state.1",
    "state.2",
    "energy.1",
];
/// What history wants to take: bytes of a sample in hour rows, merged, and beside VictoriaMetrics.
const HOUR_ROWS: f64 = 0.6;
const MERGED: f64 = 0.5;
const BESIDE_VICTORIA: f64 = 1.05;

/// What storing the days has cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) samples: f64,
    /// Seconds.
    pub(super) cpu: f64,
    /// Bytes of samples, and with what finds them.
    pub(super) bytes: f64,
    pub(super) bytes_in_all: f64,
}

/// A curve of one series, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    One,
    All,
}

impl Question {
    const fn series(self) -> usize {
        match self {
            Self::One => 1,
            Self::All => MACHINES * ITEMS.len(),
        }
    }
}

/// What an answer said: points that are known, and the greatest value of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) points: usize,
    pub(super) greatest: f64,
}

pub(super) fn measure(dir: &Path, pace: Pace, table: &mut Table) -> Result<()> {
    let example = example()?;
    let (mut ours, mut hour_rows) = (Vec::new(), f64::NAN);
    let mut theirs = [(Kind::Victoria, Vec::new()), (Kind::Influx, Vec::new())];
    let mut running = None;
    for round in 0..pace.rounds.min(WRITTEN) {
        drop(running.take());
        let dir = dir.join(round.to_string());
        fs::create_dir_all(&dir)?;
        let (state, stored, hours) = of_andon(&example, &dir)?;
        ours.push(stored);
        hour_rows = hours;
        let mut stores = Vec::new();
        for (kind, costs) in &mut theirs {
            let folder = dir.join(kind.name());
            fs::create_dir_all(&folder)?;
            let Some(store) = Store::start(*kind, &folder)? else { continue };
            costs.push(store.fill(&mut lines(&example), stored.samples)?);
            stores.push(store);
        }
        running = Some((state, stores));
    }
    let Some((dir, stores)) = running else { return Ok(()) };
    add_sizes(table, &ours, hour_rows, &theirs);
    ask(table, &dir, &stores, Question::One, ASKED * pace.rounds)?;
    // InfluxDB takes seconds for all.
    ask(table, &dir, &stores, Question::All, ASKED)
}

/// The program that makes the days up and writes them as history does.
fn example() -> Result<PathBuf> {
    let built = andon::binary().with_file_name("examples").join("history_cost");
    let example = std::env::var_os("ANDON_HISTORY_COST").map_or(built, PathBuf::from);
    let how = "cargo build --release -p andon --example history_cost";
    ensure!(example.is_file(), "{} is missing: {how}", example.display());
    Ok(example)
}

fn lines(example: &Path) -> Command {
    let mut command = Command::new(example);
    command.args(["lines", &DAYS.to_string()]);
    command
}

/// Writes the days; returns the folder of the gateway that will be asked, what it cost, and what a
/// sample takes before days are merged.
fn of_andon(example: &Path, dir: &Path) -> Result<(PathBuf, Stored, f64)> {
    let dir = dir.join("andon");
    let state = dir.join("state");
    fs::create_dir_all(&state)?;
    let output = Command::new(example).arg("keep").arg(&state).arg(DAYS.to_string()).output()?;
    let said = String::from_utf8(output.stdout)?;
    let figure = |name: &str| -> Result<f64> {
        let mut words = said.split_whitespace().skip_while(|word| *word != name);
        let word = words.nth(1).with_context(|| format!("{name} in {said:?}"))?;
        Ok(word.parse()?)
    };
    let samples = figure("samples")?;
    let bytes_in_all = fs::metadata(state.join("history.db"))?.len() as f64;
    let bytes = figure("merged")? * samples;
    let stored = Stored { samples, cpu: figure("cpu")?, bytes, bytes_in_all };
    Ok((dir, stored, figure("hours")?))
}

fn add_sizes(table: &mut Table, ours: &[Stored], hours: f64, theirs: &[(Kind, Vec<Stored>)]) {
    let of = |costs: &[Stored], figure: fn(&Stored) -> f64| {
        median(costs.iter().map(figure).collect::<Vec<_>>())
    };
    let bytes: fn(&Stored) -> f64 = |stored| stored.bytes / stored.samples;
    let in_all: fn(&Stored) -> f64 = |stored| stored.bytes_in_all / stored.samples;
    let rate: fn(&Stored) -> f64 = |stored| stored.samples / stored.cpu / 1e6;
    table.add(goal("history: bytes of a sample in hour rows", hours, HOUR_ROWS));
    table.add(goal("history: bytes of a sample, merged", of(ours, bytes), MERGED));
    for (kind, costs) in theirs.iter().filter(|(_, costs)| !costs.is_empty()) {
        let name = kind.name();
        let pair = |what: &str, figure: fn(&Stored) -> f64, unit: &str| {
            let (andon, peer) = (of(ours, figure), of(costs, figure));
            let what = format!("history, {name}: {what}");
            let mut row = Row::reported(&what, format!("{andon:.3} {unit}"));
            row.peer = format!("{peer:.3} {unit}");
            row.ratio = format!("{:.2}", andon / peer);
            (row, andon / peer)
        };
        let (mut row, ratio) = pair("bytes of a sample, merged", bytes, "B");
        if *kind == Kind::Victoria {
            row.goal = format!("≤ {BESIDE_VICTORIA}");
            row.reached = Some(ratio <= BESIDE_VICTORIA);
        }
        table.add(row);
        table.add(pair("bytes with roll-ups, or index", in_all, "B").0);
        table.add(pair("million samples per CPU second", rate, "M").0);
    }
}

fn goal(what: &str, measured: f64, most: f64) -> Row {
    let mut row = Row::at_most(what, measured, most, "B");
    row.andon = format!("{measured:.3} B");
    row
}

/// Asks everybody in turns.
fn ask(
    table: &mut Table,
    dir: &Path,
    stores: &[Store],
    question: Question,
    times: usize,
) -> Result<()> {
    let (_gateway, url) = gateway(dir)?;
    let url = format!("{url}/api/v1/history?{}", asked(question));
    let client = stores::Client::new()?;
    let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); stores.len()]);
    for _ in 0..times {
        let (took, text) = timed(|| client.get(&url, &[]))?;
        let (said, step_s) = said(&text)?;
        expect("andon", said, question, step_s)?;
        ours.push(took * 1e3);
        for (store, took) in stores.iter().zip(&mut theirs) {
            let (whole, answer) = timed(|| store.ask(&client, question, BEGIN_MS, DAYS, step_s))?;
            let theirs = store.said(&answer)?;
            expect(store.kind.name(), theirs, question, step_s)?;
            let same = (theirs.greatest - said.greatest).abs() < 1e-6;
            ensure!(same, "{} found {theirs:?}, andon {said:?}", store.kind.name());
            took.push(whole * 1e3);
        }
    }
    let ours = median(ours);
    for (store, theirs) in stores.iter().zip(theirs) {
        let (series, theirs) = (question.series(), median(theirs));
        let what = format!("history, {}: curves of {series}, a day", store.kind.name());
        let mut row = Row::reported(&what, format!("{ours:.1} ms"));
        row.peer = format!("{theirs:.1} ms");
        row.ratio = format!("{:.2}", ours / theirs);
        table.add(row);
    }
    Ok(())
}

/// A gateway on the history that was written, and where it answers.
fn gateway(dir: &Path) -> Result<(Process, String)> {
    let config = Workshop::new(dir).write(dir)?;
    let mut gateway = andon::run(dir, &config)?;
    let line = gateway.wait_for_line("board: http://", Duration::from_secs(10))?;
    let url = line.split("board: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let url = url.context("an address")?.trim_end_matches('/').to_owned();
    Ok((gateway, url))
}

/// The question as andon is asked it.
fn asked(question: Question) -> String {
    let to_ms = BEGIN_MS + i64::try_from(DAYS).unwrap_or(1) * DAY_MS;
    let mut text = format!("from={BEGIN_MS}&to={to_ms}&buckets={POINTS}");
    let all = (0..MACHINES).flat_map(|machine| ITEMS.iter().map(move |item| (machine, item)));
    for (machine, item) in all.take(question.series()) {
        text.push_str(&format!("&series=machine-{machine}.{item}"));
    }
    text
}

/// What andon said, and the seconds of a step.
fn said(text: &str) -> Result<(Said, u64)> {
    let answer: Value = serde_json::from_str(text)?;
    let step_ms = answer["step_ms"].as_u64().context("a step")?;
    let series = answer["series"].as_array().context("series")?;
    let buckets = series.iter().filter_map(|curve| curve["buckets"].as_array()).flatten();
    let greatest = buckets.filter_map(|bucket| bucket["max"].as_f64());
    Ok((stores::count(greatest), step_ms / 1000))
}

/// Nobody may be quick by leaving something out.
fn expect(who: &str, said: Said, question: Question, step_s: u64) -> Result<()> {
    let steps = usize::try_from(DAYS * 86_400 / step_s)?;
    let least = steps * question.series();
    ensure!(said.points >= least, "{who} said {} of {least} points", said.points);
    Ok(())
}

/// What a call returns, and how many seconds it took.
fn timed<T>(call: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let returned = call()?;
    Ok((began.elapsed().as_secs_f64(), returned))
}
