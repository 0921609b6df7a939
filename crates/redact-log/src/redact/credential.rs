//! The value rules: what looks like a credential whatever its name is.

use std::ops::Range;

use super::FILTERED;
use super::symbol::{symbol_at, wide_char_at};

/// Schemes of an `Authorization` field whose value may stand anywhere in a text.
pub(super) const SCHEMES: &[&str] = &["bearer", "basic", "digest", "negotiate", "apikey", "token"];

/// How many of [`SCHEMES`] are looked for without a name before them. The rest are plain words too often.
const FREE_SCHEMES: usize = 4;

/// Words that follow a scheme in prose and challenges and are no credentials.
const NOT_CREDENTIALS: &[&str] = &[
    "and",
    "auth",
    "authentication",
    "authorization",
    "challenge",
    "credential",
    "credentials",
    "error",
    "header",
    "is",
    "or",
    "realm",
    "scheme",
    "token",
    "tokens",
];

/// Prefixes of well-known kinds of keys, with the number of characters that must at least follow.
const PREFIXES: &[(&str, usize)] = &[
    ("AIza", 10),
    ("AKIA", 12),
    ("GOCSPX-", 8),
    (JWT_PREFIX, 12),
    ("ghp_", 16),
    ("github_pat_", 16),
    ("gsk_", 16),
    ("hf_", 16),
    ("pplx-", 16),
    ("sk-", 8),
    ("xai-", 16),
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("ya29.", 8),
];

/// A JSON Web Token begins with the base64 form of `{"`.
const JWT_PREFIX: &str = "eyJ";

/// How a session cookie's value begins, and how long it is at least.
const COOKIE_PREFIXES: &[&str] = &["s:", "s%3A", "s%3a"];
const COOKIE_MIN: usize = 40;

const PEM_BEGIN: &str = "-----BEGIN";
const PEM_END: &str = "-----END";
const PEM_DASHES: &str = "-----";

/// A text that is in every text with a credential, letter case aside.
pub(super) fn needles() -> impl Iterator<Item = &'static str> {
    SCHEMES
        .iter()
        .take(FREE_SCHEMES)
        .copied()
        .chain(PREFIXES.iter().map(|(prefix, _)| *prefix))
        .chain([PEM_BEGIN, "://", ":\\/", "s:", "%", "\\u"])
}

/// The credential that begins at `at`, where a word begins. `no_dot_before` is remembered between calls for the
/// same text: up to there no dot makes a word into a JSON Web Token.
pub(super) fn credential_at(
    text: &str,
    at: usize,
    no_dot_before: &mut usize,
) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    match symbol_at(bytes, at)?.byte {
        b'-' => pem(text, at),
        b'B' | b'b' | b'D' | b'd' | b'N' | b'n' => scheme(bytes, at),
        b's' => prefixed(bytes, at, no_dot_before).or_else(|| session_cookie(bytes, at)),
        b'A' | b'G' | b'e' | b'g' | b'h' | b'p' | b'x' | b'y' => prefixed(bytes, at, no_dot_before),
        _ => None,
    }
}

/// Whether `word` is the name of an authentication scheme.
pub(super) fn is_scheme(word: &[u8]) -> bool {
    SCHEMES
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme.as_bytes()))
}

fn pem(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    if !rest.starts_with(PEM_BEGIN) {
        return None;
    }
    let end = rest.find(PEM_END).and_then(|end| {
        let tail = rest.get(end + PEM_END.len()..)?;
        Some(end + PEM_END.len() + tail.find(PEM_DASHES)? + PEM_DASHES.len())
    });
    Some(at..end.map_or(text.len(), |end| at + end))
}

fn scheme(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let after = SCHEMES
        .iter()
        .take(FREE_SCHEMES)
        .find_map(|name| after_prefix(bytes, at, name, |a, b| a.eq_ignore_ascii_case(&b)))?;
    let mut start = after;
    while let Some(symbol) = symbol_at(bytes, start) {
        if let Some((found, len)) = wide_char_at(bytes, start) {
            if found.is_alphanumeric() {
                break;
            }
            start += len;
            continue;
        }
        if symbol.byte == b'\\' && bytes.get(start + 1) == Some(&b't') {
            start += 2;
            continue;
        }
        let skipped = matches!(symbol.byte, b' ' | b'\t' | b'+' | b':' | b'=')
            || (symbol.depth > 0 && matches!(symbol.byte, b'\r' | b'\n'))
            || (start > after && matches!(symbol.byte, b'"' | b'\'' | b'\\'));
        if !skipped {
            break;
        }
        start += symbol.len;
    }
    if start == after {
        return None;
    }
    if starts_with_ignoring_case(bytes, start, "realm=") {
        return None;
    }
    let run = bare_run(bytes, start, 0);
    let word = bytes.get(run.clone())?;
    let plain = trim_end(word, b"=");
    let known = NOT_CREDENTIALS
        .iter()
        .any(|known| plain.eq_ignore_ascii_case(known.as_bytes()));
    (!run.is_empty() && !known).then_some(run)
}

