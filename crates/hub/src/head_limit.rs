//! How large the head of a request may be, and which heads are refused for what they could mean to others.
//!
//! hyper has caps of its own and answers them before any layer sees the request. These are tighter, so that the
//! usual excess is answered with the hub's error shape and security headers, and is logged.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Extensions, Request, Response, Version, request};
use pin_project_lite::pin_project;
use proactions_config::ListenerSettings;
use proactions_edge::{ClientInfo, JsonRejection, Rejection, RejectionKind, RequestId};
use tower_layer::Layer;
use tower_service::Service;

use crate::listen::Malformed;

/// The caps on a request's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) max_headers: usize,
    /// All names and values together.
    pub(crate) max_header_bytes: usize,
    pub(crate) max_uri_bytes: usize,
}

impl From<&ListenerSettings> for HeadLimits {
    fn from(listener: &ListenerSettings) -> Self {
        Self {
            max_headers: listener.max_headers,
            max_header_bytes: listener.max_header_bytes,
            max_uri_bytes: listener.max_uri_bytes,
        }
    }
}

impl HeadLimits {
    fn refusal(&self, head: &request::Parts) -> Option<Rejection> {
        let uri = &head.uri;
        let uri_bytes = uri.path().len()
            + uri.query().map_or(0, |query| query.len() + 1)
            + uri
                .authority()
                .map_or(0, |authority| authority.as_str().len());
        if uri_bytes > self.max_uri_bytes {
            return Some(Rejection::new(RejectionKind::UriTooLong));
        }
        if head.version == Version::HTTP_2 && !is_well_formed(head) {
            return Some(
                Rejection::new(RejectionKind::BadRequest).with_message("Malformed HTTP request"),
            );
        }
        let mut bytes = 0;
        for (name, value) in &head.headers {
            bytes += name.as_str().len() + value.len();
            // CGI and its heirs read `X_Forwarded_For` and `X-Forwarded-For` as the same variable.
            if name.as_str().contains('_') {
                return Some(
                    Rejection::new(RejectionKind::BadRequest)
                        .with_message("Header names with an underscore are not accepted"),
                );
            }
        }
        if head.headers.len() > self.max_headers || bytes > self.max_header_bytes {
            return Some(Rejection::new(RejectionKind::HeaderFieldsTooLarge));
        }
        None
    }
}

/// What the listener's guard asks of HTTP/1, and h2 does not of HTTP/2: nobody's name before the host, one host only
/// (RFC 9113 section 8.3.1), and no blanks around a value (section 8.2.1), which an upstream may trim or not.
fn is_well_formed(head: &request::Parts) -> bool {
    let authority = head.uri.authority().map(Authority::as_str);
    let plain = authority.is_none_or(|authority| !authority.contains('@'));
    let mut hosts = head.headers.get_all(HOST).iter();
    let one_host = match (hosts.next(), hosts.next()) {
        (None, _) => true,
        (Some(host), None) => authority
            .is_none_or(|authority| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())),
        (Some(_), Some(_)) => false,
    };
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let trimmed = head.headers.values().all(|value| {
        let bytes = value.as_bytes();
        !is_blank(bytes.first()) && !is_blank(bytes.last())
    });
    plain && one_host && trimmed
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimitLayer(pub(crate) HeadLimits);

impl<S> Layer<S> for HeadLimitLayer {
    type Service = HeadLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HeadLimit {
            inner,
            limits: self.0,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct HeadLimit<S> {
    inner: S,
    limits: HeadLimits,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for HeadLimit<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Checked<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (head, body) = request.into_parts();
        if let Some(malformed) = head.extensions.get::<Malformed>() {
            return Checked {
                state: State::Refused {
                    response: Some(refuse_malformed(*malformed, &head.extensions)),
                },
            };
        }
        if let Some(refused) = self.limits.refusal(&head) {
            let request_id = head.extensions.get::<RequestId>();
            if refused.kind() == RejectionKind::BadRequest {
                tracing::warn!(
                    target: "security",
                    event = "ambiguous_head",
                    ip = head.extensions.get::<ClientInfo>().map(|client| tracing::field::display(client.ip)),
                    requestId = request_id.map(tracing::field::display),
                    "a head that others could read differently was refused",
                );
            }
            let response = refused.into_response(&JsonRejection, request_id);
            return Checked {
                state: State::Refused {
                    response: Some(response),
                },
            };
        }
        let future = self.inner.call(Request::from_parts(head, body));
        Checked {
            state: State::Passed { future },
        }
    }
}

/// Answers what the listener did not let pass.
fn refuse_malformed<B: From<Bytes>>(malformed: Malformed, known: &Extensions) -> Response<B> {
    let kind = match malformed {
        Malformed::HeadTooLarge => RejectionKind::HeaderFieldsTooLarge,
        Malformed::TargetTooLong => RejectionKind::UriTooLong,
        _ => RejectionKind::BadRequest,
    };
    let mut refused = Rejection::new(kind);
    let request_id = known.get::<RequestId>();
    if kind == RejectionKind::BadRequest {
        refused = refused.with_message("Malformed HTTP request");
        tracing::warn!(
            target: "security",
            event = "malformed_request",
            reason = malformed.as_str(),
            ip = known.get::<ClientInfo>().map(|client| tracing::field::display(client.ip)),
            requestId = request_id.map(tracing::field::display),
            "a request that is not well-formed, or that others could read differently, was refused",
        );
    }
    refused.into_response(&JsonRejection, request_id)
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Checked<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F, B> {
        Passed { #[pin] future: F },
        Refused { response: Option<Response<B>> },
    }
}

impl<F, B, E> Future for Checked<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passed { future } => Poll::Ready(ready!(future.poll(cx))),
            StateProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cap_has_its_status() {
        let limits = HeadLimits {
            max_headers: 3,
            max_header_bytes: 20,
            max_uri_bytes: 8,
        };
        let verdict = |path: &str, headers: &[(&str, &str)]| {
            let mut request = Request::get(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            limits
                .refusal(&head)
                .map(|refused| refused.status().as_u16())
        };
        assert_eq!(verdict("/1234567", &[]), None);
        assert_eq!(verdict("/12345678", &[]), Some(414));
        assert_eq!(verdict("/1234?67", &[]), None);
        assert_eq!(verdict("/1234?678", &[]), Some(414));
        assert_eq!(verdict("/", &[("a", "1"), ("b", "2"), ("c", "3")]), None);
        assert_eq!(
            verdict("/", &[("a", "1"), ("b", "2"), ("c", "3"), ("c", "4")]),
            Some(431)
        );
        assert_eq!(verdict("/", &[("abcde", "123456789012345")]), None);
        assert_eq!(verdict("/", &[("abcde", "1234567890123456")]), Some(431));
        assert_eq!(verdict("/", &[("x_y", "1")]), Some(400));
    }

    #[test]
    fn heads_of_http2_have_one_meaning() {
        for (target, headers, good) in [
            ("https://h/", &[][..], true),
            ("https://h:8443/", &[("host", "H:8443")], true),
            ("/", &[("host", "h")], true),
            ("https://h/", &[("host", "i")], false),
            ("https://h/", &[("host", "h"), ("host", "h")], false),
            ("https://u@h/", &[], false),
            ("https://h/", &[("a", " x")], false),
            ("https://h/", &[("a", "x\t")], false),
            ("https://h/", &[("a", "")], true),
        ] {
            let mut request = Request::get(target).version(Version::HTTP_2);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(is_well_formed(&head), good, "{target} {headers:?}");
        }
    }
}
