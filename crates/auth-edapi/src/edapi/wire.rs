//! What is said to EDAPI and how its answers are read. Nothing here does I/O, except that an answer's body comes
//! as a stream.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, COOKIE,
    USER_AGENT,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proactions_edge::{ConfigError, ExposeSecret};
use serde_json::Value;

use super::seal::Credential;
use super::{EdapiConfig, EdapiPolicy, LoginFormat, TokenIn};
use crate::UserId;

/// The calls of one configuration, with everything computed that does not depend on the credential.
pub(super) struct Wire {
    check: Call,
    token_in: Place,
    login: Call,
    format: LoginFormat,
    user_field: Box<str>,
    password_field: Box<str>,
    user_pointer: Box<str>,
    max_body: usize,
    realm: Box<[u8]>,
}

struct Call {
    method: Method,
    /// An absolute URI without query.
    target: Box<str>,
}

/// Where the check call carries the token.
enum Place {
    /// The name, percent-encoded.
    Query(Box<str>),
    Header(HeaderName),
    Bearer,
    Cookie(Box<str>),
}

/// What EDAPI said about a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is this user's.
    Yes(String),
    No,
}

/// Why EDAPI said nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The answer is compressed although that was not asked for.
    Encoded,
    /// The body ended before its end.
    Broken,
    /// Too many calls are under way.
    Busy,
    NoUser,
    NotJson,
    Status(StatusCode),
    TimedOut,
    TooLarge,
    /// No answer at all. The text is the operating system's or the TLS library's.
    Unreachable(Option<Box<str>>),
}

impl Wire {
    /// # Errors
    /// With keys below `auth`.
    pub(super) fn new(policy: &EdapiPolicy) -> Result<Self, ConfigError> {
        let config = &policy.config;
        let base = policy.url.expose_secret().trim_end_matches('/');
        let mut found = problems(config);
        let mut call = |section: &str, method: &str, path: &str| {
            let target = format!("{base}{path}").into_boxed_str();
            let method = Method::from_bytes(method.as_bytes()).ok();
            let usable = target
                .parse::<Uri>()
                .is_ok_and(|uri| uri.authority().is_some() && uri.query().is_none());
            if !usable || method.is_none() {
                found.push(ConfigError::new(
                    format!("{section}.path"),
                    "together with edapi_url is no URL",
                ));
            }
            let method = method.unwrap_or_default();
            Call { method, target }
        };
        let (check, login) = (&config.check, &config.login);
        let check_call = call("check", &check.method, &check.path);
        let login_call = call("login", &login.method, &login.path);
        let name = check.token_name.as_str();
        let token_in = match check.token_in {
            TokenIn::Query => Place::Query(encode(name).into()),
            TokenIn::Bearer => Place::Bearer,
            TokenIn::Cookie => Place::Cookie(name.into()),
            TokenIn::Header => match HeaderName::try_from(name) {
                Ok(name) => Place::Header(name),
                // `problems` has found it.
                Err(_) => Place::Bearer,
            },
        };
        // Whatever decides what an answer means; a change of it makes old answers worthless.
        let realm = format!(
            "{base}\n{} {}\n{:?} {name}\n{} {}\n{:?}\n{}",
            check.method,
            check.path,
            check.token_in,
            login.method,
            login.path,
            login.format,
            config.user_pointer,
        );
        let wire = Self {
            check: check_call,
            token_in,
            login: login_call,
            format: login.format,
            user_field: login.user_field.as_str().into(),
            password_field: login.password_field.as_str().into(),
            user_pointer: config.user_pointer.as_str().into(),
            max_body: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
            realm: realm.into_bytes().into(),
        };
        let found = found.into_iter().map(|error| error.within("edapi"));
        ConfigError::check(wire, found.collect::<Vec<_>>())
    }

    /// What tells this configuration's answers from another's.
    pub(super) fn realm(&self) -> &[u8] {
        &self.realm
    }

    /// The call that asks about `credential`; `None` when it cannot be carried there unchanged, so that EDAPI
    /// cannot have given it out.
    pub(super) fn request(&self, credential: &Credential) -> Option<Request<Bytes>> {
        match credential {
            Credential::Token(token) => self.check_request(token.expose_secret()),
            Credential::Login { user, password } => {
                self.login_request(user, password.expose_secret())
            }
        }
    }

    /// The check call without a token. EDAPI refuses it when all is well.
    pub(super) fn probe(&self) -> Option<Request<Bytes>> {
        self.check.request(&self.check.target, Bytes::new())
    }

    fn check_request(&self, token: &str) -> Option<Request<Bytes>> {
        let call = &self.check;
        if let Place::Query(name) = &self.token_in {
            let target = format!("{}?{name}={}", call.target, encode(token));
            return call.request(&target, Bytes::new());
        }
        let mut request = call.request(&call.target, Bytes::new())?;
        let (name, value) = match &self.token_in {
            Place::Header(name) => (name.clone(), secret_value(token)?),
            Place::Bearer => (AUTHORIZATION, secret_value(&format!("Bearer {token}"))?),
            Place::Cookie(name) => {
                if !token.bytes().all(is_cookie_octet) {
                    return None;
                }
                (COOKIE, secret_value(&format!("{name}={token}"))?)
            }
            Place::Query(_) => return None,
        };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        request.headers_mut().insert(name, value);
        Some(request)
    }

