//! Paths that mean the same to everybody who reads them.
//!
//! Many a bypass of an entry check was a path that the checker and the router read differently. Instead of
//! normalising, the layers refuse every path that could be read in two ways.

use std::fmt;

use crate::ByteSet;

/// Why a path could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathFault {
    /// A `%` that is not followed by two hexadecimal digits.
    BadEscape,
    /// A `\`, raw or as `%5c`.
    Backslash,
    /// A control character or a byte outside of ASCII, raw or encoded as a control character.
    Control,
    /// A segment `.` or `..`, raw or encoded, also when only decoding twice shows it.
    DotSegment,
    /// An empty segment (`//`).
    EmptySegment,
    /// An encoded slash, percent sign or other delimiter that a second decoding would bring out.
    EncodedDelimiter,
    /// The path does not begin with `/`.
    NotAbsolute,
    /// A path parameter (`;`).
    Parameter,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadEscape => "a % without two hexadecimal digits",
            Self::Backslash => "a backslash",
            Self::Control => "a control character",
            Self::DotSegment => "a dot segment",
            Self::EmptySegment => "an empty segment",
            Self::EncodedDelimiter => "an encoded delimiter",
            Self::NotAbsolute => "no leading slash",
            Self::Parameter => "a path parameter",
        })
    }
}

impl std::error::Error for PathFault {}

/// Checks a path that is matched against routes: it must hold nothing that another reader could take for
/// something else.
///
/// ```
/// use proactions_edge::path::{PathFault, check_route};
///
/// assert_eq!(check_route("/v1/chat/completions"), Ok(()));
/// assert_eq!(check_route("/health/%2e%2e/v1/models"), Err(PathFault::DotSegment));
/// assert_eq!(check_route("/health%2f..%2fv1"), Err(PathFault::EncodedDelimiter));
/// ```
///
/// # Errors
/// The first fault from the left.
pub fn check_route(path: &str) -> Result<(), PathFault> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    // Most paths hold nothing but these; they need no second look.
    static PLAIN: ByteSet = ByteSet::ALPHANUMERIC.with(b"-_");
    let (plain, _) = bytes
        .iter()
        .fold((true, false), |(plain, after_slash), byte| {
            let slash = *byte == b'/';
            let fits = PLAIN.contains(*byte) | (slash & !after_slash);
            (plain & fits, slash)
        });
    if plain {
        return Ok(());
    }
    let mut segment = Segment::default();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' => {
                segment.end_route()?;
                segment = Segment::default();
            }
            b'\\' => return Err(PathFault::Backslash),
            b';' => return Err(PathFault::Parameter),
            0..=0x1f | 0x7f..=0xff => return Err(PathFault::Control),
            b'%' => {
                match escape(bytes, at).ok_or(PathFault::BadEscape)? {
                    b'/' | b'%' | b';' | b'?' | b'#' => return Err(PathFault::EncodedDelimiter),
                    b'\\' => return Err(PathFault::Backslash),
                    0..=0x1f | 0x7f => return Err(PathFault::Control),
                    decoded => segment.push(decoded),
                }
                at += 2;
            }
            byte => segment.push(byte),
        }
        at += 1;
    }
    // An empty last segment is a trailing slash: another path, but not an ambiguous one.
    segment.end()
}

/// Checks the rest of a path that is appended to an upstream's: it may hold encoded slashes and the like, as
/// long as no reader, decoding it up to three times, finds a dot segment, a backslash or a control character.
///
/// # Errors
/// The first fault that a reader would meet.
pub fn check_tail(path: &str) -> Result<(), PathFault> {
    let mut bytes = path.as_bytes().to_vec();
    for round in 0..4 {
        for segment in bytes.split(|b| *b == b'/') {
            let name = segment.split(|b| *b == b';').next().unwrap_or_default();
            if matches!(name, b"." | b"..") {
                return Err(PathFault::DotSegment);
            }
        }
        for byte in &bytes {
            match byte {
                b'\\' => return Err(PathFault::Backslash),
                0..=0x1f | 0x7f => return Err(PathFault::Control),
                0x80..=0xff if round == 0 => return Err(PathFault::Control),
                _ => {}
            }
        }
        if !bytes.contains(&b'%') {
            break;
        }
        let mut decoded = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match (byte, escape(&bytes, at)) {
                (b'%', Some(value)) => {
                    decoded.push(value);
                    at += 2;
                }
                (b'%', None) if round == 0 => return Err(PathFault::BadEscape),
                _ => decoded.push(byte),
            }
            at += 1;
        }
        bytes = decoded;
    }
    Ok(())
}

