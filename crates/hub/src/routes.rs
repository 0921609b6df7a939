//! Which path leads where, and which of them need no credentials.
//!
//! One table serves the router and the entry check, so the two cannot disagree. Paths are compared as they
//! stand: case, trailing slashes and escapes included.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use proactions_ai_link::{AiLink, Endpoint};
use proactions_edge::{JsonRejection, Principal, Rejection, RejectionKind, RequestId};
use proactions_forward::{Body, BoxError, ForwardProxies};
use proactions_session_store::Session;
use proactions_youtube::{Endpoint as YouTubeEndpoint, YouTube};
use tower_service::Service;

use crate::readiness::Readiness;

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// Every path that exists.
#[derive(Clone, Debug)]
pub(crate) struct RouteTable {
    health: Option<Arc<str>>,
    ready: Option<Arc<str>>,
    youtube: bool,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    AiLink,
    Forward,
    Health,
    Logout,
    Ready,
    Session,
    YouTube,
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    OtherMethods(&'static str),
    Route(Route),
}

const PROBE: (&[Method], &str) = (&[Method::GET, Method::HEAD], "GET, HEAD");

impl RouteTable {
    /// `health` and `ready` are the paths of the probes, if they are answered at all; `youtube` says whether
    /// there are accounts for uploads.
    pub(crate) fn new(health: Option<Arc<str>>, ready: Option<Arc<str>>, youtube: bool) -> Self {
        Self {
            health,
            ready,
            youtube,
        }
    }

    /// The routes that need no credentials.
    pub(crate) fn public(&self) -> impl Iterator<Item = (&'static [Method], &str)> {
        let youtube = YouTubeEndpoint::ALL.into_iter().filter(|endpoint| {
            // Google sends the browser there from its own site, without this one's cookies.
            self.youtube && endpoint.is_public()
        });
        self.probes()
            .map(|path| (PROBE.0, path))
            .chain(youtube.map(|endpoint| (&[Method::GET][..], endpoint.path())))
    }

    /// The paths that monitors ask, which no limit counts.
    pub(crate) fn probes(&self) -> impl Iterator<Item = &str> {
        [&self.health, &self.ready]
            .into_iter()
            .filter_map(Option::as_deref)
    }

    /// [`Self::find`] in words.
    #[cfg(feature = "fuzzing")]
    #[allow(
        clippy::option_option,
        reason = "nothing and not with this method differ"
    )]
    pub(crate) fn named(&self, method: &Method, path: &str) -> Option<Option<String>> {
        match self.find(method, path) {
            Found::Nothing => None,
            Found::OtherMethods(_) => Some(None),
            Found::Route(route) => Some(Some(format!("{route:?}"))),
        }
    }

    fn find(&self, method: &Method, path: &str) -> Found {
        let (route, methods, allow) = if self.health.as_deref() == Some(path) {
            (Route::Health, PROBE.0, PROBE.1)
        } else if self.ready.as_deref() == Some(path) {
            (Route::Ready, PROBE.0, PROBE.1)
        } else if path == "/auth/session" {
            (Route::Session, PROBE.0, PROBE.1)
        } else if path == "/auth/logout" {
            (Route::Logout, &[Method::POST][..], "POST")
        } else if let Some(endpoint) = YouTubeEndpoint::at(path).filter(|_| self.youtube) {
            match endpoint.method() {
                Method::GET => (Route::YouTube, &[Method::GET][..], "GET"),
                _ => (Route::YouTube, &[Method::POST][..], "POST"),
            }
        } else if path.starts_with(ForwardProxies::PREFIX) {
            // The upstream knows which methods it has.
            return Found::Route(Route::Forward);
        } else {
            return match Endpoint::at(path) {
                Some(endpoint) if endpoint.method() == *method => Found::Route(Route::AiLink),
                Some(endpoint) => Found::OtherMethods(if endpoint.method() == Method::GET {
                    "GET"
                } else {
                    "POST"
                }),
                None => Found::Nothing,
            };
        };
        if methods.contains(method) {
            Found::Route(route)
        } else {
            Found::OtherMethods(allow)
        }
    }
}

/// The innermost service: finds the route and runs it.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    table: Arc<RouteTable>,
    readiness: Arc<Readiness>,
    ai_link: AiLink,
    forward: ForwardProxies,
    youtube: Option<YouTube>,
}

impl Router {
    pub(crate) fn new(
        table: Arc<RouteTable>,
        readiness: Arc<Readiness>,
        ai_link: AiLink,
        forward: ForwardProxies,
        youtube: Option<YouTube>,
    ) -> Self {
        Self {
            table,
            readiness,
            ai_link,
            forward,
            youtube,
        }
    }
}