    fn login_request(&self, user: &str, password: &str) -> Option<Request<Bytes>> {
        let (content_type, body) = match self.format {
            LoginFormat::Json => {
                let mut fields = serde_json::Map::new();
                fields.insert(self.user_field.to_string(), user.into());
                fields.insert(self.password_field.to_string(), password.into());
                ("application/json", Value::Object(fields).to_string())
            }
            LoginFormat::Form => {
                let body = format!(
                    "{}={}&{}={}",
                    encode(&self.user_field),
                    encode(user),
                    encode(&self.password_field),
                    encode(password)
                );
                ("application/x-www-form-urlencoded", body)
            }
            LoginFormat::Basic => {
                if user.contains(':') {
                    return None;
                }
                let mut request = self.login.request(&self.login.target, Bytes::new())?;
                let pair = STANDARD.encode(format!("{user}:{password}"));
                let value = secret_value(&format!("Basic {pair}"))?;
                request.headers_mut().insert(AUTHORIZATION, value);
                return Some(request);
            }
        };
        let mut request = self.login.request(&self.login.target, body.into())?;
        let content_type = HeaderValue::from_static(content_type);
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        Some(request)
    }

    /// Reads an answer, and no more of it than is allowed.
    pub(super) async fn read<B>(&self, response: Response<B>) -> Result<Answer, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = response.into_parts();
        match head.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                drain(body).await;
                return Ok(Answer::No);
            }
            status if !status.is_success() => return Err(Fault::Status(status)),
            _ => {}
        }
        let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !head.headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            return Err(Fault::Encoded);
        }
        let body = gather(body, self.max_body).await?;
        // serde_json refuses what is nested deeper than 128 levels.
        let json: Value = serde_json::from_slice(&body).map_err(|_| Fault::NotJson)?;
        user_at(&json, &self.user_pointer)
            .map(Answer::Yes)
            .ok_or(Fault::NoUser)
    }
}

impl Call {
    fn request(&self, target: &str, body: Bytes) -> Option<Request<Bytes>> {
        Request::builder()
            .method(self.method.clone())
            .uri(Uri::try_from(target).ok()?)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            // A cache on the way must not answer for EDAPI.
            .header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
            .header(USER_AGENT, HeaderValue::from_static("proactions-hub"))
            .body(body)
            .ok()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Fault {
    /// One word, for a log field.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Broken => "broken_body",
            Self::Busy => "busy",
            Self::Encoded => "compressed",
            Self::NoUser => "no_user",
            Self::NotJson => "not_json",
            Self::Status(status) if status.is_redirection() => "redirect",
            Self::Status(_) => "status",
            Self::TimedOut => "timeout",
            Self::TooLarge => "too_large",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

/// What the configuration of the calls may not hold. Keys are below `auth.edapi`.
pub(crate) fn problems(config: &EdapiConfig) -> Vec<ConfigError> {
    let mut found = Vec::new();
    let check = &config.check;
    if check.token_in == TokenIn::Header
        && HeaderName::try_from(check.token_name.as_str()).is_ok_and(|name| is_taken(&name))
    {
        found.push(ConfigError::new(
            "check.tokenName",
            "is a field that every request sets itself; expected one that carries a token, such as X-Auth-Token",
        ));
    }
    let pointer = config.user_pointer.as_bytes();
    let escapes_are_good = pointer
        .split(|byte| *byte == b'~')
        .skip(1)
        .all(|rest| matches!(rest.first(), Some(b'0' | b'1')));
    if !escapes_are_good {
        found.push(ConfigError::new(
            "userPointer",
            "has a ~ that is not followed by 0 or 1; in a JSON pointer ~0 stands for ~ and ~1 for /",
        ));
    }
    let login = &config.login;
    for (key, name) in [
        ("login.userField", &login.user_field),
        ("login.passwordField", &login.password_field),
    ] {
        if name.is_empty() {
            found.push(ConfigError::new(key, "is empty; expected a field's name"));
        }
    }
    if login.user_field == login.password_field {
        found.push(ConfigError::new(
            "login.passwordField",
            "is the same as userField",
        ));
    }
    if login.format != LoginFormat::Basic && login.method == "GET" {
        found.push(ConfigError::new(
            "login.method",
            "GET carries no body; expected POST or PUT, or `format: basic`",
        ));
    }
    found
}

/// The user's name in an answer: a text or an integer.
///
/// White space at its ends goes. A name with control characters or invisible ones, an empty one and one over 256
/// bytes are none. Upper and lower case stay as EDAPI has them.
pub(super) fn user_at(json: &Value, pointer: &str) -> Option<String> {
    let name = match json.pointer(pointer)? {
        Value::String(name) => name.trim().to_owned(),
        // A fraction, or a number that only fits a floating point type, could stand for two users.
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        _ => return None,
    };
    UserId::new(&name).is_some().then_some(name)
}

/// Everything but letters, digits and `-._~` (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A field's value that HTTP/2 does not put into its compression tables and `Debug` does not show.
fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 6265 section 4.1.1.
const fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

fn is_taken(name: &HeaderName) -> bool {
    [
        ACCEPT,
        ACCEPT_ENCODING,
        CACHE_CONTROL,
        USER_AGENT,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
}

async fn gather<B: Body<Data = Bytes> + Unpin>(mut body: B, max: usize) -> Result<Vec<u8>, Fault> {
    let mut gathered = Vec::new();
    if body.size_hint().lower() > max as u64 {
        return Err(Fault::TooLarge);
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Fault::Broken)?.into_data() else {
            continue;
        };
        if data.len() > max - gathered.len() {
            return Err(Fault::TooLarge);
        }
        gathered.extend_from_slice(&data);
    }
    Ok(gathered)
}

/// Reads the rest of a refusal if it is short, so that its connection can be used again.
async fn drain<B: Body<Data = Bytes> + Unpin>(body: B) {
    const SHORT: u64 = 16 * 1024;
    const QUICK: std::time::Duration = std::time::Duration::from_millis(100);
    if body.size_hint().upper().is_some_and(|most| most <= SHORT) {
        let _ = tokio::time::timeout(QUICK, gather(body, 16 * 1024)).await;
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
