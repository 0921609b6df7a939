//! The whole entry check against a stand-in EDAPI over real sockets.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics"
)]

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use proactions_auth_edapi::edapi::{
    EdapiAuthenticator, EdapiConfig, EdapiState, LoginFormat, TokenIn,
};
use proactions_auth_edapi::{
    AccessPolicy, AuthConfig, AuthLayer, AuthPolicy, AuthState, AuthType, EntryPolicy,
};
use proactions_edge::{ManualClock, Peer, Principal, Scheme};
use proactions_session_store::{
    MemoryStore, Record, SecretList, SessionId, SessionLayer, SessionStore, StoreFuture, Stored,
};
use proactions_testkit::{
    Edapi, EdapiMode, Gate, Reply, TestCertificates, TlsFront, Upstream, closed_address,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tracing_subscriber::layer::SubscriberExt as _;

/// A memory store that counts replaced records.
#[derive(Debug)]
struct Store {
    inner: MemoryStore,
    saves: AtomicUsize,
}

impl SessionStore for Store {
    fn create(&self, id: &SessionId, record: Arc<Record>, ttl: Duration) -> StoreFuture<()> {
        self.inner.create(id, record, ttl)
    }

    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>> {
        self.inner.load(id)
    }

    fn save(
        &self,
        id: &SessionId,
        record: Arc<Record>,
        seen: Arc<Record>,
        ttl: Duration,
    ) -> StoreFuture<()> {
        self.saves.fetch_add(1, Ordering::Relaxed);
        self.inner.save(id, record, seen, ttl)
    }

    fn touch(&self, id: &SessionId, ttl: Duration) -> StoreFuture<bool> {
        self.inner.touch(id, ttl)
    }

    fn destroy(&self, id: &SessionId) -> StoreFuture<()> {
        self.inner.destroy(id)
    }
}

/// Every field of every security event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text<'a>(&'a mut String);
        impl tracing::field::Visit for Text<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        if event.metadata().target() == "security" {
            event.record(&mut Text(&mut self.0.lock().unwrap()));
        }
    }
}

/// What several hubs share.
#[derive(Clone)]
struct Site {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
}

struct Hub {
    policy: AuthPolicy,
    authenticator: EdapiAuthenticator,
    sessions: SessionLayer,
    auth: AuthLayer,
    /// The headers that the inner service last saw.
    seen: Arc<Mutex<HeaderMap>>,
}

