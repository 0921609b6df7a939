//! How a session keeps the credential that opened it, so that whichever process reads the session can ask EDAPI
//! again, and nobody who reads the store learns the credential.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use proactions_edge::{DigestKey, ExposeSecret, SecretDigest, SecretString};
use proactions_session_store::KeyRing;
use secrecy::zeroize::Zeroizing;

use crate::Credentials;

/// A credential in the form in which EDAPI is asked about it.
#[derive(Clone)]
pub(super) enum Credential {
    Token(SecretString),
    Login {
        user: String,
        password: SecretString,
    },
}

impl Credential {
    /// `None` for a token that is not ASCII text.
    pub(super) fn of(credentials: &Credentials) -> Option<Self> {
        match credentials {
            Credentials::Bearer(token) => {
                let token = std::str::from_utf8(token.expose()).ok()?;
                let good = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
                good.then(|| Self::Token(token.into()))
            }
            Credentials::Basic(login) => Some(Self::Login {
                user: login.user.clone(),
                password: login.password.clone(),
            }),
        }
    }

    pub(super) fn digest(&self, key: &DigestKey, realm: &[u8]) -> SecretDigest {
        match self {
            Self::Token(token) => digest_token(key, realm, token.expose_secret().as_bytes()),
            Self::Login { user, password } => {
                digest_login(key, realm, user, password.expose_secret())
            }
        }
    }

    /// Whether `text` shows it, or a part of it that is secret.
    pub(super) fn shows_in(&self, text: &str) -> bool {
        let secret = match self {
            Self::Token(token) => token,
            Self::Login { password, .. } => password,
        };
        let secret = secret.expose_secret();
        !secret.is_empty() && text.contains(secret)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Login { .. } => "Login(..)",
        })
    }
}

/// A digest of everything that was presented, each part with its length: `a:bc` and `ab:c` differ, and so do a
/// token and a password of the same text.
pub(super) fn digest(key: &DigestKey, realm: &[u8], credentials: &Credentials) -> SecretDigest {
    match credentials {
        Credentials::Bearer(token) => digest_token(key, realm, token.expose()),
        Credentials::Basic(login) => {
            digest_login(key, realm, &login.user, login.password.expose_secret())
        }
    }
}

fn digest_token(key: &DigestKey, realm: &[u8], token: &[u8]) -> SecretDigest {
    key.digest_parts(&[realm, b"bearer", token])
}

fn digest_login(key: &DigestKey, realm: &[u8], user: &str, password: &str) -> SecretDigest {
    key.digest_parts(&[realm, b"basic", user.as_bytes(), password.as_bytes()])
}

/// Seals credentials with XChaCha20-Poly1305, under keys that are derived from the session cookie's secrets: the
/// first seals, all open, so they can be changed as for cookies.
///
/// The seal covers the user and the time of EDAPI's yes as well. Whoever can write to the session store can
/// neither give a session to another user nor make it look freshly checked.
#[derive(Clone)]
pub(super) struct Sealer(Arc<[XChaCha20Poly1305]>);

/// What was sealed.
#[derive(Debug)]
pub(super) struct Unsealed {
    pub(super) credential: Credential,
    /// When EDAPI last said yes, to the millisecond.
    pub(super) at: SystemTime,
}

impl Sealer {
    const PREFIX: &str = "e1.";
    const NONCE_LEN: usize = 24;
    /// Lengths are rounded up to this, so that they tell little about a password's.
    const BLOCK: usize = 64;
    /// The longest sealed text that is opened.
    const MAX_LEN: usize = 32 * 1024;

    pub(super) fn new(keys: &KeyRing) -> Self {
        let derived = keys
            .fingerprints("edapi session credential", b"xchacha20poly1305")
            .map(Zeroizing::new);
        let keys = derived.filter_map(|key| {
            let key = Zeroizing::new(STANDARD_NO_PAD.decode(key.as_bytes()).ok()?);
            XChaCha20Poly1305::new_from_slice(&key).ok()
        });
        Self(keys.collect())
    }

