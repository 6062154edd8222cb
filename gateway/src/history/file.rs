//! The one SQLite file: its tables, its settings, and what is done when it is damaged.
//!
//! WAL with `synchronous=NORMAL`: a power cut may take back the last transactions, each with its
//! place in the journal, so they are made again from there; the file itself stays whole. A commit
//! therefore needs no sync, and an hour of a hundred series is one write of some 200 KB. The page
//! cache is a quarter of a megabyte: rows are read once and written once.

use std::fs;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::blob::Blob;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::column;
use super::rollup;
use super::row::{self, Entry, Header, PREFIX};
use super::samples::Samples;
use super::summary::Sum;

/// The version of the tables.
const VERSION: i64 = 1;
/// The file's name in the state folder.
pub const NAME: &str = "history.db";
/// How long a reader's lock is waited for.
const BUSY: Duration = Duration::from_secs(2);
/// How many damaged files are set aside before the oldest is overwritten.
const ASIDE_MAX: u32 = 9;
/// Longest part of a row that is read: larger than any that is written.
const PART_MAX: usize = 4 * 1024 * 1024;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 0), place TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, machine TEXT NOT NULL, item TEXT NOT NULL, UNIQUE (machine, item));
CREATE TABLE IF NOT EXISTS chunk (
    id INTEGER PRIMARY KEY, grp INTEGER NOT NULL, start INTEGER NOT NULL, span INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS chunk_place ON chunk (grp, start);
CREATE INDEX IF NOT EXISTS chunk_start ON chunk (start);
CREATE TABLE IF NOT EXISTS rollup (
    id INTEGER PRIMARY KEY, level INTEGER NOT NULL, grp INTEGER NOT NULL, start INTEGER NOT NULL,
    body BLOB NOT NULL, UNIQUE (level, grp, start));
CREATE TABLE IF NOT EXISTS pending (
    grp INTEGER NOT NULL, day INTEGER NOT NULL, PRIMARY KEY (grp, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damaged (
    id INTEGER PRIMARY KEY, origin TEXT NOT NULL, grp INTEGER NOT NULL, start INTEGER NOT NULL,
    body BLOB NOT NULL);
";

/// Why something cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It does not say how far the journal was read: nothing can be added without counting twice.
    #[error("its place in the journal cannot be read")]
    Place,
    /// One row does not check.
    #[error("row {0} is damaged")]
    Row(i64),
    /// SQLite or the disk refuses.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// The disk refuses.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl Trouble {
    /// Whether the whole file is beyond use: trying again would never help.
    pub(super) fn ruins_the_file(&self) -> bool {
        match self {
            Self::Place => true,
            Self::Database(error) => ruins(error),
            Self::Row(_) | Self::Disk(_) => false,
        }
    }
}

fn ruins(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Opens or creates the file for writing, and says whether it is new; one that is damaged is set
/// aside.
pub(super) fn open(path: &Path) -> Result<(Connection, bool), Trouble> {
    match open_whole(path) {
        Err(trouble) if trouble.ruins_the_file() => {
            set_aside(path, &trouble)?;
            open_whole(path)
        }
        opened => opened,
    }
}

fn open_whole(path: &Path) -> Result<(Connection, bool), Trouble> {
    let database = Connection::open(path)?;
    database.busy_timeout(BUSY)?;
    // Before the first table: it decides how the file is laid out.
    database.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    database.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    database.pragma_update(None, "synchronous", "NORMAL")?;
    database.pragma_update(None, "cache_size", -256)?;
    database.pragma_update(None, "temp_store", "MEMORY")?;
    // The log is folded into the file at a megabyte and cut back to that after a larger one.
    database.pragma_update_and_check(None, "wal_autocheckpoint", 256, |_| Ok(()))?;
    database.pragma_update_and_check(None, "journal_size_limit", 1 << 20, |_| Ok(()))?;
    let version = version(&database)?;
    let transaction = database.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok((database, version == 0))
}

/// The version of the tables; 0 before there are any.
fn version(database: &Connection) -> Result<i64, Trouble> {
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        let newer = "the history file was written by a newer andon";
        return Err(io::Error::new(io::ErrorKind::Unsupported, newer).into());
    }
    Ok(version)
}

/// Fails when the file was taken away, so that it is opened, which is made, again.
pub(super) fn still_there(path: &Path) -> Result<(), Trouble> {
    if path.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the history file was taken away").into())
}

/// Bytes that the file and its log take on the disk; of what is not there, none.
pub(super) fn bytes(path: &Path) -> u64 {
    let log = beside(path, "-wal");
    [path, &log].into_iter().filter_map(|it| Some(fs::metadata(it).ok()?.len())).sum()
}

/// A companion of the file, as SQLite names it.
fn beside(path: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}{extension}", path.display()))
}

/// Opens the file for reading, beside whoever writes it; `None` when there is none.
pub(super) fn open_to_read(path: &Path) -> Result<Option<Connection>, Trouble> {
    if !path.exists() {
        return Ok(None);
    }
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "cache_size", -256)?;
    let version = version(&database)?;
    // Whoever makes it has not come to its tables yet.
    Ok((version == VERSION).then_some(database))
}

