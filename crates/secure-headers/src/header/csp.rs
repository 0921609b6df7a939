use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY};
use http::{HeaderName, HeaderValue};
use proactions_edge::ConfigError;

use super::{NOT_VISIBLE, is_visible, kebab, shown};

/// The options of Content-Security-Policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct CspConfig {
    /// `useDefaults`: whether the default directives count where none of that name is given. Default `true`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::read::boolean"))]
    pub use_defaults: bool,
    /// `directives`: what replaces default directives or joins them.
    pub directives: CspDirectives,
    /// `reportOnly`: whether browsers only report what they would have stopped. Default `false`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::read::boolean"))]
    pub report_only: bool,
}

impl Default for CspConfig {
    fn default() -> Self {
        Self {
            use_defaults: true,
            directives: CspDirectives::default(),
            report_only: false,
        }
    }
}

/// Directives in the order of the file, named as there: `scriptSrc` or `script-src`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CspDirectives {
    pub(crate) items: Vec<(String, CspSources)>,
}

impl<N: Into<String>, V: Into<CspSources>> FromIterator<(N, V)> for CspDirectives {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(items: I) -> Self {
        Self {
            items: items
                .into_iter()
                .map(|(name, sources)| (name.into(), sources.into()))
                .collect(),
        }
    }
}

/// The value of one directive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CspSources {
    /// `null`: the default directive of this name is left out.
    Removed,
    /// Sources in a list. An empty list is a directive without a value.
    List(Vec<String>),
    /// One text.
    Text(String),
}

impl From<&str> for CspSources {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<const N: usize> From<[&str; N]> for CspSources {
    fn from(items: [&str; N]) -> Self {
        Self::List(items.into_iter().map(str::to_owned).collect())
    }
}

/// Name and sources of a default directive.
pub(crate) type Directive = (&'static str, &'static [&'static str]);

/// Content-Security-Policy (CSP Level 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentSecurityPolicy {
    directives: Vec<(String, Vec<String>)>,
}

impl ContentSecurityPolicy {
    pub(crate) const fn name(report_only: bool) -> HeaderName {
        if report_only {
            CONTENT_SECURITY_POLICY_REPORT_ONLY
        } else {
            CONTENT_SECURITY_POLICY
        }
    }

    pub(crate) fn build(config: &CspConfig, defaults: &[Directive]) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut directives: Vec<(String, Vec<String>)> = if config.use_defaults {
            defaults
                .iter()
                .map(|(name, sources)| {
                    (
                        (*name).to_owned(),
                        sources.iter().map(|s| (*s).to_owned()).collect(),
                    )
                })
                .collect()
        } else {
            Vec::new()
        };
        let mut seen: Vec<String> = Vec::new();
        let mut lost_default_src = false;
        for (given, value) in &config.directives.items {
            let key = format!("directives.{given}");
            if !is_name(given) {
                found.push(ConfigError::new(
                    "directives",
                    format!(
                        "Content-Security-Policy received an invalid directive name {}: expected a name such as \
                         scriptSrc or script-src",
                        shown(given)
                    ),
                ));
                continue;
            }
            let name = kebab(given);
            if seen.contains(&name) {
                found.push(ConfigError::new(
                    key,
                    format!(
                        "Content-Security-Policy received a duplicate directive `{name}`; scriptSrc and script-src \
                         are the same, so write it once"
                    ),
                ));
                continue;
            }
            seen.push(name.clone());
            let sources = match sources(&name, value) {
                Ok(sources) => sources,
                Err(messages) => {
                    found.extend(
                        messages
                            .into_iter()
                            .map(|message| ConfigError::new(key.as_str(), message)),
                    );
                    continue;
                }
            };
            let place = directives.iter().position(|(known, _)| *known == name);
            match (sources, place) {
                (None, _) if name == "default-src" => {
                    lost_default_src = true;
                    found.push(ConfigError::new(
                        key,
                        "Content-Security-Policy needs a default-src but it was set to `null`; write ['none'] with \
                         its quotes to allow nothing, or `contentSecurityPolicy: false` to send no policy",
                    ));
                }
                (None, Some(place)) => {
                    directives.remove(place);
                }
                (None, None) => {}
                (Some(sources), Some(place)) => {
                    if let Some(directive) = directives.get_mut(place) {
                        directive.1 = sources;
                    }
                }
                (Some(sources), None) => directives.push((name, sources)),
            }
        }
        if found.is_empty() {
            if directives.is_empty() {
                found.push(ConfigError::new(
                    "directives",
                    "Content-Security-Policy has no directives; set some, take `useDefaults: false` away, or write \
                     `contentSecurityPolicy: false` to send no policy",
                ));
            } else if !lost_default_src && !directives.iter().any(|(name, _)| name == "default-src")
            {
                found.push(ConfigError::new(
                    "directives",
                    "Content-Security-Policy needs a default-src but none was provided; write one, as in \
                     defaultSrc: [\"'self'\"], or take `useDefaults: false` away",
                ));
            }
        }
        ConfigError::check(Self { directives }, found)
    }

    pub(crate) fn value(&self) -> Result<HeaderValue, ConfigError> {
        let text: Vec<String> = self
            .directives
            .iter()
            .map(|(name, sources)| {
                if sources.is_empty() {
                    name.clone()
                } else {
                    format!("{name} {}", sources.join(" "))
                }
            })
            .collect();
        super::value("directives", &text.join(";"))
    }

    /// The sources of a directive that is part of the policy.
    pub(crate) fn sources(&self, name: &str) -> Option<&[String]> {
        self.directives
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, sources)| sources.as_slice())
    }

    pub(crate) fn directives(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.directives
            .iter()
            .map(|(name, sources)| (name.as_str(), sources.as_slice()))
    }
}