fn prefixed(bytes: &[u8], at: usize, no_dot_before: &mut usize) -> Option<Range<usize>> {
    let (prefix, min, start) = PREFIXES.iter().find_map(|(prefix, min)| {
        let start = after_prefix(bytes, at, prefix, |a, b| a == b)?;
        Some((*prefix, *min, start))
    })?;
    let is_token = prefix == JWT_PREFIX;
    if is_token && at < *no_dot_before {
        return None;
    }
    let mut next = start;
    // A token of three parts may end in a dot when it carries no signature; that dot tells nothing.
    let mut end = start;
    let (mut read, mut len, mut dots_inside, mut dots) = (0, 0, false, false);
    while let Some(symbol) = symbol_at(bytes, next) {
        match symbol.byte {
            b'.' => dots = true,
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') => {
                (end, len, dots_inside) = (next + symbol.len, read + 1, dots);
            }
            _ => break,
        }
        next += symbol.len;
        read += 1;
    }
    if is_token && !dots_inside {
        *no_dot_before = next;
        return None;
    }
    (len >= min).then_some(at..end)
}

fn session_cookie(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let prefix = COOKIE_PREFIXES
        .iter()
        .find(|prefix| rest.starts_with(prefix.as_bytes()))?;
    let id = rest.get(prefix.len()..)?;
    let len = id
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_'))?;
    if id.get(len) != Some(&b'.') {
        return None;
    }
    let run = bare_run(bytes, at + prefix.len() + len, 0);
    (run.end - at >= COOKIE_MIN).then_some(at..run.end)
}

/// The run of characters from `start` on that may belong to one unquoted value, without the punctuation that
/// follows it. In a text that is percent-encoded `depth` times an `&` encoded as often ends the run, too.
pub(super) fn bare_run(bytes: &[u8], start: usize, depth: u8) -> Range<usize> {
    let mut at = start;
    while let Some(next) = next_bare(bytes, at, depth) {
        at = next;
    }
    start..start + without_punctuation(bytes.get(start..at).unwrap_or_default()).len()
}

/// The value without the punctuation at its end, unless that belongs to a secret's replacement.
pub(super) fn without_punctuation(value: &[u8]) -> &[u8] {
    let trimmed = trim_end(value, SOFT);
    match value.get(..FILTERED.len()) {
        Some(start) if start == FILTERED.as_bytes() && trimmed.len() < start.len() => start,
        _ => trimmed,
    }
}

/// Punctuation that belongs to the text around a value when it stands at the value's end.
const SOFT: &[u8] = b",;)]}'`";

/// Where the next character of an unquoted value begins; none if the one at `at` cannot belong to it. A run of
/// backslashes is taken as one.
pub(super) fn next_bare(bytes: &[u8], at: usize, outer: u8) -> Option<usize> {
    let symbol = symbol_at(bytes, at)?;
    let next = at + symbol.len;
    match symbol.byte {
        b'&' => (symbol.depth > outer).then_some(next),
        0..=b' ' | b'"' | b'<' | 0x7f => (symbol.depth > 0).then_some(next),
        b'\\' if symbol.depth == 0 => after_backslashes(bytes, at),
        _ => Some(next),
    }
}

/// Where the run of backslashes at `at` ends, unless it escapes a quotation mark.
pub(super) fn after_backslashes(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let len = rest
        .iter()
        .position(|byte| *byte != b'\\')
        .unwrap_or(rest.len());
    (rest.get(len) != Some(&b'"')).then_some(at + len)
}

pub(super) fn trim_end<'b>(bytes: &'b [u8], set: &[u8]) -> &'b [u8] {
    let len = bytes
        .iter()
        .rposition(|byte| !set.contains(byte))
        .map_or(0, |at| at + 1);
    bytes.get(..len).unwrap_or_default()
}

/// Where `prefix` ends if it stands at `at`, escaped or not.
fn after_prefix(
    bytes: &[u8],
    at: usize,
    prefix: &str,
    is_same: impl Fn(u8, u8) -> bool,
) -> Option<usize> {
    prefix.bytes().try_fold(at, |at, expected| {
        let symbol = symbol_at(bytes, at)?;
        is_same(symbol.byte, expected).then_some(at + symbol.len)
    })
}

fn starts_with_ignoring_case(bytes: &[u8], at: usize, prefix: &str) -> bool {
    bytes
        .get(at..at + prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}