/// Renames a file that is beyond use, so that a person may look at it, and its log with it.
pub(super) fn set_aside(path: &Path, trouble: &Trouble) -> io::Result<()> {
    let names = (1..=ASIDE_MAX).map(|n| path.with_added_extension(format!("damaged-{n}")));
    let free = names.clone().find(|name| !name.exists());
    let aside: PathBuf = free.or_else(|| names.clone().next()).unwrap_or_default();
    tracing::error!(
        %trouble, file = %path.display(), aside = %aside.display(), bytes = bytes(path),
        "The history file is damaged. It was set aside, and a new one is begun from what the \
         journal still holds; curves of the time before are in the old file only. Nothing reads \
         that any more: it may be deleted."
    );
    fs::rename(path, &aside)?;
    for extension in ["-wal", "-shm"] {
        match fs::rename(beside(path, extension), beside(&aside, extension)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// One row, read part by part.
pub(super) struct Stored<'c> {
    id: i64,
    blob: Blob<'c>,
    pub(super) header: Header,
    /// The numbers of slots that were read last, and which of the shared parts they are.
    numbers: Option<(usize, Vec<i64>)>,
}

impl<'c> Stored<'c> {
    /// Opens a row of `table` and reads its header.
    pub(super) fn open(database: &'c Connection, table: &str, id: i64) -> Result<Self, Trouble> {
        let mut blob = database.blob_open(MAIN_DB, table, "body", id, true)?;
        let mut prefix = [0; PREFIX];
        read_at(&mut blob, &mut prefix, 0, id)?;
        let (length, crc) = row::prefix(prefix).ok_or(Trouble::Row(id))?;
        let mut bytes = vec![0; length];
        read_at(&mut blob, &mut bytes, PREFIX, id)?;
        let header = Header::read(&bytes, crc).ok_or(Trouble::Row(id))?;
        Ok(Self { id, blob, header, numbers: None })
    }

    /// One part, checked.
    pub(super) fn part(&mut self, place: row::Place) -> Result<Vec<u8>, Trouble> {
        if place.length > PART_MAX {
            return Err(Trouble::Row(self.id));
        }
        let mut bytes = vec![0; place.length];
        read_at(&mut self.blob, &mut bytes, place.offset, self.id)?;
        if place.holds(&bytes) { Ok(bytes) } else { Err(Trouble::Row(self.id)) }
    }

    /// The samples of a series in this row.
    pub(super) fn samples(&mut self, entry: &Entry) -> Result<Samples, Trouble> {
        let damaged = Trouble::Row(self.id);
        let Some(shared) = self.header.shared.get(entry.shared).copied() else {
            return Err(damaged);
        };
        let times = self.part(shared.place)?;
        let values = self.part(entry.place)?;
        let times = column::read_times(&times, shared.count, self.header.begin_ms);
        times.and_then(|times| column::read_values(&values, entry.scale, times)).ok_or(damaged)
    }

    /// The slots of a series in this row, with their numbers; how many samples are in them only
    /// where `counts` is set.
    pub(super) fn slots(
        &mut self,
        entry: &Entry,
        counts: bool,
    ) -> Result<impl Iterator<Item = (i64, Sum)>, Trouble> {
        let damaged = Trouble::Row(self.id);
        let Some(shared) = self.header.shared.get(entry.shared).copied() else {
            return Err(damaged);
        };
        // Series that are read together have known something at the same times.
        if self.numbers.as_ref().is_none_or(|(which, _)| *which != entry.shared) {
            let numbers = rollup::read_numbers(&self.part(shared.place)?, shared.count);
            self.numbers = Some((entry.shared, numbers.ok_or(damaged)?));
        }
        let body = self.part(entry.place)?;
        let slots = rollup::read(&body, entry.scale, shared.count, counts);
        let slots = slots.ok_or(Trouble::Row(self.id))?;
        let numbers = self.numbers.as_ref().map_or(&[][..], |(_, numbers)| numbers);
        Ok(numbers.iter().copied().zip(slots.into_slots()))
    }
}

/// Reads exactly there; a row that ends too early is damaged.
fn read_at(blob: &mut Blob<'_>, bytes: &mut [u8], offset: usize, id: i64) -> Result<(), Trouble> {
    blob.seek(SeekFrom::Start(offset as u64))?;
    io::Read::read_exact(blob, bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Trouble::Row(id),
        _ => Trouble::Disk(error),
    })
}
