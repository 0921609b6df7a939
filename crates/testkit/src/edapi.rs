//! A stand-in for the publisher's EDAPI.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::json;

use crate::upstream::{Gate, Received, Reply, Step, Upstream};

/// A server that knows tokens and logins, in the wire contract that is the hub's default: `GET /v3/user/me?token=…`
/// and `POST /v3/login` with `{"username","password"}`, both below `/edapi`, both answered by `{"username":…}`.
///
/// So that other contracts can be tried too, it finds the token in `Authorization: Bearer`, in a header
/// `x-auth-token` and in a cookie `token` as well, and a login in a form and in `Authorization: Basic`. Whatever it
/// does not know gets 401.
#[derive(Debug)]
pub struct Edapi {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

/// How an [`Edapi`] behaves.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum EdapiMode {
    /// As it should.
    #[default]
    Answering,
    /// It answers 200 and a body that never ends.
    Endless,
    /// It answers this to everything.
    Fixed(Reply),
    /// It answers as it should once the gate lets the call pass.
    Gated(Gate),
    /// It takes calls and never answers.
    Hanging,
    /// It answers as it should, with this content type.
    Labelled(&'static str),
    /// It answers 200 with something that is not JSON.
    Nonsense,
    /// It redirects to the very URL that was asked for.
    Redirecting,
    /// It answers this status to everything.
    Status(u16),
}

#[derive(Debug, Default)]
struct State {
    mode: EdapiMode,
    /// Users by token.
    tokens: HashMap<String, String>,
    /// Users by name and password.
    logins: HashMap<(String, String), String>,
}

impl Edapi {
    /// A server that knows nobody.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(crate::ANY_PORT)
    }

    /// The same at an address: for one that comes back where another one was.
    #[must_use]
    pub fn start_at(addr: SocketAddr) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let respond = move |request: &Received| lock(&shared).respond(request);
        // An endless body must not be recorded for ever; requests are short.
        let upstream = Upstream::builder()
            .at(addr)
            .recording_at_most(1 << 20)
            .serve(respond);
        Self { upstream, state }
    }

    /// What `auth.edapi_url` should say.
    #[must_use]
    pub fn url(&self) -> String {
        self.upstream.url("/edapi")
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.upstream.addr()
    }

    /// From now on the token is good, and `user`'s.
    pub fn allow_token(&self, token: &str, user: &str) {
        self.lock().tokens.insert(token.to_owned(), user.to_owned());
    }

    /// From now on the token is not good.
    pub fn revoke_token(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    /// From now on the user can log in with this password, and none before.
    pub fn allow_login(&self, user: &str, password: &str) {
        self.revoke_login(user);
        let login = (user.to_owned(), password.to_owned());
        self.lock().logins.insert(login, user.to_owned());
    }

    /// From now on the user cannot log in.
    pub fn revoke_login(&self, user: &str) {
        self.lock().logins.retain(|(name, _), _| name != user);
    }

    /// From now on it behaves like that. Calls that came before keep the behaviour of that time.
    pub fn set_mode(&self, mode: EdapiMode) {
        self.lock().mode = mode;
    }

    /// How many calls have come.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.upstream.request_count()
    }

    /// The server itself, for what it has seen.
    #[must_use]
    pub const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn respond(&self, request: &Received) -> Reply {
        let answer = || match self.user(request) {
            Some(user) => Reply::json(200, &json!({"username": user})),
            None => Reply::json(401, &json!({"error": "unauthorized"})),
        };
        match &self.mode {
            EdapiMode::Answering => answer(),
            EdapiMode::Endless => Reply::new(200)
                .with_header("content-type", "application/json")
                .then(Step::send("{\"username\":\""))
                .then(Step::Repeat(Bytes::from_static(&[b'x'; 16 * 1024]))),
            EdapiMode::Fixed(reply) => reply.clone(),
            EdapiMode::Gated(gate) => answer().before_head(Step::Wait(gate.clone())),
            EdapiMode::Hanging => answer().before_head(Step::Hang),
            EdapiMode::Labelled(content_type) => match self.user(request) {
                Some(user) => {
                    Reply::bytes(200, content_type, json!({"username": user}).to_string())
                }
                None => answer(),
            },
            EdapiMode::Nonsense => {
                Reply::bytes(200, "text/html", "<html><body>Please log in</body></html>")
            }
            EdapiMode::Redirecting => Reply::redirect(302, &request.target),
            EdapiMode::Status(status) => Reply::new(*status),
        }
    }

    fn user(&self, request: &Received) -> Option<&String> {
        match request.path() {
            "/edapi/v3/user/me" => self.tokens.get(&token(request)?),
            "/edapi/v3/login" => self.logins.get(&login(request)?),
            _ => None,
        }
    }
}

fn token(request: &Received) -> Option<String> {
    let bearer = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let cookie = request
        .header("cookie")
        .and_then(|value| value.strip_prefix("token="));
    if let Some(token) = bearer.or(cookie).or(request.header("x-auth-token")) {
        return Some(token.to_owned());
    }
    let (_, query) = request.target.split_once('?')?;
    pairs(query).remove("token")
}

fn login(request: &Received) -> Option<(String, String)> {
    if let Some(basic) = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Basic "))
    {
        let text = String::from_utf8(base64(basic)?).ok()?;
        let (user, password) = text.split_once(':')?;
        return Some((user.to_owned(), password.to_owned()));
    }
    let fields = match request.header("content-type")? {
        "application/x-www-form-urlencoded" => pairs(std::str::from_utf8(&request.body).ok()?),
        _ => serde_json::from_slice(&request.body).ok()?,
    };
    Some((
        fields.get("username")?.clone(),
        fields.get("password")?.clone(),
    ))
}

pub(crate) fn pairs(text: &str) -> HashMap<String, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((percent_decoded(name)?, percent_decoded(value)?))
    };
    text.split('&').filter_map(pair).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
