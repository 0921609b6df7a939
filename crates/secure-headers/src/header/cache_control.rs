use http::HeaderValue;
use proactions_edge::ConfigError;

use super::shown;

/// The value of Cache-Control for answers that bring none of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheControlConfig {
    /// The value as it is sent. Default `no-store`.
    pub value: String,
}

impl Default for CacheControlConfig {
    fn default() -> Self {
        Self::from("no-store")
    }
}

impl From<&str> for CacheControlConfig {
    fn from(value: &str) -> Self {
        Self {
            value: value.to_owned(),
        }
    }
}

/// Cache-Control (RFC 9111).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheControl(HeaderValue);

impl CacheControl {
    pub(crate) fn build(config: &CacheControlConfig) -> Result<Self, ConfigError> {
        let value = super::value("", &config.value)?;
        for directive in config.value.split(',') {
            let name = directive.split('=').next().unwrap_or_default().trim();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(ConfigError::new(
                    "",
                    format!(
                        "{} is no Cache-Control: expected directives with commas between, as in `no-store` or \
                         `private, max-age=60`, or `false`",
                        shown(&config.value)
                    ),
                ));
            }
        }
        Ok(Self(value))
    }

    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for CacheControlConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = CacheControlConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`true`, `false` or a text such as `no-store`")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(CacheControlConfig::from(value))
            }
        }

        deserializer.deserialize_any(Text)
    }
}
