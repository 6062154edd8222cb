//! The benchmark that anyone can run: what andon costs, what other programs cost for the same on
//! this machine, and what andon wants to reach. Run it through `tests/bench`.
//!
//! Readings are counted where they are served and where they arrive, CPU and memory in `/proc`:
//! andon is not asked. Of andon and its peers only their own CPU counts; what serves the registers
//! and the broker are other processes. Peers and andon take turns within one run, because
//! machines, and what else they do, differ.

mod basics;
mod collectd;
mod drain;
mod floor;
mod history;
mod line;
mod listener;
mod loads;
pub mod registers;
mod shape;
mod stores;
mod table;
mod usage;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::work_dir;
use table::Table;

/// How thoroughly everything is measured.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long a load runs before it is measured.
    settle: Duration,
    /// How long it is measured.
    measure: Duration,
    /// How often andon and a peer take turns.
    rounds: usize,
    /// How long the broker or store is away before what waits is drained.
    outage: Duration,
}

impl Pace {
    /// The whole run, or with `ANDON_BENCH=quick` one that only shows that everything works.
    fn from_env() -> Self {
        let seconds = Duration::from_secs;
        if std::env::var("ANDON_BENCH").as_deref() == Ok("quick") {
            Self { settle: seconds(2), measure: seconds(4), rounds: 1, outage: seconds(10) }
        } else {
            Self { settle: seconds(4), measure: seconds(20), rounds: 5, outage: seconds(60) }
        }
    }

    /// Whether this only shows that everything works.
    const fn is_quick(self) -> bool {
        self.rounds == 1
    }
}

/// One part of the benchmark: it works in the folder and adds its rows.
type Part = fn(&Path, Pace, &mut Table) -> Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("basics", basics::measure),
    ("loads", loads::measure),
    ("collectd", collectd::measure),
    ("drain", drain::measure),
    ("line", line::measure),
    ("history", history::measure),
];

/// Measures the parts whose names are given, or all, and prints the table.
///
/// # Errors
/// When a part is not known, or a program cannot be started or does not do what it is there for.
pub fn run(wanted: &[String]) -> Result<()> {
    let is_known = |name: &&String| PARTS.iter().any(|(part, _)| part == name);
    if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
        let parts: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("there is no part \"{unknown}\": known are {}", parts.join(", "));
    }
    let dir = work_dir("bench")?;
    let pace = Pace::from_env();
    let mut table = Table::default();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let dir = dir.join(name);
            std::fs::create_dir_all(&dir)?;
            part(&dir, pace, &mut table)?;
        }
    }
    table.print();
    if pace.is_quick() {
        table::say("A quick look that it all works: none of these figures means anything.");
    }
    Ok(())
}
