/// A set of bytes, such as those that a token or a host may hold; worked out by the compiler.
///
/// To look a byte up is one load, where a chain of comparisons is a dozen instructions.
///
/// ```
/// use proactions_edge::ByteSet;
///
/// static SCHEME: ByteSet = ByteSet::ALPHANUMERIC.with(b"+-.");
///
/// assert!(SCHEME.contains_all(b"git+ssh"));
/// assert!(!SCHEME.contains_all(b"a:b"));
/// ```
#[derive(Clone, Copy)]
pub struct ByteSet([bool; 256]);

#[allow(
    clippy::indexing_slicing,
    reason = "a byte is always a place in the table"
)]
impl ByteSet {
    /// The letters and digits of ASCII.
    pub const ALPHANUMERIC: Self = Self([false; 256])
        .with_range(b'0', b'9')
        .with_range(b'A', b'Z')
        .with_range(b'a', b'z');
    /// The characters of ASCII that can be seen: all but white space and control characters.
    pub const GRAPHIC: Self = Self([false; 256]).with_range(b'!', b'~');
    /// What a `token` is made of: RFC 9110 section 5.6.2.
    pub const TOKEN: Self = Self::ALPHANUMERIC.with(b"!#$%&'*+-.^_`|~");

    /// The set with these bytes, too.
    #[must_use]
    pub const fn with(self, bytes: &[u8]) -> Self {
        self.put(bytes, true)
    }

    /// The set but for these bytes.
    #[must_use]
    pub const fn without(self, bytes: &[u8]) -> Self {
        self.put(bytes, false)
    }

    const fn put(mut self, bytes: &[u8], there: bool) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = there;
            at += 1;
        }
        self
    }

    const fn with_range(mut self, first: u8, last: u8) -> Self {
        let mut byte = first;
        while byte <= last {
            self.0[byte as usize] = true;
            byte += 1;
        }
        self
    }

    /// Whether the byte is one of the set.
    #[must_use]
    #[inline]
    pub const fn contains(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }

    /// Whether every one of these bytes is.
    #[must_use]
    #[inline]
    pub fn contains_all(&self, bytes: &[u8]) -> bool {
        // There is no early end: most texts are good, and the compiler can take several bytes at once.
        bytes
            .iter()
            .fold(true, |all, byte| all & self.contains(*byte))
    }
}

impl std::fmt::Debug for ByteSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = (0..=u8::MAX).filter(|byte| self.contains(*byte));
        f.debug_set()
            .entries(members.map(|byte| byte.escape_ascii().to_string()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_their_names_say() {
        for byte in 0..=u8::MAX {
            let (known, c) = (ByteSet::ALPHANUMERIC.contains(byte), char::from(byte));
            assert_eq!(known, byte.is_ascii_alphanumeric(), "{c:?}");
            let known = ByteSet::GRAPHIC.contains(byte);
            assert_eq!(known, byte.is_ascii_graphic(), "{c:?}");
            let known = ByteSet::TOKEN.contains(byte);
            let separators = b"\"(),/:;<=>?@[\\]{}";
            let token = byte.is_ascii_graphic() && !separators.contains(&byte);
            assert_eq!(known, token, "{c:?}");
            let set = ByteSet::GRAPHIC.without(b"a~").with(b"\xff");
            let wanted = byte == 0xff || byte.is_ascii_graphic() && !b"a~".contains(&byte);
            assert_eq!(set.contains(byte), wanted, "{c:?}");
        }
        assert!(ByteSet::TOKEN.contains_all(b""));
        assert!(ByteSet::TOKEN.contains_all(b"X-Request-Id"));
        assert!(!ByteSet::TOKEN.contains_all(b"X-Request-Id:"));
    }

    #[test]
    fn members_are_shown() {
        let set = ByteSet([false; 256]).with(b"b\na");
        assert_eq!(format!("{set:?}"), r#"{"\\n", "a", "b"}"#);
    }
}
