//! Reading a journal as it is, from its folder alone, also beside a gateway that writes it; as it
//! grows, [`super::follow`] has it. Nothing is changed, and what cannot be read is passed over and
//! counted. It may wait a second or two for what the system lacks, so it is for threads that may.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::follow::{Chain, place};
use super::record::{Position, Record, Stream};
use super::refusal::{is_passing, patiently};
use super::segment::{self, Summary};
use super::walk::{Found, Walker};

/// Reads the journal in a folder without changing it, also while a gateway writes it.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// A reader of the journal in `dir`.
    ///
    /// # Errors
    /// When there is no journal.
    pub fn open(dir: &Path) -> io::Result<Self> {
        for stream in Stream::ALL {
            std::fs::read_dir(dir.join(stream.word()))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The records of a stream, oldest first, up to what is there now.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn records(&self, stream: Stream) -> io::Result<Records> {
        self.newest(stream, usize::MAX)
    }

    /// The records of the newest `segments` segments of a stream, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn newest(&self, stream: Stream, segments: usize) -> io::Result<Records> {
        let folder = self.dir.join(stream.word());
        let mut numbers = VecDeque::from(segment::list(&folder)?);
        numbers.drain(..numbers.len().saturating_sub(segments));
        let (chain, walker) = (Chain::default(), None);
        Ok(Records { folder, numbers, walker, chain, quarantined: 0, cut: None })
    }

    /// The records of a stream after a position, oldest first; all of them where nothing is known of
    /// its boot any more, and without one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn after(&self, stream: Stream, after: Option<Position>) -> io::Result<Records> {
        let mut records = self.records(stream)?;
        let found = after.and_then(|after| place(&self.summaries(&records), after));
        if let Some((first, _)) = found {
            records.numbers.retain(|number| *number >= first);
            records.chain = Chain::after(after, true);
        }
        Ok(records)
    }

    /// What is in the segments that are to be read; footers are read, and what has none is walked.
    fn summaries(&self, records: &Records) -> VecDeque<Summary> {
        let summary = |number: &u32| {
            let inspect = || {
                let file = Arc::new(File::open(segment::path(&records.folder, *number))?);
                segment::inspect(&file, *number)
            };
            Some(patiently(inspect).ok()?.summary)
        };
        records.numbers.iter().filter_map(summary).collect()
    }
}

/// Records of a journal at rest.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    numbers: VecDeque<u32>,
    walker: Option<Walker>,
    chain: Chain,
    quarantined: u64,
    /// What the system lacked for so long that reading was ended.
    cut: Option<io::Error>,
}

impl Records {
    /// Hands over all that are left.
    ///
    /// # Errors
    /// As [`Records::end`].
    pub fn each(mut self, take: impl FnMut(Record)) -> io::Result<()> {
        self.by_ref().for_each(take);
        self.end()
    }

    /// To be asked after the last record. What cannot be read is no error but counted.
    ///
    /// # Errors
    /// When it was the last only because the system lacked something (descriptors, memory): what is
    /// behind it is not broken, and whoever acts on all records must not act on these.
    pub fn end(&mut self) -> io::Result<()> {
        self.cut.take().map_or(Ok(()), Err)
    }

    /// Blocks met so far that could not be read to their end, and segments that could not be
    /// read. The tail that a gateway is just writing is not one of them.
    pub const fn quarantined(&self) -> u64 {
        match &self.walker {
            Some(walker) => self.quarantined + walker.quarantined,
            None => self.quarantined,
        }
    }

    fn walk(&mut self) -> io::Result<Option<Found>> {
        loop {
            if let Some(walker) = &mut self.walker {
                if let Some(found) = patiently(|| walker.next())? {
                    return Ok(Some(found));
                }
                self.quarantined += walker.quarantined;
                self.walker = None;
                // A position that its segment does not have any more is not looked for in the next.
                self.chain.seeking = false;
            }
            let Some(number) = self.numbers.pop_front() else { return Ok(None) };
            let path = segment::path(&self.folder, number);
            let file = match patiently(|| File::open(&path)) {
                // Recycled since the listing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.chain.seeking = false;
                    continue;
                }
                opened => Arc::new(opened?),
            };
            let end = match segment::footer(&file) {
                Some((end, _)) => end,
                None => file.metadata()?.len(),
            };
            self.walker = Some(Walker::new(file, 0, end));
        }
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            match self.walk() {
                Ok(Some(found)) => {
                    if let Some(record) = self.chain.record(found) {
                        return Some(record);
                    }
                }
                Ok(None) => return None,
                Err(error) if is_passing(&error) => {
                    let what = "The journal cannot be read on: the system lacks something.";
                    tracing::error!(%error, "{what}");
                    self.numbers.clear();
                    self.quarantined = self.quarantined();
                    self.walker = None;
                    self.cut = Some(error);
                    return None;
                }
                Err(error) => {
                    tracing::error!(%error, "A journal segment cannot be read.");
                    self.quarantined = self.quarantined() + 1;
                    self.walker = None;
                    self.chain.seeking = false;
                }
            }
        }
    }
}
