//! TLS from the program to the hub that runs beside it, for the health check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proactions_config::{ClientCertificates, TlsSettings};
use proactions_edge::ConfigError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::server::Identity;
use super::{certificate, key};

/// A client for whom the hub's own certificate is the only good one.
///
/// The hub is called by an address, and its certificate may come from any authority and name any host, so neither
/// is looked at. What is looked at says more: the other end must hold the key of the very certificate that
/// `hub.tls.cert` names.
#[derive(Debug)]
pub(crate) struct ToItself {
    pub(crate) config: ClientConfig,
    other: Arc<AtomicBool>,
    /// Why the certificate in the file could not be insisted on.
    pub(crate) unpinned: Option<String>,
}

impl ToItself {
    /// A client that insists on the first certificate in the file.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, ConfigError> {
        let in_section = |error: ConfigError| error.within("hub.tls");
        let chain = certificate::read_all("cert", &settings.cert).map_err(in_section)?;
        Self::expecting(settings, chain.into_iter().next()).map_err(in_section)
    }

    /// What to do when another certificate was met, or the file holds none. A pair of files that a hub could start with
    /// is served within two seconds, so until then it may be tried again: `None`. If the files hold no such pair, a
    /// running hub has refused them and goes on with the one that it had, which nobody else can know: then any
    /// certificate is good. That gives away nothing. The question is public and so is the answer, and in plain HTTP
    /// nobody proves more.
    pub(crate) fn while_refused(settings: &TlsSettings) -> Result<Option<Self>, ConfigError> {
        let Err(refused) = Identity::load(settings) else {
            return Ok(None);
        };
        let mut any = Self::expecting(settings, None).map_err(|error| error.within("hub.tls"))?;
        any.unpinned = Some(refused.to_string().replace('\n', "; "));
        Ok(Some(any))
    }

    fn expecting(
        settings: &TlsSettings,
        expected: Option<CertificateDer<'static>>,
    ) -> Result<Self, ConfigError> {
        let provider = super::shared_provider();
        let other = Arc::new(AtomicBool::new(false));
        let verifier = Pinned {
            expected,
            other: Arc::clone(&other),
            provider: Arc::clone(&provider),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new("enabled", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let own = match settings.client_certificates {
            ClientCertificates::Required => own_pair(settings, &provider),
            // One that is not accepted would be refused, none is not.
            _ => None,
        };
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        };
        Ok(Self {
            config,
            other,
            unpinned: None,
        })
    }

    /// Whether a handshake ended because of another certificate. Asking forgets it.
    pub(crate) fn met_another(&self) -> bool {
        self.other.swap(false, Relaxed)
    }
}

/// What the hub itself could show, if that can be read. An authority within the house often vouches for it, and the
/// hub says so if it does not.
fn own_pair(settings: &TlsSettings, provider: &CryptoProvider) -> Option<CertifiedKey> {
    let chain = certificate::read_all("cert", &settings.cert).ok()?;
    let private_key = key::read(settings, &mut Vec::new()).ok()?;
    CertifiedKey::from_der(chain, private_key, provider).ok()
}

#[derive(Debug)]
struct Pinned {
    expected: Option<CertificateDer<'static>>,
    other: Arc<AtomicBool>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.expected.as_ref().is_none_or(|known| known == shown) {
            return Ok(ServerCertVerified::assertion());
        }
        self.other.store(true, Relaxed);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
