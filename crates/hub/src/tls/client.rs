use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

/// TLS to upstreams: TLS 1.2 and 1.3, verified against the certificates that the system trusts.
pub(crate) fn client_config() -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(super::shared_provider())
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}
