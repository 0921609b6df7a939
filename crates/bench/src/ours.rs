//! The layers of this workspace.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderName, HeaderValue, Request, Response};
use proactions_auth_edapi::{AccessPolicy, AuthLayer, TokenSet};
use proactions_body_limit::{BodyLimitConfig, BodyLimitLayer, BodyLimitPolicy};
use proactions_cors::{CorsConfig, CorsLayer, CorsPolicy};
use proactions_edge::{
    AllowedOrigin, AuthMethod, ClientInfo, Peer, Principal, SecretString, SystemClock,
};
use proactions_ratelimit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy};
use proactions_redact_log::{
    AccessLogLayer, LogGuard, Logging, LoggingConfig, LoggingPolicy, RequestIdLayer,
};
use proactions_secure_headers::SecureHeadersLayer;
use proactions_session_store::{
    CookiePolicy, KeyRing, MemoryStore, Session, SessionLayer, SessionPolicy,
};
use proactions_trust_proxy::{TrustProxy, TrustProxyLayer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_service::Service;

use crate::bare::{self, APP, Bare, Body, TOKEN};
use crate::{Case, Kind, LOG_LINE, STACK, block_on};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::from(single_layers());
    cases.extend(entry());
    cases.extend(security_stack());
    cases.extend(access_log());
    cases
}

fn single_layers() -> [Case; 7] {
    let service = ServiceBuilder::new();
    [
        Case::new(
            "trust-proxy",
            Kind::Plain,
            service.clone().layer(trust_proxy()).service(Bare),
        ),
        Case::new(
            "request-id",
            Kind::Plain,
            service.clone().layer(request_id()).service(Bare),
        ),
        Case::new(
            "secure-headers, 12",
            Kind::Plain,
            service
                .clone()
                .layer(SecureHeadersLayer::default())
                .service(Bare),
        ),
        Case::new(
            "cors",
            Kind::CrossOrigin,
            service.clone().layer(cors()).service(Bare),
        ),
        Case::new(
            "cors, preflight",
            Kind::Preflight,
            service.clone().layer(cors()).service(Bare),
        ),
        Case::new(
            "ratelimit, draft-6",
            Kind::Plain,
            service
                .clone()
                .layer(trust_proxy())
                .layer(RateLimitLayer::by_address(rate_limit()))
                .service(Bare),
        )
        .over("trust-proxy"),
        Case::new(
            "body-limit",
            Kind::Plain,
            service.layer(body_limit()).service(Bare),
        ),
    ]
}

fn entry() -> [Case; 4] {
    let service = ServiceBuilder::new();
    let sessions = sessions();
    let session_cookie = cookie(service.clone().layer(sessions.clone()).service_fn(log_in));
    let guarded = service
        .clone()
        .layer(sessions.clone())
        .layer(auth())
        .service(Bare);
    let login_cookie = cookie(guarded.clone());
    [
        Case::new(
            "session, untouched",
            Kind::Plain,
            service.clone().layer(sessions.clone()).service(Bare),
        ),
        Case::with_cookie(
            "session, read",
            Kind::Cookie,
            &session_cookie,
            service.clone().layer(sessions).service_fn(reads_session),
        ),
        Case::new(
            "auth by bearer",
            Kind::Plain,
            service.layer(auth()).service(Bare),
        ),
        Case::with_cookie(
            "session and auth by cookie",
            Kind::Cookie,
            &login_cookie,
            guarded,
        ),
    ]
}

/// Everything that decides, in the order in which the hub has it, for a request with a session's cookie; and what of it
/// remains when nothing is decided.
fn security_stack() -> [Case; 2] {
    let stack = ServiceBuilder::new()
        .layer(trust_proxy())
        .layer(SecureHeadersLayer::default())
        .layer(cors())
        .layer(RateLimitLayer::by_address(rate_limit()))
        .layer(body_limit())
        .layer(sessions())
        .layer(auth())
        .service(Bare);
    let cookie = cookie(stack.clone());
    let kind = Kind::CookieCrossOrigin;
    let answer = block_on(stack.clone().oneshot(kind.request(&cookie))).expect("an answer");
    let written = Written {
        fields: answer.headers().clone().into_iter().collect(),
        session: Arc::from("a session"),
        principal: Principal::new("alice", AuthMethod::Token),
    };
    [
        Case::with_cookie(STACK, kind, &cookie, stack),
        Case::with_cookie("security-stack, decided before", kind, &cookie, written),
    ]
}

/// Leaves the facts that the security stack leaves in a request, and writes the fields that it writes into the answer,
/// as one function that knows all of them beforehand.
#[derive(Clone)]
struct Written {
    fields: Arc<[(Option<HeaderName>, HeaderValue)]>,
    session: Arc<str>,
    principal: Principal,
}