    /// `None` when the operating system gives no random bytes.
    pub(super) fn seal(
        &self,
        user: &str,
        at: SystemTime,
        credential: &Credential,
    ) -> Option<Arc<str>> {
        let mut nonce = [0; Self::NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let plain = encode(at, credential)?;
        let payload = Payload {
            msg: &plain,
            aad: &associated(user),
        };
        let sealed = self
            .0
            .first()?
            .encrypt(&XNonce::from(nonce), payload)
            .ok()?;
        let mut text = Self::PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string([&nonce[..], &sealed].concat(), &mut text);
        Some(text.into())
    }

    /// What was sealed for `user`, unless the text was changed, is another user's, or was sealed under a secret
    /// that is no longer known.
    pub(super) fn open(&self, user: &str, text: &str) -> Option<Unsealed> {
        if text.len() > Self::MAX_LEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text.strip_prefix(Self::PREFIX)?)
            .ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<{ Self::NONCE_LEN }>()?;
        let aad = associated(user);
        let plain = self.0.iter().find_map(|key| {
            let payload = Payload {
                msg: sealed,
                aad: &aad,
            };
            key.decrypt(&XNonce::from(*nonce), payload).ok()
        })?;
        decode(&Zeroizing::new(plain))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.0.len())
    }
}

fn associated(user: &str) -> Vec<u8> {
    [b"proactions edapi session\0", user.as_bytes()].concat()
}

const TOKEN: u8 = 1;
const LOGIN: u8 = 2;

/// `kind (1) · milliseconds since 1970 (8) · parts, each with its length (4) · zeros`
fn encode(at: SystemTime, credential: &Credential) -> Option<Zeroizing<Vec<u8>>> {
    let (kind, parts) = match credential {
        Credential::Token(token) => (TOKEN, [token.expose_secret(), ""]),
        Credential::Login { user, password } => (LOGIN, [user.as_str(), password.expose_secret()]),
    };
    let millis = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let len = 1 + 8 + parts.iter().map(|part| 4 + part.len()).sum::<usize>();
    let len = len.next_multiple_of(Sealer::BLOCK);
    // All of it at once: growing would leave copies behind that are not wiped.
    let mut plain = Zeroizing::new(Vec::with_capacity(len));
    plain.push(kind);
    plain.extend_from_slice(&u64::try_from(millis).ok()?.to_be_bytes());
    for part in parts {
        plain.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
        plain.extend_from_slice(part.as_bytes());
    }
    plain.resize(len, 0);
    Some(plain)
}

fn decode(plain: &[u8]) -> Option<Unsealed> {
    let (kind, rest) = plain.split_first()?;
    let (millis, rest) = rest.split_first_chunk::<8>()?;
    let (first, rest) = part(rest)?;
    let (second, _) = part(rest)?;
    let credential = match *kind {
        TOKEN => Credential::Token(first.into()),
        LOGIN => Credential::Login {
            user: first.to_owned(),
            password: second.into(),
        },
        _ => return None,
    };
    let millis = Duration::from_millis(u64::from_be_bytes(*millis));
    let at = UNIX_EPOCH.checked_add(millis)?;
    Some(Unsealed { credential, at })
}

