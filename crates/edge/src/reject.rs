use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::RequestId;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The upstream could not be reached or broke off (502).
    BadGateway,
    /// The request is malformed (400).
    BadRequest,
    /// A cookie, or a login that the browser remembers, would act on a request that another site made (403).
    CrossSite,
    /// The address is on a deny list (403).
    DeniedAddress,
    /// The caller is known and may not do this (403).
    Forbidden,
    /// The upstream did not answer in time (504).
    GatewayTimeout,
    /// The request's header fields are more or larger than allowed (431, RFC 6585 section 5).
    HeaderFieldsTooLarge,
    /// A fault of this process (500).
    Internal,
    /// Too many failed attempts to enter (429).
    LockedOut,
    /// The path exists, not for this method (405).
    MethodNotAllowed,
    /// Nothing is there (404).
    NotFound,
    /// The body is larger than allowed (413).
    PayloadTooLarge,
    /// More requests than allowed (429).
    RateLimited,
    /// The client did not send the request in time (408).
    RequestTimeout,
    /// No valid credentials (401).
    Unauthorized,
    /// A part that the request needs is down (503).
    Unavailable,
    /// The request target is longer than allowed (414).
    UriTooLong,
}

impl RejectionKind {
    /// The status that goes with it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::CrossSite | Self::DeniedAddress | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::HeaderFieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::LockedOut | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
        }
    }

    /// A stable name for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadGateway => "bad_gateway",
            Self::BadRequest => "bad_request",
            Self::CrossSite => "cross_site",
            Self::DeniedAddress => "denied_address",
            Self::Forbidden => "forbidden",
            Self::GatewayTimeout => "gateway_timeout",
            Self::HeaderFieldsTooLarge => "header_fields_too_large",
            Self::Internal => "internal",
            Self::LockedOut => "locked_out",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotFound => "not_found",
            Self::PayloadTooLarge => "payload_too_large",
            Self::RateLimited => "rate_limited",
            Self::RequestTimeout => "request_timeout",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
            Self::UriTooLong => "uri_too_long",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::BadGateway => "The upstream service could not be reached",
            Self::BadRequest => "Bad request",
            Self::CrossSite => "Cross-site request refused",
            Self::DeniedAddress | Self::Forbidden => "Forbidden",
            Self::GatewayTimeout => "The upstream service did not answer in time",
            Self::HeaderFieldsTooLarge => "Request header fields too large",
            Self::Internal => "Internal server error",
            Self::LockedOut => "Too many failed attempts, please try again later.",
            Self::MethodNotAllowed => "Method not allowed",
            Self::NotFound => "Not found",
            Self::PayloadTooLarge => "request entity too large",
            Self::RateLimited => "Too many requests, please try again later.",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::Unauthorized => "Unauthorized",
            Self::Unavailable => "Service unavailable",
            Self::UriTooLong => "Request target too long",
        }
    }
}

/// A refused request: the one value that is rendered to the client, logged and counted.
///
/// ```
/// use bytes::Bytes;
/// use proactions_edge::{JsonRejection, Rejection, RejectionKind};
///
/// # #[derive(Debug)] struct Body(Bytes);
/// # impl From<Bytes> for Body { fn from(bytes: Bytes) -> Self { Self(bytes) } }
/// let refused = Rejection::new(RejectionKind::Unauthorized).with_message("Invalid token");
/// let response: http::Response<Body> = refused.into_response(&JsonRejection, None);
/// assert_eq!(response.status(), 401);
/// assert_eq!(response.extensions().get::<Rejection>().unwrap().kind(), RejectionKind::Unauthorized);
/// ```
#[derive(Clone, Debug)]
pub struct Rejection {
    kind: RejectionKind,
    status: StatusCode,
    message: Cow<'static, str>,
    headers: HeaderMap,
}

impl Rejection {
    /// A refusal with the usual message of its kind.
    #[must_use]
    pub fn new(kind: RejectionKind) -> Self {
        Self {
            kind,
            status: kind.status(),
            message: Cow::Borrowed(kind.message()),
            headers: HeaderMap::new(),
        }
    }

