//! Certificates that nobody has signed but their own device: pinned when first seen.
//!
//! The first certificate of a device is written down, by its SHA-256; any other is refused from
//! then on, until a person removes the file. The server must prove that it holds the key, as
//! ever; what is not checked is a name or an authority, because such devices have neither.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Accepts the one certificate of one device.
#[derive(Debug)]
struct Pinned {
    source: Arc<str>,
    file: PathBuf,
    provider: Arc<CryptoProvider>,
}

/// A TLS configuration for the device `source`, whose pin lies in `folder`.
pub(super) fn pinned(source: &Arc<str>, folder: &Path) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let file = folder.join(&**source);
    let verifier = Pinned { source: source.clone(), file, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

impl Pinned {
    fn check(&self, print: &str) -> Result<(), String> {
        match fs::read_to_string(&self.file) {
            Ok(known) if known.trim() == print => Ok(()),
            Ok(_) => Err(format!(
                "the device shows another certificate than the one in {}; if it was renewed or \
                 replaced, remove that file",
                self.file.display()
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.keep(print),
            Err(error) => Err(format!("{} cannot be read: {error}", self.file.display())),
        }
    }

    fn keep(&self, print: &str) -> Result<(), String> {
        let written = self.file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let fresh = self.file.with_extension("new");
            fs::write(&fresh, format!("{print}\n"))?;
            fs::rename(&fresh, &self.file)
        });
        written.map_err(|error| format!("{} cannot be written: {error}", self.file.display()))?;
        tracing::info!(
            source = %self.source, sha256 = print, file = %self.file.display(),
            "The device's certificate is seen for the first time and pinned."
        );
        Ok(())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(&fingerprint(end_entity)).map_err(Error::General)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of a certificate, in hexadecimal digits.
fn fingerprint(certificate: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