fn part(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (part, rest) = rest.split_at_checked(len)?;
    Some((std::str::from_utf8(part).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(secrets: &[&str]) -> KeyRing {
        let secrets: Vec<_> = secrets
            .iter()
            .map(|secret| SecretString::from(secret.repeat(32)))
            .collect();
        KeyRing::new(&secrets).unwrap()
    }

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn login(user: &str, password: &str) -> Credential {
        Credential::Login {
            user: user.to_owned(),
            password: password.into(),
        }
    }

    fn shown(unsealed: Option<Unsealed>) -> Option<(String, String, SystemTime)> {
        let unsealed = unsealed?;
        Some(match unsealed.credential {
            Credential::Token(token) => {
                (String::new(), token.expose_secret().to_owned(), unsealed.at)
            }
            Credential::Login { user, password } => {
                (user, password.expose_secret().to_owned(), unsealed.at)
            }
        })
    }

    #[test]
    fn what_was_sealed_is_opened_for_its_user_only() {
        let sealer = Sealer::new(&ring(&["k"]));
        let token = Credential::Token("hunter2".into());
        let text = sealer.seal("bob", at(7), &token).unwrap();
        assert!(!text.contains("hunter2"));
        assert_eq!(
            shown(sealer.open("bob", &text)),
            Some((String::new(), "hunter2".to_owned(), at(7)))
        );
        assert_eq!(shown(sealer.open("eve", &text)), None);
        assert_ne!(sealer.seal("bob", at(7), &token).unwrap(), text);

        let text = sealer.seal("bob", at(8), &login("Bob", "p:w")).unwrap();
        assert_eq!(
            shown(sealer.open("bob", &text)),
            Some(("Bob".to_owned(), "p:w".to_owned(), at(8)))
        );
    }

    #[test]
    fn secrets_can_be_changed() {
        let token = Credential::Token("t".into());
        let (old, both) = (Sealer::new(&ring(&["a"])), Sealer::new(&ring(&["b", "a"])));
        let new = Sealer::new(&ring(&["b"]));
        let text = old.seal("bob", at(1), &token).unwrap();
        assert!(both.open("bob", &text).is_some());
        assert!(new.open("bob", &text).is_none());
        let text = both.seal("bob", at(1), &token).unwrap();
        assert!(new.open("bob", &text).is_some());
        assert!(old.open("bob", &text).is_none());
    }

    #[test]
    fn its_length_tells_little_about_the_credentials() {
        let sealer = Sealer::new(&ring(&["k"]));
        let len = |password: &str| {
            sealer
                .seal("b", at(1), &login("b", password))
                .unwrap()
                .len()
        };
        assert_eq!(len("1"), len(&"1".repeat(40)));
        assert!(len(&"1".repeat(80)) > len("1"));
    }

    #[test]
    fn users_and_passwords_are_told_apart() {
        let key = DigestKey::random().unwrap();
        let digest = |user: &str, password: &str| login(user, password).digest(&key, b"r");
        assert_ne!(digest("a:b", "c"), digest("a", "b:c"));
        assert_ne!(digest("a", "bc"), digest("ab", "c"));
        let token = Credential::Token("abc".into());
        assert_ne!(token.digest(&key, b"r"), digest("", "abc"));
        assert_ne!(token.digest(&key, b"r"), token.digest(&key, b"s"));
    }

    #[test]
    fn debug_shows_no_credential() {
        let shown = format!(
            "{:?} {:?}",
            Credential::Token("hunter2".into()),
            login("b", "hunter2")
        );
        assert_eq!(shown, "Token(..) Login(..)");
    }

    proptest! {
        #[test]
        fn everything_comes_back(user in "\\PC{0,40}", password in "\\PC{0,200}", millis in 0_u64..1 << 50) {
            let sealer = Sealer::new(&ring(&["k"]));
            let text = sealer.seal(&user, at(millis), &login(&user, &password)).unwrap();
            prop_assert_eq!(shown(sealer.open(&user, &text)), Some((user, password, at(millis))));
        }

        #[test]
        fn a_changed_text_never_opens(place in 0_usize..10_000, other in "[A-Za-z0-9_.-]") {
            let sealer = Sealer::new(&ring(&["k"]));
            let text = sealer.seal("bob", at(1), &Credential::Token("t".into())).unwrap();
            let place = place % text.len();
            let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            prop_assert_eq!(sealer.open("bob", &changed).is_some(), changed == *text);
        }

        #[test]
        fn no_text_panics(text in "(e1\\.)?\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let sealer = Sealer::new(&ring(&["k"]));
            prop_assert!(sealer.open("bob", &text).is_none());
            let _ = decode(&bytes);
        }
    }
}
