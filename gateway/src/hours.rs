//! Machine-hours: a pure fold of the events stream into how long each machine ran, idled, was
//! off, was in fault, or was not known to do any of it.
//!
//! Durations are boot time, so no clock step changes one. Wall time only places them: a run of
//! the gateway lies where its boot's anchors put it. Where a clock was corrected by more than
//! [`CORRECTION_MS`], the clock after the correction is believed for what came before it too.
//! Where two boots claim the same wall time, the later one is believed.
//!
//! What must never happen here: an interval that ends at "now", or at the next start, because
//! nobody saw its end. An open interval ends at its last evidence; all time without evidence is
//! unknown, and the columns sum to the window exactly.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use andon_engine::event::{Activity, Event, Register};
use andon_engine::time::BootTime;
use serde::Serialize;

use crate::clock::{Anchor, Anchors};
use crate::journal::{BootId, Payload, Reader, Record, Records, Stream};

mod energy;

use energy::Metered;

/// A disagreement of two anchors that is a wrong clock being corrected, and not drift.
const CORRECTION_MS: u64 = 2000;
/// How many of the newest telemetry segments are searched for the last evidence of the last run:
/// bounds the time that a start takes.
const EVIDENCE_SEGMENTS: usize = 2;

/// A span of wall time, Unix milliseconds, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The first millisecond.
    pub from_ms: i64,
    /// The first one after it.
    pub to_ms: i64,
}

impl Window {
    /// In milliseconds.
    pub(crate) fn length(self) -> u64 {
        u64::try_from(self.to_ms.saturating_sub(self.from_ms)).unwrap_or(0)
    }

    /// What both have.
    pub(crate) fn overlap(self, other: Self) -> Self {
        let from_ms = self.from_ms.max(other.from_ms);
        Self { from_ms, to_ms: self.to_ms.min(other.to_ms).max(from_ms) }
    }

    /// What is left of this span before and after `other`.
    fn without(self, other: Self) -> [Self; 2] {
        let all = Self { from_ms: i64::MIN, to_ms: other.from_ms };
        let rest = Self { from_ms: other.to_ms, to_ms: i64::MAX };
        [self.overlap(all), self.overlap(rest)]
    }
}

/// A reading of an energy register that bounds a difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// Watt-hours on the register.
    pub wh: f64,
    /// The register's epoch.
    pub epoch: u32,
}

/// Energy as the differences of register readings inside the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Energy {
    /// Watt-hours: differences within one epoch, also over restarts of the gateway, but for a
    /// difference that no machine can have used in the time between.
    pub wh: f64,
    /// The first reading inside the window.
    pub first: Reading,
    /// The last one.
    pub last: Reading,
}

/// The hours of one machine; the five activities sum to the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineHours {
    /// Its id.
    pub machine: Arc<str>,
    /// Milliseconds working.
    pub run_ms: u64,
    /// Milliseconds powered and not working.
    pub idle_ms: u64,
    /// Milliseconds without power.
    pub off_ms: u64,
    /// Milliseconds in fault or stopped.
    pub fault_ms: u64,
    /// Milliseconds that nobody knows: nobody watched, or nothing could be told.
    pub unknown_ms: u64,
    /// Milliseconds in the run band before debouncing, of intervals whose end is known; of an
    /// interval that the window cuts, no more than lies inside.
    pub raw_run_ms: u64,
    /// Energy, when there are two readings to tell it from.
    pub energy: Option<Energy>,
}

/// A boundary of a machine's activity.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: BootTime,
    activity: Activity,
    /// Time in the raw run band before this boundary.
    raw_run_ms: u64,
}

/// What one run of the gateway knows of a machine.
#[derive(Clone, Debug, Default)]
struct Track {
    changes: Vec<Change>,
    registers: Vec<Register>,
    evidence: Option<BootTime>,
}

/// One run of the gateway: from a start to a stop, or to wherever its records end.
#[derive(Clone, Debug)]
struct Run {
    boot: BootId,
    start: BootTime,
    stopped: Option<BootTime>,
    tracks: BTreeMap<Arc<str>, Track>,
}

