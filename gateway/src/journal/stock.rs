//! What a stream's folder holds when the journal is opened.
//!
//! A footer tells what is in its segment. Segments without one are walked, newest first, until
//! [`WALK_MAX`] bytes have been; what is older still is only glanced at: its first header says
//! where it begins, the segment after it where it ends. So opening reads a bounded amount whatever
//! has become of the disk. Followers and readers walk a segment as they come to it in any case;
//! only the counts of what lies behind a position are estimates until then.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::refusal::{is_passing, patiently};
use super::segment::{self, Opened, Summary};
use super::walk::BlockEntry;

/// Bytes that are walked when a stream is opened: two seconds of a slow SD card.
const WALK_MAX: u64 = 64 * 1024 * 1024;
/// Fewer bytes than this no observation of a machine takes, with its frame.
const RECORD_LEAST: u64 = 8;

/// A stream's folder as found.
pub(super) struct Stock {
    /// Oldest first.
    pub(super) segments: VecDeque<Summary>,
    /// Blocks, and whole segments, that could not be read.
    pub(super) quarantined: u64,
    /// The last segment, when it will be written further.
    pub(super) last: Option<Last>,
}

/// A segment that goes on.
pub(super) struct Last {
    pub(super) number: u32,
    pub(super) file: Arc<File>,
    pub(super) end: u64,
    pub(super) blocks: Vec<BlockEntry>,
}

/// Takes stock of a stream's folder: reads footers, walks what has none and seals it, but for a
/// last segment that is whole, which will be written further.
///
/// # Errors
/// When the folder cannot be made or listed, or when the system lacks what opening takes (descriptors,
/// memory). A segment that cannot be read is counted.
pub(super) fn take(folder: &Path) -> io::Result<Stock> {
    take_walking(folder, WALK_MAX)
}

/// As [`take`], walking at most `budget` bytes and one segment more.
pub(super) fn take_walking(folder: &Path, budget: u64) -> io::Result<Stock> {
    fs::create_dir_all(folder)?;
    let mut stock = Stock { segments: VecDeque::new(), quarantined: 0, last: None };
    let numbers = segment::list(folder)?;
    let walked_from = oldest_walked(folder, &numbers, budget);
    let mut glanced = Vec::new();
    for number in &numbers {
        let path = segment::path(folder, *number);
        let walked = *number >= walked_from;
        let opened = patiently(|| {
            let file = Arc::new(File::options().read(true).write(true).open(&path)?);
            let look = if walked { segment::inspect } else { segment::glance };
            Ok((look(&file, *number)?, file))
        });
        match opened {
            Ok((opened, file)) => {
                if !walked && !opened.sealed {
                    glanced.push(stock.segments.len());
                }
                let may_go_on = Some(number) == numbers.last();
                stock.add(opened, file, may_go_on, walked);
            }
            // Nobody would follow what is in it until the next start.
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => {
                tracing::error!(segment = number, %error, "A journal segment cannot be read.");
                stock.quarantined += 1;
            }
        }
    }
    for index in glanced.into_iter().rev() {
        stock.estimate(index);
    }
    Ok(stock)
}

/// The oldest segment that is walked should it have no footer: those behind it are sealed, or
/// take less than `budget` together.
fn oldest_walked(folder: &Path, numbers: &[u32], budget: u64) -> u32 {
    let mut walked = 0;
    for number in numbers.iter().rev() {
        let Ok(file) = File::open(segment::path(folder, *number)) else { continue };
        if segment::footer(&file).is_none() {
            walked += file.metadata().map_or(0, |found| found.len());
        }
        if walked > budget {
            return *number;
        }
    }
    0
}

impl Stock {
    fn add(&mut self, opened: Opened, file: Arc<File>, may_go_on: bool, walked: bool) {
        self.quarantined += opened.quarantined;
        let Summary { number, end, .. } = opened.summary;
        if !opened.sealed && !opened.torn && may_go_on {
            self.last = Some(Last { number, file, end, blocks: opened.blocks });
        } else if !opened.sealed
            && walked
            && let Err(error) = segment::seal(&file, end, &opened.blocks)
        {
            tracing::warn!(segment = number, %error, "A journal segment could not be sealed.");
        }
        self.segments.push_back(opened.summary);
    }

