use std::fmt;
use std::path::Path;
use std::sync::Arc;

use proactions_edge::{ConfigError, ExposeSecret};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::ProxySsl;

/// What one upstream's TLS is like, where it differs from that of all others: read and parsed.
///
/// ```no_run
/// use proactions_forward::{ProxySsl, UpstreamTls};
///
/// # fn example(for_all_others: rustls::ClientConfig) -> Result<(), Box<dyn std::error::Error>> {
/// let mut ssl = ProxySsl::default();
/// ssl.ca = Some("/etc/hub/private-ca.pem".to_owned());
/// let for_this_one = UpstreamTls::read(&ssl, true)?.derive(&for_all_others)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct UpstreamTls {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    verify: bool,
}

impl UpstreamTls {
    /// Reads the files that `ssl` names, or the PEM text that it holds. With `verify: false` the upstream's
    /// certificate is not checked at all.
    ///
    /// # Errors
    /// Everything that cannot be read.
    pub fn read(ssl: &ProxySsl, verify: bool) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut certificates = |key: &str, source: &Option<String>| {
            let source = source.as_deref()?;
            let read = pem(source).and_then(|pem| {
                let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                let read = read.map_err(|_| "is not valid PEM".to_owned())?;
                let none = || "holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned();
                (!read.is_empty()).then_some(read).ok_or_else(none)
            });
            read.map_err(|message| found.push(ConfigError::new(key, message)))
                .ok()
        };
        let roots = certificates("ca", &ssl.ca).unwrap_or_default();
        let chain = certificates("cert", &ssl.cert);
        if let Err(error) = roots_of(&roots) {
            found.push(ConfigError::new("ca", error));
        }
        let key = ssl.key.as_ref().and_then(|key| {
            let read = pem(key.expose_secret()).and_then(|pem| {
                PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                    "holds no private key (PKCS#8, PKCS#1 or SEC1, not encrypted)".to_owned()
                })
            });
            read.map_err(|message| found.push(ConfigError::new("key", message)))
                .ok()
        });
        let tls = Self {
            roots,
            identity: chain.zip(key).map(Arc::new),
            verify,
        };
        ConfigError::check(tls, found)
    }

    /// Whether nothing differs.
    pub(crate) fn is_usual(&self) -> bool {
        self.verify && self.roots.is_empty() && self.identity.is_none()
    }

    /// The configuration of all others with these differences. Its cryptography and protocol versions stay.
    ///
    /// # Errors
    /// When the key does not fit the certificate, or is of a kind that the cryptography does not know.
    pub fn derive(&self, others: &ClientConfig) -> Result<ClientConfig, rustls::Error> {
        let mut config = others.clone();
        if self.is_usual() {
            return Ok(config);
        }
        let provider = Arc::clone(config.crypto_provider());
        if let Some(identity) = &self.identity {
            let (chain, key) = (&identity.0, &identity.1);
            let key = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)?;
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
        }
        if !self.verify {
            let verifier = Arc::new(Unverified(provider));
            config.dangerous().set_certificate_verifier(verifier);
        } else if !self.roots.is_empty() {
            let roots = roots_of(&self.roots).map_err(rustls::Error::General)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            config.dangerous().set_certificate_verifier(verifier);
        }
        // A session that was agreed on under other rules must not be resumed under these.
        config.resumption = Resumption::default();
        Ok(config)
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .field("verify", &self.verify)
            .finish()
    }
}

fn roots_of(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|_| "holds a certificate that cannot be read".to_owned())?;
    }
    Ok(roots)
}

/// The PEM text in a setting that is either that or the path of a file with it.
fn pem(source: &str) -> Result<Vec<u8>, String> {
    if source.contains("-----BEGIN ") {
        return Ok(source.as_bytes().to_vec());
    }
    std::fs::read(Path::new(source)).map_err(|error| format!("cannot be read: {}", error.kind()))
}

/// Takes any certificate. That the other end has its key is checked all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
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
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
