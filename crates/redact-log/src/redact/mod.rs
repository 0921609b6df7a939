//! What must not stand in a log, and what stands there instead.

mod credential;
mod names;
mod scan;
mod symbol;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use http::{HeaderName, HeaderValue};

use self::names::Names;

/// What stands in place of a secret.
pub const FILTERED: &str = "[FILTERED]";

/// What stands in place of the rest of a text that is too long.
pub const TRUNCATED: &str = "[TRUNCATED]";

/// Replaces secrets in texts by [`FILTERED`].
///
/// Two kinds of rules apply. By name: the value of a key is replaced as a whole when the key holds a sensitive
/// word, in JSON (also inside of strings), queries, forms, cookies, headers, Debug dumps and prose. By form:
/// what looks like a credential is replaced whatever its key is. The work is linear in the size of the text and
/// needs no stack for nested ones; a text in which nothing can match is looked at once and not copied.
///
/// ```
/// use proactions_redact_log::Redactor;
///
/// let redactor = Redactor::new(["iban"]);
/// assert_eq!(redactor.redact_text(r#"{"promptTokens":15,"apiKey":"abc"}"#), r#"{"promptTokens":15,"apiKey":"[FILTERED]"}"#);
/// assert_eq!(redactor.redact_text("GET /x?access_token=abc&page=2"), "GET /x?access_token=[FILTERED]&page=2");
/// assert_eq!(redactor.redact_field("customerIban", "DE02"), "[FILTERED]");
/// ```
#[derive(Clone)]
pub struct Redactor(Arc<Rules>);

/// Names that stand in every access line, so that whether they are sensitive is found out once.
const FREQUENT: [&str; 2] = ["userAgent", "username"];

struct Rules {
    names: Names,
    frequent: [bool; FREQUENT.len()],
    /// Finds a text that may hold a secret; without it every text is scanned.
    prefilter: Option<AhoCorasick>,
    /// The same for the names that are sensitive in a query only.
    query_prefilter: Option<AhoCorasick>,
}

impl Redactor {
    /// How many bytes of one text are looked at; the rest is replaced by [`TRUNCATED`].
    pub const MAX_TEXT: usize = 64 * 1024;

    /// A redactor for the built-in names and these.
    ///
    /// A name is split into words where the letter case changes, at digits and at everything that is neither
    /// letter nor digit. `apiKey` then stands for `api_key`, `X-Api-Key`, `azureApiKey` and `apikey` as well;
    /// `token` stands for `accessToken` but not for `promptTokens`.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = Names::new(names);
        let mut needles: Vec<&[u8]> = names.needles().collect();
        for needle in credential::needles() {
            needles.push(needle.as_bytes());
        }
        let finder = |needles: &[&[u8]]| {
            AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(needles)
                .ok()
        };
        let prefilter = finder(&needles);
        for name in names::QUERY_ONLY {
            needles.push(name.as_bytes());
        }
        let query_prefilter = finder(&needles);
        Self(Arc::new(Rules {
            frequent: FREQUENT.map(|name| names.matches(name.as_bytes())),
            names,
            prefilter,
            query_prefilter,
        }))
    }

    /// Whether the value of a key of this name is a secret.
    #[must_use]
    pub fn is_sensitive(&self, name: &str) -> bool {
        let frequent = FREQUENT.iter().zip(self.0.frequent);
        match frequent
            .into_iter()
            .find(|(frequent, _)| **frequent == name)
        {
            Some((_, sensitive)) => sensitive,
            None => self.0.names.matches(name.as_bytes()),
        }
    }

    /// The text with every secret replaced that can be made out in it.
    #[must_use]
    pub fn redact_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redact(text, false, Self::MAX_TEXT)
    }

    /// A request target: path and query. In the query the parameters of OAuth's answers are secrets, too.
    #[must_use]
    pub fn redact_url<'t>(&self, target: &'t str) -> Cow<'t, str> {
        self.redact(target, true, Self::MAX_TEXT)
    }

    /// The value of a key: all of it is replaced if the name is sensitive, else what is secret in it.
    #[must_use]
    pub fn redact_field<'t>(&self, name: &str, value: &'t str) -> Cow<'t, str> {
        if self.is_sensitive(name) {
            Cow::Borrowed(FILTERED)
        } else {
            self.redact_text(value)
        }
    }

    /// The value of a header; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn redact_header<'t>(&self, name: &HeaderName, value: &'t HeaderValue) -> Cow<'t, str> {
        if self.is_sensitive(name.as_str()) {
            return Cow::Borrowed(FILTERED);
        }
        match String::from_utf8_lossy(value.as_bytes()) {
            Cow::Borrowed(text) => self.redact_text(text),
            Cow::Owned(text) => Cow::Owned(self.redact_text(&text).into_owned()),
        }
    }

    pub(crate) fn redact<'t>(&self, text: &'t str, is_query: bool, max: usize) -> Cow<'t, str> {
        let kept = cut(text, max);
        let redacted = if self.may_match(kept, is_query) {
            scan::scan(&self.0.names, kept, is_query)
        } else {
            Cow::Borrowed(kept)
        };
        if kept.len() == text.len() {
            redacted
        } else {
            Cow::Owned(redacted.into_owned() + TRUNCATED)
        }
    }

    fn may_match(&self, text: &str, is_query: bool) -> bool {
        let prefilter = if is_query {
            &self.0.query_prefilter
        } else {
            &self.0.prefilter
        };
        prefilter
            .as_ref()
            .is_none_or(|prefilter| prefilter.is_match(text))
    }
}

impl Default for Redactor {
    /// A redactor for the built-in names.
    fn default() -> Self {
        Self::new([])
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redactor").field(&self.0.names).finish()
    }
}

/// The names that are sensitive without being configured.
#[must_use]
pub fn built_in_names() -> &'static [&'static str] {
    names::BUILT_IN
}

/// The first `max` bytes, less a word at the end that was cut in two: half a credential may not look like one.
fn cut(text: &str, max: usize) -> &str {
    const MAX_WORD: usize = 8 * 1024;
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    let mut from = end.saturating_sub(MAX_WORD);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let word = kept
        .get(from..)
        .and_then(|tail| tail.rfind([' ', '\n', '\t', '"', '&', ',', ';']))
        .map_or(from, |at| from + at);
    kept.get(..word).unwrap_or_default()
}
