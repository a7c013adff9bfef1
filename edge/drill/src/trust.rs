//! Whom a drill believes on https. To measure a proxy whose certificate is its owner's own affair, one may believe anybody:
//! nothing that a drill sends is secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::DrillError;

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system believes.
    #[default]
    System,
    /// Those that somebody in this PEM file vouches for.
    Authorities(PathBuf),
    /// All.
    Anybody,
}

impl Trust {
    /// A client's settings: HTTP/1.1 only, sessions are resumed.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, DrillError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions()?;
        let mut config = match self {
            Self::System => builder.with_root_certificates(system()?).with_no_client_auth(),
            Self::Authorities(path) => builder.with_root_certificates(read(path)?).with_no_client_auth(),
            Self::Anybody => {
                let verifier = Arc::new(BelievesAnybody { provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn system() -> Result<RootCertStore, DrillError> {
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs) {
        (0, _) => Err(DrillError::NoAuthorities),
        _ => Ok(roots),
    }
}

fn read(path: &Path) -> Result<RootCertStore, DrillError> {
    let wrong = |why: String| DrillError::Authorities { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate in PEM".into())) } else { Ok(roots) }
}

/// Asks for no name and no authority; that the other end has the key of what it shows is still checked.
#[derive(Debug)]
struct BelievesAnybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BelievesAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let missing = Trust::Authorities("/nonexistent/ca.pem".into()).client().unwrap_err().to_string();
        assert!(missing.starts_with("cannot use /nonexistent/ca.pem: "), "{missing}");
        let nothing = Trust::Authorities("/dev/null".into()).client().unwrap_err().to_string();
        assert_eq!(nothing, "cannot use /dev/null: it holds no certificate in PEM");
        assert!(Trust::Anybody.client().is_ok());
    }
}
