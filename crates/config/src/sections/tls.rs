use std::path::PathBuf;

use proactions_edge::{ConfigError, ConfigProblem, SecretString};
use serde::Deserialize;

/// Section `hub.tls`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whether the public listener speaks TLS; false unless set.
    pub enabled: bool,
    /// Path of the certificate chain in PEM form; required when enabled.
    pub cert: Option<PathBuf>,
    /// Path of the private key in PEM form; required when enabled.
    pub key: Option<PathBuf>,
    /// Path of certificates in PEM form: they complete the chain that is sent, and with `requestCert` they
    /// are the authorities that may vouch for clients.
    pub ca: Option<PathBuf>,
    /// Decrypts the key.
    pub passphrase: Option<SecretString>,
    /// Whether clients are asked for a certificate; false unless set. Needs `ca`.
    pub request_cert: bool,
    /// Whether a client that was asked must show one; true unless set.
    pub reject_unauthorized: bool,
    /// Cipher suites by their OpenSSL or IANA names, separated by colons; all that are strong unless set.
    pub ciphers: Option<String>,
    /// The lowest version; `TLSv1.2` unless set.
    pub min_version: TlsConfigVersion,
    /// What happens when others than the owner can read the key; `refuse` unless set.
    pub key_permissions: KeyPermissions,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            cert: None,
            key: None,
            ca: None,
            passphrase: None,
            request_cert: false,
            reject_unauthorized: true,
            ciphers: None,
            min_version: TlsConfigVersion::default(),
            key_permissions: KeyPermissions::default(),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[non_exhaustive]
pub enum TlsConfigVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "TLSv1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "TLSv1.3")]
    V1_3,
}

/// What happens when others than the owner can read the private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KeyPermissions {
    /// A key that others have any right to, or that its group can write, is refused; one that its group can read
    /// is warned about.
    #[default]
    Refuse,
    /// Both are warned about: for volumes whose modes cannot be set.
    Warn,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are not asked for one.
    NotAsked,
    /// They are asked, and served also without one.
    Optional,
    /// They are asked, and not served without one.
    Required,
}

/// A cipher suite that can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSuite {
    /// The name in OpenSSL.
    pub openssl: &'static str,
    /// The name in IANA's registry.
    pub iana: &'static str,
    /// The version of TLS that it is for.
    pub version: TlsConfigVersion,
}

/// [`TlsConfig`], checked as far as that goes without reading the files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsSettings {
    /// Path of the certificate chain.
    pub cert: PathBuf,
    /// Path of the private key.
    pub key: PathBuf,
    /// Path of further certificates.
    pub ca: Option<PathBuf>,
    /// Decrypts the key.
    pub passphrase: Option<SecretString>,
    /// Whether clients show certificates.
    pub client_certificates: ClientCertificates,
    /// The suites to offer, in this order; `None` means all that are strong.
    pub suites: Option<Vec<TlsSuite>>,
    /// The lowest version, after what `ciphers` says of it.
    pub min_version: TlsConfigVersion,
    /// What happens when others than the owner can read the key.
    pub key_permissions: KeyPermissions,
}

const fn suite(openssl: &'static str, iana: &'static str, version: TlsConfigVersion) -> TlsSuite {
    TlsSuite {
        openssl,
        iana,
        version,
    }
}

const SUITES: [TlsSuite; 9] = {
    use TlsConfigVersion::{V1_2, V1_3};
    [
        suite("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", V1_3),
        suite("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", V1_3),
        suite(
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
            V1_3,
        ),
        suite(
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            V1_2,
        ),
        suite(
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            V1_2,
        ),
        suite(
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            V1_2,
        ),
        suite(
            "ECDHE-RSA-AES256-GCM-SHA384",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            V1_2,
        ),
        suite(
            "ECDHE-RSA-AES128-GCM-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            V1_2,
        ),
        suite(
            "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            V1_2,
        ),
    ]
};

impl TlsConfig {
    /// Settings that are legal and worth a line at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let mut warnings = Vec::new();
        if let Some(Ok(chosen)) = self.ciphers.as_deref().map(choose) {
            for name in &chosen.left_out {
                let message = format!("{name} is not supported and left out");
                warnings.push(ConfigProblem::new("ciphers", message));
            }
            if chosen.raises(self.min_version) {
                let message = "only suites of TLS 1.3 are named, so the lowest version is TLSv1.3";
                warnings.push(ConfigProblem::new("ciphers", message));
            }
        }
        warnings
    }
}

