//! The one place that chooses a TLS provider.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// TLS to upstreams: TLS 1.2 and 1.3, verified against the certificates that the system trusts.
pub(crate) fn client_config() -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    // Whatever a dependency asks for without naming a provider gets the same one.
    let _ = aws_lc_rs::default_provider().install_default();
    Arc::new(aws_lc_rs::default_provider())
}