/// A segment as far as it matters: how long it is, and whether it is made of dots alone.
#[derive(Default)]
struct Segment {
    len: usize,
    dots: usize,
}

impl Segment {
    fn push(&mut self, byte: u8) {
        self.len += 1;
        self.dots += usize::from(byte == b'.');
    }

    fn end(&self) -> Result<(), PathFault> {
        if self.dots == self.len && (1..=2).contains(&self.len) {
            return Err(PathFault::DotSegment);
        }
        Ok(())
    }

    fn end_route(&self) -> Result<(), PathFault> {
        if self.len == 0 {
            return Err(PathFault::EmptySegment);
        }
        self.end()
    }
}

fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| {
        bytes
            .get(at + offset)
            .and_then(|b| char::from(*b).to_digit(16))
    };
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn routes_are_read_in_one_way_only() {
        use PathFault as F;
        for (path, verdict) in [
            ("/", Ok(())),
            ("/health", Ok(())),
            ("/health/", Ok(())),
            ("/v1/models/gpt-4.1", Ok(())),
            ("/a...b/.well-known/...", Ok(())),
            ("/%41~!$&'()*+,=:@", Ok(())),
            ("", Err(F::NotAbsolute)),
            ("health", Err(F::NotAbsolute)),
            ("//health", Err(F::EmptySegment)),
            ("/health//", Err(F::EmptySegment)),
            ("/v1//models", Err(F::EmptySegment)),
            ("/.", Err(F::DotSegment)),
            ("/./health", Err(F::DotSegment)),
            ("/health/..", Err(F::DotSegment)),
            ("/health/../v1/x", Err(F::DotSegment)),
            ("/health/%2e%2e/v1/x", Err(F::DotSegment)),
            ("/health/%2E./v1/x", Err(F::DotSegment)),
            ("/health/.%2e/v1/x", Err(F::DotSegment)),
            ("/health%2f..%2fv1", Err(F::EncodedDelimiter)),
            ("/health%252f..", Err(F::EncodedDelimiter)),
            ("/health%3bx", Err(F::EncodedDelimiter)),
            ("/health%3f", Err(F::EncodedDelimiter)),
            ("/health%23", Err(F::EncodedDelimiter)),
            ("/health%5c..", Err(F::Backslash)),
            ("/health\\..\\v1", Err(F::Backslash)),
            ("/health;x", Err(F::Parameter)),
            ("/health%00", Err(F::Control)),
            ("/health%0d%0a", Err(F::Control)),
            ("/health%7f", Err(F::Control)),
            ("/h\u{e9}", Err(F::Control)),
            ("/health%", Err(F::BadEscape)),
            ("/health%2", Err(F::BadEscape)),
            ("/health%zz", Err(F::BadEscape)),
        ] {
            assert_eq!(check_route(path), verdict, "{path}");
        }
    }

    #[test]
    fn tails_may_hold_encoded_slashes_but_no_way_up() {
        use PathFault as F;
        for (path, verdict) in [
            ("", Ok(())),
            ("/projects/group%2Fproject/files", Ok(())),
            ("/a//b;c=1/d%20e", Ok(())),
            ("/100%25", Ok(())),
            ("/..a/b..", Ok(())),
            ("/..", Err(F::DotSegment)),
            ("/a/../b", Err(F::DotSegment)),
            ("/a/%2e%2e/b", Err(F::DotSegment)),
            ("/a%2f..%2fb", Err(F::DotSegment)),
            ("/a/..;x/b", Err(F::DotSegment)),
            ("/%252e%252e/b", Err(F::DotSegment)),
            ("/%25252e%25252e/b", Err(F::DotSegment)),
            ("/a%5c..%5cb", Err(F::Backslash)),
            ("/a%00", Err(F::Control)),
            ("/a%0d%0aX: y", Err(F::Control)),
            ("/a%", Err(F::BadEscape)),
        ] {
            assert_eq!(check_tail(path), verdict, "{path}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_route_has_no_dot_segment_however_often_it_is_decoded(path in "/[a.%2eEfF5cC/;]{0,24}") {
            if check_route(&path).is_ok() {
                prop_assert!(check_tail(&path).is_ok());
            }
        }

        #[test]
        fn no_path_panics(path in any::<String>()) {
            let _ = check_route(&path);
            let _ = check_tail(&path);
        }
    }
}
