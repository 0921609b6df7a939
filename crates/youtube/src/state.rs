//! Authorizations that a browser has begun and not come back from.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proactions_edge::{DigestKey, ExposeSecret as _, SecretDigest, SecretString, TtlMap};
use sha2::{Digest as _, Sha256};

/// How long somebody may take to say yes at Google.
pub(crate) const STATE_LIFETIME: Duration = Duration::from_secs(600);

/// How many may be under way at a time; then the oldest are forgotten.
const MAX_PENDING: usize = 1024;

/// What is remembered between the two halves of an authorization. States and cookies are kept as digests only.
pub(crate) struct PendingStates {
    key: DigestKey,
    map: TtlMap<SecretDigest, Pending>,
}

/// One authorization under way.
#[derive(Clone)]
struct Pending {
    cookie: SecretDigest,
    context: Context,
}

/// What the second half has to know of the first.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The id of the account.
    pub(crate) account: Arc<str>,
    /// RFC 7636 section 4.1.
    pub(crate) verifier: SecretString,
    /// Whether the cookie was set for HTTPS only.
    pub(crate) secure: bool,
    /// Who began it.
    pub(crate) username: Option<Arc<str>>,
}

/// What goes into the URL and the cookie.
pub(crate) struct Begun {
    pub(crate) state: SecretString,
    pub(crate) cookie: SecretString,
    /// RFC 7636 section 4.2, method S256.
    pub(crate) challenge: String,
}

impl PendingStates {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            key: DigestKey::random()?,
            map: TtlMap::new(MAX_PENDING),
        })
    }

    pub(crate) fn begin(
        &self,
        account: &str,
        secure: bool,
        username: Option<Arc<str>>,
        now: SystemTime,
    ) -> Result<Begun, getrandom::Error> {
        let (state, cookie, verifier) = (random()?, random()?, random()?);
        let digest = Sha256::digest(verifier.expose_secret().as_bytes());
        let pending = Pending {
            cookie: self.digest(&cookie),
            context: Context {
                account: account.into(),
                verifier,
                secure,
                username,
            },
        };
        let key = self.digest(&state);
        self.map.insert(key, pending, now + STATE_LIFETIME, now);
        Ok(Begun {
            state,
            cookie,
            challenge: BASE64_URL_SAFE_NO_PAD.encode(digest),
        })
    }

    /// Ends an authorization: whatever comes of it, the state is of no use afterwards. `cookie` gives the
    /// browser's cookie, by whether it was set for HTTPS only.
    pub(crate) fn take<'a>(
        &self,
        state: &str,
        cookie: impl FnOnce(bool) -> Option<&'a str>,
        now: SystemTime,
    ) -> Result<Context, StateFault> {
        let key = self.key.digest(state.as_bytes());
        let pending = self.map.remove(&key, now).ok_or(StateFault::Unknown)?;
        let cookie = cookie(pending.context.secure).ok_or(StateFault::OtherBrowser)?;
        if !self.key.digest(cookie.as_bytes()).matches(&pending.cookie) {
            return Err(StateFault::OtherBrowser);
        }
        Ok(pending.context)
    }

    fn digest(&self, secret: &SecretString) -> SecretDigest {
        self.key.digest(secret.expose_secret().as_bytes())
    }
}

/// Why a callback is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateFault {
    /// The cookie is missing or another one.
    OtherBrowser,
    /// Never issued, used already, or over.
    Unknown,
}

impl StateFault {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::OtherBrowser => "the state was issued to another browser",
            Self::Unknown => "the state is unknown, used or expired",
        }
    }
}

impl fmt::Debug for PendingStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingStates")
            .field("pending", &self.map.len())
            .finish_non_exhaustive()
    }
}

/// 256 random bits as 43 characters that fit into a URL and a cookie.
fn random() -> Result<SecretString, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_state_works_once_for_its_browser_within_ten_minutes() {
        let states = PendingStates::new().unwrap();
        let begin = || states.begin("main", true, None, at(0)).unwrap();
        let take = |begun: &Begun, cookie: Option<&str>, now| {
            let state = begun.state.expose_secret();
            states.take(state, |_| cookie, at(now)).map(|c| c.account)
        };
        let good = begin();
        let other = begin();
        let own = |begun: &Begun| begun.cookie.expose_secret().to_owned();
        assert_eq!(take(&good, Some(&own(&good)), 599).as_deref(), Ok("main"));
        assert_eq!(
            take(&good, Some(&own(&good)), 599),
            Err(StateFault::Unknown)
        );
        assert_eq!(
            take(&other, Some(&own(&good)), 1),
            Err(StateFault::OtherBrowser)
        );
        // It was burnt by the attempt.
        assert_eq!(
            take(&other, Some(&own(&other)), 1),
            Err(StateFault::Unknown)
        );
        let missing = begin();
        assert_eq!(take(&missing, None, 1), Err(StateFault::OtherBrowser));
        let late = begin();
        assert_eq!(
            take(&late, Some(&own(&late)), 600),
            Err(StateFault::Unknown)
        );
    }

    #[test]
    fn values_are_long_and_never_the_same() {
        let states = PendingStates::new().unwrap();
        let begun = states.begin("a", true, None, at(0)).unwrap();
        let again = states.begin("a", true, None, at(0)).unwrap();
        let all = [&begun.state, &begun.cookie, &again.state, &again.cookie];
        for (index, value) in all.iter().enumerate() {
            assert_eq!(value.expose_secret().len(), 43);
            for other in all.iter().skip(index + 1) {
                assert_ne!(value.expose_secret(), other.expose_secret());
            }
        }
        let debug = format!("{states:?}");
        assert!(!debug.contains(begun.state.expose_secret()), "{debug}");
    }

    #[test]
    fn a_flood_is_forgotten() {
        let states = PendingStates::new().unwrap();
        for _ in 0..5000 {
            states.begin("a", true, None, at(0)).unwrap();
        }
        assert!(states.map.len() <= MAX_PENDING);
    }
}