impl Site {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(Store {
            inner: MemoryStore::with_clock(10_000, clock.clone()),
            saves: AtomicUsize::new(0),
        });
        Self { clock, store }
    }

    fn hub(&self, url: &str, change: impl FnOnce(&mut EdapiConfig)) -> Hub {
        self.hub_trusting(&TestCertificates::new(), url, change)
    }

    /// A hub that trusts this authority.
    fn hub_trusting(
        &self,
        certificates: &TestCertificates,
        url: &str,
        change: impl FnOnce(&mut EdapiConfig),
    ) -> Hub {
        let mut config = AuthConfig::default();
        config.enabled = true;
        config.kind = Some(AuthType::Edapi);
        config.edapi_url = Some(url.into());
        config.session.cookie.secret = SecretList::from_iter(["k".repeat(32).as_str()]);
        change(&mut config.edapi);
        let policy = config.into_policy(true).unwrap().unwrap();
        let EntryPolicy::Edapi(edapi) = &policy.entry else {
            panic!("{:?}", policy.entry);
        };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(trusting(&certificates.ca))
            .https_or_http()
            .enable_http1()
            .build();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let authenticator = EdapiAuthenticator::with_parts(
            edapi,
            policy.session.keys(),
            client,
            Arc::new(EdapiState::new().unwrap()),
            self.clock.clone(),
        )
        .unwrap();
        let auth = AuthLayer::with_parts(
            AccessPolicy::new(),
            Arc::new(authenticator.clone()),
            Arc::new(AuthState::new()),
            self.clock.clone(),
        );
        let sessions = SessionLayer::with_clock(
            policy.session.clone(),
            self.store.clone(),
            self.clock.clone(),
        );
        Hub {
            policy,
            authenticator,
            sessions,
            auth,
            seen: Arc::default(),
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

impl Hub {
    async fn get(&self, headers: &[(http::HeaderName, &str)]) -> Response<Bytes> {
        let mut request = Request::get("/v1/models");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let mut request = request.body(Bytes::new()).unwrap();
        request
            .extensions_mut()
            .insert(Peer::new("192.0.2.1:1234".parse().unwrap(), Scheme::Https));
        let seen = self.seen.clone();
        let inner = service_fn(move |request: Request<Bytes>| {
            *seen.lock().unwrap() = request.headers().clone();
            let user = request
                .extensions()
                .get::<Principal>()
                .unwrap()
                .id
                .to_string();
            async move { Ok::<_, Infallible>(Response::new(Bytes::from(user))) }
        });
        let service = self.sessions.layer(self.auth.layer(inner));
        service.oneshot(request).await.unwrap()
    }

    async fn bearer(&self, token: &str) -> Response<Bytes> {
        self.get(&[(AUTHORIZATION, &format!("Bearer {token}"))])
            .await
    }

    async fn basic(&self, pair: &str) -> Response<Bytes> {
        let value = format!("Basic {}", STANDARD.encode(pair));
        self.get(&[(AUTHORIZATION, &value)]).await
    }

    async fn cookie(&self, cookie: &str) -> Response<Bytes> {
        self.get(&[(COOKIE, cookie)]).await
    }
}

fn trusting(ca: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn cookie_of(response: &Response<Bytes>) -> String {
    let value = response.headers()[SET_COOKIE].to_str().unwrap();
    value.split_once(';').unwrap().0.to_owned()
}

/// The user, or the status of the refusal.
fn outcome(response: &Response<Bytes>) -> String {
    if response.status() == 200 {
        return String::from_utf8(response.body().to_vec()).unwrap();
    }
    response.status().as_u16().to_string()
}

#[tokio::test]
async fn a_token_opens_a_session_that_ends_when_it_is_revoked() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("secret-token", "Bob");
    let hub = site.hub(&edapi.url(), |_| ());

    let response = hub.bearer("secret-token").await;
    assert_eq!(outcome(&response), "Bob");
    assert!(!hub.seen.lock().unwrap().contains_key(AUTHORIZATION));
    let cookie = cookie_of(&response);

    edapi.revoke_token("secret-token");
    site.pass(299);
    assert_eq!(outcome(&hub.cookie(&cookie).await), "Bob");
    assert_eq!(edapi.calls(), 1);
    site.pass(1);
    let response = hub.cookie(&cookie).await;
    assert_eq!(outcome(&response), "401");
    let removed = response.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        removed.contains("Max-Age=0") || removed.contains("1970"),
        "{removed}"
    );
    assert_eq!((edapi.calls(), site.store.inner.len()), (2, 0));
    // It does not come back with the token.
    edapi.allow_token("secret-token", "Bob");
    site.pass(2);
    assert_eq!(outcome(&hub.cookie(&cookie).await), "401");
    assert_eq!(edapi.calls(), 2);
}

#[tokio::test]
async fn a_no_by_mistake_costs_no_session_that_is_used_later() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("t", "bob");
    let (a, b) = (
        site.hub(&edapi.url(), |_| ()),
        site.hub(&edapi.url(), |_| ()),
    );
    let first = cookie_of(&a.bearer("t").await);
    site.pass(200);
    let second = cookie_of(&b.bearer("t").await);
    site.pass(100);
    edapi.set_mode(EdapiMode::Status(404));
    assert_eq!(outcome(&a.cookie(&first).await), "401");
    assert_eq!(site.store.inner.len(), 1);
    // It cannot tell yet, so the other session waits.
    edapi.set_mode(EdapiMode::Status(503));
    site.pass(2);
    let response = a.cookie(&second).await;
    assert_eq!(outcome(&response), "503");
    assert!(response.headers().contains_key(RETRY_AFTER));
    edapi.set_mode(EdapiMode::Answering);
    site.pass(5);
    assert_eq!(outcome(&a.cookie(&second).await), "bob");
}

#[tokio::test]
async fn a_login_opens_a_session_that_ends_when_the_password_changes() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_login("bob", "pass:word");
    let hub = site.hub(&edapi.url(), |_| ());
    assert_eq!(outcome(&hub.basic("bob:wrong").await), "401");
    let response = hub.basic("bob:pass:word").await;
    assert_eq!(outcome(&response), "bob");
    let cookie = cookie_of(&response);
    site.pass(300);
    assert_eq!(outcome(&hub.cookie(&cookie).await), "bob");
    edapi.allow_login("bob", "another");
    site.pass(300);
    assert_eq!(outcome(&hub.cookie(&cookie).await), "401");
}

#[tokio::test]
async fn five_hundred_first_requests_are_one_call_and_one_session() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("t", "bob");
    let gate = Gate::closed();
    edapi.set_mode(EdapiMode::Gated(gate.clone()));
    let hub = Arc::new(site.hub(&edapi.url(), |_| ()));
    let waiting: Vec<_> = (0..500)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move { outcome(&hub.bearer("t").await) })
        })
        .collect();
    edapi.upstream().until_requests(1).await;
    gate.open();
    for user in waiting {
        assert_eq!(user.await.unwrap(), "bob");
    }
    assert_eq!((edapi.calls(), site.store.inner.len()), (1, 1));
}

