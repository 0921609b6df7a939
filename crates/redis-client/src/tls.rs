use std::sync::Arc;

use proactions_edge::{ConfigError, ExposeSecret};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::settings::{RedisTls, pem};

/// The TLS configuration that these options describe.
pub(crate) fn client_config(tls: &RedisTls) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut found = Vec::new();
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new("", error.to_string()))?;

    let roots = tls.ca.as_deref().map(roots).transpose();
    let roots = roots.unwrap_or_else(|error| {
        found.push(error);
        Some(RootCertStore::empty())
    });
    let builder = match roots {
        _ if tls.accepts_any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))),
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.with_platform_verifier().map_err(|_| {
            ConfigError::new(
                "ca",
                "is needed: this machine has no certificates of its own to trust",
            )
        })?,
    };

    let identity = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let cert = chain(cert).map_err(|error| found.push(error)).ok();
            let key = private_key(key.expose_secret())
                .map_err(|error| found.push(error))
                .ok();
            cert.zip(key)
        }
        (None, None) => None,
        (Some(_), None) => {
            found.push(ConfigError::new("key", "is missing; `cert` needs one"));
            None
        }
        (None, Some(_)) => {
            found.push(ConfigError::new("cert", "is missing; `key` needs one"));
            None
        }
    };
    let config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|_| ConfigError::new("key", "does not fit the certificate in `cert`"))?,
        None => builder.with_no_client_auth(),
    };
    ConfigError::check(Arc::new(config), found)
}

fn roots(ca: &str) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", ca)? {
        roots
            .add(certificate)
            .map_err(|_| ConfigError::new("ca", "holds a certificate that cannot be read"))?;
    }
    Ok(roots)
}

fn chain(cert: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    certificates("cert", cert)
}

fn certificates(key: &str, value: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = pem(key, value)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ConfigError::new(
            key,
            "holds no certificate; expected PEM, with lines such as -----BEGIN CERTIFICATE-----",
        )),
    }
}

fn private_key(key: &str) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let pem = pem("key", key)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let encrypted = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
        ConfigError::new(
            "key",
            if encrypted {
                "is encrypted; `openssl pkey -in key.pem -out plain.pem` decrypts it"
            } else {
                "holds no private key; expected PEM, with lines such as -----BEGIN PRIVATE KEY-----"
            },
        )
    })
}

/// Takes any certificate, as [`RedisTls::dangerous_accept_any_certificate`] asks for. The handshake's signature is still checked.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