impl Service<Request<Body>> for Written {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().remove(COOKIE);
        let host = request.headers().get(HOST).cloned();
        let facts = request.extensions_mut();
        let peer = facts.get::<Peer>().expect("a peer");
        let client = ClientInfo::new(peer.addr.ip(), peer.scheme, host, 0);
        facts.insert(client);
        facts.insert(AllowedOrigin::new());
        facts.insert(Arc::clone(&self.session));
        facts.insert(self.principal.clone());
        let mut response = bare::answer();
        let fields = response.headers_mut();
        fields.reserve(32);
        for (name, value) in &*self.fields {
            if let Some(name) = name {
                fields.insert(name, value.clone());
            }
        }
        ready(Ok(response))
    }
}

fn access_log() -> [Case; 2] {
    let outside = ServiceBuilder::new()
        .layer(trust_proxy())
        .layer(request_id());
    let (logging, guard) = logging();
    let named = "trust-proxy and request-id";
    [
        Case::new(named, Kind::Plain, outside.clone().service(Bare)),
        Case::new(
            LOG_LINE,
            Kind::Plain,
            outside.layer(AccessLogLayer::new(logging)).service(Bare),
        )
        .over(named)
        .keeping(guard),
    ]
}

fn read<T: DeserializeOwned>(config: Value) -> T {
    serde_json::from_value(config).expect("a configuration")
}

fn trust_proxy() -> TrustProxyLayer {
    TrustProxyLayer::new(TrustProxy::nets(["loopback", "10.0.0.0/8"]).expect("networks"))
}

fn request_id() -> RequestIdLayer {
    RequestIdLayer::new().expect("random bytes")
}

fn cors() -> CorsLayer {
    let config: CorsConfig = read(json!({
        "origin": APP, "methods": "GET,POST,PUT,DELETE", "credentials": true,
        "allowedHeaders": "Content-Type,Authorization,x-target", "maxAge": 86400,
    }));
    CorsLayer::new(CorsPolicy::try_from(config).expect("a policy"))
}

/// A limit with as many digits as they have, and a window that ends before so many requests are measured.
fn rate_limit() -> RateLimitPolicy {
    let config: RateLimitConfig = read(json!({
        "windowMs": 2, "max": 9_999, "standardHeaders": "draft-6", "legacyHeaders": false,
    }));
    RateLimitPolicy::try_from(config).expect("a policy")
}

fn body_limit() -> BodyLimitLayer {
    let config: BodyLimitConfig = read(json!({"json": "10mb"}));
    BodyLimitLayer::new(BodyLimitPolicy::try_from(config).expect("a policy"))
}

fn keys() -> KeyRing {
    let secret = SecretString::from("0123456789abcdef0123456789abcdef");
    KeyRing::new([&secret]).expect("a key")
}

fn sessions() -> SessionLayer {
    let policy = SessionPolicy::new(keys(), CookiePolicy::default());
    SessionLayer::new(policy, Arc::new(MemoryStore::default()))
}

/// Two tokens, of which requests present the second.
fn auth() -> AuthLayer {
    let tokens = [
        SecretString::from("another-token-of-thirty-two-bytes"),
        SecretString::from(TOKEN),
    ];
    let tokens = TokenSet::new(&tokens, &keys()).expect("tokens");
    AuthLayer::new(AccessPolicy::new(), Arc::new(tokens))
}

/// A log that is written to nowhere.
fn logging() -> (Logging, LogGuard) {
    let config: LoggingConfig = read(json!({"format": "json"}));
    let policy = LoggingPolicy::try_from(config).expect("a policy");
    let clock = Arc::new(SystemClock::new());
    Logging::start_with(policy, io::sink(), clock).expect("a thread")
}

/// The cookie that an answer to a request with a bearer token sets.
fn cookie<S, B>(service: S) -> String
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: fmt::Debug,
{
    let response = block_on(service.oneshot(Kind::CrossOrigin.request(""))).expect("an answer");
    let set = response.headers().get(SET_COOKIE).expect("a cookie");
    let set = set.to_str().expect("a plain cookie");
    set.split(';').next().unwrap_or_default().to_owned()
}

async fn log_in(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let session = request.extensions().get::<Session>().expect("a session");
    session.insert("user", "alice").expect("a free key");
    Ok(bare::answer())
}

/// Reads the session as an entry check does, then answers as [`Bare`].
async fn reads_session(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let session = request.extensions().get::<Session>().expect("a session");
    session.load().await.expect("a store");
    let record = session.record().expect("a record");
    assert!(record.get("user").is_some());
    Ok(bare::answer())
}
