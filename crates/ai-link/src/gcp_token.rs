//! Access tokens for a Google service account: a signed statement (RFC 7523) is traded for a token, which is
//! kept until shortly before it ends.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use proactions_edge::{Clock, ExposeSecret, SecretString};
use proactions_forward::{BaseUrl, Body, HttpClient, Outgoing};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where tokens are given out unless the key file names another address. Whatever that is, a statement is meant
/// for this one.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// How long a statement is valid; Google takes no more than an hour.
const STATEMENT: Duration = Duration::from_secs(3600);

/// A token is renewed this long before its end; until then it serves while the new one is fetched.
const AHEAD: Duration = Duration::from_secs(300);

/// A token with less than this left is not used: it might end on the way.
const SPARE: Duration = Duration::from_secs(30);

/// After a failure nobody asks again for this long.
const PAUSE: Duration = Duration::from_secs(2);

/// How long Google may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long its answer may be, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A service account, and its token of the moment. Clones share the token.
#[derive(Clone)]
pub(crate) struct ServiceAccount(Arc<Inner>);

struct Inner {
    email: String,
    key_id: Option<String>,
    key: KeyPair,
    token_uri: BaseUrl,
    state: Mutex<State>,
    /// Held by the one who fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    failed: Option<(Instant, String)>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    ends: SystemTime,
}

/// The key file that Google's console makes. Members that are not read here are ignored.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretString,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Reads a key file.
    ///
    /// # Errors
    /// What is expected of it. The text shows nothing of the file.
    pub(crate) fn parse(json: &SecretString) -> Result<Self, &'static str> {
        let file: KeyFile = serde_json::from_str(json.expose_secret()).map_err(
            |_| "expected a service account's key file with client_email and private_key",
        )?;
        let key = read_key(&file.private_key).ok_or(
            "expected an RSA key of 2048 to 8192 bits in private_key, in PEM (BEGIN PRIVATE KEY)",
        )?;
        let token_uri = BaseUrl::parse(file.token_uri.as_deref().unwrap_or(TOKEN_URI))
            .map_err(|_| "expected a URL in token_uri, without user, query and fragment")?;
        Ok(Self(Arc::new(Inner {
            email: file.client_email,
            key_id: file.private_key_id,
            key,
            token_uri,
            state: Mutex::new(State::default()),
            fetching: tokio::sync::Mutex::new(()),
        })))
    }

    /// The value of `Authorization`: the token at hand, or a new one. However many ask, one fetches.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(crate) async fn authorization(
        &self,
        client: &HttpClient,
        clock: &dyn Clock,
    ) -> Result<HeaderValue, String> {
        let usable = |left: Duration| {
            let now = clock.now();
            self.state()
                .token
                .as_ref()
                .filter(|token| token.ends.duration_since(now).is_ok_and(|ends| ends > left))
                .map(|token| token.header.clone())
        };
        if let Some(header) = usable(AHEAD) {
            return Ok(header);
        }
        let _fetching = match (usable(SPARE), self.0.fetching.try_lock()) {
            (_, Ok(guard)) => guard,
            (Some(header), Err(_)) => return Ok(header),
            (None, Err(_)) => self.0.fetching.lock().await,
        };
        // While this one waited another may have fetched.
        if let Some(header) = usable(AHEAD) {
            return Ok(header);
        }
        let failed = self.state().failed.clone();
        let fetched = match failed {
            Some((when, why)) if when.elapsed() < PAUSE => Err(why),
            _ => {
                let fetched = self.fetch(client, clock).await;
                let mut state = self.state();
                match &fetched {
                    Ok(token) => {
                        state.token = Some(token.clone());
                        state.failed = None;
                    }
                    Err(why) => state.failed = Some((Instant::now(), why.clone())),
                }
                fetched
            }
        };
        match fetched {
            Ok(token) => Ok(token.header),
            Err(why) => usable(SPARE).ok_or(why),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, client: &HttpClient, clock: &dyn Clock) -> Result<Token, String> {
        let now = clock.now();
        let statement = self.statement(now).ok_or("the statement was not signed")?;
        let body = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={statement}"
        );
        let outgoing = Outgoing::new(Method::POST, &self.0.token_uri, "", None)
            .map_err(|error| format!("token_uri {error}"))?
            .header(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            )
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .timeout(DEADLINE)
            .body(body);
        let exchange = async {
            let answer = client
                .send(outgoing)
                .await
                .map_err(|error| format!("no token from Google: {error}"))?;
            let status = answer.status();
            let body = Body::from(answer.into_body())
                .collect_up_to(MAX_ANSWER)
                .await
                .map_err(|error| format!("no token from Google: {error}"))?;
            Ok::<_, String>((status, body))
        };
        let (status, body) = tokio::time::timeout(DEADLINE, exchange)
            .await
            .map_err(|_| "no token from Google in time".to_owned())??;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK {
            let text = |name| answer.get(name).and_then(Value::as_str).unwrap_or_default();
            let told = format!("{} {}", text("error"), text("error_description"));
            let told: String = told.trim().chars().take(300).collect();
            return Err(format!("no token from Google: status {status} {told}"));
        }
        let text = answer
            .get("access_token")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
            .ok_or("no token from Google: there is none in its answer")?;
        let mut header = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| "no token from Google: it cannot stand in a header")?;
        header.set_sensitive(true);
        let lifetime = answer
            .get("expires_in")
            .and_then(Value::as_u64)
            .unwrap_or(STATEMENT.as_secs())
            .min(STATEMENT.as_secs() * 24);
        Ok(Token {
            header,
            ends: now + Duration::from_secs(lifetime),
        })
    }

    /// The signed statement, a JSON Web Token (RFC 7519).
    fn statement(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let (Some(id), Some(header)) = (&self.0.key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), Value::from(id.as_str()));
        }
        let claims = json!({
            "iss": self.0.email,
            "scope": SCOPE,
            "aud": TOKEN_URI,
            "iat": now,
            "exp": now + STATEMENT.as_secs(),
        });
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.0.key.public_modulus_len()];
        self.0
            .key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                token.as_bytes(),
                &mut signature,
            )
            .ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Some(token)
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount(..)")
    }
}

/// Reads a key in PEM, as PKCS#8 or PKCS#1.
fn read_key(pem: &SecretString) -> Option<KeyPair> {
    let pem = pem.expose_secret().trim();
    let body = |label: &str| {
        pem.strip_prefix(&format!("-----BEGIN {label}-----"))?
            .strip_suffix(&format!("-----END {label}-----"))
    };
    let (text, pkcs8) = match body("PRIVATE KEY") {
        Some(text) => (text, true),
        None => (body("RSA PRIVATE KEY")?, false),
    };
    let text: String = text.split_ascii_whitespace().collect();
    let der = SecretBytes(STANDARD.decode(text).ok()?);
    if pkcs8 {
        KeyPair::from_pkcs8(&der.0).ok()
    } else {
        KeyPair::from_der(&der.0).ok()
    }
}

/// Bytes that are overwritten when they are no longer needed.
struct SecretBytes(Vec<u8>);

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
#[path = "gcp_token_tests.rs"]
mod tests;
