use http::{HeaderName, HeaderValue};
use proactions_edge::ConfigError;

use super::{kebab, shown};

/// The value of Permissions-Policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermissionsPolicyConfig {
    /// No feature at all that a browser guards.
    #[default]
    DenyAll,
    /// Features, each with who may use it: `self`, `*` and origins. An empty list means nobody.
    Features(Vec<(String, Vec<String>)>),
    /// The value as it is sent.
    Text(String),
}

/// Permissions-Policy: which features of the browser a page may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PermissionsPolicy(HeaderValue);

const DENY_ALL: &str = "accelerometer=(), autoplay=(), camera=(), clipboard-read=(), clipboard-write=(), \
     display-capture=(), encrypted-media=(), fullscreen=(), gamepad=(), geolocation=(), gyroscope=(), hid=(), \
     idle-detection=(), magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), \
     publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=(), web-share=(), xr-spatial-tracking=()";

impl PermissionsPolicy {
    pub(crate) const NAME: HeaderName = HeaderName::from_static("permissions-policy");

    pub(crate) fn build(config: &PermissionsPolicyConfig) -> Result<Self, ConfigError> {
        match config {
            PermissionsPolicyConfig::DenyAll => Ok(Self(HeaderValue::from_static(DENY_ALL))),
            PermissionsPolicyConfig::Features(features) => from_features(features).map(Self),
            PermissionsPolicyConfig::Text(text) => from_text(text).map(Self),
        }
    }

    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }
}

fn from_features(features: &[(String, Vec<String>)]) -> Result<HeaderValue, ConfigError> {
    let mut found = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut parts = Vec::new();
    if features.is_empty() {
        found.push(ConfigError::new(
            "",
            "expected at least one feature, as in `camera: []`; write `true` to deny all features",
        ));
    }
    for (given, allowed) in features {
        let name = kebab(given);
        if !is_structured_key(&name) {
            found.push(ConfigError::new(
                "",
                format!(
                    "{} is no name of a feature: expected a name such as geolocation",
                    shown(given)
                ),
            ));
            continue;
        }
        if seen.contains(&name) {
            found.push(ConfigError::new(given.as_str(), "the feature stands twice"));
            continue;
        }
        seen.push(name.clone());
        let mut members = Vec::new();
        for item in allowed {
            match member(item) {
                Ok(member) => members.push(member),
                Err(message) => found.push(ConfigError::new(given.as_str(), message)),
            }
        }
        if members.iter().any(|member| member == "*") {
            if members.len() > 1 {
                found.push(ConfigError::new(
                    given.as_str(),
                    "`*` allows everybody, so nothing can stand beside it",
                ));
            }
            parts.push(format!("{name}=*"));
        } else {
            parts.push(format!("{name}=({})", members.join(" ")));
        }
    }
    let text = if found.is_empty() {
        parts.join(", ")
    } else {
        String::new()
    };
    let value = super::value("", &text)?;
    ConfigError::check(value, found)
}

fn member(item: &str) -> Result<String, String> {
    match item {
        "*" | "self" => return Ok(item.to_owned()),
        "'self'" | "'none'" | "none" => {
            return Err(format!(
                "{} is no member here: write `self` without quotes of its own, and an empty list for nobody",
                shown(item)
            ));
        }
        _ => {}
    }
    let origin = item.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https")
            && !host.is_empty()
            && host.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'*' | b':' | b'[' | b']')
            })
    });
    if origin {
        Ok(format!("\"{item}\""))
    } else {
        Err(format!(
            "{} is no member: expected `self`, `*` or an origin such as https://maps.example.com",
            shown(item)
        ))
    }
}

/// The text is sent as it is, so that it must at least be a dictionary (RFC 9651) of tokens and lists.
fn from_text(text: &str) -> Result<HeaderValue, ConfigError> {
    let value = super::value("", text)?;
    if is_dictionary(text) {
        return Ok(value);
    }
    Err(ConfigError::new(
        "",
        format!(
            "{} is no Permissions-Policy: expected features with commas between, as in \
             `camera=(), geolocation=(self \"https://maps.example.com\")`",
            shown(text)
        ),
    ))
}

fn is_dictionary(text: &str) -> bool {
    let (mut quoted, mut listed) = (false, false);
    let mut members = vec![String::new()];
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            '(' if !quoted && !listed => listed = true,
            ')' if !quoted && listed => listed = false,
            ',' if !quoted && !listed => {
                members.push(String::new());
                continue;
            }
            '(' | ')' | ',' | ';' if !quoted => return false,
            _ => {}
        }
        if let Some(member) = members.last_mut() {
            member.push(letter);
        }
    }
    !quoted
        && !listed
        && members.iter().all(|member| {
            member.trim().split_once('=').is_some_and(|(name, value)| {
                is_structured_key(name)
                    && (matches!(value, "*" | "self")
                        || (value.starts_with('(') && value.ends_with(')')))
            })
        })
}

/// A key of a dictionary in RFC 9651, without the leading `*` that nobody uses.
pub(super) fn is_structured_key(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        })
}

#[cfg(feature = "config")]
mod read {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

    use super::PermissionsPolicyConfig;

    impl<'de> Deserialize<'de> for PermissionsPolicyConfig {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Policy;

            impl<'de> Visitor<'de> for Policy {
                type Value = PermissionsPolicyConfig;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(
                        "`false`, `true`, a text such as `camera=()`, or a map of features, each with a list of \
                         who may use it",
                    )
                }

                fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                    Ok(PermissionsPolicyConfig::Text(value.to_owned()))
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut features = Vec::new();
                    while let Some(name) = map.next_key::<String>()? {
                        features.push((name, map.next_value_seed(crate::read::List)?));
                    }
                    Ok(PermissionsPolicyConfig::Features(features))
                }
            }

            deserializer.deserialize_any(Policy)
        }
    }
}
