//! One process per state folder: an exclusive lock that the kernel releases with the process, and
//! that says who holds it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

/// Longest process id that is read from a lock file.
const PID_MAX: usize = 20;

/// A folder that is this process's alone while this lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder where it is missing and locks it, by the file `name` in it.
    ///
    /// # Errors
    /// When the folder cannot be written, or another process holds it; then the error names it.
    pub(crate) fn take(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let cannot = || format!("the state folder {} cannot be written", folder.display());
        fs::create_dir_all(folder).with_context(cannot)?;
        let path = folder.join(name);
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open.with_context(cannot)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => anyhow::bail!(
                "the state folder {} is in use by {}; stop that, or give this one a folder of its own",
                folder.display(),
                holder(&file)
            ),
            Err(error) => {
                return Err(io::Error::from(error))
                    .with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
        let pid = std::process::id().to_string();
        file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0)).with_context(cannot)?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &File) -> String {
    let mut text = [0; PID_MAX];
    let length = file.read_at(&mut text, 0).unwrap_or(0);
    let pid: Option<u32> =
        std::str::from_utf8(&text[..length]).ok().and_then(|text| text.parse().ok());
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::Folder;

    #[test]
    fn a_folder_is_one_process_s_and_the_other_is_told_whose() {
        let folder = Folder::new("lock");
        let first = FolderLock::take(folder.path(), "lock").unwrap();
        let refused = FolderLock::take(folder.path(), "lock").unwrap_err().to_string();
        let pid = std::process::id();
        let told = format!("{} is in use by process {pid};", folder.path().display());
        assert!(refused.contains(&told), "{refused}");
        // Another name is another matter: two recorders may share a folder.
        FolderLock::take(folder.path(), "other.lock").unwrap();
        drop(first);
        FolderLock::take(folder.path(), "lock").unwrap();
    }
}
