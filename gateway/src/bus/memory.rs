//! What is known of a bus's devices over restarts: addresses that they refuse, and how fast they
//! answer. One small file per bus, `buses/BUS.json` in the gateway's state folder; who deletes it while
//! the gateway is stopped has everything learned anew. Gaps are noted down once they are proved, and
//! tried again (see `gaps`).
//!
//! It is knowledge that can be had again, so nothing depends on it: a file that cannot be read is
//! forgotten with one warning, what a device's profile said otherwise is forgotten with the profile,
//! and turnarounds with the speed of the line, whose time was in them or not by it. A file is
//! replaced whole, on a thread that may block, never on the bus's own. Bounds:
//! [`FILE_MAX`] bytes, one save in [`SAVE_LEAST`]; and since cards wear, a turnaround is written when
//! it is the first of its device, later in [`SAVE_TURNAROUND`] when it has changed by a quarter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use andon_adapters::modbus::{Holes, Table};
use andon_engine::time::BootTime;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::config::plan::{BusPlan, Link, UnitPlan};

/// Longest file that is read or written: 247 devices with as many holes as are remembered.
const FILE_MAX: u64 = 2 * 1024 * 1024;
/// Least time between two saves: what a power cut costs is learned again.
const SAVE_LEAST: Duration = Duration::from_secs(10);
/// A turnaround that has changed is no reason to write more often than this.
const SAVE_TURNAROUND: Duration = Duration::from_secs(600);
/// A device's first turnaround is written this long after its first answer: by then it is an average.
const SAVE_FIRST: Duration = Duration::from_secs(30);
/// How long the last save may take when the bus ends.
const LAST_SAVE_WITHIN: Duration = Duration::from_secs(1);
/// The file's format; another one is forgotten.
const VERSION: u32 = 1;

/// What is remembered of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What it refuses to read.
    pub holes: Holes,
    /// What it usually needs before it answers.
    pub turnaround: Option<Duration>,
}