/// Folds the events stream, record by record, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Hours {
    runs: Vec<Run>,
    anchors: Anchors,
}

impl Hours {
    /// Takes the next record of the events stream; observations are passed over.
    pub fn note(&mut self, record: &Record) {
        let Payload::Event(event) = &record.payload else { return };
        self.anchors.note(record.boot, event);
        match event {
            Event::Started { at, .. } => self.begin(record.boot, *at),
            Event::Stopped { at } => {
                if let Some(run) = self.runs.last_mut().filter(|run| run.boot == record.boot) {
                    run.stopped = Some(*at).filter(|at| *at > run.start);
                }
            }
            Event::Activity { machine, at, activity, raw_run_ms, .. } => {
                let track = self.track(record.boot, *at, machine);
                // A boundary may be stamped before one written earlier: the later word counts.
                let overruled = track.changes.partition_point(|change| change.at < *at);
                let raw = track.changes.drain(overruled..).map(|change| change.raw_run_ms);
                let raw_run_ms = raw.sum::<u64>().saturating_add(*raw_run_ms);
                track.changes.push(Change { at: *at, activity: *activity, raw_run_ms });
            }
            Event::Energy { machine, register } => {
                let register = *register;
                self.track(record.boot, register.at, machine).registers.push(register);
            }
            Event::Evidence { machine, until, boot } => {
                if let Ok(boot) = boot.parse() {
                    self.note_evidence(boot, *until, machine);
                }
            }
            Event::Clock { .. } | Event::Alarm { .. } | Event::Trip { .. } => {}
        }
    }

    fn begin(&mut self, boot: BootId, start: BootTime) {
        self.runs.push(Run { boot, start, stopped: None, tracks: BTreeMap::new() });
    }

    /// The machine's track in the current run; a run whose start was lost begins with `at`.
    fn track(&mut self, boot: BootId, at: BootTime, machine: &Arc<str>) -> &mut Track {
        if self.runs.last().is_none_or(|run| run.boot != boot) {
            self.begin(boot, at);
        }
        let last = self.runs.len() - 1;
        self.runs[last].tracks.entry(Arc::clone(machine)).or_default()
    }

    /// Evidence is written by the run after the one that it is about.
    fn note_evidence(&mut self, boot: BootId, until: BootTime, machine: &Arc<str>) {
        let Some((_, earlier)) = self.runs.split_last_mut() else { return };
        let about = earlier.iter_mut().rev().find(|run| run.boot == boot);
        if let Some(run) = about.filter(|run| run.start <= until) {
            run.tracks.entry(Arc::clone(machine)).or_default().evidence = Some(until);
        }
    }

    /// Runs that ended without a word, whose evidence must come from telemetry.
    fn lacking(&self) -> impl Iterator<Item = usize> {
        let lacks = |run: &Run| {
            run.stopped.is_none() && run.tracks.values().any(|track| track.evidence.is_none())
        };
        self.runs.iter().enumerate().filter(move |(_, run)| lacks(run)).map(|(index, _)| index)
    }

    /// Takes telemetry as evidence for runs that have no better.
    fn note_telemetry(&mut self, mut records: Records) -> io::Result<()> {
        let lacking: Vec<_> = self.lacking().collect();
        let mut seen: HashMap<(usize, Arc<str>), BootTime> = HashMap::new();
        for record in records.by_ref() {
            let Payload::Observation(observation) = record.payload else { continue };
            // The run in which it was made: the last one of that boot that had begun by then.
            let run = self
                .runs
                .iter()
                .rposition(|run| run.boot == record.boot && run.start <= observation.at);
            if let Some(run) = run.filter(|run| lacking.contains(run)) {
                // That a device was asked in vain is no evidence of what its machine did.
                if observation.items.iter().any(|(_, value)| value.is_ok()) {
                    let last = seen.entry((run, observation.machine)).or_default();
                    *last = observation.at.max(*last);
                }
            }
        }
        records.end()?;
        for ((run, machine), until) in seen {
            if let Some(track) = self.runs[run].tracks.get_mut(&machine) {
                track.evidence = track.evidence.or(Some(until));
            }
        }
        Ok(())
    }