impl TryFrom<TlsConfig> for Option<TlsSettings> {
    type Error = ConfigError;

    fn try_from(config: TlsConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let paths = [("cert", &config.cert), ("key", &config.key)];
        for (key, path) in paths {
            if config.enabled && path.is_none() {
                found.push(ConfigError::new(
                    key,
                    "is required when hub.tls.enabled is true",
                ));
            }
        }
        for (key, path) in paths.into_iter().chain([("ca", &config.ca)]) {
            if path
                .as_ref()
                .is_some_and(|path| path.as_os_str().is_empty())
            {
                found.push(ConfigError::new(
                    key,
                    "expected the path of a file, found empty text",
                ));
            }
        }
        if config.request_cert && config.ca.is_none() {
            let message = "is required with requestCert: it says who may vouch for clients";
            found.push(ConfigError::new("ca", message));
        }
        let mut min_version = config.min_version;
        let mut suites = None;
        match config.ciphers.as_deref().map(choose) {
            None => {}
            Some(Err(message)) => found.push(ConfigError::new("ciphers", message)),
            Some(Ok(mut chosen)) => {
                if chosen.raises(min_version) {
                    min_version = TlsConfigVersion::V1_3;
                }
                let named_1_3 = chosen
                    .suites
                    .iter()
                    .any(|s| s.version == TlsConfigVersion::V1_3);
                if !named_1_3 {
                    // As OpenSSL does: naming suites of 1.2 says nothing about 1.3.
                    let newer = SUITES
                        .iter()
                        .filter(|s| s.version == TlsConfigVersion::V1_3);
                    chosen.suites.extend(newer);
                }
                suites = Some(chosen.suites);
            }
        }
        let settings = match (config.enabled, config.cert, config.key) {
            (true, Some(cert), Some(key)) => Some(TlsSettings {
                cert,
                key,
                ca: config.ca,
                passphrase: config.passphrase,
                client_certificates: match (config.request_cert, config.reject_unauthorized) {
                    (false, _) => ClientCertificates::NotAsked,
                    (true, false) => ClientCertificates::Optional,
                    (true, true) => ClientCertificates::Required,
                },
                suites,
                min_version,
                key_permissions: config.key_permissions,
            }),
            _ => None,
        };
        ConfigError::check(settings, found)
    }
}

struct Chosen {
    suites: Vec<TlsSuite>,
    left_out: Vec<String>,
}

impl Chosen {
    fn raises(&self, min_version: TlsConfigVersion) -> bool {
        min_version == TlsConfigVersion::V1_2
            && !self.suites.is_empty()
            && self
                .suites
                .iter()
                .all(|s| s.version == TlsConfigVersion::V1_3)
    }
}

fn choose(ciphers: &str) -> Result<Chosen, String> {
    let known = || SUITES.map(|suite| suite.openssl).join(", ");
    let mut chosen = Chosen {
        suites: Vec::new(),
        left_out: Vec::new(),
    };
    for (index, name) in ciphers.split(':').map(str::trim).enumerate() {
        let suite = SUITES.iter().find(|suite| {
            name.eq_ignore_ascii_case(suite.openssl) || name.eq_ignore_ascii_case(suite.iana)
        });
        match suite {
            Some(suite) if !chosen.suites.contains(suite) => chosen.suites.push(*suite),
            Some(_) => {}
            None if is_known_elsewhere(name) => chosen.left_out.push(name.to_owned()),
            None => {
                return Err(format!(
                    "name {} is weak, a keyword of OpenSSL, or unknown; the names are {}",
                    index + 1,
                    known()
                ));
            }
        }
    }
    if chosen.suites.is_empty() {
        return Err(format!(
            "none of the suites is supported; the names are {}",
            known()
        ));
    }
    Ok(chosen)
}

