//! What a recorder has committed, by site: the watermarks, in memory and in one small file.
//!
//! Losing the file is harmless: gateways send again what nobody confirms, and the store keeps a
//! line that is written twice once. So it is replaced atomically and not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::journal::Stream;
use crate::wire::{Header, Stored, is_name};

/// Most sites of one recorder: scale-out is more recorders.
const SITES_MAX: usize = 1024;
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// The watermarks by site.
#[derive(Debug)]
pub(super) struct Ledger {
    path: Option<PathBuf>,
    sites: BTreeMap<String, Stored>,
    due: BTreeSet<String>,
    unsaved: bool,
    /// The log has a line about more sites than [`SITES_MAX`].
    told_of_too_many: bool,
}

impl Ledger {
    /// The watermarks in the file; none when it is missing or damaged.
    pub(super) fn load(path: Option<PathBuf>) -> Self {
        let sites = path.as_ref().and_then(|path| {
            let small = fs::metadata(path).is_ok_and(|file| file.len() <= FILE_MAX);
            let bytes = if small { fs::read(path).ok()? } else { return None };
            serde_json::from_slice::<BTreeMap<String, Stored>>(&bytes).ok()
        });
        let mut sites = sites.unwrap_or_default();
        sites.retain(|site, _| is_name(site));
        Self { path, sites, due: BTreeSet::new(), unsaved: false, told_of_too_many: false }
    }

    /// A record of a site is committed.
    pub(super) fn commit(&mut self, site: &str, stream: Stream, header: &Header) {
        if !self.sites.contains_key(site) && self.sites.len() >= SITES_MAX {
            if !std::mem::replace(&mut self.told_of_too_many, true) {
                tracing::error!(site, "more sites than one recorder serves; it is not confirmed");
            }
            return;
        }
        let stored = self.sites.entry(site.to_owned()).or_default();
        stored.insert(header.boot, stream, header.prev, header.seq);
        self.due.insert(site.to_owned());
        self.unsaved = true;
    }

    /// Every watermark is to be published again: a broker may have forgotten it.
    pub(super) fn all_due(&mut self) {
        self.due.extend(self.sites.keys().cloned());
    }

    /// The next watermark to publish.
    pub(super) fn next_due(&mut self) -> Option<(String, Stored)> {
        let site = self.due.pop_first()?;
        let stored = self.sites.get(&site)?.clone();
        Some((site, stored))
    }

    /// Writes the file when something has changed since.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.unsaved) else { return Ok(()) };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = path.with_extension("tmp");
        fs::write(&draft, serde_json::to_vec(&self.sites)?)?;
        fs::rename(&draft, path)?;
        self.unsaved = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::folder;
    use super::*;
    use crate::journal::BootId;

    #[test]
    fn a_killed_recorder_goes_on_with_what_it_saved_and_a_damaged_file_is_harmless() {
        let path = folder("ledger").join("main.json");
        let mut ledger = Ledger::load(Some(path.clone()));
        let boot = BootId([3; 16]);
        for seq in [1, 2, 5] {
            ledger.commit("shop", Stream::Telemetry, &Header::new(boot, seq, seq - 1, Some(1)));
        }
        ledger.save().unwrap();
        let mut again = Ledger::load(Some(path.clone()));
        assert_eq!(again.next_due(), None, "nothing is new");
        again.all_due();
        let (site, stored) = again.next_due().unwrap();
        assert_eq!(site, "shop");
        assert_eq!(stored.boots[0].telemetry.iter().collect::<Vec<_>>(), [(1, 2), (5, 5)]);
        std::fs::write(&path, b"{\"shop\":").unwrap();
        let mut damaged = Ledger::load(Some(path));
        damaged.all_due();
        assert_eq!(damaged.next_due(), None);
    }
}
