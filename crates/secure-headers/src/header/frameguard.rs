use http::HeaderValue;
use proactions_edge::ConfigError;

use super::shown;

/// The options of X-Frame-Options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct FrameguardConfig {
    /// `action`: `deny`, or `sameorigin` (also `same-origin`), in any letter case. The default is `sameorigin`,
    /// under the preset `api` it is `deny`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::read::text"))]
    pub action: Option<String>,
}

/// X-Frame-Options (RFC 7034): who may show this answer in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XFrameOptions {
    Deny,
    SameOrigin,
}

impl XFrameOptions {
    pub(crate) fn build(config: &FrameguardConfig, default: Self) -> Result<Self, ConfigError> {
        let Some(action) = &config.action else {
            return Ok(default);
        };
        match action.to_ascii_lowercase().as_str() {
            "deny" => Ok(Self::Deny),
            "sameorigin" | "same-origin" => Ok(Self::SameOrigin),
            "allow-from" => Err(ConfigError::new(
                "action",
                "X-Frame-Options received an invalid action `allow-from`, which browsers no longer know; use \
                 the directive frameAncestors of contentSecurityPolicy",
            )),
            _ => Err(ConfigError::new(
                "action",
                format!(
                    "X-Frame-Options received an invalid action {}: expected deny or sameorigin",
                    shown(action)
                ),
            )),
        }
    }

    pub(crate) const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Deny => "DENY",
            Self::SameOrigin => "SAMEORIGIN",
        })
    }
}