/// Suites that other libraries have, that are not broken, and that are not offered here.
fn is_known_elsewhere(name: &str) -> bool {
    const EXCHANGES: [(&str, &str); 4] = [
        ("ECDHE-ECDSA-", "TLS_ECDHE_ECDSA_WITH_"),
        ("ECDHE-RSA-", "TLS_ECDHE_RSA_WITH_"),
        ("DHE-RSA-", "TLS_DHE_RSA_WITH_"),
        ("", "TLS_RSA_WITH_"),
    ];
    const CIPHERS: [(&str, &str); 15] = [
        ("AES128-SHA", "AES_128_CBC_SHA"),
        ("AES256-SHA", "AES_256_CBC_SHA"),
        ("AES128-SHA256", "AES_128_CBC_SHA256"),
        ("AES256-SHA256", "AES_256_CBC_SHA256"),
        ("AES256-SHA384", "AES_256_CBC_SHA384"),
        ("AES128-GCM-SHA256", "AES_128_GCM_SHA256"),
        ("AES256-GCM-SHA384", "AES_256_GCM_SHA384"),
        ("AES128-CCM", "AES_128_CCM"),
        ("AES256-CCM", "AES_256_CCM"),
        ("AES128-CCM8", "AES_128_CCM_8"),
        ("AES256-CCM8", "AES_256_CCM_8"),
        ("CHACHA20-POLY1305", "CHACHA20_POLY1305_SHA256"),
        ("CAMELLIA128-SHA256", "CAMELLIA_128_CBC_SHA256"),
        ("ARIA128-GCM-SHA256", "ARIA_128_GCM_SHA256"),
        ("ARIA256-GCM-SHA384", "ARIA_256_GCM_SHA384"),
    ];
    let name = name.to_ascii_uppercase();
    matches!(
        name.as_str(),
        "TLS_AES_128_CCM_SHA256" | "TLS_AES_128_CCM_8_SHA256"
    ) || EXCHANGES.iter().any(|(openssl, iana)| {
        let is = |prefix: &str, pick: fn(&(&'static str, &'static str)) -> &'static str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| CIPHERS.iter().any(|cipher| pick(cipher) == rest))
        };
        is(openssl, |cipher| cipher.0) || is(iana, |cipher| cipher.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ciphers(ciphers: &str) -> TlsConfig {
        TlsConfig {
            enabled: true,
            cert: Some("c.pem".into()),
            key: Some("k.pem".into()),
            ciphers: Some(ciphers.to_owned()),
            ..TlsConfig::default()
        }
    }

    #[test]
    fn ciphers_by_either_name() {
        for (ciphers, count, min_version, warnings) in [
            (
                "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
                2,
                TlsConfigVersion::V1_3,
                1,
            ),
            ("ECDHE-RSA-AES128-GCM-SHA256", 4, TlsConfigVersion::V1_2, 0),
            (
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                4,
                TlsConfigVersion::V1_2,
                0,
            ),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256",
                2,
                TlsConfigVersion::V1_2,
                0,
            ),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-SHA",
                4,
                TlsConfigVersion::V1_2,
                2,
            ),
        ] {
            let config = with_ciphers(ciphers);
            assert_eq!(config.warnings().len(), warnings, "{ciphers}");
            let settings = Option::<TlsSettings>::try_from(config).unwrap().unwrap();
            assert_eq!(settings.suites.unwrap().len(), count, "{ciphers}");
            assert_eq!(settings.min_version, min_version, "{ciphers}");
        }
        for ciphers in [
            "",
            "HIGH",
            "!aNULL",
            "DEFAULT",
            "kEECDH",
            "@SECLEVEL=2",
            "RC4-SHA",
            "DES-CBC3-SHA",
            "NULL-SHA",
            "ADH-AES128-SHA",
            "TLS_NOPE",
            "ECDHE-RSA-AES128-GCM-SHA256:",
            "DHE-RSA-AES128-GCM-SHA256",
        ] {
            let error = Option::<TlsSettings>::try_from(with_ciphers(ciphers)).unwrap_err();
            assert_eq!(error.problems()[0].key, "ciphers", "{ciphers}");
            assert!(
                error.to_string().contains("ECDHE-RSA-CHACHA20-POLY1305"),
                "{ciphers}"
            );
        }
    }

    #[test]
    fn what_belongs_together() {
        let error = Option::<TlsSettings>::try_from(TlsConfig {
            enabled: true,
            request_cert: true,
            ..TlsConfig::default()
        })
        .unwrap_err();
        let keys: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["cert", "key", "ca"]);
        assert!(
            Option::<TlsSettings>::try_from(TlsConfig::default())
                .unwrap()
                .is_none()
        );
    }
}