    /// Replaces the message. It is shown to the client, so it tells nothing about the inside.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Answers with another status than the usual one of the kind.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds `Retry-After` in whole seconds, rounded up and at least 1 (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Renders the answer and leaves the rejection in its extensions, so that the access log and the metrics
    /// know why.
    pub fn into_response<B, R>(self, renderer: &R, request_id: Option<&RequestId>) -> Response<B>
    where
        R: RenderRejection<B> + ?Sized,
    {
        let mut response = renderer.render(&self, request_id);
        response.headers_mut().extend(self.headers.clone());
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status().as_u16(), self.message)
    }
}

/// Turns a [`Rejection`] into an answer. [`Rejection::into_response`] adds the rejection's own headers.
pub trait RenderRejection<B> {
    /// The answer for `rejection`.
    fn render(&self, rejection: &Rejection, request_id: Option<&RequestId>) -> Response<B>;
}

impl<B, F> RenderRejection<B> for F
where
    F: Fn(&Rejection, Option<&RequestId>) -> Response<B>,
{
    fn render(&self, rejection: &Rejection, request_id: Option<&RequestId>) -> Response<B> {
        self(rejection, request_id)
    }
}

/// The default renderer: `{"statusCode":…,"message":…,"error":…,"requestId":…}` with `Cache-Control: no-store`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "a unit struct is its own value")]
pub struct JsonRejection;

impl<B: From<Bytes>> RenderRejection<B> for JsonRejection {
    fn render(&self, rejection: &Rejection, request_id: Option<&RequestId>) -> Response<B> {
        let status = rejection.status();
        let mut body = String::with_capacity(160);
        body.push_str("{\"statusCode\":");
        body.push_str(status.as_str());
        body.push_str(",\"message\":");
        push_json_string(&mut body, rejection.message());
        body.push_str(",\"error\":");
        push_json_string(&mut body, status.canonical_reason().unwrap_or("Error"));
        if let Some(id) = request_id {
            body.push_str(",\"requestId\":");
            push_json_string(&mut body, id.as_str());
        }
        body.push('}');
        let mut response = Response::new(B::from(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        response.headers_mut().insert(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        );
        response
    }
}

fn push_json_string(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(rejection: Rejection, id: Option<&RequestId>) -> (Response<Bytes>, serde_json::Value) {
        let response: Response<Bytes> = rejection.into_response(&JsonRejection, id);
        let json = serde_json::from_slice(response.body()).unwrap();
        (response, json)
    }

    #[test]
    fn the_shape_that_clients_parse() {
        let id = RequestId::from_header(HeaderValue::from_static("r-1")).unwrap();
        let refused = Rejection::new(RejectionKind::RateLimited)
            .with_message("slow \"down\"\n")
            .with_retry_after(Duration::from_millis(1));
        let (response, json) = body(refused, Some(&id));
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(
            response.headers()["content-type"],
            "application/json; charset=utf-8"
        );
        assert_eq!(
            json,
            serde_json::json!({
                "statusCode": 429, "message": "slow \"down\"\n", "error": "Too Many Requests", "requestId": "r-1",
            })
        );
    }

    #[test]
    fn a_status_of_its_own_stands_in_the_body_too() {
        let refused =
            Rejection::new(RejectionKind::RateLimited).with_status(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.kind(), RejectionKind::RateLimited);
        let (response, json) = body(refused, None);
        assert_eq!(response.status(), 503);
        assert_eq!(json["statusCode"], 503);
        assert_eq!(json["error"], "Service Unavailable");
    }

    #[test]
    fn waits_are_rounded_up() {
        for (millis, header) in [
            (0, "1"),
            (1, "1"),
            (1000, "1"),
            (1001, "2"),
            (900_000, "900"),
        ] {
            let refused = Rejection::new(RejectionKind::Unavailable)
                .with_retry_after(Duration::from_millis(millis));
            assert_eq!(body(refused, None).0.headers()["retry-after"], header);
        }
    }

    proptest! {
        #[test]
        fn every_message_is_valid_json(message in any::<String>()) {
            let (_, json) = body(Rejection::new(RejectionKind::BadRequest).with_message(message.clone()), None);
            prop_assert_eq!(json["message"].as_str(), Some(message.as_str()));
        }
    }
}