/// What is remembered of the devices of `plan`, in the order of its units, below the state folder
/// `dir`. Nothing where there is nothing, or where it cannot be read.
pub fn remembered(dir: &Path, plan: &BusPlan) -> Vec<Remembered> {
    let memory = Memory::load(dir, plan);
    plan.units.iter().map(|unit| memory.of(unit)).collect()
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Notes {
    version: u32,
    /// The speed of the line that the turnarounds were measured beyond; nothing where nobody said
    /// that there is a line, so that its time is in them.
    #[serde(default)]
    baud: Option<u32>,
    /// By station: `unit 3`, `meter 123456789012`.
    units: BTreeMap<String, Note>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    profile: String,
    /// SHA-256 of what the profile says of its registers.
    content: String,
    turnaround_us: Option<u64>,
    /// Table, first address, count.
    holes: Vec<(String, u16, u16)>,
}

/// The memory of one bus.
#[derive(Debug)]
pub(super) struct Memory {
    /// `None` forgets everything at the end.
    path: Option<PathBuf>,
    notes: Notes,
    saved: Option<BootTime>,
    saving: Option<JoinHandle<io::Result<()>>>,
    /// Something was learned that is not written yet.
    news: bool,
    /// The last save was not written.
    failed: Arc<AtomicBool>,
    /// Since when there is a turnaround of a device of which none was known.
    first: Option<BootTime>,
    /// That it cannot be written has been said.
    told: Arc<AtomicBool>,
}

impl Memory {
    /// One that is not kept.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self::of_notes(None, Notes::default())
    }

    fn of_notes(path: Option<PathBuf>, notes: Notes) -> Self {
        Self {
            path,
            notes,
            saved: None,
            saving: None,
            news: false,
            failed: Arc::default(),
            first: None,
            told: Arc::default(),
        }
    }

    /// The memory of `plan` below the state folder `dir`.
    pub(super) fn load(dir: &Path, plan: &BusPlan) -> Self {
        let path = dir.join("buses").join(format!("{}.json", plan.id));
        let mut notes = match read(&path) {
            Ok(notes) => notes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(
                        bus = %plan.id, path = %path.display(), %error,
                        "what was known of the bus's devices cannot be read; it is learned again"
                    );
                }
                Notes::default()
            }
        };
        let baud = match plan.link {
            Link::Tcp { baud, .. } => baud,
            Link::RtuOverTcp { baud, .. } | Link::Rtu { baud, .. } => Some(baud),
        };
        if std::mem::replace(&mut notes.baud, baud) != baud {
            notes.units.values_mut().for_each(|note| note.turnaround_us = None);
        }
        Self::of_notes(Some(path), notes)
    }

    /// What is known of a unit, if it still has the profile that it had.
    pub(super) fn of(&self, unit: &UnitPlan) -> Remembered {
        let Some(note) = self.notes.units.get(&unit.station.to_string()) else {
            return Remembered::default();
        };
        if note.profile != *unit.profile.id || note.content != content(unit) {
            return Remembered::default();
        }
        let mut holes = Holes::default();
        for (word, start, count) in &note.holes {
            if let Some(table) = Table::ALL.into_iter().find(|table| table.word() == word) {
                holes.insert(table, *start, *count);
            }
        }
        Remembered { holes, turnaround: note.turnaround_us.map(Duration::from_micros) }
    }

    /// A unit's holes have changed.
    pub(super) const fn learned(&mut self) {
        self.news = true;
    }

    /// A unit of which no turnaround was known has answered at `now`.
    pub(super) fn measured(&mut self, now: BootTime) {
        self.first.get_or_insert(now);
    }

    /// Writes what has been learned, if anything has and it is time. Returns at once.
    pub(super) fn tend<'a>(
        &mut self,
        now: BootTime,
        units: impl Iterator<Item = (&'a UnitPlan, Holes, Option<Duration>)>,
    ) {
        let since = now.since(*self.saved.get_or_insert(now));
        let first = self.first.is_some_and(|at| now.since(at) >= SAVE_FIRST);
        let due = ((self.news || first) && since >= SAVE_LEAST) || since >= SAVE_TURNAROUND;
        if due && self.path.is_some() && self.saving.as_ref().is_none_or(JoinHandle::is_finished) {
            self.saved = Some(now);
            self.save(units);
        }
    }

    /// Writes what is known, and waits for it a moment: the bus ends.
    pub(super) async fn finish<'a>(
        &mut self,
        units: impl Iterator<Item = (&'a UnitPlan, Holes, Option<Duration>)>,
    ) {
        if self.path.is_some() {
            let before = self.saving.take();
            let both = async {
                if let Some(before) = before {
                    let _ = before.await;
                }
                self.save(units);
                if let Some(saving) = self.saving.take() {
                    let _ = saving.await;
                }
            };
            // What is not written within this time is learned again.
            let _ = tokio::time::timeout(LAST_SAVE_WITHIN, both).await;
        }
    }

    fn save<'a>(&mut self, units: impl Iterator<Item = (&'a UnitPlan, Holes, Option<Duration>)>) {
        let Some(path) = self.path.clone() else { return };
        let notes = units.map(|(unit, holes, turnaround)| {
            let before = self.notes.units.get(&unit.station.to_string());
            (unit.station.to_string(), note(unit, &holes, turnaround, before))
        });
        let notes = Notes { version: VERSION, baud: self.notes.baud, units: notes.collect() };
        (self.news, self.first) = (false, None);
        // What could not be written is written when it is time again, whether or not it is news.
        if notes == self.notes && !self.failed.swap(false, Ordering::Relaxed) {
            return;
        }
        let (told, failed) = (self.told.clone(), self.failed.clone());
        if let Ok(bytes) = serde_json::to_vec(&notes) {
            self.saving = Some(spawn_blocking(move || {
                let written = write(&path, &bytes);
                failed.store(written.is_err(), Ordering::Relaxed);
                if let Err(error) = &written
                    && !told.swap(true, Ordering::Relaxed)
                {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "what is known of the bus's devices cannot be written; it is tried again"
                    );
                }
                written
            }));
        }
        self.notes = notes;
    }
}

