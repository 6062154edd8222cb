//! What keeps a journal that was deleted and made anew from using numbers twice.
//!
//! Numbers count per boot, and a journal that begins afresh begins them afresh. Within one boot of
//! the computer that would be the same numbers for other records, and a watermark that a broker
//! kept would confirm what no store has. So every journal that is made gets a random identity,
//! which is mixed into the boot id of its records: what is one boot to everybody who reads them is
//! one boot of one journal. A journal from before there were identities goes on without.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::record::{BootId, Stream};
use super::segment;
use crate::clock;

/// The boot id of records that are written to the journal in `dir` during `boot`. The same within
/// one boot for as long as the journal is there; another one for one made anew, and whenever the
/// identity cannot be read or kept: that costs the belief that two runs were in one boot, and
/// nothing else.
pub fn boot_in(dir: &Path, boot: BootId) -> BootId {
    let path = dir.join("identity");
    let kept = if is_new(dir) { None } else { Some(fs::read_to_string(&path)) };
    match kept {
        Some(Ok(text)) => {
            if let Ok(identity) = text.trim().parse() {
                return mixed(boot, identity);
            }
            tracing::warn!(path = %path.display(), "The journal's identity is damaged; made anew.");
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return boot,
        Some(Err(error)) => tracing::warn!(path = %path.display(), %error, "Not readable."),
        None => {}
    }
    match clock::fresh_boot_id() {
        Ok(identity) => {
            if let Err(error) = keep(dir, &path, identity) {
                tracing::warn!(path = %path.display(), %error, "Of this run only: not writable.");
            }
            mixed(boot, identity)
        }
        Err(error) => {
            tracing::warn!(%error, "The journal has no identity: the kernel gives no randomness.");
            boot
        }
    }
}

/// Durable before the first record: afterwards it must never change.
fn keep(dir: &Path, path: &Path, identity: BootId) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let draft = path.with_added_extension("tmp");
    let mut file = File::create(&draft)?;
    file.write_all(identity.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

/// Whether nothing is left that tells where numbers ended: neither the note of the last run nor a
/// single segment.
fn is_new(dir: &Path) -> bool {
    let noted = fs::metadata(dir.join("lock")).is_ok_and(|note| note.len() > 0);
    let written = |stream: Stream| {
        segment::list(&dir.join(stream.word())).is_ok_and(|numbers| !numbers.is_empty())
    };
    !noted && !Stream::ALL.into_iter().any(written)
}

/// As random as its more random half, and a UUID of version 4 in its form.
fn mixed(boot: BootId, identity: BootId) -> BootId {
    let mut mixed: [u8; 16] = std::array::from_fn(|at| boot.0[at] ^ identity.0[at]);
    mixed[6] = mixed[6] & 0x0f | 0x40;
    mixed[8] = mixed[8] & 0x3f | 0x80;
    BootId(mixed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use andon_engine::event::Event;
    use andon_engine::time::BootTime;

    use super::*;
    use crate::config::plan::JournalPlan;
    use crate::journal::tests::Folder;
    use crate::journal::{Journal, Payload};

    const BOOT: BootId = BootId([7; 16]);

    fn written(dir: &Path) {
        let plan = JournalPlan { telemetry_bytes: 0, sync: Duration::from_secs(5) };
        let journal = Journal::open(dir, &plan, boot_in(dir, BOOT)).unwrap();
        journal.append(vec![Payload::Event(Event::Stopped { at: BootTime(0) })]);
        journal.close();
    }

    #[test]
    fn a_journal_made_anew_in_the_same_boot_has_another_boot_id() {
        let folder = Folder::new("identity");
        let dir = folder.path().join("journal");
        written(&dir);
        let first = boot_in(&dir, BOOT);
        written(&dir);
        assert_eq!(boot_in(&dir, BOOT), first, "the same journal, the same boot");
        assert_ne!(boot_in(&dir, BootId([8; 16])), first, "another boot is another one");
        fs::remove_dir_all(&dir).unwrap();
        written(&dir);
        assert_ne!(boot_in(&dir, BOOT), first);
        // Everything but the identity was deleted: that is a new journal, too.
        let second = boot_in(&dir, BOOT);
        for part in ["lock", "events", "telemetry"] {
            let part = dir.join(part);
            if part.is_dir() { fs::remove_dir_all(part) } else { fs::remove_file(part) }.unwrap();
        }
        written(&dir);
        assert_ne!(boot_in(&dir, BOOT), second);
    }

    #[test]
    fn a_journal_from_before_goes_on_as_it_was() {
        let folder = Folder::new("no-identity");
        let dir = folder.path().join("journal");
        written(&dir);
        fs::remove_file(dir.join("identity")).unwrap();
        assert_eq!(boot_in(&dir, BOOT), BOOT);
    }

    #[test]
    fn an_identity_that_is_damaged_is_made_anew_and_kept() {
        let folder = Folder::new("bad-identity");
        let dir = folder.path().join("journal");
        written(&dir);
        let first = boot_in(&dir, BOOT);
        fs::write(dir.join("identity"), "?").unwrap();
        let second = boot_in(&dir, BOOT);
        assert_ne!(second, first);
        assert_eq!(boot_in(&dir, BOOT), second);
    }
}
