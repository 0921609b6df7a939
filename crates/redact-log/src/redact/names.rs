//! The key rule: which names say that their value is a secret.

use super::symbol::first_char;

/// Names that are sensitive whatever the configuration says; the configured ones are added to them.
pub(crate) const BUILT_IN: &[&str] = &[
    "password",
    "token",
    "apiKey",
    "api_key",
    "authorization",
    "key",
    "secret",
    "sessionId",
    "cookie",
];

/// Spellings that the words above do not reach because they are run together, plural or shortened.
const VARIANTS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikeys",
    "authtoken",
    "clientsecret",
    "cookies",
    "credential",
    "credentials",
    "idtoken",
    "jwt",
    "passphrase",
    "passwd",
    "passwords",
    "privatekey",
    "pwd",
    "refreshtoken",
    "secretkey",
    "secrets",
    "sessid",
    "phpsessid",
    "signature",
];

/// Names of parameters that are secrets in a query only: OAuth's code and state.
pub(crate) const QUERY_ONLY: &[&str] = &["assertion", "auth", "code", "sig", "state"];

/// Names whose bare value goes on to the end of the line, as that of a header does.
const WHOLE_LINE: &[&[u8]] = &[b"authorization", b"cookie", b"cookies"];

/// The sensitive names, ready to be compared.
#[derive(Debug)]
pub(crate) struct Names {
    keywords: Vec<Keyword>,
    /// Whether a keyword begins with this byte, in lower case.
    first: [bool; 256],
}

/// A keyword as its words in lower case.
#[derive(Debug)]
struct Keyword {
    words: Vec<Vec<u8>>,
}

impl Names {
    pub(crate) fn new<'a>(more: impl IntoIterator<Item = &'a str>) -> Self {
        let mut keywords: Vec<Keyword> = Vec::new();
        let built_in = BUILT_IN.iter().chain(VARIANTS).copied();
        for text in built_in.chain(more) {
            let words = split(text);
            if !words.is_empty() && !keywords.iter().any(|known| known.words == words) {
                keywords.push(Keyword { words });
            }
        }
        let mut first = [false; 256];
        for byte in keywords.iter().filter_map(Keyword::first) {
            if let Some(slot) = first.get_mut(usize::from(byte)) {
                *slot = true;
            }
        }
        Self { keywords, first }
    }

    /// For every keyword a text that is in each name that it matches, letter case aside.
    pub(crate) fn needles(&self) -> impl Iterator<Item = &[u8]> {
        self.keywords
            .iter()
            .filter_map(|keyword| keyword.words.iter().max_by_key(|word| word.len()))
            .map(Vec::as_slice)
    }

    /// Whether a keyword's words stand in `name` as whole words, one after the other.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.find(name, |_, end| is_word_end(name, end))
    }

    /// Whether `name` ends with a keyword of several words.
    pub(crate) fn ends_with_compound(&self, name: &[u8]) -> bool {
        self.find(name, |keyword, end| {
            keyword.words.len() > 1 && end == name.len()
        })
    }

    fn find(&self, name: &[u8], accept: impl Fn(&Keyword, usize) -> bool) -> bool {
        (0..name.len()).any(|start| {
            let candidate = name
                .get(start)
                .and_then(|byte| self.first.get(usize::from(byte.to_ascii_lowercase())));
            candidate == Some(&true)
                && is_word_start(name, start)
                && self.keywords.iter().any(|keyword| {
                    keyword
                        .end_of_match(name, start)
                        .is_some_and(|end| accept(keyword, end))
                })
        })
    }
}

/// Whether the value of this name is taken to be the rest of its line.
pub(crate) fn takes_whole_line(name: &[u8]) -> bool {
    split(&String::from_utf8_lossy(name))
        .iter()
        .any(|word| WHOLE_LINE.contains(&word.as_slice()))
}

/// Whether the name is a secret's only when it stands in a query.
pub(crate) fn is_query_only(name: &[u8]) -> bool {
    QUERY_ONLY
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

impl Keyword {
    fn first(&self) -> Option<u8> {
        self.words.first()?.first().copied()
    }

    /// Where the keyword ends if it stands at `start`. Between its words anything but letters and digits may
    /// stand, or nothing.
    fn end_of_match(&self, name: &[u8], start: usize) -> Option<usize> {
        let mut at = start;
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                while class_at(name, at) == Some(Class::Other) {
                    at += 1;
                }
            }
            let end = at + word.len();
            if !name.get(at..end)?.eq_ignore_ascii_case(word) {
                return None;
            }
            at = end;
        }
        Some(at)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Digit,
    Lower,
    Other,
    Upper,
}

