//! The certificate of a device's own broker, pinned on first use: devices sign theirs themselves,
//! so there is nobody who could vouch for it; but the second connection can be to the same device
//! as the first. The handshake's signatures are checked as ever: a pinned certificate is of no use
//! to whoever has not its key.
//!
//! A pin is a file with the certificate's SHA-256 as hexadecimal digits. Only a person removes it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Longest pin that is read; a good one has 64 digits.
const PIN_BYTES_MAX: u64 = 128;

/// The pin of one device.
#[derive(Debug)]
pub(super) struct Pin {
    path: PathBuf,
    /// What is expected; `None` before first use.
    expected: Option<String>,
    /// What was seen in the last handshake.
    seen: Mutex<Option<String>>,
    provider: CryptoProvider,
}

impl Pin {
    /// The pin of `source` below `state_dir`.
    ///
    /// # Errors
    /// When there is a pin that cannot be read: it is not replaced.
    pub(super) fn of(state_dir: &Path, source: &str) -> io::Result<Arc<Self>> {
        let path = state_dir.join("pins").join(source);
        let expected = match read(&path) {
            Ok(pin) => Some(pin),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let words = format!("the pin in {} cannot be read: {error}", path.display());
                return Err(io::Error::new(error.kind(), words));
            }
        };
        let provider = rustls::crypto::ring::default_provider();
        Ok(Arc::new(Self { path, expected, seen: Mutex::new(None), provider }))
    }

    /// How TLS is spoken with this pin.
    pub(super) fn client(self: &Arc<Self>) -> io::Result<ClientConfig> {
        let versions = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let verifying = versions.dangerous().with_custom_certificate_verifier(self.clone());
        Ok(verifying.with_no_client_auth())
    }

    /// The device has let us in: on first use its certificate is kept. Says it in the log.
    ///
    /// # Errors
    /// When the pin cannot be written; without it the next certificate would be believed too.
    pub(super) fn keep(&self, source: &str) -> io::Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(seen) = seen.filter(|_| self.expected.is_none()) else { return Ok(()) };
        write(&self.path, &seen).map_err(|error| {
            let path = self.path.display();
            io::Error::new(error.kind(), format!("the pin cannot be kept in {path}: {error}"))
        })?;
        tracing::info!(
            source,
            sha256 = seen,
            pin = %self.path.display(),
            "the device's certificate is pinned; another one will be refused"
        );
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = fs::File::open(path)?;
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, PIN_BYTES_MAX), &mut text)?;
    let pin = text.trim().to_ascii_lowercase();
    if pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(pin);
    }
    let words = "it is not 64 hexadecimal digits; remove the file to pin anew";
    Err(io::Error::new(io::ErrorKind::InvalidData, words))
}

/// Writes whole or not at all, so that no power cut leaves half a pin.
fn write(path: &Path, pin: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    writeln!(file, "{pin}")?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = sha256(certificate);
        if let Some(expected) = self.expected.as_ref().filter(|expected| **expected != seen) {
            return Err(Error::General(format!(
                "this is not the certificate that was pinned (SHA-256 {seen}, not {expected}). \
                 Was the device replaced or reset? Then remove {} and it is pinned anew. If not, \
                 somebody may be in between",
                self.path.display()
            )));
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
