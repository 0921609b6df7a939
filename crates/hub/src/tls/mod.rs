//! TLS, to clients and to upstreams: the one place that chooses a provider.

mod certificate;
mod client;
mod itself;
mod key;
mod server;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use proactions_config::Policies;
use proactions_edge::ConfigError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub(crate) use self::certificate::subject_of;
pub(crate) use self::client::client_config;
pub(crate) use self::itself::ToItself;
pub(crate) use self::server::{Identity, Stamp};

/// No certificate bundle is larger; a path to something else ends here.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What the public listener shows its clients, if it speaks TLS.
pub(crate) fn identity(policies: &Policies) -> Result<Option<Identity>, ConfigError> {
    policies.tls.as_ref().map(Identity::load).transpose()
}

fn provider() -> CryptoProvider {
    // Whatever a dependency asks for without naming a provider gets the same one.
    let _ = aws_lc_rs::default_provider().install_default();
    CryptoProvider {
        kx_groups: vec![
            // What is recorded today cannot be read with the quantum computers of tomorrow.
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn shared_provider() -> Arc<CryptoProvider> {
    Arc::new(provider())
}

/// What a file holds, and its mode where the system has modes.
fn read(key: &str, path: &Path) -> Result<(Vec<u8>, Option<u32>), ConfigError> {
    let fails = |what: &dyn std::fmt::Display| {
        ConfigError::new(key, format!("cannot read {}: {what}", path.display()))
    };
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => fails(&"it does not exist"),
        std::io::ErrorKind::PermissionDenied => {
            fails(&"permission denied; give it to the user that runs the hub")
        }
        _ => fails(&error),
    })?;
    let metadata = file.metadata().map_err(|error| fails(&error))?;
    if metadata.is_dir() {
        return Err(fails(&"it is a directory; expected a file in PEM form"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fails(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fails(&"it is too large for a certificate or a key"));
    }
    Ok((bytes, mode(&metadata)))
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}
