//! One file a header: its options as a file states them, and a type whose value was checked when it was built.

pub(crate) mod cache_control;
mod cross_domain;
pub(crate) mod csp;
mod dns_prefetch;
mod embedder_policy;
pub(crate) mod fixed;
mod frameguard;
pub(crate) mod hsts;
mod opener_policy;
pub(crate) mod permissions_policy;
mod referrer_policy;
pub(crate) mod reporting_endpoints;
mod resource_policy;

use http::HeaderValue;
use proactions_edge::ConfigError;

pub use cache_control::CacheControlConfig;
pub use cross_domain::CrossDomainConfig;
pub(crate) use cross_domain::CrossDomainPolicies;
pub use csp::{CspConfig, CspDirectives, CspSources};
pub use dns_prefetch::DnsPrefetchConfig;
pub(crate) use dns_prefetch::DnsPrefetchControl;
pub(crate) use embedder_policy::EmbedderPolicy;
pub use frameguard::FrameguardConfig;
pub(crate) use frameguard::XFrameOptions;
pub use hsts::HstsConfig;
pub(crate) use opener_policy::OpenerPolicy;
pub use permissions_policy::PermissionsPolicyConfig;
pub(crate) use referrer_policy::ReferrerPolicy;
pub use referrer_policy::ReferrerPolicyConfig;
pub use reporting_endpoints::ReportingEndpointsConfig;
pub(crate) use resource_policy::ResourcePolicy;

/// The options of the three Cross-Origin-…-Policy headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct CrossOriginConfig {
    /// `policy`. The default is the strictest one: `require-corp` for the embedder policy, `same-origin` for
    /// the opener and the resource policy.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::read::text"))]
    pub policy: Option<String>,
}

/// A header whose value is one of a few words.
pub(crate) trait Keyword: Copy + PartialEq + 'static {
    /// The header's name, as it is written for people.
    const HEADER: &'static str;
    /// The option that takes the word.
    const OPTION: &'static str;
    /// The words, the default first.
    const WORDS: &'static [(&'static str, Self)];
    const DEFAULT: Self;

    fn build(word: Option<&str>) -> Result<Self, ConfigError> {
        let Some(word) = word else {
            return Ok(Self::DEFAULT);
        };
        Self::WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, policy)| *policy)
            .ok_or_else(|| {
                let known: Vec<_> = Self::WORDS.iter().map(|(known, _)| *known).collect();
                ConfigError::new(
                    Self::OPTION,
                    format!(
                        "{} does not support {}: expected {}",
                        Self::HEADER,
                        shown(word),
                        choice(&known)
                    ),
                )
            })
    }

    fn value(self) -> HeaderValue {
        let word = Self::WORDS.iter().find(|(_, policy)| *policy == self);
        HeaderValue::from_static(word.map_or("", |(word, _)| word))
    }
}

/// What an operator wrote, fit for one line of a log.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", short.escape_debug().to_string().replace("\\'", "'"))
}

/// `a, b or c`
pub(crate) fn choice(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// Whether the text can stand in a header field and in nothing but its own line.
pub(crate) fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// The value of a field; the key is named if the text cannot be one.
pub(crate) fn value(key: &str, text: &str) -> Result<HeaderValue, ConfigError> {
    if !is_visible(text) {
        return Err(ConfigError::new(key, NOT_VISIBLE));
    }
    HeaderValue::from_str(text).map_err(|_| ConfigError::new(key, NOT_VISIBLE))
}

pub(crate) const NOT_VISIBLE: &str = "holds a line break, another control character or a letter outside of \
     ASCII, which a header cannot carry";

/// `scriptSrc` and `script-src` are one name.
pub(crate) fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('-');
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_kebab_case() {
        for (name, kebab_case) in [
            ("scriptSrc", "script-src"),
            ("script-src", "script-src"),
            ("script-srcAttr", "script-src-attr"),
            ("reportURI", "report-u-r-i"),
            ("sandbox", "sandbox"),
        ] {
            assert_eq!(kebab(name), kebab_case);
        }
    }

    #[test]
    fn what_is_shown_fits_one_line() {
        assert_eq!(shown("'self'"), "`'self'`");
        assert_eq!(shown("a\r\nb\u{1b}"), "`a\\r\\nb\\u{1b}`");
        assert_eq!(shown(&"x".repeat(200)).chars().count(), 83);
    }

    #[test]
    fn each_word_of_each_keyword_header_is_its_own_value() {
        fn check<K: Keyword + std::fmt::Debug>(default: &str) {
            assert_eq!(K::build(None).unwrap().value(), default);
            for (word, policy) in K::WORDS {
                assert_eq!(K::build(Some(word)), Ok(*policy));
                assert_eq!(policy.value(), word);
            }
            for word in ["", "SAME-ORIGIN", "none ", "nope"] {
                let error = K::build(Some(word)).unwrap_err();
                assert_eq!(error.problems()[0].key, K::OPTION);
                assert!(error.to_string().contains("does not support"), "{error}");
            }
        }
        check::<EmbedderPolicy>("require-corp");
        check::<OpenerPolicy>("same-origin");
        check::<ResourcePolicy>("same-origin");
        check::<CrossDomainPolicies>("none");
    }
}
