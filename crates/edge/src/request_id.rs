use std::fmt;

use http::HeaderValue;

use crate::ByteSet;

/// The name under which one exchange appears in logs, answers and upstream requests.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The longest id that is taken over from a caller, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Takes `value` as an id if it is 1 to [`Self::MAX_LEN`] characters out of `A-Z a-z 0-9 - _ .`, so that it
    /// can stand in a log line, a header and a shell command without quoting.
    #[must_use]
    pub fn from_header(value: HeaderValue) -> Option<Self> {
        static PLAIN: ByteSet = ByteSet::ALPHANUMERIC.with(b"-_.");
        let bytes = value.as_bytes();
        (!bytes.is_empty() && bytes.len() <= Self::MAX_LEN && PLAIN.contains_all(bytes))
            .then_some(Self(value))
    }

    /// The id as a header value.
    #[must_use]
    pub const fn as_header(&self) -> &HeaderValue {
        &self.0
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_taken_over() {
        for (value, good) in [
            ("a", true),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", true),
            ("A_b.c-9", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("$(id)", false),
        ] {
            let header = HeaderValue::from_str(value).unwrap();
            assert_eq!(RequestId::from_header(header).is_some(), good, "{value:?}");
        }
        for (len, good) in [(64, true), (65, false)] {
            let header = HeaderValue::from_str(&"x".repeat(len)).unwrap();
            assert_eq!(RequestId::from_header(header).is_some(), good, "{len}");
        }
        assert!(RequestId::from_header(HeaderValue::from_bytes(b"\xff").unwrap()).is_none());
    }
}
