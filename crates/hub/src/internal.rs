//! The internal listener: AI-Link alone, without credentials, for programs on the same machine.
//!
//! Nobody is asked who they are, so what must not get in is kept out by where it comes from. Other machines do
//! not reach a loopback address. A web page in a browser on this machine does: its requests carry `Origin`, and
//! where its own name was made to lead here (DNS rebinding), that name stands in `Host`. Both are refused.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{Extensions, Request, Response};
use proactions_ai_link::AiLink;
use proactions_edge::{ClientInfo, JsonRejection, Rejection, RejectionKind, RequestId};
use proactions_forward::{Body, BoxError};
use tower_service::Service;

/// The innermost service of the internal listener.
#[derive(Clone, Debug)]
pub(crate) struct Internal {
    ai_link: AiLink,
    /// The name that the listener was bound with, and those that others call it by.
    names: Arc<[Box<str>]>,
}

impl Internal {
    pub(crate) fn new<'a>(ai_link: AiLink, names: impl Iterator<Item = &'a String>) -> Self {
        Self {
            ai_link,
            names: names.map(|name| Box::from(name.as_str())).collect(),
        }
    }
}

impl<B> Service<Request<B>> for Internal
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
        if is_from_a_page(&request, &self.names) {
            let answer = refuse_page(request.extensions(), "internal");
            return Box::pin(std::future::ready(Ok(answer)));
        }
        self.ai_link.call(request.map(Body::new)).into_boxed()
    }
}

/// Answers a page, and tells of it.
pub(crate) fn refuse_page<B: From<Bytes>>(known: &Extensions, listener: &str) -> Response<B> {
    let id = known.get::<RequestId>();
    tracing::warn!(
        target: "security",
        event = "cross_site_refused",
        ip = known.get::<ClientInfo>().map(|client| tracing::field::display(client.ip)),
        requestId = id.map(RequestId::as_str),
        "a web page tried to use the {listener} listener"
    );
    Rejection::new(RejectionKind::CrossSite).into_response(&JsonRejection, id)
}

/// Whether a browser sent this for a page, or asked for a name that is not this listener's.
fn is_from_a_page<B>(request: &Request<B>, own: &[Box<str>]) -> bool {
    let headers = request.headers();
    headers.contains_key(ORIGIN)
        || headers.contains_key("sec-fetch-site")
        || asks_for_another(request, own)
}

/// Whether somebody else could have made the name that this asks for lead here.
pub(crate) fn asks_for_another<B>(request: &Request<B>, own: &[impl AsRef<str>]) -> bool {
    let authority = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request
            .headers()
            .get(HOST)
            .map(|host| host.to_str().unwrap_or("?")),
    };
    authority.is_some_and(|authority| !leads_here(authority, own))
}

/// Whether nobody else can make this name lead here: an address, `localhost`, or a name that was configured.
fn leads_here(authority: &str, own: &[impl AsRef<str>]) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || own
            .iter()
            .any(|name| host.eq_ignore_ascii_case(name.as_ref()))
        || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_outside() {
        for (name, value, refused) in [
            ("host", "localhost:3001", false),
            ("host", "LOCALHOST", false),
            ("host", "127.0.0.1:3001", false),
            ("host", "[::1]:3001", false),
            ("host", "hub.internal:3001", false),
            ("host", "HUB", false),
            ("host", "hub:3001", false),
            ("host", "hub.internal.evil.example", true),
            ("host", "xhub", true),
            ("host", "evil.example@hub", true),
            ("host", "hub:3001:3001", true),
            ("host", "evil.example:3001", true),
            ("host", "localhost.evil.example", true),
            ("host", "127.0.0.1.evil.example:80", true),
            ("host", "caf\u{e9}", true),
            ("host", "", true),
            ("origin", "http://localhost:3001", true),
            ("origin", "null", true),
            ("sec-fetch-site", "none", true),
            ("accept", "*/*", false),
        ] {
            let request = Request::builder()
                .uri("/v1/models")
                .header(
                    name,
                    http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                )
                .body(())
                .unwrap();
            let own = ["0.0.0.0".into(), "hub.internal".into(), "hub".into()];
            let found = is_from_a_page(&request, &own);
            assert_eq!(found, refused, "{name}: {value}");
        }
        let absolute = Request::builder()
            .uri("http://evil.example/v1/models")
            .header("host", "localhost")
            .body(())
            .unwrap();
        assert!(is_from_a_page(&absolute, &["localhost".into()]));
    }
}
