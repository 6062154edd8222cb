//! The profiles that there are: those in the binary, and a folder that adds to them or overrides
//! them without a rebuild.
//!
//! A profile in the folder that is not sound hides the one in the binary: somebody overrode it
//! for a reason, and reading the device with the old map would be guessing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use include_dir::{Dir, include_dir};

use super::check::check_file;
use super::{PROFILE_BYTES_MAX, Problem, Profile};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/profiles");

/// Most files that are read from an overlay folder.
const OVERLAY_FILES_MAX: usize = 1024;

/// Profiles by id.
#[derive(Clone, Debug, Default)]
pub struct Library(BTreeMap<Arc<str>, Arc<Profile>>);

impl Library {
    /// The embedded profiles and those of `overlay`, `<vendor>/<device>.toml` each, with every
    /// problem found in them. What has a problem is not in the library.
    pub fn load(overlay: Option<&Path>) -> (Self, Vec<Problem>) {
        let mut library = Self::default();
        let mut problems = Vec::new();
        for (id, text) in embedded() {
            library.add(&id, text, &format!("{id}.toml"), &mut problems);
        }
        if let Some(folder) = overlay {
            library.add_folder(folder, &mut problems);
        }
        (library, problems)
    }

    /// The profile with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Profile>> {
        self.0.get(id).cloned()
    }

    /// Every id, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|id| &**id)
    }

    /// The id most like `id`, for hints.
    pub fn nearest(&self, id: &str) -> Option<&str> {
        let ids: Vec<&str> = self.ids().collect();
        super::toml_reader::nearest(id, &ids)
    }

    fn add(&mut self, id: &str, text: &str, file: &str, problems: &mut Vec<Problem>) {
        match check_file(text, id, file) {
            Ok(profile) => {
                self.0.insert(Arc::from(id), Arc::new(profile));
            }
            Err(found) => {
                self.0.remove(id);
                problems.extend(found);
            }
        }
    }

    fn add_folder(&mut self, folder: &Path, problems: &mut Vec<Problem>) {
        let mut files = 0;
        for (vendor, path) in sorted_entries(folder, problems) {
            if !path.is_dir() {
                if vendor.ends_with(".toml") {
                    let message = "not read: a profile is in a folder of its vendor".to_owned();
                    problems.push(whole_file(&path, message));
                }
                continue;
            }
            for (name, file) in sorted_entries(&path, problems) {
                let Some(device) = name.strip_suffix(".toml") else { continue };
                files += 1;
                if files > OVERLAY_FILES_MAX {
                    let message =
                        format!("more than {OVERLAY_FILES_MAX} files; the rest is not read");
                    problems.push(whole_file(folder, message));
                    return;
                }
                let id = format!("{vendor}/{device}");
                match read_bounded(&file) {
                    Ok(text) => self.add(&id, &text, &file.display().to_string(), problems),
                    Err(message) => {
                        self.0.remove(id.as_str());
                        problems.push(whole_file(&file, message));
                    }
                }
            }
        }
    }
}

/// The text of a file that is not longer than a profile may be.
fn read_bounded(file: &Path) -> Result<String, String> {
    let length = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if usize::try_from(length).is_ok_and(|length| length <= PROFILE_BYTES_MAX) {
        fs::read_to_string(file).map_err(|error| error.to_string())
    } else {
        Err(format!("longer than {PROFILE_BYTES_MAX} bytes"))
    }
}

fn whole_file(file: &Path, message: String) -> Problem {
    let file = file.display().to_string();
    Problem { file, line: 1, key: String::new(), message, hint: None }
}

/// What a folder holds, by name; hidden entries and names that are not text are left out.
fn sorted_entries(
    folder: &Path,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, std::path::PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(whole_file(folder, error.to_string()));
            return BTreeMap::new();
        }
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect()
}

/// Id and text of every profile in the binary.
pub(super) fn embedded() -> impl Iterator<Item = (String, &'static str)> {
    EMBEDDED.dirs().flat_map(Dir::files).filter_map(|file| {
        let id = file.path().to_str()?.strip_suffix(".toml")?.replace('\\', "/");
        Some((id, file.contents_utf8()?))
    })
}
