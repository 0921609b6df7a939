use http::{HeaderName, HeaderValue, Uri};
use proactions_edge::ConfigError;

use super::permissions_policy::is_structured_key;
use super::shown;

/// Where browsers send their reports: names, each with an `https` URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportingEndpointsConfig {
    /// Name and URL, in the order of the file.
    pub endpoints: Vec<(String, String)>,
}

impl<N: Into<String>, U: Into<String>> FromIterator<(N, U)> for ReportingEndpointsConfig {
    fn from_iter<I: IntoIterator<Item = (N, U)>>(endpoints: I) -> Self {
        Self {
            endpoints: endpoints
                .into_iter()
                .map(|(name, url)| (name.into(), url.into()))
                .collect(),
        }
    }
}

/// Reporting-Endpoints (W3C Reporting API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportingEndpoints(HeaderValue);

impl ReportingEndpoints {
    pub(crate) const NAME: HeaderName = HeaderName::from_static("reporting-endpoints");

    pub(crate) fn build(config: &ReportingEndpointsConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        if config.endpoints.is_empty() {
            found.push(ConfigError::new(
                "",
                "expected at least one endpoint, as in `default: https://reports.example.com/csp`; leave the key out \
                 for none",
            ));
        }
        let mut parts = Vec::new();
        for (at, (name, url)) in config.endpoints.iter().enumerate() {
            if !is_structured_key(name) {
                found.push(ConfigError::new(
                    "",
                    format!(
                        "{} is no name of an endpoint: expected lower-case letters, digits, `-`, `_` and `.`, a \
                         letter first",
                        shown(name)
                    ),
                ));
                continue;
            }
            if config
                .endpoints
                .iter()
                .take(at)
                .any(|(earlier, _)| earlier == name)
            {
                found.push(ConfigError::new(name.as_str(), "the endpoint stands twice"));
            }
            // The URL may carry a key of the collector, so that it is not shown.
            if !is_https(url) {
                found.push(ConfigError::new(
                    name.as_str(),
                    "expected a URL that begins with https:// and names a host, without user, password, spaces and \
                     quotes",
                ));
            }
            parts.push(format!("{name}=\"{url}\""));
        }
        let text = if found.is_empty() {
            parts.join(", ")
        } else {
            String::new()
        };
        let value = super::value("", &text)?;
        ConfigError::check(Self(value), found)
    }

    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }
}

fn is_https(url: &str) -> bool {
    let plain = url
        .bytes()
        .all(|b| matches!(b, b'!'..=b'~') && !matches!(b, b'"' | b'\\'));
    plain
        && url.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("https")
                && uri.authority().is_some_and(|authority| {
                    !authority.host().is_empty() && !authority.as_str().contains('@')
                })
        })
}

#[cfg(feature = "config")]
mod read {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

    use super::ReportingEndpointsConfig;

    impl<'de> Deserialize<'de> for ReportingEndpointsConfig {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Endpoints;

            impl<'de> Visitor<'de> for Endpoints {
                type Value = ReportingEndpointsConfig;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("`false`, or a map of names and https URLs")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut endpoints = Vec::new();
                    while let Some(entry) = map.next_entry::<String, String>()? {
                        endpoints.push(entry);
                    }
                    Ok(ReportingEndpointsConfig { endpoints })
                }
            }

            deserializer.deserialize_any(Endpoints)
        }
    }
}
