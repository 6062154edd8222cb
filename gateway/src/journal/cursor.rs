//! A consumer's durable position in a stream: one small file, replaced atomically.
//!
//! At least once: a cursor may lag behind what its consumer has done, never run ahead of it. A
//! missing or damaged file means the oldest record again, which costs duplicates and no loss.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::record::{Position, Stream};

/// Longest cursor file that is read: a boot id, a number and punctuation.
const FILE_MAX: u64 = 1024;

/// A named durable position.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    position: Option<Position>,
}

impl Cursor {
    /// The position of `consumer` in `stream`, as last saved below `dir`.
    ///
    /// # Errors
    /// When the folder of cursors cannot be made. A damaged file is no error but no position.
    pub fn load(dir: &Path, consumer: &str, stream: Stream) -> io::Result<Self> {
        let folder = dir.join("cursors");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{consumer}-{}", stream.word()));
        let position = match fs::metadata(&path) {
            Ok(found) if found.len() <= FILE_MAX => {
                fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())
            }
            Ok(_) | Err(_) => None,
        };
        Ok(Self { path, position })
    }

    /// The last saved position; `None` means: from the oldest record.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Saves `position`; when this returns, it survives a power loss.
    ///
    /// # Errors
    /// When the disk refuses; the position before it is then still the saved one.
    pub fn save(&mut self, position: Position) -> io::Result<()> {
        if self.position == Some(position) {
            return Ok(());
        }
        let draft = self.path.with_extension("tmp");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&position)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.position = Some(position);
        Ok(())
    }
}