/// A note; a turnaround that has hardly changed is no news.
fn note(
    unit: &UnitPlan,
    holes: &Holes,
    turnaround: Option<Duration>,
    before: Option<&Note>,
) -> Note {
    let content = content(unit);
    let before = before.filter(|note| note.content == content).and_then(|note| note.turnaround_us);
    let micros = turnaround.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    let turnaround_us = match (before, micros) {
        (Some(before), Some(now)) if before.abs_diff(now) <= before / 4 => Some(before),
        (before, now) => now.or(before),
    };
    let known = |(table, start, count): (Table, u16, u16)| {
        Table::ALL.contains(&table).then(|| (table.word().to_owned(), start, count))
    };
    let mut holes: Vec<_> = holes.iter().filter_map(known).collect();
    holes.sort_unstable();
    Note { profile: unit.profile.id.to_string(), content, turnaround_us, holes }
}

/// What a profile says of its registers, as a digest: where it changes, what was learned of the
/// device may have been learned by mistake.
fn content(unit: &UnitPlan) -> String {
    let mut text = format!("{} ", unit.profile.max_registers);
    for item in &unit.profile.items {
        // Writing to a string cannot fail.
        write!(text, "{} {} {};", item.item.name, item.block(), item.block().count).ok();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").ok();
        hex
    })
}

fn read(path: &Path) -> io::Result<Notes> {
    let mut bytes = Vec::new();
    let mut file = io::Read::take(File::open(path)?, FILE_MAX);
    io::Read::read_to_end(&mut file, &mut bytes)?;
    let notes: Notes = serde_json::from_slice(&bytes)?;
    if notes.version != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "another version's"));
    }
    Ok(notes)
}

