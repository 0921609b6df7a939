//! Certificates: reading them, whether they are valid now, and the chain that is sent.

use std::path::Path;
use std::time::{Duration, SystemTime};

use proactions_edge::ConfigError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};

/// From this long before its end a certificate is warned about.
const NOTICE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Longer chains are no chains but mistakes.
const MAX_CHAIN: usize = 10;

/// The certificates in a file, in their order.
pub(super) fn read_all(
    key: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let (pem, _) = super::read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ConfigError::new(
            key,
            format!(
                "{} holds no certificate; expected BEGIN CERTIFICATE (PEM)",
                path.display()
            ),
        )),
        Err(_) => Err(ConfigError::new(
            key,
            format!("{} is not well-formed PEM", path.display()),
        )),
    }
}

/// When a certificate ends, and what is worth a warning about that.
#[derive(Debug)]
pub(super) struct Validity {
    pub(super) warning: Option<String>,
}

/// Whether the certificate is valid at `now`.
pub(super) fn check_validity(
    leaf: &CertificateDer<'_>,
    path: &Path,
    now: SystemTime,
) -> Result<Validity, ConfigError> {
    let parsed = Certificate::from_der(leaf).map_err(|_| {
        ConfigError::new(
            "cert",
            format!(
                "the first certificate in {} is not well-formed",
                path.display()
            ),
        )
    })?;
    let validity = parsed.tbs_certificate().validity();
    let (begins, ends) = (
        validity.not_before.to_system_time(),
        validity.not_after.to_system_time(),
    );
    if now < begins {
        return Err(ConfigError::new(
            "cert",
            format!(
                "the certificate is not valid before {}; set the machine's clock, or wait",
                validity.not_before
            ),
        ));
    }
    if now > ends {
        return Err(ConfigError::new(
            "cert",
            format!(
                "the certificate expired on {}; renew it",
                validity.not_after
            ),
        ));
    }
    let soon = ends
        .duration_since(now)
        .is_ok_and(|left| left < NOTICE)
        .then(|| {
            format!(
                "the certificate expires on {}; renew it",
                validity.not_after
            )
        });
    Ok(Validity { warning: soon })
}

/// The chain to send: what the file holds, and the intermediate certificates that are missing at its end, where
/// `others` has them. A root is not sent: who does not have it does not trust it.
pub(super) fn complete(
    mut chain: Vec<CertificateDer<'static>>,
    others: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let others: Vec<_> = others
        .iter()
        .filter_map(|der| Some((der, Certificate::from_der(der).ok()?)))
        .collect();
    while chain.len() < MAX_CHAIN {
        let Some(last) = chain.last().and_then(|der| Certificate::from_der(der).ok()) else {
            break;
        };
        if is_root(&last) {
            break;
        }
        let issuer = others
            .iter()
            .find(|(_, candidate)| issued(candidate, &last) && !is_root(candidate));
        match issuer {
            Some((der, _)) if !chain.contains(der) => chain.push((*der).clone()),
            _ => break,
        }
    }
    chain
}

fn is_root(certificate: &Certificate) -> bool {
    let inner = certificate.tbs_certificate();
    inner.subject() == inner.issuer()
}

/// Whether `issuer` has, by its names and key identifiers, issued `certificate`.
fn issued(issuer: &Certificate, certificate: &Certificate) -> bool {
    let (above, below) = (issuer.tbs_certificate(), certificate.tbs_certificate());
    if above.subject() != below.issuer() {
        return false;
    }
    let wanted = below.get_extension::<AuthorityKeyIdentifier>();
    let given = above.get_extension::<SubjectKeyIdentifier>();
    match (wanted, given) {
        (Ok(Some((_, wanted))), Ok(Some((_, given)))) => {
            wanted.key_identifier.is_none_or(|wanted| wanted == given.0)
        }
        _ => true,
    }
}

/// The subject of a certificate, as RFC 4514 writes it.
pub(crate) fn subject_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate().subject().to_string())
}
