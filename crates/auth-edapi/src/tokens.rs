use std::collections::HashSet;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use proactions_edge::{
    AuthMethod, ConfigError, DigestKey, ExposeSecret, Principal, SecretDigest, SecretString,
};
use proactions_session_store::KeyRing;

use crate::authenticate::{Authenticate, Grant, StoredLogin, Verdict, VerdictFuture};
use crate::{BearerToken, Credentials};

/// Static tokens: whoever presents one is `token-1`, `token-2`, … by its place in the list.
///
/// Tokens are kept as digests only. A presented one is digested and compared with all of them, each in constant
/// time. A session remembers a fingerprint of its token under the cookie's secret, so that it ends with the
/// next request once the token is taken out of the list.
#[derive(Clone)]
pub struct TokenSet(Arc<Tokens>);

struct Tokens {
    key: DigestKey,
    tokens: Box<[Token]>,
    /// Which token a session's fingerprint is of, under whichever of the cookie's secrets it was made. Sorted: the
    /// fingerprints come out of the store, and a few comparisons cost less than a keyed hash.
    by_fingerprint: Box<[(Box<str>, usize)]>,
}

struct Token {
    digest: SecretDigest,
    principal: Principal,
    fingerprint: Arc<str>,
}

impl TokenSet {
    /// These tokens, with fingerprints under the secrets that sign the session cookie.
    ///
    /// # Errors
    /// When there is no token, one is empty or could not stand in a header, or two are the same.
    pub fn new<'a>(
        tokens: impl IntoIterator<Item = &'a SecretString>,
        keys: &KeyRing,
    ) -> Result<Self, ConfigError> {
        let secrets: Vec<_> = tokens
            .into_iter()
            .map(ExposeSecret::expose_secret)
            .collect();
        check_tokens(&secrets)?;
        let key = DigestKey::random()
            .map_err(|_| ConfigError::new("", "the operating system gives no random bytes"))?;
        let mut by_fingerprint = Vec::new();
        let mut tokens = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            let fingerprints: Vec<_> = keys.fingerprints("token", secret.as_bytes()).collect();
            let first = fingerprints.first().map(String::as_str).unwrap_or_default();
            tokens.push(Token {
                digest: key.digest(secret.as_bytes()),
                principal: Principal::new(format!("token-{}", index + 1), AuthMethod::Token),
                fingerprint: first.into(),
            });
            by_fingerprint.extend(
                fingerprints
                    .into_iter()
                    .map(|print| (print.into_boxed_str(), index)),
            );
        }
        by_fingerprint.sort_unstable();
        Ok(Self(Arc::new(Tokens {
            key,
            tokens: tokens.into(),
            by_fingerprint: by_fingerprint.into(),
        })))
    }

    fn find(&self, token: &BearerToken) -> Option<Grant> {
        let presented = self.0.key.digest(token.expose());
        // No early end: the time does not tell which of them it was.
        let found = self.0.tokens.iter().fold(None, |found, token| {
            let hit = token.digest.matches(&presented);
            black_box(if hit { Some(token) } else { found })
        })?;
        Some(found.grant())
    }
}

impl Tokens {
    fn by_fingerprint(&self, proof: &str) -> Option<usize> {
        let known = &self.by_fingerprint;
        let at = known.binary_search_by(|(print, _)| (**print).cmp(proof));
        known.get(at.ok()?).map(|(_, index)| *index)
    }
}

impl Token {
    fn grant(&self) -> Grant {
        Grant::new(self.principal.clone(), self.digest).with_proof(self.fingerprint.clone())
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSet({} tokens)", self.0.tokens.len())
    }
}

impl Authenticate for TokenSet {
    fn method(&self) -> AuthMethod {
        AuthMethod::Token
    }

    fn accepts_basic(&self) -> bool {
        false
    }

    fn check(&self, credentials: &Credentials) -> VerdictFuture {
        let found = match credentials {
            Credentials::Bearer(token) => self.find(token),
            Credentials::Basic(_) => None,
        };
        VerdictFuture::ready(found.map_or(Verdict::Denied, Verdict::Granted))
    }

    fn resume(&self, login: StoredLogin<'_>) -> VerdictFuture {
        let known = login
            .proof
            .filter(|_| login.method == AuthMethod::Token)
            .and_then(|proof| self.0.by_fingerprint(proof))
            .and_then(|index| self.0.tokens.get(index));
        VerdictFuture::ready(known.map_or(Verdict::Denied, |token| Verdict::Granted(token.grant())))
    }
}