    /// Where the last interval of a track ends.
    fn track_end(&self, index: usize, track: &Track) -> BootTime {
        let run = &self.runs[index];
        let last = track.changes.last().map_or(run.start, |change| change.at);
        let end = run.stopped.or(track.evidence).unwrap_or(last).max(last);
        match self.runs.get(index + 1).filter(|next| next.boot == run.boot) {
            Some(next) => end.min(next.start.max(run.start)),
            None => end,
        }
    }

    /// Starts of the gateway of which nothing can be counted, because their boot has no wall time.
    pub fn uncounted(&self) -> usize {
        let lost = |run: &&Run| self.anchors.of(&run.boot).is_empty();
        self.runs.iter().filter(lost).count()
    }

    /// The hours of every machine that was ever heard of, by id.
    pub fn within(&self, window: Window) -> Vec<MachineHours> {
        let mut hours: BTreeMap<Arc<str>, MachineHours> = BTreeMap::new();
        let mut metered: BTreeMap<&Arc<str>, Metered> = BTreeMap::new();
        // Newest first: what a later run claims is taken from the earlier ones.
        let mut claimed: Vec<Window> = Vec::new();
        for (index, run) in self.runs.iter().enumerate().rev() {
            let mut extent: Option<Window> = None;
            let wall = Wall::of(&self.anchors, run.boot);
            for (machine, track) in &run.tracks {
                let entry = hours.entry(Arc::clone(machine)).or_insert_with(|| nothing(machine));
                let Some(wall) = &wall else { continue };
                let end = self.track_end(index, track);
                let mut covered_to = i64::MIN;
                for (at, change) in track.changes.iter().enumerate() {
                    let next = track.changes.get(at + 1);
                    let until = next.map_or(end, |next| next.at.min(end)).max(change.at);
                    let mut raw = next.map_or(0, |next| next.raw_run_ms);
                    for span in wall.spans(change.at, until) {
                        let from_ms = span.from_ms.max(covered_to);
                        let span = Window { from_ms, to_ms: span.to_ms.max(from_ms) };
                        covered_to = span.to_ms;
                        let whole = extent.unwrap_or(span);
                        extent = Some(Window {
                            from_ms: whole.from_ms.min(span.from_ms),
                            to_ms: whole.to_ms.max(span.to_ms),
                        });
                        for piece in unclaimed(span.overlap(window), &claimed) {
                            add(entry, change.activity, piece.length(), &mut raw);
                        }
                    }
                }
                if let Some(run) = Metered::of(track, wall, window) {
                    let later = metered.remove(machine);
                    metered.insert(machine, later.map_or(run, |later| run.then(later)));
                }
            }
            claimed.extend(extent);
        }
        let mut hours: Vec<_> = hours.into_values().collect();
        for entry in &mut hours {
            entry.energy = metered.get(&entry.machine).and_then(Metered::energy);
            let known = entry.run_ms + entry.idle_ms + entry.off_ms + entry.fault_ms;
            entry.unknown_ms = window.length().saturating_sub(known);
        }
        hours
    }
}

fn nothing(machine: &Arc<str>) -> MachineHours {
    MachineHours {
        machine: Arc::clone(machine),
        run_ms: 0,
        idle_ms: 0,
        off_ms: 0,
        fault_ms: 0,
        unknown_ms: 0,
        raw_run_ms: 0,
        energy: None,
    }
}

/// What is left of a span that others have claimed parts of.
pub(crate) fn unclaimed(span: Window, claimed: &[Window]) -> Vec<Window> {
    let mut pieces = vec![span];
    for other in claimed {
        pieces = pieces.into_iter().flat_map(|piece| piece.without(*other)).collect();
        pieces.retain(|piece| piece.length() > 0);
    }
    pieces
}

