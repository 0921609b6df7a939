//! What the public listener shows its clients.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use proactions_config::{ClientCertificates, TlsConfigVersion, TlsSettings};
use proactions_edge::{Clock as _, ConfigError, ConfigProblem, SystemClock};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::{certificate, key};

/// A certificate with its key, and how TLS is spoken with it: read from the files, checked, ready to serve.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// With keys from the root of the configuration.
    pub(crate) warnings: Vec<ConfigProblem>,
    /// Who the certificate is for.
    pub(crate) subject: String,
}

impl Identity {
    /// Reads the files that `settings` name.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        load(settings, SystemClock::new().now(), &mut warnings)
            .map(|(config, subject)| Self {
                config: Arc::new(config),
                warnings: in_section(warnings),
                subject,
            })
            .map_err(|error| error.within("hub.tls"))
    }
}

fn in_section(problems: Vec<ConfigProblem>) -> Vec<ConfigProblem> {
    let within = |problem: ConfigProblem| {
        let error = ConfigError::new(problem.key, problem.message).within("hub.tls");
        error.into_problems()
    };
    problems.into_iter().flat_map(within).collect()
}

fn load(
    settings: &TlsSettings,
    now: SystemTime,
    warnings: &mut Vec<ConfigProblem>,
) -> Result<(ServerConfig, String), ConfigError> {
    let mut found = Vec::new();
    let mut keep = |error: ConfigError| {
        found.push(error);
    };
    let chain = certificate::read_all("cert", &settings.cert)
        .map_err(&mut keep)
        .ok();
    let private_key = key::read(settings, warnings).map_err(&mut keep).ok();
    let authorities = settings
        .ca
        .as_deref()
        .map(|ca| certificate::read_all("ca", ca))
        .transpose()
        .map_err(&mut keep)
        .ok();
    if let Some(leaf) = chain.as_ref().and_then(|chain| chain.first()) {
        let validity = certificate::check_validity(leaf, &settings.cert, now);
        let validity = validity.map_err(&mut keep).ok();
        let warning = validity.and_then(|validity| validity.warning);
        warnings.extend(warning.map(|warning| ConfigProblem::new("cert", warning)));
    }
    let parts = (|| Some((chain?, private_key?, authorities?)))();
    ConfigError::check((), found)?;
    let Some((chain, private_key, authorities)) = parts else {
        return Err(ConfigError::new("cert", "cannot be read"));
    };

    let subject = chain
        .first()
        .and_then(certificate::subject_of)
        .unwrap_or_default();
    let authorities = authorities.unwrap_or_default();
    let provider = Arc::new(provider(settings));
    let chain = certificate::complete(chain, &authorities);
    let certified = certify(chain, private_key, &provider, settings)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(settings))
        .map_err(|error| ConfigError::new("ciphers", error.to_string()))?;
    let mut config = match verifier(settings, &authorities, &provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    }
    .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // `ciphers` is an order of preference, and without it the strongest come first; a client may have older habits.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if settings.client_certificates == ClientCertificates::NotAsked {
        config.ticketer = aws_lc_rs::Ticketer::new()
            .map_err(|error| ConfigError::new("enabled", error.to_string()))?;
    } else {
        // A resumed session shows no certificate anew, so one that has ended since would still be good.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok((config, subject))
}

fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = super::provider();
    if let Some(suites) = &settings.suites {
        let offered = std::mem::take(&mut provider.cipher_suites);
        provider.cipher_suites = suites
            .iter()
            .filter_map(|suite| {
                let is = |name: &str| name.replace("TLS13_", "TLS_") == suite.iana;
                let named = |offered: &&rustls::SupportedCipherSuite| {
                    offered.suite().as_str().is_some_and(is)
                };
                offered.iter().find(named).copied()
            })
            .collect();
    }
    provider
}

static ONLY_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

fn versions(settings: &TlsSettings) -> &'static [&'static SupportedProtocolVersion] {
    match settings.min_version {
        TlsConfigVersion::V1_3 => &ONLY_1_3,
        _ => &BOTH,
    }
}

fn certify(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    settings: &TlsSettings,
) -> Result<CertifiedKey, ConfigError> {
    let (cert_path, key_path) = (settings.cert.display(), settings.key.display());
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => ConfigError::new(
            "key",
            format!(
                "{key_path} does not fit the first certificate in {cert_path}; expected its private key, and the \
                 hub's own certificate before those that issued it"
            ),
        ),
        rustls::Error::InvalidCertificate(reason) => ConfigError::new(
            "cert",
            format!("the first certificate in {cert_path} cannot be used: {reason:?}"),
        ),
        error => ConfigError::new(
            "key",
            format!(
                "{key_path} cannot be used: {error}; expected RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or \
                 P-521, or Ed25519"
            ),
        ),
    })
}

fn verifier(
    settings: &TlsSettings,
    authorities: &[rustls::pki_types::CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    if settings.client_certificates == ClientCertificates::NotAsked {
        return Ok(None);
    }
    let path = settings.ca.as_deref().unwrap_or(Path::new(""));
    let mut roots = RootCertStore::empty();
    for (index, authority) in authorities.iter().enumerate() {
        roots.add(authority.clone()).map_err(|error| {
            let path = path.display();
            ConfigError::new(
                "ca",
                format!(
                    "certificate {} in {path} cannot be used: {error}",
                    index + 1
                ),
            )
        })?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if settings.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    match builder.build() {
        Ok(verifier) => Ok(Some(verifier)),
        Err(error) => Err(ConfigError::new(
            "ca",
            format!(
                "nobody in {} can vouch for clients: {error}",
                path.display()
            ),
        )),
    }
}

/// What the files look like from outside: equal stamps mean that nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<FileStamp>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Device, inode and time of the last change, which tell a file from the one that took its place.
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    /// The stamp of the files that `settings` name, or that the links there lead to.
    pub(crate) fn of(settings: &TlsSettings) -> Self {
        let files = [
            Some(&settings.cert),
            Some(&settings.key),
            settings.ca.as_ref(),
        ];
        Self(
            files
                .into_iter()
                .flatten()
                .map(|path| stamp(path))
                .collect(),
        )
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(FileStamp {
        size: metadata.len(),
        modified: metadata.modified().ok(),
        identity: identity(&metadata),
    })
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}
