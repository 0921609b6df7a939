use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, ORIGIN, USER_AGENT,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use proactions_edge::{Peer, Scheme};
use tower_service::Service;

/// The body of requests and answers.
pub(crate) type Body = Full<Bytes>;

/// The origin of cross-origin requests.
pub(crate) const APP: &str = "https://app.example.com";
/// The bearer token of requests that have one.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

static ANSWER: [u8; 600] = [b'x'; 600];
static QUESTION: [u8; 430] = [b'x'; 430];

/// Answers 200 with 600 bytes of JSON, at once.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(answer()))
    }
}

/// What [`Bare`] answers.
pub(crate) fn answer() -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(&ANSWER)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The kinds of requests. Each is a POST of 430 bytes with six header fields, unless it says otherwise, and holds
/// the [`Peer`] that a listener knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// With a bearer token.
    Plain,
    /// As `Plain`, from a page of another origin.
    CrossOrigin,
    /// The preflight of `CrossOrigin`: OPTIONS without a body or a token.
    Preflight,
    /// With a session cookie in place of the token.
    Cookie,
    /// As `Cookie`, from a page of another origin.
    CookieCrossOrigin,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::CrossOrigin,
        Self::Preflight,
        Self::Cookie,
        Self::CookieCrossOrigin,
    ];

    /// The name of the bare service's case for this kind.
    #[must_use]
    pub const fn baseline(self) -> &'static str {
        match self {
            Self::Plain => "bare",
            Self::CrossOrigin => "bare, cross-origin",
            Self::Preflight => "bare, preflight",
            Self::Cookie => "bare, cookie",
            Self::CookieCrossOrigin => "bare, cookie and cross-origin",
        }
    }

    /// A request of this kind. `cookie` is used where the kind has one.
    pub(crate) fn request(self, cookie: &str) -> Request<Body> {
        let uri = Uri::from_static("/v1/chat/completions");
        let mut request = Request::new(Full::new(Bytes::from_static(&QUESTION)));
        *request.uri_mut() = uri;
        *request.method_mut() = Method::POST;
        let mut set = |name: HeaderName, value: &str| {
            let value = HeaderValue::from_str(value).expect("a header value");
            request.headers_mut().insert(name, value);
        };
        set(HOST, "hub.example.com");
        set(USER_AGENT, "bench/1.0");
        set(ACCEPT, "*/*");
        if self == Self::Preflight {
            set(
                HeaderName::from_static("access-control-request-method"),
                "POST",
            );
            set(
                HeaderName::from_static("access-control-request-headers"),
                "authorization,content-type,x-target",
            );
            *request.method_mut() = Method::OPTIONS;
            *request.body_mut() = Full::default();
        } else {
            set(CONTENT_TYPE, "application/json");
            set(CONTENT_LENGTH, "430");
            if matches!(self, Self::Cookie | Self::CookieCrossOrigin) {
                set(COOKIE, cookie);
            } else {
                set(AUTHORIZATION, &format!("Bearer {TOKEN}"));
            }
        }
        if matches!(
            self,
            Self::CrossOrigin | Self::Preflight | Self::CookieCrossOrigin
        ) {
            let origin = HeaderValue::from_static(APP);
            request.headers_mut().insert(ORIGIN, origin);
        }
        // A listener with TLS, so that secure cookies are sent.
        let peer = Peer::new(SocketAddr::from(([192, 0, 2, 7], 50_000)), Scheme::Https);
        request.extensions_mut().insert(peer);
        request
    }
}
