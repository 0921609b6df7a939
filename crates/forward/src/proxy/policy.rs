use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use proactions_edge::ConfigError;

use crate::{BaseUrl, ProxyConfig, RemoveSourceHeaders, UpstreamTls, check_headers};

/// The checked form of a [`ProxyConfig`]. Cloning is cheap enough for start-up.
#[derive(Clone, Debug)]
pub struct ProxyPolicy {
    pub(super) id: Arc<str>,
    pub(super) base: BaseUrl,
    pub(super) remove: Remove,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) change_origin: bool,
    pub(super) client_silence: Option<Duration>,
    pub(super) upstream_silence: Option<Duration>,
    pub(super) follow_redirects: bool,
    pub(super) max_redirects: Option<u64>,
    pub(super) tls: UpstreamTls,
    pub(super) ws: bool,
    pub(super) xfwd: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Remove {
    All,
    These(Vec<HeaderName>),
}

impl ProxyPolicy {
    /// The name in the path.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl TryFrom<ProxyConfig> for ProxyPolicy {
    type Error = ConfigError;

    fn try_from(config: ProxyConfig) -> Result<Self, ConfigError> {
        let options = &config.options;
        let mut found = Vec::new();
        if let Err(error) = config.check() {
            found.push(error);
        }
        let tls = UpstreamTls::read(&options.ssl, options.secure)
            .map_err(|error| found.push(error.within("options.ssl")))
            .ok();
        // What cannot be read has been found above.
        let base = BaseUrl::parse_with_query(config.url.as_str()).ok();
        let headers = check_headers("headers", &options.headers).unwrap_or_default();
        let remove = match &config.remove_source_headers {
            RemoveSourceHeaders::All => Remove::All,
            RemoveSourceHeaders::None => Remove::These(Vec::new()),
            RemoveSourceHeaders::Named(names) => Remove::These(
                names
                    .iter()
                    .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                    .collect(),
            ),
        };
        ConfigError::check((), found)?;
        let incomplete = || ConfigError::new("url", "is required");
        Ok(Self {
            id: config.id.as_str().into(),
            base: base.ok_or_else(incomplete)?,
            remove,
            headers,
            change_origin: options.change_origin,
            client_silence: options.timeout.map(Duration::from_millis),
            upstream_silence: options.proxy_timeout.map(Duration::from_millis),
            follow_redirects: options.follow_redirects,
            max_redirects: options.max_redirects,
            tls: tls.ok_or_else(incomplete)?,
            ws: options.ws,
            xfwd: options.xfwd,
        })
    }
}

/// All proxies of a configuration, with ids that differ.
#[derive(Clone, Debug, Default)]
pub struct ProxyPolicies(Arc<[ProxyPolicy]>);

impl ProxyPolicies {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &ProxyPolicy> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<ProxyConfig>> for ProxyPolicies {
    type Error = ConfigError;

    /// Reports the problems of every entry, under `[0]`, `[1]` and so on.
    fn try_from(configs: Vec<ProxyConfig>) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut ids = HashSet::new();
        let mut policies = Vec::with_capacity(configs.len());
        for (index, config) in configs.into_iter().enumerate() {
            if !config.id.is_empty() && !ids.insert(config.id.clone()) {
                let key = format!("[{index}].id");
                found.push(ConfigError::new(key, "this id is taken by an entry above"));
            }
            match ProxyPolicy::try_from(config) {
                Ok(policy) => policies.push(policy),
                Err(error) => found.push(error.within(&format!("[{index}]"))),
            }
        }
        ConfigError::check(Self(policies.into()), found)
    }
}
