//! Where a scan is, in a file: whoever pulls the plug after twenty minutes goes on from there.
//!
//! A file of another scan, or one that cannot be read, is not believed; the scan begins anew.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::serial::{Finding, Options};

/// Longest file that is read.
const BYTES_MAX: u64 = 1024 * 1024;

/// Where a scan is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What is being scanned: another scan's state is of no use.
    pub options: Options,
    /// Steps that are done.
    pub done: usize,
    /// What was found.
    pub found: Vec<Finding>,
}

impl State {
    /// A scan that has not begun.
    pub fn new(options: Options) -> Self {
        Self { options, done: 0, found: Vec::new() }
    }

    /// The state of the same scan in this file; `None` when there is none.
    pub fn load(path: &Path, options: &Options) -> Option<Self> {
        let length = fs::metadata(path).ok()?.len();
        let text = (length <= BYTES_MAX).then(|| fs::read_to_string(path).ok()).flatten()?;
        let state: Self = serde_json::from_str(&text).ok()?;
        (state.options == *options).then_some(state)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        fs::write(&beside, serde_json::to_vec(self)?)?;
        fs::rename(beside, path)
    }
}
