use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response};
use proactions_edge::{
    AllowedOrigin, AuthMethod, ClientInfo, DigestKey, Exchange, ManualClock, Peer, Principal,
    Rejection, RejectionKind, Scheme, SecretString,
};
use proactions_session_store::{
    CookiePolicy, KeyRing, MemoryStore, Record, Session, SessionId, SessionLayer, SessionPolicy,
    SessionStore, StoreError, StoreErrorKind, StoreFuture, Stored,
};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

use crate::*;

mod behaviour;

/// A memory store that can be switched off.
#[derive(Debug)]
struct Switch {
    inner: MemoryStore,
    down: AtomicBool,
}

impl Switch {
    fn answer<T>(&self, answer: StoreFuture<T>) -> StoreFuture<T> {
        if self.down.load(Ordering::Relaxed) {
            return StoreFuture::ready(Err(StoreError::new(StoreErrorKind::Outage)));
        }
        answer
    }
}

impl SessionStore for Switch {
    fn create(&self, id: &SessionId, record: Arc<Record>, ttl: Duration) -> StoreFuture<()> {
        self.answer(self.inner.create(id, record, ttl))
    }

    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>> {
        self.answer(self.inner.load(id))
    }

    fn save(
        &self,
        id: &SessionId,
        record: Arc<Record>,
        seen: Arc<Record>,
        ttl: Duration,
    ) -> StoreFuture<()> {
        self.answer(self.inner.save(id, record, seen, ttl))
    }

    fn touch(&self, id: &SessionId, ttl: Duration) -> StoreFuture<bool> {
        self.answer(self.inner.touch(id, ttl))
    }

    fn destroy(&self, id: &SessionId) -> StoreFuture<()> {
        self.answer(self.inner.destroy(id))
    }
}

/// An authenticator for user and password that takes its time, and can be down.
#[derive(Debug)]
struct Directory {
    key: DigestKey,
    down: AtomicBool,
    checks: AtomicUsize,
}

impl Directory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            key: DigestKey::random().unwrap(),
            down: AtomicBool::new(false),
            checks: AtomicUsize::new(0),
        })
    }
}

impl Authenticate for Directory {
    fn method(&self) -> AuthMethod {
        AuthMethod::Edapi
    }

    fn accepts_basic(&self) -> bool {
        true
    }

    fn check(&self, credentials: &Credentials) -> VerdictFuture {
        use proactions_edge::ExposeSecret;
        self.checks.fetch_add(1, Ordering::Relaxed);
        let Credentials::Basic(login) = credentials else {
            return VerdictFuture::ready(Verdict::Denied);
        };
        let password = login.password.expose_secret();
        let verdict = if self.down.load(Ordering::Relaxed) {
            Verdict::Unavailable(Duration::from_secs(5))
        } else if password == format!("{}-password", login.canonical.as_str()) {
            let parts = [login.canonical.as_str().as_bytes(), password.as_bytes()];
            let principal = Principal::new(login.canonical.as_str(), AuthMethod::Edapi);
            let grant = Grant::new(principal, self.key.digest_parts(&parts));
            Verdict::Granted(grant.with_proof("checked".into()))
        } else {
            Verdict::Denied
        };
        VerdictFuture::boxed(async move {
            // A request is polled twice before anybody waits for it.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            verdict
        })
    }

    fn resume(&self, login: StoredLogin<'_>) -> VerdictFuture {
        if self.down.load(Ordering::Relaxed) {
            return VerdictFuture::ready(Verdict::Unavailable(Duration::from_secs(5)));
        }
        let principal = Principal::new(login.subject, AuthMethod::Edapi);
        let key = self.key.digest(login.subject.as_bytes());
        VerdictFuture::ready(Verdict::Granted(Grant::new(principal, key)))
    }
}

const TOKEN: &str = "Bearer first-random-token";
const OTHER: &str = "Bearer second-random-token";

