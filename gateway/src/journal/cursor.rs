//! A consumer's durable position in a stream: one small file, replaced atomically.
//!
//! At least once: a cursor may lag behind what its consumer has done, never run ahead of it. A
//! missing or damaged file means the oldest record again, which costs duplicates and no loss.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Position, Stream};
use super::shared::Shared;

/// Longest cursor file that is read: a boot id, a number and punctuation.
const FILE_MAX: u64 = 1024;

/// A named durable position.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    position: Option<Position>,
    /// The journal that counts what it recycles before this consumer has it, and the name there.
    journal: Option<(Arc<Shared>, (String, Stream))>,
}

impl Cursor {
    /// The position of `consumer`, which `shared` takes into account from now on.
    pub(super) fn register(
        shared: &Arc<Shared>,
        consumer: &str,
        stream: Stream,
    ) -> io::Result<Self> {
        let mut cursor = Self::load(&shared.dir, consumer, stream)?;
        let name = (consumer.to_owned(), stream);
        shared.state().cursors.insert(name.clone(), cursor.position);
        cursor.journal = Some((Arc::clone(shared), name));
        Ok(cursor)
    }

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
        Ok(Self { path, position, journal: None })
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
        let draft = self.path.with_added_extension("tmp");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&position)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.position = Some(position);
        if let Some((shared, name)) = &self.journal {
            shared.state().cursors.insert(name.clone(), self.position);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::BootId;
    use crate::journal::tests::Folder;

    #[test]
    fn a_saved_position_is_there_after_a_restart_and_a_damaged_one_is_none() {
        let folder = Folder::new("cursor");
        let load = || Cursor::load(folder.path(), "recorder", Stream::Events).unwrap();
        assert_eq!(load().position(), None);
        let position = Position { boot: BootId([9; 16]), seq: 77 };
        load().save(position).unwrap();
        assert_eq!(load().position(), Some(position));
        let file = folder.path().join("cursors/recorder-events");
        for damage in [&b""[..], &[0; 64], b"{\"boot\":1}", &[b' '; 5000]] {
            fs::write(&file, damage).unwrap();
            assert_eq!(load().position(), None);
        }
    }
}
