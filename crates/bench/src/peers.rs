//! The public crates that do the same.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use proactions_edge::Peer;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_governor::GovernorLayer;
use tower_governor::errors::GovernorError;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};
use tracing::{Dispatch, Level};

use crate::bare::{self, APP, Bare, Body};
use crate::{Case, Kind, block_on};

/// Helmet's twelve header fields, one layer each.
macro_rules! with_headers {
    ($builder:expr) => {
        with_headers!(@ $builder,
            "content-security-policy" => "default-src 'self';base-uri 'self';object-src 'none'",
            "cross-origin-opener-policy" => "same-origin",
            "cross-origin-resource-policy" => "same-origin",
            "origin-agent-cluster" => "?1",
            "referrer-policy" => "no-referrer",
            "strict-transport-security" => "max-age=31536000; includeSubDomains",
            "x-content-type-options" => "nosniff",
            "x-dns-prefetch-control" => "off",
            "x-download-options" => "noopen",
            "x-frame-options" => "SAMEORIGIN",
            "x-permitted-cross-domain-policies" => "none",
            "x-xss-protection" => "0",
        )
    };
    (@ $builder:expr, $($name:literal => $value:literal,)*) => {
        $builder$(.layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static($name),
            HeaderValue::from_static($value),
        )))*
    };
}

pub(crate) fn cases() -> Vec<Case> {
    let sessions = SessionManagerLayer::new(MemoryStore::default());
    let cookie = session_cookie(&sessions);
    let service = ServiceBuilder::new();
    vec![
        Case::new(
            "tower-http set-header x12",
            Kind::Plain,
            with_headers!(service.clone()).service(Bare),
        ),
        Case::new(
            "tower-http cors",
            Kind::CrossOrigin,
            service.clone().layer(cors()).service(Bare),
        ),
        Case::new(
            "tower-http cors, preflight",
            Kind::Preflight,
            service.clone().layer(cors()).service(Bare),
        ),
        Case::new(
            "bare, axum body",
            Kind::Plain,
            service.clone().map_response(axum_body).service(Bare),
        )
        .over("bare, axum body"),
        Case::new(
            "tower_governor",
            Kind::Plain,
            service
                .clone()
                .layer(governor())
                .map_response(axum_body)
                .service(Bare),
        )
        .over("bare, axum body"),
        Case::new(
            "tower-http limit",
            Kind::Plain,
            service
                .clone()
                .layer(RequestBodyLimitLayer::new(10 << 20))
                .service(Bare),
        ),
        Case::new(
            "tower-sessions, untouched",
            Kind::Plain,
            service.clone().layer(sessions.clone()).service(Bare),
        ),
        Case::with_cookie(
            "tower-sessions, read",
            Kind::Cookie,
            &cookie,
            service
                .clone()
                .layer(sessions.clone())
                .service_fn(reads_session),
        ),
        Case::with_cookie(
            "bare, cookie, cross-origin, axum body",
            Kind::CookieCrossOrigin,
            &cookie,
            service.clone().map_response(axum_body).service(Bare),
        )
        .over("bare, cookie, cross-origin, axum body"),
        Case::with_cookie(
            "tower crates, whole stack",
            Kind::CookieCrossOrigin,
            &cookie,
            with_headers!(service.clone())
                .layer(RequestBodyLimitLayer::new(10 << 20))
                .layer(cors())
                .layer(governor())
                .layer(sessions)
                .map_response(axum_body)
                .service_fn(reads_session),
        )
        .over("bare, cookie, cross-origin, axum body"),
        Case::new(
            "tower-http trace, JSON line",
            Kind::Plain,
            service
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
                        .on_request(())
                        .on_response(DefaultOnResponse::new().level(Level::INFO)),
                )
                .service(Bare),
        )
        .with_subscriber(Dispatch::new(
            tracing_subscriber::fmt()
                .json()
                .with_writer(io::sink)
                .finish(),
        )),
    ]
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(HeaderValue::from_static(APP))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            CONTENT_TYPE,
            AUTHORIZATION,
            HeaderName::from_static("x-target"),
        ])
        .allow_credentials(true)
        .max_age(Duration::from_secs(86_400))
}

type Headers = governor::middleware::StateInformationMiddleware;

fn governor() -> GovernorLayer<ByPeer, Headers, axum_core::body::Body> {
    let config = GovernorConfigBuilder::default()
        .per_nanosecond(1)
        .burst_size(u32::MAX)
        .key_extractor(ByPeer)
        .use_headers()
        .finish();
    GovernorLayer::new(config.expect("a configuration"))
}

fn axum_body(response: Response<Body>) -> Response<axum_core::body::Body> {
    response.map(axum_core::body::Body::new)
}

/// The crate's own extractors look into axum's extensions.
#[derive(Clone, Copy, Debug)]
struct ByPeer;

impl KeyExtractor for ByPeer {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<IpAddr, GovernorError> {
        let peer = request.extensions().get::<Peer>();
        peer.map(|peer| peer.addr.ip())
            .ok_or(GovernorError::UnableToExtractKey)
    }
}

/// The cookie of a session that holds a user.
fn session_cookie(sessions: &SessionManagerLayer<MemoryStore>) -> String {
    async fn log_in<B>(request: Request<B>) -> Result<Response<Body>, Infallible> {
        let session = request.extensions().get::<Session>().expect("a session");
        let inserted = session.insert("user", "alice").await;
        inserted.expect("a store");
        Ok(bare::answer())
    }
    let service = ServiceBuilder::new().layer(sessions).service_fn(log_in);
    let response = block_on(service.oneshot(Kind::Plain.request(""))).expect("an answer");
    let set = response.headers()[SET_COOKIE].to_str().expect("a cookie");
    set.split(';').next().unwrap_or_default().to_owned()
}

/// Reads the session as an entry check does, then answers as [`Bare`].
async fn reads_session<B>(request: Request<B>) -> Result<Response<Body>, Infallible> {
    let session = request.extensions().get::<Session>().expect("a session");
    let user = session.get::<String>("user").await;
    assert!(user.expect("a store").is_some());
    drop(request);
    Ok(bare::answer())
}