/// The class of the character that the byte at `at` belongs to. Letters beyond ASCII have no upper case here, and
/// what is no character separates words.
fn class_at(name: &[u8], at: usize) -> Option<Class> {
    let class = match name.get(at)? {
        b'0'..=b'9' => Class::Digit,
        b'A'..=b'Z' => Class::Upper,
        b'a'..=b'z' => Class::Lower,
        0x80.. if char_around(name, at).is_some_and(char::is_alphanumeric) => Class::Lower,
        _ => Class::Other,
    };
    Some(class)
}

fn char_around(name: &[u8], at: usize) -> Option<char> {
    (at.saturating_sub(3)..=at).rev().find_map(|start| {
        let longest = name.get(start..name.len().min(start + 4))?;
        let (found, len) = first_char(longest)?;
        (start + len > at).then_some(found)
    })
}

/// Whether one word ends and another begins (or nothing does) before `at`.
fn is_cut(name: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| class_at(name, at));
    match (before, class_at(name, at)) {
        (Some(Class::Upper), Some(Class::Upper)) => class_at(name, at + 1) == Some(Class::Lower),
        (Some(Class::Upper), Some(Class::Lower)) => false,
        (before, after) => before != after,
    }
}

fn is_word_start(name: &[u8], at: usize) -> bool {
    at == 0 || is_cut(name, at)
}

fn is_word_end(name: &[u8], at: usize) -> bool {
    at >= name.len() || is_cut(name, at)
}

/// The words of a name in lower case: `x-apiKey2` is `x`, `api`, `key`, `2`.
fn split(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut words: Vec<Vec<u8>> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if class_at(bytes, at) == Some(Class::Other) {
            continue;
        }
        match words.last_mut() {
            Some(word) if !is_word_start(bytes, at) => word.push(byte.to_ascii_lowercase()),
            _ => words.push(vec![byte.to_ascii_lowercase()]),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_match_and_parts_of_words_do_not() {
        let names = Names::new(["iban", "customerNo"]);
        for (name, sensitive) in [
            ("password", true),
            ("PASSWORD", true),
            ("userPassword", true),
            ("token", true),
            ("accessToken", true),
            ("access_token", true),
            ("accesstoken", true),
            ("x-token", true),
            ("token2", true),
            ("promptTokens", false),
            ("completionTokens", false),
            ("totalTokens", false),
            ("max_tokens", false),
            ("tokens", false),
            ("tokenizer", false),
            ("key", true),
            ("x-admin-key", true),
            ("azureApiKey", true),
            ("APIKey", true),
            ("apikey", true),
            ("x-apikey", true),
            ("API_KEY", true),
            ("api key", true),
            ("monkey", false),
            ("keyword", false),
            ("keyboard", false),
            ("turkey", false),
            ("sessionId", true),
            ("sessionid", true),
            ("session_id", true),
            ("session-ID", true),
            ("session", false),
            ("sessions", false),
            ("Set-Cookie", true),
            ("cookie", true),
            ("Proxy-Authorization", true),
            ("client_secret", true),
            ("secretary", false),
            ("user[password]", true),
            ("iban", true),
            ("customer_no", true),
            ("customerno", true),
            ("customer", false),
            ("note", false),
            ("", false),
            ("\u{e9}key", false),
            ("\u{2022}token", true),
            ("a\u{a0}password", true),
            ("\u{201c}token\u{201d}", true),
            ("\u{ff08}password", true),
            ("\u{2192}api\u{2011}key", true),
            ("\u{2022}promptTokens", false),
        ] {
            assert_eq!(names.matches(name.as_bytes()), sensitive, "{name}");
        }
    }

    #[test]
    fn compounds_are_found_at_the_end_only() {
        let names = Names::new([]);
        assert!(names.ends_with_compound(b"the session id"));
        assert!(!names.ends_with_compound(b"session id of"));
        assert!(!names.ends_with_compound(b"a token"));
    }

    #[test]
    fn every_match_holds_a_needle() {
        let names = Names::new(["customerNo"]);
        let needles: Vec<String> = names
            .needles()
            .map(|needle| String::from_utf8_lossy(needle).into_owned())
            .collect();
        for name in ["apiKey", "API-KEY", "sessionid", "Customer No", "setCookie"] {
            let lower = name.to_lowercase();
            assert!(
                needles.iter().any(|needle| lower.contains(needle)),
                "{name}"
            );
        }
    }
}
