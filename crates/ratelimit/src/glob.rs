use std::borrow::Cow;

use proactions_edge::ConfigError;

/// The longest pattern, in bytes.
const MAX_LEN: usize = 512;

/// A pattern for paths: `*` stands for any characters within a segment, `**` for any number of whole segments.
///
/// Matching takes a time that grows with the path's length only, as a pattern is short and never backtracks
/// over more than its last wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Box<[Segment]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Literal(Box<[u8]>),
    Wild(Box<[u8]>),
}

impl Segment {
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(literal) => **literal == *text,
            Self::Wild(pattern) => wild_match(pattern, text.iter(), |b| *b == b'*', |a, b| a == *b),
        }
    }
}

impl Glob {
    /// Reads a pattern.
    pub(crate) fn parse(pattern: &str) -> Result<Self, ConfigError> {
        let wrong = |message: &str| Err(ConfigError::new("path", message));
        if !pattern.starts_with('/') {
            return wrong("expected a path that begins with /");
        }
        if pattern.len() > MAX_LEN {
            return wrong("expected at most 512 characters");
        }
        if !pattern.bytes().all(|b| b.is_ascii_graphic()) {
            return wrong("expected printable ASCII without spaces");
        }
        if pattern.contains(['?', '#']) {
            return wrong("a query or fragment is not part of the path; remove `?` or `#`");
        }
        if pattern.contains(['{', '}', '[', ']', '\\']) {
            return wrong(
                "the only wildcards are `*` (within a segment) and `**` (whole segments)",
            );
        }
        let plain = plain_path(pattern);
        let mut segments = Vec::new();
        for segment in segments_of(&plain) {
            segments.push(match segment {
                b"**" => Segment::Any,
                _ if segment.windows(2).any(|pair| pair == b"**") => {
                    return wrong("`**` must be a whole segment, as in /v1/**");
                }
                _ if segment.contains(&b'*') => Segment::Wild(segment.into()),
                _ => Segment::Literal(segment.into()),
            });
        }
        Ok(Self(segments.into()))
    }

    /// Whether the pattern covers `path`, which [`plain_path`] made.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        wild_match(
            &self.0,
            segments_of(path),
            |segment| *segment == Segment::Any,
            |segment, text| segment.matches(text),
        )
    }
}

/// The path with those escapes decoded that make no difference (RFC 3986 section 6.2.2.2): `/%76%31` is `/v1`.
pub(crate) fn plain_path(path: &str) -> Cow<'_, [u8]> {
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%'
            && let [high, low, tail @ ..] = tail
            && let Some(decoded) = unreserved(*high, *low)
        {
            plain.push(decoded);
            rest = tail;
        } else {
            plain.push(byte);
        }
    }
    Cow::Owned(plain)
}

fn unreserved(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')).then_some(byte)
}

fn segments_of(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.split(|b| *b == b'/')
}

