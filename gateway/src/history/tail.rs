//! What the journal holds and the file does not have yet: the running hour, and whatever history has
//! not come to. It is read beside a running gateway or without one, changes nothing, and keeps
//! nothing in memory; so its samples come in the order of the journal.
//!
//! A sample is either in the file or here, never in both, because the same place in the journal and
//! the same rule ([`Place::has`]) decide what the file has. That needs the place and the rows of one
//! moment, so whoever exports has one look at the file until it has ended.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::Inputs;
use super::export::{ExportError, Exported, Sample, Selection};
use super::place::Place;
use crate::clock::Anchors;
use crate::journal::{Observation, Payload, Position, Reader, Record, Records, Stream};
use crate::mqtt::record_wall_ms;

/// Segments in which the newest record is looked for: the newest may have none yet.
const NEWEST_SEGMENTS: usize = 2;
/// Records among which the oldest with a wall time is looked for when history starts.
const LOOKED_AT: usize = 1000;

/// The journal in a folder; none where there is no journal.
pub(super) fn open(dir: &Path) -> io::Result<Option<Reader>> {
    match Reader::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Hands over what was selected of the samples that lie beyond a place.
pub(super) fn export(
    reader: &Reader,
    place: &Place,
    selection: &Selection,
    exported: &mut Exported,
    write: &mut dyn FnMut(Sample<'_>) -> io::Result<()>,
) -> Result<(), ExportError> {
    let mut samples = 0;
    let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|it| it == name);
    let passed = each(reader, place, &mut |at_ms, seen| {
        if !(selection.from_ms..selection.to_ms).contains(&at_ms)
            || !is(&selection.machine, &seen.machine)
        {
            return Ok(());
        }
        for (item, measured) in seen.items.iter().filter(|(item, _)| is(&selection.item, item)) {
            let (machine, measured) = (&*seen.machine, measured.clone());
            write(Sample { at_ms, machine, item, measured })?;
            samples += 1;
        }
        Ok(())
    })?;
    exported.samples += samples;
    exported.undated += passed.undated;
    exported.quarantined += passed.telemetry;
    exported.events_quarantined += passed.events;
    exported.of_journal = Some(samples);
    Ok(())
}

/// The machines and items that a journal has samples of.
///
/// # Errors
/// When it cannot be read.
pub fn series(dir: &Path) -> io::Result<BTreeSet<(String, String)>> {
    let Some(reader) = open(dir)? else { return Ok(BTreeSet::new()) };
    series_of(reader.records(Stream::Telemetry)?)
}

/// The machines and items of records.
pub(super) fn series_of(records: Records) -> io::Result<BTreeSet<(String, String)>> {
    let mut names = BTreeSet::new();
    records.each(|record| {
        let Payload::Observation(seen) = &record.payload else { return };
        for (item, _) in &seen.items {
            names.insert((seen.machine.to_string(), item.to_string()));
        }
    })?;
    Ok(names)
}

/// What a new file is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stock {
    /// Nothing was read before this start.
    Nothing,
    /// The oldest record has this wall time, in Unix milliseconds; unknown of boots without a clock.
    Since(Option<i64>),
}

/// What the journal of a gateway holds from before its start.
pub(super) fn stock(inputs: &Inputs) -> Stock {
    let Inputs { boot, started, wall, journal, .. } = inputs;
    let records = journal.reader().and_then(|reader| reader.records(Stream::Telemetry));
    let before = |record: &Record| match &record.payload {
        Payload::Observation(seen) => record.boot != *boot || seen.at < *started,
        Payload::Event(_) => false,
    };
    let mut records = records.into_iter().flatten().take(LOOKED_AT).filter(before).peekable();
    match records.peek() {
        None => Stock::Nothing,
        Some(_) => Stock::Since(records.find_map(|record| record_wall_ms(wall, &record))),
    }
}

/// What was passed over on the way.
#[derive(Default)]
struct Passed {
    /// Records without a time.
    undated: u64,
    /// What could not be read of the telemetry.
    telemetry: u64,
    /// What could not be read of the events.
    events: u64,
}

/// Takes what lies beyond a place and has a time.
fn each(
    reader: &Reader,
    place: &Place,
    take: &mut dyn FnMut(i64, &Observation) -> Result<(), ExportError>,
) -> Result<Passed, ExportError> {
    let mut passed = Passed::default();
    // What is written from here on might have an anchor that is not among those read next.
    let newest = reader.newest(Stream::Telemetry, NEWEST_SEGMENTS).and_then(last_of);
    let (end, behind) = newest.map_err(ExportError::Journal)?;
    let Some(end) = end else { return Ok(Passed { telemetry: behind, ..passed }) };
    let anchors = anchors(reader, &mut passed.events).map_err(ExportError::Journal)?;
    let records = reader.after(Stream::Telemetry, place.after);
    let mut records = records.map_err(ExportError::Journal)?;
    for record in records.by_ref() {
        if let Payload::Observation(seen) = &record.payload {
            match anchors.wall_ms(&record.boot, seen.at) {
                None => passed.undated += u64::from(!place.knows(&record)),
                Some(at_ms) => {
                    if !place.has(&record, at_ms) && !place.is_past(at_ms) {
                        take(at_ms, seen)?;
                    }
                }
            }
        }
        if record.position() == end {
            passed.telemetry = behind;
            break;
        }
    }
    records.end().map_err(ExportError::Journal)?;
    passed.telemetry += records.quarantined();
    Ok(passed)
}

/// The last of some records, and how much could not be read behind it.
pub(super) fn last_of(mut records: Records) -> io::Result<(Option<Position>, u64)> {
    let (mut last, mut before) = (None, 0);
    while let Some(record) = records.next() {
        (last, before) = (Some(record.position()), records.quarantined());
    }
    records.end()?;
    Ok((last, records.quarantined() - before))
}

/// The clock's anchors, and how much of the events could not be read.
fn anchors(reader: &Reader, quarantined: &mut u64) -> io::Result<Anchors> {
    let mut anchors = Anchors::default();
    let mut records = reader.records(Stream::Events)?;
    for record in records.by_ref() {
        if let Payload::Event(event) = &record.payload {
            anchors.note(record.boot, event);
        }
    }
    records.end()?;
    *quarantined = records.quarantined();
    Ok(anchors)
}