/// What is wrong with the tokens; the messages show none.
pub(crate) fn check_tokens(tokens: &[&str]) -> Result<(), ConfigError> {
    let mut found = Vec::new();
    if tokens.is_empty() {
        found.push(ConfigError::new(
            "",
            "expected a list of at least one token; make one with `openssl rand -base64 32`",
        ));
    }
    let mut seen = HashSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let key = format!("[{index}]");
        if token.is_empty() {
            found.push(ConfigError::new(
                key,
                "is empty; anybody could enter with it",
            ));
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            found.push(ConfigError::new(
                key,
                "holds white space or characters that cannot stand in an Authorization header",
            ));
        } else if token.len() > Credentials::MAX_LEN - "Bearer ".len() {
            found.push(ConfigError::new(key, "is longer than 8 KiB"));
        } else if !seen.insert(*token) {
            found.push(ConfigError::new(key, "is the same as one before it"));
        }
    }
    ConfigError::check((), found)
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::Presented;

    fn keys(secret: &str) -> KeyRing {
        KeyRing::new([&SecretString::from(secret.repeat(32))]).unwrap()
    }

    fn set(tokens: &[&str], keys: &KeyRing) -> TokenSet {
        let tokens: Vec<_> = tokens.iter().map(|t| SecretString::from(*t)).collect();
        TokenSet::new(&tokens, keys).unwrap()
    }

    async fn check(set: &TokenSet, token: &str) -> Option<Grant> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        headers.insert(AUTHORIZATION, value);
        let Presented::Credentials(credentials) = Credentials::from_headers(&headers) else {
            panic!("{headers:?}");
        };
        granted(set.check(&credentials).await)
    }

    async fn resume(set: &TokenSet, member: &serde_json::Value) -> Option<Grant> {
        granted(set.resume(StoredLogin::from_member(member)?).await)
    }

    fn granted(verdict: Verdict) -> Option<Grant> {
        match verdict {
            Verdict::Granted(grant) => Some(grant),
            Verdict::Denied => None,
            Verdict::Unavailable(_) => panic!("nothing can be down"),
        }
    }

    #[tokio::test]
    async fn each_token_has_its_name() {
        let set = set(&["alpha", "beta", "alphabet"], &keys("k"));
        for (token, name) in [
            ("alpha", Some("token-1")),
            ("beta", Some("token-2")),
            ("alphabet", Some("token-3")),
            ("alph", None),
            ("alphab", None),
            ("Alpha", None),
            ("x", None),
        ] {
            let found = check(&set, token).await;
            assert_eq!(
                found.map(|g| g.principal.id.to_string()).as_deref(),
                name,
                "{token}"
            );
        }
    }

    #[tokio::test]
    async fn a_session_ends_with_its_token() {
        let keys = keys("k");
        let before = set(&["alpha", "beta"], &keys);
        let alpha = check(&before, "alpha").await.unwrap().to_member();
        let beta = check(&before, "beta").await.unwrap().to_member();
        let after = set(&["beta"], &keys);
        assert!(resume(&after, &alpha).await.is_none());
        // It keeps its session, and gets the name of its new place.
        assert_eq!(
            &*resume(&after, &beta).await.unwrap().principal.id,
            "token-1"
        );
    }

    #[tokio::test]
    async fn a_fingerprint_outlives_the_rotation_of_the_cookie_secret_only_beside_the_old_one() {
        let old = SecretString::from("o".repeat(32));
        let new = SecretString::from("n".repeat(32));
        let member = check(&set(&["alpha"], &KeyRing::new([&old]).unwrap()), "alpha")
            .await
            .unwrap()
            .to_member();
        let both = set(&["alpha"], &KeyRing::new([&new, &old]).unwrap());
        assert!(resume(&both, &member).await.is_some());
        let only_new = set(&["alpha"], &KeyRing::new([&new]).unwrap());
        assert!(resume(&only_new, &member).await.is_none());
    }

    #[tokio::test]
    async fn forged_members_do_not_enter() {
        let set = set(&["alpha"], &keys("k"));
        let good = check(&set, "alpha").await.unwrap().to_member();
        assert!(resume(&set, &good).await.is_some());
        assert!(
            !good.to_string().contains("alpha"),
            "the token is not stored"
        );
        for (key, value) in [
            ("proof", serde_json::json!("alpha")),
            ("proof", serde_json::json!(null)),
            ("type", serde_json::json!("edapi")),
            ("type", serde_json::json!("root")),
            ("subject", serde_json::json!(1)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(resume(&set, &bad).await.is_none(), "{bad}");
        }
    }

    #[test]
    fn unusable_tokens_are_told_without_showing_them() {
        let error =
            check_tokens(&["hunter2", "", "hunter2", "hunter2 x", "h\u{fc}nter2"]).unwrap_err();
        let problems: Vec<_> = error
            .problems()
            .iter()
            .map(|p| (p.key.as_str(), p.message.split([';', ' ']).nth(1).unwrap()))
            .collect();
        assert_eq!(
            problems,
            [
                ("[1]", "empty"),
                ("[2]", "the"),
                ("[3]", "white"),
                ("[4]", "white")
            ]
        );
        assert!(!error.to_string().contains("nter2"));
        assert!(
            check_tokens(&[])
                .unwrap_err()
                .to_string()
                .contains("at least one token")
        );
        assert!(check_tokens(&[&"x".repeat(9000)]).is_err());
    }

    #[test]
    fn debug_shows_no_token() {
        let set = set(&["hunter2"], &keys("k"));
        assert_eq!(format!("{set:?}"), "TokenSet(1 tokens)");
    }
}