struct Bench {
    clock: Arc<ManualClock>,
    store: Arc<Switch>,
    sessions: SessionLayer,
    auth: AuthLayer,
    keys: KeyRing,
    state: Arc<AuthState>,
    /// The headers that the inner service last saw.
    seen: Arc<Mutex<HeaderMap>>,
    calls: Arc<AtomicUsize>,
}

fn access() -> AccessPolicy {
    let reading = [Method::GET, Method::HEAD];
    AccessPolicy::new()
        .with_public(&reading, "/health")
        .and_then(|policy| policy.with_public(&reading, "/ready"))
        .and_then(|policy| policy.with_public(&[Method::GET], "/youtube/auth/google/callback"))
        .and_then(|policy| policy.with_tail("/proxy/forward/{id}/"))
        .unwrap()
}

fn tokens(tokens: &[&str], keys: &KeyRing) -> Arc<TokenSet> {
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| SecretString::from(*token))
        .collect();
    Arc::new(TokenSet::new(&tokens, keys).unwrap())
}

impl Bench {
    fn new() -> Self {
        let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
        let set = tokens(&["first-random-token", "second-random-token"], &keys);
        Self::with(keys, set)
    }

    fn with(keys: KeyRing, authenticator: Arc<dyn Authenticate>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(Switch {
            inner: MemoryStore::with_clock(10_000, clock.clone()),
            down: AtomicBool::new(false),
        });
        let policy = SessionPolicy::new(keys.clone(), CookiePolicy::default());
        let sessions = SessionLayer::with_clock(policy, store.clone(), clock.clone());
        let state = Arc::new(AuthState::new());
        let auth = AuthLayer::with_parts(access(), authenticator, state.clone(), clock.clone());
        Self {
            clock,
            store,
            sessions,
            auth,
            keys,
            state,
            seen: Arc::default(),
            calls: Arc::default(),
        }
    }

    fn replace(&mut self, authenticator: Arc<dyn Authenticate>) {
        let (state, clock) = (self.state.clone(), self.clock.clone());
        self.auth = AuthLayer::with_parts(access(), authenticator, state, clock);
    }

    async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (seen, calls) = (self.seen.clone(), self.calls.clone());
        let inner = service_fn(move |request: Request<Bytes>| {
            *seen.lock().unwrap() = request.headers().clone();
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                let session = request.extensions().get::<Session>();
                if request.uri().path() == "/auth/logout" {
                    logout(session.unwrap()).await.unwrap();
                }
                let body = match request.extensions().get::<Principal>() {
                    Some(principal) => whoami(session, principal),
                    None => Bytes::from_static(b"anybody"),
                };
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        let service = self.sessions.layer(self.auth.layer(inner));
        service.oneshot(request).await.unwrap()
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Response<Bytes> {
        self.send(request(Method::GET, "/v1/models", headers)).await
    }

    async fn log_in(&self, authorization: &str) -> String {
        let response = self.get(&[("authorization", authorization)]).await;
        assert_eq!(response.status(), 200);
        cookie_of(&response).unwrap()
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }
}

fn request_from(ip: &str, method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Bytes::new()).unwrap();
    let peer = Peer::new(
        (ip.parse::<std::net::IpAddr>().unwrap(), 1).into(),
        Scheme::Https,
    );
    let host = Some("hub.example.com".parse().unwrap());
    request
        .extensions_mut()
        .insert(ClientInfo::direct(peer, host));
    request
}

fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Bytes> {
    request_from("192.0.2.1", method, path, headers)
}

fn basic(user: &str, password: &str) -> String {
    let text = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(text)
    )
}

fn cookie_of(response: &Response<Bytes>) -> Option<String> {
    let set = response.headers().get(SET_COOKIE)?.to_str().unwrap();
    Some(set.split(';').next().unwrap().to_owned())
}

fn kind(response: &Response<Bytes>) -> Option<RejectionKind> {
    response
        .extensions()
        .get::<Rejection>()
        .map(Rejection::kind)
}

fn user(response: &Response<Bytes>) -> String {
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    body["user"].as_str().unwrap().to_owned()
}
