use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, ORIGIN,
    REFERER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};
use proactions_edge::{
    Clock, JsonRejection, Rejection, RejectionKind, RenderRejection, RequestId, SystemClock,
};
use proactions_forward::{Body, HttpClient, SendErrorKind};
use tokio::time::Instant;
use tower_service::Service;

use crate::endpoint::{Endpoint, Payload};
use crate::meter::{Meter, Metered};
use crate::providers::echo;
use crate::tally::Tally;
use crate::target::{Target, Targets};

const TARGET: HeaderName = HeaderName::from_static("x-target");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Asks nginx and its like not to hold a stream back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a name may be that is repeated to the client.
const MAX_SHOWN_NAME: usize = 64;

/// How much of a prompt goes into the log, in bytes.
const MAX_PROMPT: usize = 32 * 1024;

/// Serves `/v1/*`: sends each request to the target that `x-target` names. See the crate's documentation.
#[derive(Clone)]
pub struct AiLink<R = JsonRejection> {
    targets: Targets,
    client: HttpClient,
    clock: Arc<dyn Clock>,
    max_body: usize,
    log_prompt: bool,
    log_response: bool,
    renderer: R,
}

impl AiLink {
    /// A service for these targets, which calls them through `client`.
    #[must_use]
    pub fn new(targets: Targets, client: HttpClient) -> Self {
        Self {
            targets,
            client,
            clock: Arc::new(SystemClock::new()),
            max_body: 50 * 1024 * 1024,
            log_prompt: false,
            log_response: false,
            renderer: JsonRejection,
        }
    }
}

impl<R> AiLink<R> {
    /// Renders refusals in another way than [`JsonRejection`].
    #[must_use]
    pub fn rendering<R2>(self, renderer: R2) -> AiLink<R2> {
        AiLink {
            targets: self.targets,
            client: self.client,
            clock: self.clock,
            max_body: self.max_body,
            log_prompt: self.log_prompt,
            log_response: self.log_response,
            renderer,
        }
    }

    /// Sets how long a JSON body may be, in bytes; 50 MiB unless set. It is held in memory while it is sent.
    #[must_use]
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Writes requests into the log, cut after 32 KiB. They may hold anything that a user typed.
    #[must_use]
    pub const fn log_prompt(mut self, log: bool) -> Self {
        self.log_prompt = log;
        self
    }

    /// Writes answers into the log, cut after 32 KiB.
    #[must_use]
    pub const fn log_response(mut self, log: bool) -> Self {
        self.log_response = log;
        self
    }

    /// Sets where the `echo` provider reads the time.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Rejection> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let endpoint = find_endpoint(&head)?;
        let target = self.find_target(&head.headers)?;
        let mut meter = Meter::new(target.clone(), started, &head.extensions);
        let question = match self.read(endpoint, target, &head, body).await {
            Ok(question) => question,
            Err(rejection) => {
                meter.refused(&rejection);
                return Err(rejection);
            }
        };
        let prompt = (self.log_prompt && endpoint.payload() == Payload::Json)
            .then(|| shortened(&question.known));
        meter.asked(question.model, question.stream, prompt);

