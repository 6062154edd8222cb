//! The dead-letter file: lines that the store will never take, with its answer, for a person.
//!
//! Bounded: at [`FILE_MAX`] bytes the file becomes `<name>.old` and a new one begins, so at most
//! twice as much is on the disk. A line that is lost because the disk refuses is counted. The log
//! tells of the first letter and then once in [`TOLD_EVERY`] at most: a store that refuses
//! everything must not fill it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Largest dead-letter file, in bytes.
pub(super) const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Least time between two lines about dead letters in the log.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Where refused lines go.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
    /// Lines refused since the start.
    pub(super) refused: u64,
    /// Of these, the ones that could not be kept either.
    pub(super) lost: u64,
    /// When the log was told last.
    told: Option<Instant>,
}

impl DeadLetters {
    /// Letters are kept in the file `path`; it is made with the first one.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, refused: 0, lost: 0, told: None }
    }

    /// Keeps a line with the reason of its refusal.
    pub(super) fn keep(&mut self, why: &str, line: &str) {
        self.refused += 1;
        let kept = self.append(why, line);
        self.lost += u64::from(kept.is_err());
        if self.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let (refused, lost) = (self.refused, self.lost);
        let file = self.path.display();
        match kept {
            Ok(()) => tracing::error!(why, refused, lost, %file, "the store refused a line"),
            Err(error) => {
                tracing::error!(why, line, refused, lost, %file, %error, "a refused line is lost");
            }
        }
    }

    fn append(&self, why: &str, line: &str) -> std::io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= FILE_MAX) {
            fs::rename(&self.path, self.path.with_extension("old"))?;
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let why = why.replace(['\n', '\r'], " ");
        writeln!(file, "# {why}\n{}", line.trim_end())
    }
}