#[tokio::test]
async fn every_failure_refuses_new_logins_and_lets_open_sessions_go_on() {
    let secret = "canary-secret-token";
    for mode in [
        EdapiMode::Status(500),
        EdapiMode::Status(502),
        EdapiMode::Status(429),
        EdapiMode::Status(400),
        EdapiMode::Endless,
        EdapiMode::Hanging,
        EdapiMode::Nonsense,
        EdapiMode::Redirecting,
        EdapiMode::Labelled("application/octet-stream"),
        EdapiMode::Fixed(Reply::huge(10 << 20)),
        EdapiMode::Fixed(Reply::json(200, &serde_json::json!({"user": "bob"}))),
        EdapiMode::Fixed(
            Reply::json(200, &serde_json::json!({"username": "bob"}))
                .with_header("content-encoding", "gzip"),
        ),
    ] {
        let what = format!("{mode:?}");
        let (edapi, site) = (Edapi::start(), Site::new());
        edapi.allow_token(secret, "bob");
        edapi.allow_token("other", "eve");
        let hub = site.hub(&edapi.url(), |config| {
            config.timeout = Duration::from_millis(300);
        });
        let cookie = cookie_of(&hub.bearer(secret).await);
        let answers = matches!(mode, EdapiMode::Labelled(_));
        edapi.set_mode(mode);
        site.pass(300);

        let response = hub.bearer("other").await;
        // Whatever the content type says, JSON with a user is an answer.
        let expected = if answers { "eve" } else { "503" };
        assert_eq!(outcome(&response), expected, "{what}");
        assert_eq!(
            response.headers().contains_key(RETRY_AFTER),
            !answers,
            "{what}"
        );
        let calls = edapi.calls();
        assert_eq!(calls, 2, "nothing is followed or tried again: {what}");
        assert_eq!(outcome(&hub.cookie(&cookie).await), "bob", "{what}");
        if answers {
            continue;
        }
        site.pass(599);
        assert_eq!(outcome(&hub.cookie(&cookie).await), "bob", "{what}");
        site.pass(1);
        let response = hub.cookie(&cookie).await;
        assert_eq!(outcome(&response), "503", "{what}");
        assert!(response.headers().contains_key(RETRY_AFTER), "{what}");
        let body = String::from_utf8_lossy(response.body());
        assert!(
            !body.contains(secret) && !body.contains("127.0.0.1"),
            "{body}"
        );
        // Nothing was ended, so all go on once it is back.
        edapi.set_mode(EdapiMode::Answering);
        site.pass(5);
        assert_eq!(outcome(&hub.cookie(&cookie).await), "bob", "{what}");
        assert_eq!(outcome(&hub.bearer("other").await), "eve", "{what}");
    }
}

#[tokio::test]
async fn an_edapi_that_is_not_there_or_is_none_is_unavailable() {
    let (nonsense, endless) = (Upstream::nonsense(), Upstream::endless_headers());
    for addr in [closed_address(), nonsense.addr(), endless.addr()] {
        let site = Site::new();
        let hub = site.hub(&format!("http://{addr}/edapi"), |config| {
            config.timeout = Duration::from_millis(500);
        });
        assert_eq!(outcome(&hub.bearer("t").await), "503");
        assert!(!hub.authenticator.is_down());
        assert!(!hub.authenticator.probe().await);
        assert!(hub.authenticator.is_down());
    }
}

#[tokio::test]
async fn only_an_edapi_whose_certificate_is_trusted_is_asked() {
    let (edapi, certificates) = (Edapi::start(), TestCertificates::new());
    edapi.allow_token("t", "bob");
    let front = TlsFront::start(edapi.addr(), &certificates);
    let (site, url) = (Site::new(), front.url("/edapi"));
    let stranger = site.hub(&url, |_| ());
    let log = Log::default();
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    assert_eq!(outcome(&stranger.bearer("canary-token").await), "503");
    drop(guard);
    assert_eq!(edapi.calls(), 0);
    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("invalid peer certificate"), "{log}");
    assert!(
        !log.contains("canary") && !log.contains("127.0.0.1"),
        "{log}"
    );
    let hub = site.hub_trusting(&certificates, &url, |_| ());
    assert_eq!(outcome(&hub.bearer("t").await), "bob");
}

#[tokio::test]
async fn an_edapi_that_comes_back_is_used_again_without_help() {
    let (edapi, site) = (Edapi::start(), Site::new());
    let (url, addr) = (edapi.url(), edapi.addr());
    let hub = site.hub(&url, |config| config.timeout = Duration::from_secs(2));
    drop(edapi);
    assert_eq!(outcome(&hub.bearer("t").await), "503");
    let edapi = Edapi::start_at(addr);
    edapi.allow_token("t", "bob");
    site.pass(1);
    assert_eq!(outcome(&hub.bearer("t").await), "bob");
    assert!(hub.authenticator.probe().await);
}

