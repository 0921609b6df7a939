use http::HeaderValue;
use proactions_edge::ConfigError;

/// The options of Strict-Transport-Security.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct HstsConfig {
    /// `maxAge`: for how many seconds browsers insist on HTTPS. The default is 31536000 (a year), under the preset
    /// `api` 63072000. 0 makes browsers forget the host.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::read::seconds"))]
    pub max_age: Option<u64>,
    /// `includeSubDomains`: whether all hosts below this one are meant as well. Default `true`.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::read::optional_boolean")
    )]
    pub include_sub_domains: Option<bool>,
    /// `preload`: whether browsers may ship with this host in their list. Default `false`.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::read::optional_boolean")
    )]
    pub preload: Option<bool>,
}

/// Strict-Transport-Security (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StrictTransportSecurity {
    /// Seconds.
    pub(crate) max_age: u64,
    pub(crate) include_sub_domains: bool,
    pub(crate) preload: bool,
}

impl StrictTransportSecurity {
    /// What the preload list asks for, in seconds.
    pub(crate) const YEAR: u64 = 31_536_000;

    /// Any number of seconds is good, so nothing can be wrong.
    pub(crate) fn build(config: &HstsConfig, default_max_age: u64) -> Self {
        Self {
            max_age: config.max_age.unwrap_or(default_max_age),
            include_sub_domains: config.include_sub_domains.unwrap_or(true),
            preload: config.preload.unwrap_or(false),
        }
    }

    pub(crate) fn value(self) -> Result<HeaderValue, ConfigError> {
        let mut text = format!("max-age={}", self.max_age);
        if self.include_sub_domains {
            text.push_str("; includeSubDomains");
        }
        if self.preload {
            text.push_str("; preload");
        }
        super::value("", &text)
    }
}