impl<B> Service<Request<B>> for Router
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.table.find(request.method(), request.uri().path()) {
            Found::Route(Route::AiLink) => self.ai_link.call(request.map(Body::new)).into_boxed(),
            Found::Route(Route::Forward) => {
                let answer = self.forward.call(request.map(Body::new));
                Box::pin(answer)
            }
            Found::Route(Route::YouTube) => match &mut self.youtube {
                Some(youtube) => Box::pin(youtube.call(request.map(Body::new))),
                None => ready(refuse(&request, Rejection::new(RejectionKind::NotFound))),
            },
            Found::Route(Route::Health) => ready(json(StatusCode::OK, r#"{"status":"ok"}"#)),
            Found::Route(Route::Ready) => ready(readiness(&self.readiness)),
            Found::Route(Route::Session) => ready(whoami(&request)),
            Found::Route(Route::Logout) => Box::pin(logout(request.into_parts().0)),
            Found::Nothing => ready(refuse(&request, Rejection::new(RejectionKind::NotFound))),
            Found::OtherMethods(allow) => {
                let refused = Rejection::new(RejectionKind::MethodNotAllowed)
                    .with_header(ALLOW, HeaderValue::from_static(allow));
                ready(refuse(&request, refused))
            }
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

fn ready(response: Response<Body>) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}

fn refuse<B>(request: &Request<B>, rejection: Rejection) -> Response<Body> {
    rejection.into_response(&JsonRejection, request.extensions().get::<RequestId>())
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn readiness(readiness: &Readiness) -> Response<Body> {
    let down = readiness.down();
    if down.is_empty() {
        return json(StatusCode::OK, r#"{"status":"ready"}"#);
    }
    let checks: serde_json::Map<_, _> = down
        .into_iter()
        .map(|name| (name.to_owned(), serde_json::Value::from("down")))
        .collect();
    let body = serde_json::json!({ "status": "not ready", "checks": checks });
    json(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
}

/// `GET /auth/session`: who am I. Nobody, where authentication is off.
fn whoami<B>(request: &Request<B>) -> Response<Body> {
    let extensions = request.extensions();
    match extensions.get::<Principal>() {
        Some(principal) => json(
            StatusCode::OK,
            proactions_auth_edapi::whoami(extensions.get::<Session>(), principal),
        ),
        None => refuse(request, Rejection::new(RejectionKind::NotFound)),
    }
}

/// `POST /auth/logout`: the session ends here and in the browser.
async fn logout(head: http::request::Parts) -> Result<Response<Body>, Infallible> {
    if let Some(session) = head.extensions.get::<Session>()
        && proactions_auth_edapi::logout(session).await.is_err()
    {
        let refused = Rejection::new(RejectionKind::Unavailable);
        return Ok(refused.into_response(&JsonRejection, head.extensions.get::<RequestId>()));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"cookies\""));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_as_they_stand() {
        let table = RouteTable::new(Some("/health".into()), Some("/ready".into()), true);
        for (method, path, found) in [
            (Method::GET, "/health", Found::Route(Route::Health)),
            (Method::HEAD, "/ready", Found::Route(Route::Ready)),
            (Method::POST, "/health", Found::OtherMethods("GET, HEAD")),
            (Method::GET, "/health/", Found::Nothing),
            (Method::GET, "/HEALTH", Found::Nothing),
            (Method::GET, "/%68ealth", Found::Nothing),
            (Method::POST, "/auth/logout", Found::Route(Route::Logout)),
            (Method::GET, "/auth/logout", Found::OtherMethods("POST")),
            (Method::GET, "/auth/session", Found::Route(Route::Session)),
            (
                Method::POST,
                "/v1/chat/completions",
                Found::Route(Route::AiLink),
            ),
            (
                Method::GET,
                "/v1/chat/completions",
                Found::OtherMethods("POST"),
            ),
            (Method::GET, "/v1/models", Found::Route(Route::AiLink)),
            (
                Method::GET,
                "/youtube/auth/google/callback",
                Found::Route(Route::YouTube),
            ),
            (
                Method::HEAD,
                "/youtube/auth/google/callback",
                Found::OtherMethods("GET"),
            ),
            (Method::GET, "/youtube/upload", Found::OtherMethods("POST")),
            (Method::GET, "/youtube/auth/google/", Found::Nothing),
            (Method::GET, "/v1/chat", Found::Nothing),
            (
                Method::PATCH,
                "/proxy/forward/x/a%2Fb",
                Found::Route(Route::Forward),
            ),
            (Method::GET, "/proxy/forward", Found::Nothing),
            (Method::GET, "/Proxy/forward/x", Found::Nothing),
            (Method::GET, "/", Found::Nothing),
        ] {
            assert_eq!(table.find(&method, path), found, "{method} {path}");
        }
        let public: Vec<_> = table.public().map(|(_, path)| path).collect();
        assert_eq!(
            public,
            ["/health", "/ready", "/youtube/auth/google/callback"]
        );
        let without = RouteTable::new(None, None, false);
        assert_eq!(without.public().count(), 0);
        assert_eq!(
            without.find(&Method::POST, "/youtube/upload"),
            Found::Nothing
        );
    }
}