/// Matches a pattern in which some items stand for any number of others. Going back to the last of them is
/// enough, because what stands before it was matched as early as possible.
fn wild_match<P, T: Iterator + Clone>(
    mut pattern: &[P],
    mut text: T,
    is_wild: impl Fn(&P) -> bool,
    same: impl Fn(&P, &T::Item) -> bool,
) -> bool {
    let mut retry: Option<(T, &[P])> = None;
    loop {
        match pattern.split_first() {
            Some((wild, [])) if is_wild(wild) => return true,
            Some((wild, after)) if is_wild(wild) => {
                pattern = after;
                retry = Some((text.clone(), after));
                continue;
            }
            Some((expected, after)) => match text.next() {
                Some(item) if same(expected, &item) => {
                    pattern = after;
                    continue;
                }
                Some(_) => {}
                None => return false,
            },
            None if text.next().is_none() => return true,
            None => {}
        }
        let Some((from, after)) = &mut retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        text = from.clone();
        pattern = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(&plain_path(path))
    }

    #[test]
    fn what_a_pattern_covers() {
        for (pattern, path, covered) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/v1/models", "/v1/models", true),
            ("/v1/models", "/v1/models/", false),
            ("/v1/models", "/V1/models", false),
            ("/v1/*", "/v1/models", true),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1", false),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1/a/b/c", true),
            ("/v1/**", "/v10", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/**/b", "/b", true),
            ("/**/b", "/a/a/b", true),
            ("/**/b", "/a/b/a", false),
            ("/a/**/z", "/a/z", true),
            ("/a/**/m/**/z", "/a/m/x/m/y/z", true),
            ("/a/**/m/*/z", "/a/m/m/y/z", true),
            ("/a/**/m/**/z", "/a/x/y/z", false),
            ("/v1/audio*", "/v1/audio", true),
            ("/v1/*-*o", "/v1/a-b-o", true),
            ("/v1/*-*o", "/v1/a-b-", false),
            ("/*/x", "/a/x", true),
            ("/*/x", "/a/b/x", false),
            // Other spellings of the same path.
            ("/v1/models", "/%761/m%6Fdels", true),
            ("/%76%31/models", "/v1/models", true),
            ("/v1/*", "/v1/a%2fb", true),
            ("/v1/a/b", "/v1/a%2Fb", false),
            ("/a%zz", "/a%zz", true),
            ("/a%4", "/a%4", true),
        ] {
            assert_eq!(matches(pattern, path), covered, "{pattern} {path}");
        }
    }

    #[test]
    fn bad_patterns_are_refused_with_the_mend() {
        for (pattern, message) in [
            ("", "begins with /"),
            ("v1", "begins with /"),
            ("/v1/**x", "`**` must be a whole segment"),
            ("/v1/x**/y", "`**` must be a whole segment"),
            ("/v1/***", "`**` must be a whole segment"),
            ("/v1?x", "query"),
            ("/v1/{id}", "only wildcards"),
            ("/v1/[ab]", "only wildcards"),
            ("/v1/ x", "printable ASCII"),
            ("/v1/é", "printable ASCII"),
        ] {
            let error = Glob::parse(pattern).unwrap_err();
            assert_eq!(error.problems()[0].key, "path");
            assert!(error.to_string().contains(message), "{pattern}: {error}");
        }
        assert!(Glob::parse(&format!("/{}", "x".repeat(512))).is_err());
    }

    #[test]
    fn a_hostile_path_takes_a_time_that_grows_with_its_length_only() {
        let pattern = format!("/**{}/b", "/a*a*a".repeat(20));
        // Backtracking over all wildcards would not end before the sun does.
        assert!(!matches(&pattern, &"/aaaaaaaa".repeat(2000)));
    }

    /// The textbook definition, exponential and obviously right.
    fn slow(pattern: &[&str], path: &[&str]) -> bool {
        fn segment(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', p)), None) => segment(p, text),
                (Some((b'*', p)), Some((_, t))) => segment(p, text) || segment(pattern, t),
                (Some((a, p)), Some((b, t))) => a == b && segment(p, t),
                _ => false,
            }
        }
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", p)), None) => slow(p, path),
            (Some((&"**", p)), Some((_, t))) => slow(p, path) || slow(pattern, t),
            (Some((a, p)), Some((b, t))) => segment(a.as_bytes(), b.as_bytes()) && slow(p, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(
            pattern in prop::collection::vec(
                prop_oneof![Just("**".to_owned()), "[ab]{0,2}", r"(\*[ab]|[ab]\*|\*){1,2}"], 1..6),
            path in prop::collection::vec("[ab]{0,3}", 1..7),
        ) {
            prop_assume!(pattern.iter().all(|s| s == "**" || !s.contains("**")));
            let pattern: Vec<_> = pattern.iter().map(String::as_str).collect();
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            let fast = matches(&format!("/{}", pattern.join("/")), &format!("/{}", path.join("/")));
            prop_assert_eq!(fast, slow(&pattern, &path));
        }

        #[test]
        fn no_path_is_too_odd(path in ".{0,64}") {
            let _ = matches("/**/a*b/*", &path);
        }
    }
}
