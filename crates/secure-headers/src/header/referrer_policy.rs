use http::HeaderValue;
use proactions_edge::ConfigError;

use super::{choice, shown};

/// The options of Referrer-Policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ReferrerPolicyConfig {
    /// `policy`: one policy, or several of which a browser takes the last that it knows. Default `no-referrer`.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::read::text_or_list")
    )]
    pub policy: Option<Vec<String>>,
}

const TOKENS: [&str; 9] = [
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
    "",
];

/// Referrer-Policy: what links and loads tell other sites about this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferrerPolicy {
    tokens: Vec<&'static str>,
}

impl ReferrerPolicy {
    pub(crate) fn build(config: &ReferrerPolicyConfig) -> Result<Self, ConfigError> {
        let refuse = |message: String| Err(ConfigError::new("policy", message));
        let Some(given) = &config.policy else {
            return Ok(Self {
                tokens: vec!["no-referrer"],
            });
        };
        if given.is_empty() {
            return refuse("Referrer-Policy received no policy tokens".to_owned());
        }
        let mut tokens = Vec::with_capacity(given.len());
        for token in given {
            let Some(known) = TOKENS.iter().find(|known| *known == token) else {
                return refuse(format!(
                    "Referrer-Policy received an unexpected policy token {}: expected {} or an empty text; several \
                     stand in a list",
                    shown(token),
                    choice(TOKENS.get(..8).unwrap_or_default()).replace(" or ", ", "),
                ));
            };
            if tokens.contains(known) {
                return refuse(format!(
                    "Referrer-Policy received a duplicate policy token {}",
                    shown(token)
                ));
            }
            tokens.push(*known);
        }
        Ok(Self { tokens })
    }

    pub(crate) fn value(&self) -> Result<HeaderValue, ConfigError> {
        super::value("policy", &self.tokens.join(","))
    }
}