/// `^[a-z](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$`
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The words of a directive's value, or `None` if the directive is to go.
fn sources(directive: &str, value: &CspSources) -> Result<Option<Vec<String>>, Vec<String>> {
    let items = match value {
        CspSources::Removed => return Ok(None),
        CspSources::List(items) => items.as_slice(),
        CspSources::Text(text) => std::slice::from_ref(text),
    };
    let mut bad = Vec::new();
    let mut words = Vec::new();
    for item in items {
        if !is_visible(item) {
            bad.push(format!(
                "Content-Security-Policy received an invalid directive value for `{directive}`: {} {NOT_VISIBLE}",
                shown(item)
            ));
            continue;
        }
        if item.contains([';', ',']) {
            bad.push(format!(
                "Content-Security-Policy received an invalid directive value for `{directive}`: {} holds `;` or `,`; \
                 each directive has a key of its own, and each source is an item of a list",
                shown(item)
            ));
            continue;
        }
        // One text may hold several sources with spaces between.
        for word in item.split(' ').filter(|word| !word.is_empty()) {
            if needs_quotes(word) {
                bad.push(format!(
                    "Content-Security-Policy received an invalid directive value for `{directive}`: {} should be \
                     quoted; write \"'{}'\" with both pairs of quotes",
                    shown(word),
                    shown(word).trim_matches('`')
                ));
            } else {
                words.push(word.to_owned());
            }
        }
    }
    if bad.is_empty() {
        Ok(Some(words))
    } else {
        Err(bad)
    }
}

fn needs_quotes(word: &str) -> bool {
    const KEYWORDS: [&str; 9] = [
        "inline-speculation-rules",
        "none",
        "report-sample",
        "self",
        "strict-dynamic",
        "unsafe-eval",
        "unsafe-hashes",
        "unsafe-inline",
        "wasm-unsafe-eval",
    ];
    const PREFIXES: [&str; 4] = ["nonce-", "sha256-", "sha384-", "sha512-"];
    let word = word.to_ascii_lowercase();
    KEYWORDS.contains(&word.as_str()) || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

#[cfg(feature = "config")]
mod read {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

    use super::{CspDirectives, CspSources};

    impl<'de> Deserialize<'de> for CspDirectives {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Directives;

            impl<'de> Visitor<'de> for Directives {
                type Value = CspDirectives;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(
                        "a map of directives, as in `defaultSrc: [\"'self'\"]`; leave the key out for the \
                         defaults",
                    )
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut items = Vec::new();
                    while let Some(entry) = map.next_entry::<String, CspSources>()? {
                        items.push(entry);
                    }
                    Ok(CspDirectives { items })
                }
            }

            deserializer.deserialize_any(Directives)
        }
    }

    impl<'de> Deserialize<'de> for CspSources {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Sources;

            impl<'de> Visitor<'de> for Sources {
                type Value = CspSources;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(
                        "a list of sources such as [\"'self'\", \"https:\"], one text, or `null` to leave the \
                         directive out",
                    )
                }

                fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                    Ok(CspSources::Text(value.to_owned()))
                }

                fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                    Ok(CspSources::Removed)
                }

                fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                    crate::read::texts(seq).map(CspSources::List)
                }
            }

            deserializer.deserialize_any(Sources)
        }
    }
}
