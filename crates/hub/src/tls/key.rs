//! The private key: reading, decrypting, and who else can read it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::EncryptedPrivateKeyInfoRef;
use proactions_config::{KeyPermissions, TlsSettings};
use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret as _, SecretString};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const BEGIN_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// The key, and what is worth a warning about its file.
pub(super) fn read(
    settings: &TlsSettings,
    warnings: &mut Vec<ConfigProblem>,
) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let path = &settings.key;
    let (bytes, mode) = super::read("key", path)?;
    // Wiped when it is dropped, whatever happens below.
    let pem = String::from_utf8(bytes)
        .map(SecretString::from)
        .map_err(|_| fault(format!("{} is not text; expected PEM", path.display())))?;
    if let Some(mode) = mode {
        warnings.extend(permissions(path, mode, settings.key_permissions)?);
    }
    parse(pem.expose_secret(), path, settings.passphrase.as_ref())
}

fn fault(message: String) -> ConfigError {
    ConfigError::new("key", message)
}

fn permissions(
    path: &Path,
    mode: u32,
    permissions: KeyPermissions,
) -> Result<Option<ConfigProblem>, ConfigError> {
    let (who, does) = match mode {
        mode if mode & 0o004 != 0 => ("everybody", "read"),
        mode if mode & 0o002 != 0 => ("everybody", "write"),
        mode if mode & 0o020 != 0 => ("its group", "write"),
        mode if mode & 0o001 != 0 => ("everybody", "run"),
        mode if mode & 0o040 != 0 => ("its group", "read"),
        _ => return Ok(None),
    };
    let path = path.display();
    // A group may be how a key reaches the user of the hub; whoever writes it chooses what the hub vouches with.
    let tolerated = (who, does) == ("its group", "read");
    if !tolerated && permissions == KeyPermissions::Refuse {
        return Err(fault(format!(
            "{who} can {does} {path} (mode {mode:o}); run chmod 600 {path}, or set \
             hub.tls.keyPermissions: warn where modes cannot be set"
        )));
    }
    Ok(Some(ConfigProblem::new(
        "key",
        format!("{who} can {does} {path} (mode {mode:o}); chmod 600 {path} keeps it to its owner"),
    )))
}

fn parse(
    pem: &str,
    path: &Path,
    passphrase: Option<&SecretString>,
) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let shown = path.display();
    if pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(fault(format!(
            "{shown} is encrypted in OpenSSL's old form; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc \
             -in {shown} -out {shown}.new"
        )));
    }
    if let Some(body) = pem
        .split_once(BEGIN_ENCRYPTED)
        .and_then(|(_, rest)| rest.split_once(END_ENCRYPTED))
    {
        return decrypt(body.0, path, passphrase);
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        fault(format!(
            "{shown} holds no private key; expected PEM with PRIVATE KEY, RSA PRIVATE KEY, EC PRIVATE KEY or \
             ENCRYPTED PRIVATE KEY"
        ))
    })
}

fn decrypt(
    body: &str,
    path: &Path,
    passphrase: Option<&SecretString>,
) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let shown = path.display();
    let Some(passphrase) = passphrase else {
        return Err(fault(format!(
            "{shown} is encrypted; set hub.tls.passphrase to its passphrase"
        )));
    };
    let text: String = body.split_ascii_whitespace().collect();
    let der = STANDARD
        .decode(text)
        .map_err(|_| fault(format!("{shown} is not well-formed PEM")))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(der.as_slice());
    let unknown = || {
        fault(format!(
            "{shown} is encrypted in a way that is not supported; convert it with: openssl pkcs8 -topk8 -v2 \
             aes-256-cbc -in {shown} -out {shown}.new"
        ))
    };
    let plain = info
        .map_err(|_| unknown())?
        .decrypt(passphrase.expose_secret())
        .map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(
                pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }
                | pkcs8::pkcs5::Error::NoPbes1CryptSupport
                | pkcs8::pkcs5::Error::AlgorithmParametersInvalid { .. },
            ) => unknown(),
            _ => ConfigError::new(
                "passphrase",
                format!("it does not decrypt {shown}; expected the passphrase of that key"),
            ),
        })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        plain.as_bytes().to_vec(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_readers_in_the_group_have_a_place_at_a_key() {
        for (mode, refused, says) in [
            (0o600, false, None),
            (0o400, false, None),
            (0o640, false, Some("its group can read")),
            (0o440, false, Some("its group can read")),
            (0o610, false, None),
            (0o642, true, Some("everybody can write")),
            (0o602, true, Some("everybody can write")),
            (0o644, true, Some("everybody can read")),
            (0o601, true, Some("everybody can run")),
            (0o641, true, Some("everybody can run")),
            (0o660, true, Some("its group can write")),
            (0o620, true, Some("its group can write")),
            (0o666, true, Some("everybody can read")),
            (0o777, true, Some("everybody can read")),
        ] {
            let path = Path::new("a.key");
            let strict = permissions(path, mode, KeyPermissions::Refuse);
            let text = match &strict {
                Ok(warning) => warning.as_ref().map(|warning| warning.message.clone()),
                Err(error) => Some(error.to_string()),
            };
            assert_eq!(strict.is_err(), refused, "{mode:o}");
            assert_eq!(text.is_some(), says.is_some(), "{mode:o}: {text:?}");
            let lenient = permissions(path, mode, KeyPermissions::Warn).unwrap();
            assert_eq!(lenient.is_some(), says.is_some(), "{mode:o}");
            if let Some(says) = says {
                assert!(text.unwrap().contains(says), "{mode:o}");
                assert!(lenient.unwrap().message.contains(says), "{mode:o}");
            }
        }
    }
}