/// Unknown time is not added: it is what remains of the window.
fn add(entry: &mut MachineHours, activity: Activity, length: u64, raw: &mut u64) {
    match activity {
        Activity::Run => entry.run_ms += length,
        Activity::Idle => entry.idle_ms += length,
        Activity::Off => entry.off_ms += length,
        Activity::Fault => entry.fault_ms += length,
        Activity::Unknown => {}
    }
    let inside = (*raw).min(length);
    entry.raw_run_ms += inside;
    *raw -= inside;
}

/// Where the moments of one boot lie in wall time.
pub(crate) struct Wall(Vec<Anchor>);

impl Wall {
    /// `None` for a boot without an anchor: nobody knows when it was.
    pub(crate) fn of(anchors: &Anchors, boot: BootId) -> Option<Self> {
        let mut believed: Vec<Anchor> = Vec::new();
        for anchor in anchors.of(&boot).iter().rev() {
            let later = believed.last().map_or(anchor.wall_ms, |later| later.wall_ms(anchor.at));
            let corrected = later.abs_diff(anchor.wall_ms) > CORRECTION_MS;
            let wall_ms = if corrected { later } else { anchor.wall_ms };
            believed.push(Anchor { at: anchor.at, wall_ms });
        }
        believed.reverse();
        (!believed.is_empty()).then_some(Self(believed))
    }

    fn anchor(&self, at: BootTime) -> Anchor {
        self.0[self.0.partition_point(|anchor| anchor.at <= at).saturating_sub(1)]
    }

    fn wall_ms(&self, at: BootTime) -> i64 {
        self.anchor(at).wall_ms(at)
    }

    /// The wall time of a stretch of boot time, in pieces of one anchor each.
    pub(crate) fn spans(&self, from: BootTime, to: BootTime) -> Vec<Window> {
        let mut edges = vec![from];
        edges.extend(self.0.iter().map(|anchor| anchor.at).filter(|at| *at > from && *at < to));
        edges.push(to);
        let span = |edge: &[BootTime]| {
            let anchor = self.anchor(edge[0]);
            Window { from_ms: anchor.wall_ms(edge[0]), to_ms: anchor.wall_ms(edge[1]) }
        };
        edges.windows(2).map(span).collect()
    }
}

/// Folds a whole journal, telemetry included where evidence must come from there.
///
/// # Errors
/// When its folders cannot be listed, or not all of it can be had just now.
pub fn fold(reader: &Reader) -> io::Result<Hours> {
    let mut hours = Hours::default();
    reader.records(Stream::Events)?.each(|record| hours.note(&record))?;
    let last = hours.runs.len().saturating_sub(1);
    // The last run of all needs the newest telemetry only; others have their Evidence events,
    // but for a gateway that was killed while it started.
    let first = hours.lacking().next();
    let segments = match first {
        None => return Ok(hours),
        Some(first) if first < last => usize::MAX,
        Some(_) => EVIDENCE_SEGMENTS,
    };
    hours.note_telemetry(reader.newest(Stream::Telemetry, segments)?)?;
    Ok(hours)
}

/// The `Event::Evidence` of each machine of the journal's last run: what a gateway writes when it
/// starts, right after its `Event::Started`, about the run before it. Empty after an orderly stop.
///
/// # Errors
/// When the journal's folders cannot be listed, or not all of it can be had just now.
pub fn last_evidence(reader: &Reader) -> io::Result<Vec<Event>> {
    let mut hours = Hours::default();
    reader.records(Stream::Events)?.each(|record| hours.note(&record))?;
    let Some(last) = hours.runs.len().checked_sub(1) else { return Ok(Vec::new()) };
    if hours.runs[last].stopped.is_some() {
        return Ok(Vec::new());
    }
    hours.note_telemetry(reader.newest(Stream::Telemetry, EVIDENCE_SEGMENTS)?)?;
    let run = &hours.runs[last];
    let boot: Arc<str> = run.boot.to_string().into();
    let evidence = run.tracks.iter().map(|(machine, track)| Event::Evidence {
        machine: Arc::clone(machine),
        until: hours.track_end(last, track),
        boot: Arc::clone(&boot),
    });
    Ok(evidence.collect())
}

#[cfg(test)]
mod tests;