    /// Gives a segment that was glanced at the numbers up to those of the next one; where that is
    /// of another boot, as many as it has room for.
    fn estimate(&mut self, index: usize) {
        let next = self.segments.get(index + 1).and_then(|next| next.spans.first()).copied();
        let Some(segment) = self.segments.get_mut(index) else { return };
        let Some(span) = segment.spans.first_mut() else { return };
        let room = (segment.end / RECORD_LEAST).max(1);
        let most = span.first.saturating_add(room - 1);
        let before = next.filter(|next| next.boot == span.boot && next.first > span.first);
        span.last = before.map_or(most, |next| (next.first - 1).min(most));
        segment.records = span.last - span.first + 1;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::tests::{Folder, SMALL, follow_all, observation, open};
    use super::super::{BootId, Follower, Payload, Record, Shared, State, Stream};
    use super::*;

    /// Some segments of two boots, and all their records.
    fn filled(folder: &Folder) -> Vec<Record> {
        let mut records = Vec::new();
        for boot in [1, 2] {
            let journal = open(folder, BootId([boot; 16]), SMALL, None);
            let value = |at: u64| f64::from(u32::try_from(at).unwrap()) / 7.0;
            let payloads: Vec<Payload> = (0..9000).map(|at| observation(at, value(at))).collect();
            for some in payloads.chunks(500) {
                journal.append(some.to_vec());
            }
            records = follow_all(&journal, Stream::Telemetry, records.len() + 9000);
        }
        records
    }

    fn spoil_footers(folder: &Path) {
        for number in segment::list(folder).unwrap() {
            let open = File::options().read(true).write(true).open(segment::path(folder, number));
            let file = open.unwrap();
            let end = file.metadata().unwrap().len();
            file.write_all_at(&[1; 4], end - 4).unwrap();
        }
    }

    #[test]
    fn what_is_only_glanced_at_is_counted_nearly_and_read_wholly() {
        let folder = Folder::new("stock");
        let records = filled(&folder);
        let telemetry = folder.path().join("telemetry");
        let known = take(&telemetry).unwrap().segments;
        assert!(known.len() >= 5, "{} segments", known.len());
        spoil_footers(&telemetry);
        let stock = take_walking(&telemetry, 0).unwrap();
        let newest_of_boot: Vec<bool> = known
            .iter()
            .zip(known.iter().skip(1).map(Some).chain([None]))
            .map(|(one, next)| next.is_none_or(|next| next.spans[0].boot != one.spans[0].boot))
            .collect();
        for ((glanced, known), newest) in stock.segments.iter().zip(&known).zip(newest_of_boot) {
            assert_eq!(glanced.number, known.number);
            assert_eq!(glanced.spans[0].first, known.spans[0].first);
            if newest {
                assert!(glanced.records >= known.records, "{glanced:?} {known:?}");
            } else {
                assert_eq!(glanced.records, known.records, "{glanced:?} {known:?}");
            }
        }
        // The newest was walked, and sealed with that; the next time it is the one before.
        assert_eq!(stock.quarantined, 1);
        let again = take_walking(&telemetry, 0).unwrap();
        assert_eq!(again.quarantined, 1);
        let mut state = State::default();
        state.segments[Stream::Telemetry as usize] = again.segments;
        let shared = Arc::new(Shared::new(folder.path(), state));
        assert_eq!(Follower::new(Stream::Telemetry, &shared, None).next(usize::MAX), records);
        let from = records[7000].position();
        let rest = Follower::new(Stream::Telemetry, &shared, Some(from)).next(usize::MAX);
        assert_eq!(rest, records[7001..]);
    }

    #[test]
    fn reading_after_a_position_is_what_a_follower_reads_after_it() {
        let folder = Folder::new("reader-after");
        let records = filled(&folder);
        let reader = super::super::Reader::open(folder.path()).unwrap();
        let after = |position| -> Vec<Record> {
            reader.after(Stream::Telemetry, position).unwrap().collect()
        };
        assert_eq!(after(None), records);
        for place in [0, 4000, 8999, 9000, 13_000, 17_999] {
            let rest = after(Some(records[place].position()));
            assert!(rest == records[place + 1..], "after {place}: {} records", rest.len());
        }
        // Of a boot that is gone altogether nothing is known: all there is comes after it.
        let gone = super::super::Position { boot: BootId([9; 16]), seq: 5 };
        assert_eq!(after(Some(gone)), records);
    }
}
