use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The name under which a session is stored: whoever knows it, and can sign it, is in.
///
/// Its `Debug` shows the first four bytes of its SHA-256 only, so it may stand in a log line. A clone shares the text.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The longest id that is read, in bytes.
    pub const MAX_LEN: usize = 128;

    /// 32 bytes from the operating system's random source, as 43 characters of base64url.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(random).into()))
    }

    /// Takes `text` as an id if it is 1 to [`Self::MAX_LEN`] visible ASCII characters.
    ///
    /// Ids of other generators are fine: express-session makes 32 characters and lets an application choose.
    /// Pass nothing here that came from a client without a signature.
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        let plain = fits && text.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(text).ok().filter(|_| plain)?;
        Some(Self(text.into()))
    }

    /// The id itself. It is a credential: it belongs into the store and the signed cookie only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Hash for SessionId {
    /// Its beginning and its end, which are random in ids of this crate. Ids of other generators may share one.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let beginning = self.as_bytes().first_chunk().unwrap_or(&[0; 8]);
        let end = self.as_bytes().last_chunk().unwrap_or(&[0; 8]);
        state.write_u64(u64::from_ne_bytes(*beginning));
        state.write_u64(u64::from_ne_bytes(*end));
    }
}

/// Hashes [`SessionId`]s, which are random themselves and come from a signed cookie: no peer can choose them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // Both halves of the product: the table looks at the top and the low bits.
        let product =
            u128::from(self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = Sha256::digest(self.as_bytes());
        f.write_str("SessionId(#")?;
        for byte in digest.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn random_ids_are_43_base64url_characters_and_differ() {
        let ids: HashSet<_> = (0..1000).map(|_| SessionId::random().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.expose().len(), 43);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(id.expose().chars().all(plain));
        }
    }

    #[test]
    fn foreign_ids_are_read_up_to_the_cap() {
        for (text, good) in [
            ("", false),
            ("a", true),
            ("abc.def", true),
            ("a b", false),
            ("a\n", false),
            ("\u{fc}", false),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
        ] {
            let id = SessionId::from_bytes(text.as_bytes());
            assert_eq!(id.as_ref().map(SessionId::expose), good.then_some(text));
        }
    }

    #[test]
    fn debug_does_not_show_the_id() {
        let id = SessionId::from_bytes(b"abcdefghijklmnopqrstuvwxyz012345").unwrap();
        let shown = format!("{id:?}");
        assert!(!shown.contains("abcd"), "{shown}");
        assert_eq!(shown.len(), "SessionId(#00000000)".len());
    }
}