        let Some(outgoing) = target.upstream.outgoing(endpoint) else {
            let answer = echo::answer(endpoint, &question.known, question.stream, &*self.clock)
                .inspect_err(|rejection| meter.refused(rejection))?;
            return Ok(self.pass(answer, meter));
        };
        let outgoing = outgoing.map_err(|error| {
            let rejection = Rejection::new(RejectionKind::Internal);
            meter.failed(rejection.status(), "bad_url", error.to_string());
            rejection
        })?;
        let request_id: Option<RequestId> = head.extensions.get().cloned();
        let mut outgoing = outgoing
            .headers_from_client(from_client(head.headers))
            // A compressed answer could not be read for its token counts.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(id) = request_id {
            outgoing = outgoing.header(REQUEST_ID, id.as_header().clone());
        }
        for (name, value) in target.upstream.headers() {
            outgoing = outgoing.header(name.clone(), value.clone());
        }
        if let Some(timeout) = target.timeout {
            outgoing = outgoing.timeout(timeout);
        }
        let outgoing = match question.unread {
            Some(body) => outgoing.body(body),
            None => outgoing.body(question.known),
        };
        let answer = self.client.send(outgoing).await.map_err(|error| {
            let rejection = error.rejection();
            meter.failed(rejection.status(), error.kind().as_str(), error.to_string());
            rejection
        })?;
        // Its location is an address that the client must not call, and this program does not.
        if answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
            let rejection = Rejection::new(RejectionKind::BadGateway);
            let details = format!(
                "the upstream answered with a redirect ({})",
                answer.status()
            );
            let kind = SendErrorKind::Protocol;
            meter.failed(rejection.status(), kind.as_str(), details);
            return Err(rejection);
        }
        Ok(self.pass(answer, meter))
    }

    fn find_target(&self, headers: &HeaderMap) -> Result<&Target, Rejection> {
        let bad = |message| Rejection::new(RejectionKind::BadRequest).with_message(message);
        let mut names = headers.get_all(TARGET).iter();
        let name = names.next().filter(|name| !name.is_empty());
        if names.next().is_some() {
            return Err(bad("Header x-target is given more than once"));
        }
        let Some(name) = name else {
            let missing = bad("Header x-target is missing");
            return self.targets.only().ok_or(missing);
        };
        let name = name.to_str().unwrap_or_default();
        self.targets.get(name).ok_or_else(|| {
            let shown = !name.is_empty()
                && name.len() <= MAX_SHOWN_NAME
                && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            let not_found = Rejection::new(RejectionKind::NotFound);
            if shown {
                not_found.with_message(format!("Target not found: {name}"))
            } else {
                not_found.with_message("Target not found")
            }
        })
    }

    /// Reads what has to be known of the request before it is sent.
    async fn read(
        &self,
        endpoint: Endpoint,
        target: &Target,
        head: &request::Parts,
        body: Body,
    ) -> Result<Question, Rejection> {
        let bad = |message| Rejection::new(RejectionKind::BadRequest).with_message(message);
        let media_type = media_type(&head.headers);
        match endpoint.payload() {
            Payload::None => Ok(Question::default()),
            Payload::Form => {
                if !media_type.eq_ignore_ascii_case("multipart/form-data") {
                    return Err(bad("Content-Type must be multipart/form-data"));
                }
                Ok(Question {
                    unread: Some(body),
                    ..Question::default()
                })
            }
            Payload::Json => {
                if !is_json(media_type) {
                    return Err(bad("Content-Type must be application/json"));
                }
                if head.headers.contains_key(CONTENT_ENCODING) {
                    return Err(bad("Content-Encoding is not supported"));
                }
                let body = body.collect_up_to(self.max_body).await.map_err(|error| {
                    if error.is_too_large() {
                        Rejection::new(RejectionKind::PayloadTooLarge)
                    } else {
                        bad("The request body could not be read")
                    }
                })?;
                let merged = target
                    .defaults
                    .under(&body)
                    .map_err(|error| bad(error.as_str()))?;
                Ok(Question {
                    known: merged.body,
                    unread: None,
                    stream: merged.stream,
                    model: merged.model,
                })
            }
        }
    }

    /// Passes an answer on, with a meter on its body.
    fn pass<B>(&self, answer: Response<B>, mut meter: Meter) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error = proactions_forward::SendError>
            + Send
            + Unpin
            + 'static,
    {
        let (mut head, body) = answer.into_parts();
        let compressed = head
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let tally = if compressed {
            Tally::Off
        } else {
            Tally::new(content_type, self.log_response)
        };
        to_client(&mut head.headers);
        if matches!(tally, Tally::Events(_)) {
            // The event that reports a failure would not fit into it.
            head.headers.remove(CONTENT_LENGTH);
            head.headers
                .insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        }
        meter.answered(head.status, tally);
        Response::from_parts(head, Body::new(Metered::new(body, meter)))
    }
}

