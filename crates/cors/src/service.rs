use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ORIGIN};
use http::{HeaderValue, Request, Response, StatusCode};
use proactions_edge::{AllowedOrigin, ClientInfo, ReadableOrigin, RequestId};
use tower_service::Service;

use crate::decide::{Decision, Verdict};
use crate::policy::Rules;
use crate::{CorsPolicy, RequestKind, ResponseFuture};

/// How much of a refused origin stands in the event, in bytes.
const MAX_LOGGED_ORIGIN: usize = 256;

/// The service that [`CorsLayer`](crate::CorsLayer) makes. See the [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct Cors<S> {
    inner: S,
    policy: CorsPolicy,
}

impl<S> Cors<S> {
    pub(crate) const fn new(inner: S, policy: CorsPolicy) -> Self {
        Self { inner, policy }
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Cors<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let Some(rules) = self.policy.rules() else {
            return ResponseFuture::untouched(self.inner.call(request));
        };
        let client = request.extensions().get::<ClientInfo>();
        let decision = rules.decide(request.method(), request.headers(), client);
        if decision.verdict == Verdict::Refused {
            report(&request, decision.kind);
        }
        match decision.kind {
            RequestKind::Preflight if !rules.preflight_continue => {
                return ResponseFuture::answered(answer(rules, decision));
            }
            RequestKind::Actual if decision.verdict == Verdict::Named => {
                request.extensions_mut().insert(AllowedOrigin::new());
            }
            RequestKind::Actual if decision.allows_origin() => {
                request.extensions_mut().insert(ReadableOrigin::new());
            }
            RequestKind::Actual | RequestKind::NotCors | RequestKind::Preflight => {}
        }
        ResponseFuture::decorated(self.inner.call(request), Arc::clone(rules), decision)
    }
}

fn answer<B: From<Bytes>>(rules: &Rules, decision: Decision) -> Response<B> {
    let mut response = Response::new(B::from(Bytes::new()));
    *response.status_mut() = rules.status;
    rules.apply(decision, response.headers_mut());
    // RFC 9110 section 8.6: never with 204.
    if rules.status != StatusCode::NO_CONTENT {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn report<B>(request: &Request<B>, kind: RequestKind) {
    let extensions = request.extensions();
    let ip = extensions.get::<ClientInfo>().map(|client| client.ip);
    tracing::warn!(
        target: "security",
        event = "cors_origin_refused",
        ip = ip.map(tracing::field::display),
        requestId = extensions.get::<RequestId>().map(RequestId::as_str),
        origin = printable(request.headers().get(ORIGIN)),
        preflight = kind == RequestKind::Preflight,
        "a page of an origin that is not allowed sent a request",
    );
}

/// The beginning of the value, with everything but visible ASCII escaped.
fn printable(origin: Option<&HeaderValue>) -> String {
    let bytes = origin.map_or(&[][..], HeaderValue::as_bytes);
    let head = bytes.get(..MAX_LOGGED_ORIGIN).unwrap_or(bytes);
    head.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
