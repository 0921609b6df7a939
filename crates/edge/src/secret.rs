use std::fmt;
use std::hint::black_box;

use hmac::{Hmac, KeyInit, Mac};
pub use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// A random key under which secrets are compared and looked up, so that neither their content nor their
/// length shows in how long that takes, nor in what a memory dump of a table holds.
#[derive(Clone)]
pub struct DigestKey(Hmac<Sha256>);

impl DigestKey {
    /// A fresh key from the operating system's random source.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self::from_key(&key))
    }

    /// The keyed digest of `secret`.
    #[must_use]
    pub fn digest(&self, secret: &[u8]) -> SecretDigest {
        self.digest_parts(&[secret])
    }

    /// The keyed digest of several parts. Each part's length is digested with it, so that `["a:b", "c"]` and
    /// `["a", "b:c"]` differ.
    #[must_use]
    pub fn digest_parts(&self, parts: &[&[u8]]) -> SecretDigest {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        SecretDigest(mac.finalize().into_bytes().into())
    }

    fn from_key(key: &[u8; 32]) -> Self {
        #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// A secret's digest under a [`DigestKey`]: fit as a key of a map, worth nothing outside of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Whether both are digests of the same secret, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let difference = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
        black_box(difference) == 0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// Whether two secrets are equal, in a time that tells nothing about either beyond the length of the longer.
///
/// # Errors
/// When the operating system has no random bytes to give.
pub fn secrets_match(a: &[u8], b: &[u8]) -> Result<bool, getrandom::Error> {
    let key = DigestKey::random()?;
    Ok(key.digest(a).matches(&key.digest(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_secrets_match_and_others_do_not() {
        for (a, b, equal) in [
            ("", "", true),
            ("abc", "abc", true),
            ("abc", "abd", false),
            ("abc", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(
                secrets_match(a.as_bytes(), b.as_bytes()).unwrap(),
                equal,
                "{a} {b}"
            );
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let key = DigestKey::random().unwrap();
        assert_ne!(
            key.digest_parts(&[b"a:b", b"c"]),
            key.digest_parts(&[b"a", b"b:c"])
        );
        assert_ne!(key.digest_parts(&[b"ab"]), key.digest_parts(&[b"a", b"b"]));
    }

    #[test]
    fn debug_shows_nothing() {
        let key = DigestKey::random().unwrap();
        assert_eq!(
            format!("{key:?} {:?}", key.digest(b"x")),
            "DigestKey(..) SecretDigest(..)"
        );
        assert!(!format!("{:?}", SecretString::from("hunter2")).contains("hunter2"));
    }
}
