//! The operator's token: 256 random bits, made at the first start, readable by the gateway's user
//! only. Never logged.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The file's name in the state folder.
pub const FILE: &str = "operator.token";
/// 256 bits.
const BYTES: usize = 32;
/// Longer files are no token.
const FILE_BYTES_MAX: u64 = 256;

/// The operator's token.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads the token of a state folder, or makes one. A file that holds no token (the power
    /// failed while it was written) is replaced.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        match read(&path) {
            Ok(Some(token)) => {
                fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                return Ok(token);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Unlike /dev/urandom this waits for a Pi's first entropy.
        let mut random = [0; BYTES];
        fs::File::open("/dev/random")?.read_exact(&mut random)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let fresh = state_dir.join(format!("{FILE}.new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        fs::File::open(state_dir)?.sync_all()?;
        Ok(Self(text))
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether `offered` is the token, in a time that does not depend on where they differ.
    pub fn admits(&self, offered: &str) -> bool {
        let (own, offered) = (self.0.as_bytes(), offered.as_bytes());
        let differences = own.iter().zip(offered).fold(0, |all, (a, b)| all | (a ^ b));
        own.len() == offered.len() && std::hint::black_box(differences) == 0
    }
}

/// The token in a file; none when the file holds something else.
fn read(path: &Path) -> io::Result<Option<Token>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim();
    let whole = text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(whole.then(|| Token(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_to_its_owner() {
        let dir = std::env::temp_dir().join(format!("andon-token-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let first = Token::open(&dir).unwrap();
        let path = dir.join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Token::open(&dir).unwrap().admits(&first.0));
        assert!(!first.admits("") && !first.admits(&first.0[1..]));
        assert!(!first.admits(&"0".repeat(64)));
        fs::write(&path, "torn").unwrap();
        let second = Token::open(&dir).unwrap();
        assert!(!second.admits(&first.0) && !second.admits("torn"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