#[tokio::test]
async fn hubs_that_share_a_store_share_sessions_and_no_credential_is_stored() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("canary-secret-token", "bob");
    edapi.allow_login("eve", "canary-password");
    let (a, b) = (
        site.hub(&edapi.url(), |_| ()),
        site.hub(&edapi.url(), |_| ()),
    );
    let bob = cookie_of(&a.bearer("canary-secret-token").await);
    let eve = cookie_of(&a.basic("eve:canary-password").await);
    assert_eq!(outcome(&b.cookie(&bob).await), "bob");
    assert_eq!(edapi.calls(), 2);
    for cookie in [&bob, &eve] {
        let (_, signed) = cookie.split_once('=').unwrap();
        let id = a.policy.session.keys().verify(signed.as_bytes()).unwrap();
        let stored = site.store.load(&id).await.unwrap().unwrap();
        let json = stored.record.to_json();
        assert!(json.contains("\"type\":\"edapi\""), "{json}");
        for secret in ["canary", &STANDARD.encode("canary-secret-token")] {
            assert!(!json.contains(secret), "{json}");
        }
    }
    edapi.revoke_token("canary-secret-token");
    edapi.revoke_login("eve");
    site.pass(300);
    // Neither a hub that never saw the credential nor one that was just started lets it pass.
    let restarted = site.hub(&edapi.url(), |_| ());
    assert_eq!(outcome(&b.cookie(&bob).await), "401");
    assert_eq!(outcome(&restarted.cookie(&eve).await), "401");
    assert_eq!(outcome(&a.cookie(&bob).await), "401");
}

#[tokio::test]
async fn a_session_is_written_once_for_each_time_it_is_checked() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("t", "bob");
    let (a, b) = (
        site.hub(&edapi.url(), |_| ()),
        site.hub(&edapi.url(), |_| ()),
    );
    let cookie = cookie_of(&a.bearer("t").await);
    for round in 0..3 {
        for _ in 0..20 {
            for hub in [&a, &b] {
                assert_eq!(outcome(&hub.cookie(&cookie).await), "bob");
            }
        }
        let saves = site.store.saves.load(Ordering::Relaxed);
        assert_eq!((saves, edapi.calls()), (round, 1 + round));
        site.pass(300);
    }
}

#[tokio::test]
async fn a_client_without_cookies_keeps_its_one_session() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("t", "bob");
    edapi.allow_login("eve", "p");
    let hub = site.hub(&edapi.url(), |_| ());
    let mut cookies = Vec::new();
    for _ in 0..5 {
        for _ in 0..3 {
            cookies.push(cookie_of(&hub.bearer("t").await));
            assert_eq!(outcome(&hub.basic("eve:p").await), "eve");
        }
        site.pass(300);
    }
    cookies.dedup();
    assert_eq!((cookies.len(), site.store.inner.len()), (1, 2));
    assert_eq!(edapi.calls(), 10);
}

#[tokio::test]
async fn failed_logins_are_counted_and_an_unavailable_edapi_is_not() {
    let (edapi, site) = (Edapi::start(), Site::new());
    let hub = site.hub(&edapi.url(), |_| ());
    edapi.set_mode(EdapiMode::Status(500));
    for n in 0..20 {
        assert_eq!(outcome(&hub.bearer(&format!("a{n}")).await), "503");
    }
    edapi.set_mode(EdapiMode::Answering);
    for n in 0..10 {
        assert_eq!(outcome(&hub.bearer(&format!("b{n}")).await), "401");
    }
    assert_eq!(outcome(&hub.bearer("c").await), "429");
    assert_eq!(edapi.calls(), 30);
}

#[tokio::test]
async fn other_contracts_can_be_configured() {
    let (edapi, site) = (Edapi::start(), Site::new());
    edapi.allow_token("t&x=1;y", "bob");
    edapi.allow_token("tyx", "bob");
    edapi.allow_login("b\u{f6}b", "p&w=1");
    for (place, name, token) in [
        (TokenIn::Query, "token", "t&x=1;y"),
        (TokenIn::Header, "X-Auth-Token", "t&x=1;y"),
        (TokenIn::Bearer, "", "t&x=1;y"),
        (TokenIn::Cookie, "token", "tyx"),
    ] {
        let hub = site.hub(&edapi.url(), |config| {
            config.check.token_in = place;
            config.check.token_name = name.to_owned();
        });
        assert_eq!(outcome(&hub.bearer(token).await), "bob", "{place:?}");
    }
    for format in [LoginFormat::Json, LoginFormat::Form, LoginFormat::Basic] {
        let hub = site.hub(&edapi.url(), |config| config.login.format = format);
        assert_eq!(
            outcome(&hub.basic("b\u{f6}b:p&w=1").await),
            "b\u{f6}b",
            "{format:?}"
        );
    }
}