/// Writes whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than is read back"));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_added_extension("tmp");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::tests::bench::{bus, profile};
    use crate::journal::tests::Folder;

    fn holes(list: &[(Table, u16, u16)]) -> Holes {
        let mut holes = Holes::default();
        for &(table, start, count) in list {
            assert!(holes.insert(table, start, count));
        }
        holes
    }

    #[tokio::test]
    async fn holes_are_there_after_a_restart_and_gone_with_another_profile() {
        let folder = Folder::new("bus-memory");
        let (mut plan, _) = bus(false, 2, &profile(&[100, 200]));
        let known = holes(&[(Table::Holding, 101, 9), (Table::Holding, 150, 0)]);
        let turnaround = Some(Duration::from_micros(8123));
        let mut memory = Memory::load(folder.path(), &plan);
        assert_eq!(memory.of(&plan.units[0]), Remembered::default());
        let nothing = Holes::default();
        let units = [(&plan.units[0], known.clone(), turnaround), (&plan.units[1], nothing, None)];
        memory.finish(units.into_iter()).await;

        let again = remembered(folder.path(), &plan);
        assert_eq!(again[0], Remembered { holes: known, turnaround });
        assert_eq!(again[1], Remembered::default());
        let mut changed = (*plan.units[0].profile).clone();
        changed.items[1].address = 201;
        plan.units[0].profile = Arc::new(changed);
        assert_eq!(remembered(folder.path(), &plan)[0], Remembered::default());
    }

    #[tokio::test]
    async fn a_turnaround_that_the_line_was_in_is_forgotten_once_its_speed_is_known() {
        let folder = Folder::new("bus-memory-baud");
        let (mut plan, _) = bus(true, 1, &profile(&[100]));
        let known = holes(&[(Table::Holding, 101, 9)]);
        let turnaround = Some(Duration::from_millis(120));
        let mut memory = Memory::load(folder.path(), &plan);
        memory.finish([(&plan.units[0], known.clone(), turnaround)].into_iter()).await;
        let again = Remembered { holes: known.clone(), turnaround };
        assert_eq!(remembered(folder.path(), &plan)[0], again);

        plan.link = Link::Tcp { address: String::new(), baud: Some(9600) };
        let forgotten = Remembered { holes: known.clone(), turnaround: None };
        assert_eq!(remembered(folder.path(), &plan)[0], forgotten);
        let own = Some(Duration::from_millis(20));
        let mut memory = Memory::load(folder.path(), &plan);
        memory.finish([(&plan.units[0], known.clone(), own)].into_iter()).await;
        let again = Remembered { holes: known, turnaround: own };
        assert_eq!(remembered(folder.path(), &plan)[0], again);
    }

    #[tokio::test]
    async fn a_first_turnaround_is_written_within_a_minute_and_a_changed_one_rarely() {
        let folder = Folder::new("bus-memory-first");
        let (plan, _) = bus(false, 1, &profile(&[100]));
        let (nothing, mut writes) = (Holes::default(), Vec::new());
        let mut memory = Memory::load(folder.path(), &plan);
        for second in 0..1300 {
            let now = BootTime::from_millis(second * 1000);
            if second == 5 {
                memory.measured(now);
            }
            // It needs twice as long from its second minute on.
            let turnaround = Duration::from_millis(if second < 100 { 40 } else { 80 });
            let known = (second >= 5).then_some(turnaround);
            let before = memory.of(&plan.units[0]).turnaround;
            memory.tend(now, [(&plan.units[0], nothing.clone(), known)].into_iter());
            if let Some(saving) = memory.saving.take() {
                saving.await.unwrap().unwrap();
            }
            if memory.of(&plan.units[0]).turnaround != before {
                writes.push(second);
            }
        }
        assert_eq!(writes, [35, 635]);
        let written = remembered(folder.path(), &plan)[0].turnaround;
        assert_eq!(written, Some(Duration::from_millis(80)));
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_once_it_can_be() {
        let (plan, _) = bus(false, 1, &profile(&[100]));
        let known = holes(&[(Table::Holding, 101, 9)]);
        let units = || [(&plan.units[0], known.clone(), None)].into_iter();
        let after = |seconds: u64| BootTime::from_millis(seconds * 1000);
        // The folder's place is taken by a file, until ten minutes later or the end.
        for at_the_end in [false, true] {
            let folder = Folder::new("bus-memory-failed");
            fs::create_dir_all(folder.path()).unwrap();
            fs::write(folder.path().join("buses"), "").unwrap();
            let mut memory = Memory::load(folder.path(), &plan);
            memory.tend(after(0), units());
            memory.learned();
            memory.tend(after(10), units());
            assert!(memory.saving.take().unwrap().await.unwrap().is_err());
            fs::remove_file(folder.path().join("buses")).unwrap();
            if at_the_end {
                memory.finish(units()).await;
            } else {
                memory.tend(after(20), units());
                assert!(memory.saving.is_none(), "not at once");
                memory.tend(after(610), units());
                memory.saving.take().unwrap().await.unwrap().unwrap();
            }
            assert_eq!(remembered(folder.path(), &plan)[0].holes, known, "at the end {at_the_end}");
            // And not again.
            memory.tend(after(2000), units());
            assert!(memory.saving.is_none());
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_forgotten() {
        let folder = Folder::new("bus-memory-damaged");
        let (plan, _) = bus(false, 1, &profile(&[100]));
        fs::create_dir_all(folder.path().join("buses")).unwrap();
        let path = folder.path().join("buses/test.json");
        let long = vec![b' '; usize::try_from(FILE_MAX).unwrap() + 1];
        let damaged: [&[u8]; 4] =
            [b"", b"{\"version\":1,\"units\":{\"unit 1\"", b"\xff\x00", &long];
        for bytes in damaged {
            fs::write(&path, bytes).unwrap();
            assert_eq!(remembered(folder.path(), &plan), [Remembered::default()]);
        }
        fs::write(&path, "{\"version\":99,\"units\":{}}").unwrap();
        assert_eq!(remembered(folder.path(), &plan), [Remembered::default()]);
    }
}