/// What a request asks.
#[derive(Debug, Default)]
struct Question {
    /// The body, as it will be sent.
    known: Bytes,
    /// A body that is passed on unread, instead.
    unread: Option<Body>,
    stream: bool,
    model: Option<String>,
}

impl<R> Service<Request<Body>> for AiLink<R>
where
    R: RenderRejection<Body> + Clone + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AiLinkFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> AiLinkFuture {
        let this = self.clone();
        let request_id: Option<RequestId> = request.extensions().get().cloned();
        AiLinkFuture(Box::pin(async move {
            this.answer(request).await.unwrap_or_else(|rejection| {
                rejection.into_response(&this.renderer, request_id.as_ref())
            })
        }))
    }
}

impl<R> fmt::Debug for AiLink<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AiLink")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// The future of an [`AiLink`]. Dropping it ends the upstream's call.
#[must_use = "futures do nothing unless polled"]
pub struct AiLinkFuture(Pin<Box<dyn Future<Output = Response<Body>> + Send>>);

impl Future for AiLinkFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for AiLinkFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AiLinkFuture")
    }
}

fn find_endpoint(head: &request::Parts) -> Result<Endpoint, Rejection> {
    let endpoint =
        Endpoint::at(head.uri.path()).ok_or_else(|| Rejection::new(RejectionKind::NotFound))?;
    if endpoint.method() == head.method {
        return Ok(endpoint);
    }
    let allow = match endpoint.payload() {
        Payload::None => "GET",
        Payload::Form | Payload::Json => "POST",
    };
    Err(Rejection::new(RejectionKind::MethodNotAllowed)
        .with_header(ALLOW, HeaderValue::from_static(allow)))
}

/// What of a client's header may reach a provider, beyond the table of the client's library: nothing that
/// would act as the provider's credential or account, and nothing about the page that the request came from.
fn from_client(mut headers: HeaderMap) -> HeaderMap {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            matches!(**name, ACCEPT_ENCODING | ORIGIN | REFERER)
                || matches!(
                    name.as_str(),
                    "api-key"
                        | "ocp-apim-subscription-key"
                        | "openai-organization"
                        | "openai-project"
                        | "x-api-key"
                        | "x-goog-api-key"
                        | "x-request-id"
                )
                || ["access-control-", "sec-", "x-portkey-"]
                    .iter()
                    .any(|prefix| name.as_str().starts_with(prefix))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    headers
}

/// Removes what tells a client about the account at the provider, and what would undo this program's own CORS
/// and authentication headers.
fn to_client(headers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            **name == WWW_AUTHENTICATE
                || matches!(
                    name.as_str(),
                    "openai-organization" | "openai-project" | "openai-version"
                )
                || ["access-control-", "cf-", "x-amzn-", "x-ms-"]
                    .iter()
                    .any(|prefix| name.as_str().starts_with(prefix))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
}

fn is_json(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

/// The beginning of a text, cut between two characters.
fn shortened(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes.get(..MAX_PROMPT).unwrap_or(bytes));
    text.trim_end_matches(char::REPLACEMENT_CHARACTER)
        .to_owned()
}

/// An answer that this program gives by itself, in the form in which an upstream's comes.
pub(crate) fn own_answer(content_type: &'static str, body: Body) -> Response<OwnBody> {
    let mut response = Response::new(OwnBody(body));
    *response.status_mut() = StatusCode::OK;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body of this program, which cannot fail.
pub(crate) struct OwnBody(Body);

impl http_body::Body for OwnBody {
    type Data = Bytes;
    type Error = proactions_forward::SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map(|frame| frame.and_then(|frame| frame.ok().map(Ok)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}
