use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use proactions_edge::{ConfigError, ExposeSecret, SecretString};
use sha2::Sha256;

use crate::SessionId;

/// The secrets that sign session cookies: the first signs, all verify.
///
/// The format is express-session's: `s:<id>.<HMAC-SHA256 of the id, base64 without padding>`, URL-encoded. A
/// secret is used as the text that it is; base64 is not decoded. The key states are computed once.
#[derive(Clone)]
pub struct KeyRing(Arc<[Hmac<Sha256>]>);

impl KeyRing {
    /// The shortest secret that is accepted, in bytes.
    pub const MIN_SECRET_LEN: usize = 32;
    /// An HMAC-SHA256 in base64 without padding, in characters.
    const SIGNATURE_LEN: usize = 43;
    const SIGNED_LEN: usize = 2 + SessionId::MAX_LEN + 1 + Self::SIGNATURE_LEN;

    /// A ring of these secrets; the first one signs.
    ///
    /// # Errors
    /// When there is no secret, or one is shorter than [`Self::MIN_SECRET_LEN`].
    pub fn new<'a>(
        secrets: impl IntoIterator<Item = &'a SecretString>,
    ) -> Result<Self, ConfigError> {
        let secrets: Vec<_> = secrets.into_iter().collect();
        let mut found = Vec::new();
        if secrets.is_empty() {
            found.push(ConfigError::new(
                "",
                "expected a secret, or a list of at least one; make one with `openssl rand -base64 32`",
            ));
        }
        let listed = secrets.len() > 1;
        for (index, secret) in secrets.iter().enumerate() {
            let length = secret.expose_secret().len();
            if length < Self::MIN_SECRET_LEN {
                let key = if listed {
                    format!("[{index}]")
                } else {
                    String::new()
                };
                found.push(ConfigError::new(
                    key,
                    format!(
                        "is {length} bytes long, expected at least {}; make one with `openssl rand -base64 32`",
                        Self::MIN_SECRET_LEN
                    ),
                ));
            }
        }
        let ring = Self::unchecked(secrets.iter().map(|secret| secret.expose_secret()));
        ConfigError::check(ring, found)
    }

    pub(crate) fn unchecked<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        // HMAC takes a key of any length, so no secret is left out here.
        let states = secrets
            .into_iter()
            .filter_map(|secret| Hmac::new_from_slice(secret.as_bytes()).ok());
        Self(states.collect())
    }

    /// The value of the cookie that carries `id`.
    #[must_use]
    pub fn sign(&self, id: &SessionId) -> String {
        let mut value = String::with_capacity(3 * Self::SIGNED_LEN);
        value.push_str("s%3A");
        push_uri_component(&mut value, id.as_bytes());
        value.push('.');
        if let Some(key) = self.0.first() {
            push_uri_component(&mut value, &signature(key, id.as_bytes()));
        }
        value
    }

    /// The id that a cookie's value carries, if the value was signed with one of the secrets.
    ///
    /// All secrets are tried and whole signatures compared, so the time tells nothing about either.
    #[must_use]
    pub fn verify(&self, value: &[u8]) -> Option<SessionId> {
        let mut buffer = [0; Self::SIGNED_LEN];
        let signed = percent_decode(value, &mut buffer)?.strip_prefix(b"s:")?;
        let dot = signed.iter().rposition(|byte| *byte == b'.')?;
        let (id, presented) = (signed.get(..dot)?, signed.get(dot + 1..)?);
        if presented.len() != Self::SIGNATURE_LEN {
            return None;
        }
        let good = self.0.iter().fold(false, |good, key| {
            let expected = signature(key, id);
            let difference = expected
                .iter()
                .zip(presented)
                .fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
            black_box(good | (black_box(difference) == 0))
        });
        good.then(|| SessionId::from_bytes(id)).flatten()
    }

    /// A keyed digest of `value`, fit to be stored beside a session: it can be compared, and it tells nothing
    /// about the value to somebody who reads the store without knowing the secret.
    ///
    /// One per secret, in their order, so that a digest made under an older secret is still recognised.
    /// `purpose` keeps digests for different uses apart, and apart from cookie signatures.
    pub fn fingerprints(&self, purpose: &str, value: &[u8]) -> impl Iterator<Item = String> {
        self.0.iter().map(move |key| {
            let mut mac = key.clone();
            // No id holds a zero byte, so no signature of an id can stand for a fingerprint.
            mac.update(&[0]);
            mac.update(&(purpose.len() as u64).to_be_bytes());
            mac.update(purpose.as_bytes());
            mac.update(value);
            STANDARD_NO_PAD.encode(mac.finalize().into_bytes())
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} secrets)", self.0.len())
    }
}

