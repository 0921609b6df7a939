use proactions_edge::{ConfigError, ConfigProblem};
use serde::Deserialize;

use super::hub::{ListenAddress, check_host, is_loopback};

/// Section `metrics`: the listener that serves `GET /metrics`, and nothing else, without authentication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct MetricsConfig {
    /// Whether there is such a listener; false unless set.
    pub enabled: bool,
    /// The address that it is bound to; `127.0.0.1` unless set.
    pub host: String,
    /// Its port; 9464 unless set. 0 lets the system pick one.
    pub port: u16,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            host: "127.0.0.1".to_owned(),
            port: 9464,
        }
    }
}

impl MetricsConfig {
    /// Settings that are legal and dangerous.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        if self.enabled && !is_loopback(&self.host) {
            let message = "the metrics are served without authentication beyond this machine; \
                           see to it that only the collector reaches the port";
            return vec![ConfigProblem::new("host", message)];
        }
        Vec::new()
    }

    pub(crate) fn address(&self) -> Result<Option<ListenAddress>, ConfigError> {
        let found = check_host("host", &self.host);
        let address = self
            .enabled
            .then(|| ListenAddress::new(self.host.clone(), self.port));
        ConfigError::check(address, found)
    }
}