fn signature(key: &Hmac<Sha256>, id: &[u8]) -> [u8; KeyRing::SIGNATURE_LEN] {
    let mut mac = key.clone();
    mac.update(id);
    let mut text = [0; KeyRing::SIGNATURE_LEN];
    // 32 bytes are 43 characters, so the slice always fits.
    let _ = STANDARD_NO_PAD.encode_slice(mac.finalize().into_bytes(), &mut text);
    text
}

/// Decodes into `buffer`; `None` for a bad escape or a value that does not fit.
fn percent_decode<'a>(value: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut rest = value.iter();
    let mut len = 0;
    while let Some(&byte) = rest.next() {
        let byte = match byte {
            b'%' => digit(rest.next())? * 16 + digit(rest.next())?,
            plain => plain,
        };
        *buffer.get_mut(len)? = byte;
        len += 1;
    }
    buffer.get(..len)
}

/// JavaScript's `encodeURIComponent`.
fn push_uri_component(out: &mut String, bytes: &[u8]) {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(HEX.get(usize::from(byte >> 4)));
            out.extend(HEX.get(usize::from(byte & 15)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VECTORS: [(&str, &str, &str); 4] = [
        (
            "keyboard cat",
            "abcdefghijklmnopqrstuvwxyz012345",
            "s%3Aabcdefghijklmnopqrstuvwxyz012345.2T3g1YIBqofc0ViEUEt59cUq%2Ba6Wlfi59xfb4RQsxSQ",
        ),
        (
            "s",
            "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_",
            "s%3A-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_.oG5LNSwTJJxvmrRIUsjhIpv0%2B4PrZxRvOXyLAJ1Cd8k",
        ),
        (
            "0kQm3vK3o7f0m0o4Zf1cG1v8s2n5u8x/A?D(G+KbPeSh",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "s%3AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.ru12LNHbtWI1gmGRbq3l%2FKrjIShIe%2Fx3IaE8bOEl1vE",
        ),
        (
            "\u{fc}n\u{ef}",
            "abc.def",
            "s%3Aabc.def.EV3vLF6A6Y%2BlnHYNyfznqurE9T8fAh7ByEaoN7xSPxc",
        ),
    ];

    fn id(text: &str) -> SessionId {
        SessionId::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn cookies_are_those_of_express_session() {
        for (secret, sid, cookie) in VECTORS {
            let ring = KeyRing::unchecked([secret]);
            assert_eq!(ring.sign(&id(sid)), cookie);
            assert_eq!(ring.verify(cookie.as_bytes()), Some(id(sid)));
        }
    }

    #[test]
    fn an_unencoded_value_is_read_too() {
        let (secret, sid, cookie) = VECTORS[0];
        let plain = cookie.replace("%3A", ":").replace("%2B", "+");
        assert_eq!(
            KeyRing::unchecked([secret]).verify(plain.as_bytes()),
            Some(id(sid))
        );
    }

    #[test]
    fn the_first_secret_signs_and_all_verify() {
        let (old, new) = (
            KeyRing::unchecked(["old"]),
            KeyRing::unchecked(["new", "old"]),
        );
        let sid = id("abc");
        assert_eq!(new.verify(old.sign(&sid).as_bytes()), Some(sid.clone()));
        assert_eq!(new.sign(&sid), KeyRing::unchecked(["new"]).sign(&sid));
        assert_eq!(old.verify(new.sign(&sid).as_bytes()), None);
    }

    #[test]
    fn malformed_values_are_no_session() {
        let ring = KeyRing::unchecked(["keyboard cat"]);
        let good = VECTORS[0].2;
        for value in [
            "",
            "s:",
            "s%3A",
            "s%3A.",
            "abcdefghijklmnopqrstuvwxyz012345.2T3g1YIBqofc0ViEUEt59cUq+a6Wlfi59xfb4RQsxSQ",
            &good.replace("s%3A", "j%3A"),
            &good.replace("%2B", "%2"),
            &good.replace("%2B", "%zz"),
            &format!("{good}="),
            &format!("{good}%00"),
            &format!("\"{good}\""),
            good.get(..good.len() - 1).unwrap(),
            &"s%3A".repeat(1000),
        ] {
            assert_eq!(ring.verify(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_signed_id_over_the_cap_is_refused() {
        let ring = KeyRing::unchecked(["keyboard cat"]);
        for (len, good) in [(128, true), (129, false), (4000, false)] {
            let sid = "x".repeat(len);
            let mac = signature(&ring.0[0], sid.as_bytes());
            let value = format!("s:{sid}.{}", String::from_utf8(mac.to_vec()).unwrap());
            assert_eq!(ring.verify(value.as_bytes()).is_some(), good, "{len}");
        }
    }

    #[test]
    fn short_and_missing_secrets_are_told() {
        let message = |secrets: &[&str]| {
            let secrets: Vec<_> = secrets.iter().map(|s| SecretString::from(*s)).collect();
            KeyRing::new(&secrets).unwrap_err().to_string()
        };
        assert!(message(&[]).starts_with("expected a secret"));
        assert!(message(&["hunter2"]).starts_with("is 7 bytes long, expected at least 32"));
        let both = message(&[&"x".repeat(32), "hunter2"]);
        assert!(both.starts_with("[1]: is 7 bytes long"), "{both}");
        assert!(!both.contains("hunter2"));
    }

    #[test]
    fn fingerprints_follow_the_secrets_and_the_purpose() {
        let ring = KeyRing::unchecked(["new", "old"]);
        let prints: Vec<_> = ring.fingerprints("token", b"t").collect();
        let old: Vec<_> = KeyRing::unchecked(["old"])
            .fingerprints("token", b"t")
            .collect();
        assert_eq!(prints.len(), 2);
        assert_eq!(prints[1], old[0]);
        assert_ne!(ring.fingerprints("other", b"t").next().unwrap(), prints[0]);
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(
            format!("{:?}", KeyRing::unchecked(["a"])),
            "KeyRing(1 secrets)"
        );
    }

    proptest! {
        #[test]
        fn every_id_comes_back(sid in "[!-~]{1,128}") {
            let ring = KeyRing::unchecked(["keyboard cat"]);
            prop_assert_eq!(ring.verify(ring.sign(&id(&sid)).as_bytes()), Some(id(&sid)));
        }

        #[test]
        fn a_tampered_cookie_never_verifies(at in 0_usize..83, byte in any::<u8>()) {
            let ring = KeyRing::unchecked(["keyboard cat"]);
            let good = VECTORS[0].2.as_bytes();
            let mut value = good.to_vec();
            value[at % good.len()] = byte;
            // Another spelling of the same text (`%3a`) is no tampering.
            let same = percent_decode(&value, &mut [0; 200]) == percent_decode(good, &mut [0; 200]);
            prop_assert_eq!(ring.verify(&value).is_some(), same);
        }

        #[test]
        fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(KeyRing::unchecked(["k"]).verify(&value), None);
        }
    }
}
