use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, REFERER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};
use proactions_edge::{
    Clock, JsonRejection, Rejection, RejectionKind, RenderRejection, RequestId, SystemClock,
};
use proactions_forward::headers::retain;
use proactions_forward::{Body, HttpClient};
use tokio::time::Instant;
use tower_service::Service;

use crate::Breakers;
use crate::call::{AnswerBody, Caller, Content, Failure, Question, REFUSED, Upload};
use crate::endpoint::{Endpoint, Payload};
use crate::meter::{Meter, Metered};
use crate::strategy::retry::{Jitter, retry_after};
use crate::strategy::tree::{Node, Verdict, Walk};
use crate::tally::Tally;
use crate::target::{Target, Targets};

static TARGET: HeaderName = HeaderName::from_static("x-target");

/// Asks nginx and its like not to hold a stream back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a name may be that is repeated to the client.
const MAX_SHOWN_NAME: usize = 64;

/// How long a compressed JSON body may become, in bytes. It is less than what may come uncompressed, as a sender need not
/// send it all: ten kilobytes are enough for this much.
const MAX_INFLATED: usize = 10 * 1024 * 1024;

/// How much is decompressed before others have their turn, in bytes.
const INFLATE_STEP: usize = 256 * 1024;

/// How much of a prompt goes into the log, in bytes.
const MAX_PROMPT: usize = 32 * 1024;

/// Serves `/v1/*`: sends each request to the target that `x-target` names. See the crate's documentation.
#[derive(Clone)]
pub struct AiLink<R = JsonRejection> {
    targets: Targets,
    client: HttpClient,
    clock: Arc<dyn Clock>,
    breakers: Breakers,
    jitter: Arc<Jitter>,
    max_body: usize,
    log_prompt: bool,
    log_response: bool,
    log_usage: bool,
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
            breakers: Breakers::default(),
            jitter: Arc::default(),
            max_body: 50 * 1024 * 1024,
            log_prompt: false,
            log_response: false,
            log_usage: true,
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
            breakers: self.breakers,
            jitter: self.jitter,
            max_body: self.max_body,
            log_prompt: self.log_prompt,
            log_response: self.log_response,
            log_usage: self.log_usage,
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

    /// Reads models out of requests, and models and token counts out of JSON answers, for the log; on unless set. Where no
    /// log is kept it is work for nothing.
    #[must_use]
    pub const fn log_usage(mut self, log: bool) -> Self {
        self.log_usage = log;
        self
    }

    /// Sets where the `echo` provider reads the time.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the circuit breakers: those of the service that this one takes the place of, so that what they know
    /// is kept. Without it all are closed at first.
    #[must_use]
    pub fn breakers(mut self, breakers: Breakers) -> Self {
        let mut paths = HashSet::new();
        self.targets.each_leaf(|leaf| {
            paths.insert(Arc::clone(&leaf.path));
        });
        breakers.retain(|path| paths.contains(path));
        self.breakers = breakers;
        self
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Rejection> {
        let started = Instant::now();
        let (mut head, body) = request.into_parts();
        let endpoint = find_endpoint(&head)?;
        let target = self.find_target(&head.headers)?;
        // It would be removed below all the same, by a name that is copied for that.
        head.headers.remove(&TARGET);
        let mut meter = Meter::new(target, started, &head.extensions);
        let content = match self.read(endpoint, &head, body).await {
            Ok(content) => content,
            Err(rejection) => {
                meter.refused(&rejection);
                return Err(rejection);
            }
        };
        match &content {
            Content::Form(upload) => meter.uploads(upload.model()),
            // It is sent on as it was before it was compressed.
            Content::Json(_) => {
                head.headers.remove(CONTENT_ENCODING);
            }
            Content::None => {}
        }
        let question = Question {
            endpoint,
            headers: from_client(head.headers),
            query: (endpoint == Endpoint::Models)
                .then(|| head.uri.query().map(str::to_owned))
                .flatten(),
            request_id: head.extensions.get().cloned(),
            content,
            once: matches!(target.root, Node::Leaf(_)),
        };
        match self.ask(target, question, &mut meter).await {
            Ok(answer) => Ok(self.pass(answer, meter)),
            Err(failure) if failure.name == REFUSED => {
                meter.refused(&failure.rejection);
                Err(failure.rejection)
            }
            Err(failure) => {
                meter.failed(failure.rejection.status(), failure.name, failure.details);
                Err(failure.rejection)
            }
        }
    }

    /// Asks one provider after the other, until one gives an answer that can be passed on or none is left. Then the
    /// last one's answer counts.
    async fn ask(
        &self,
        target: &Target,
        mut question: Question,
        meter: &mut Meter,
    ) -> Result<Response<AnswerBody>, Failure> {
        let caller = Caller {
            client: &self.client,
            clock: &*self.clock,
        };
        // A list of models is no work: whoever can give one may.
        let any = question.endpoint == Endpoint::Models;
        let (mut walk, mut next) = Walk::begin(&target.root, any);
        let mut last = None;
        let mut shortest: Option<Duration> = None;
        while let Some(leaf) = next {
            let mut permit = match self.breakers.admit(&leaf.path, leaf.breaker) {
                Ok(permit) => permit,
                Err(wait) => {
                    shortest = Some(shortest.map_or(wait, |known| known.min(wait)));
                    next = walk.after(Verdict::Unavailable);
                    continue;
                }
            };
            let begun = Instant::now();
            let end = begun + leaf.timeout.unwrap_or(self.client.timeout());
            let mut calls = 0;
            // The calls of this one provider.
            let verdict = loop {
                if let Some(before) = last.take() {
                    note(meter, &before);
                }
                if !question.once {
                    meter.attempts(leaf);
                }
                let mut merged = question
                    .merged(leaf, self.log_usage)
                    .map_err(Failure::refused)?;
                let prompt = (self.log_prompt && question.endpoint.payload() == Payload::Json)
                    .then(|| shortened(&merged.body));
                meter.asked(merged.model.take(), merged.stream, prompt);
                // Whether an upload waits for its client or for the provider, only the HTTP client sees.
                let is_form = matches!(question.content, Content::Form(_));
                let deadline = (calls > 0 && !is_form).then(|| end + time_to_send(&merged.body));
                let outcome = caller.call(leaf, &mut question, merged, deadline).await;
                calls += 1;
                let (status, verdict) = match &outcome {
                    Ok(answer) => (answer.status(), Verdict::Answered(answer.status())),
                    Err(failure) => match failure.verdict {
                        Some(verdict) => (failure.rejection.status(), verdict),
                        None => return outcome,
                    },
                };
                match &outcome {
                    Ok(answer) if !answer.status().is_server_error() => permit.succeeded(),
                    Err(_) if verdict != Verdict::NoAnswer => drop(permit),
                    Ok(_) | Err(_) => permit.failed(),
                }
                let asked = match &outcome {
                    Ok(answer) => retry_after(answer.headers(), self.clock.now()),
                    Err(_) => None,
                };
                last = Some(outcome);
                if !question.is_whole() {
                    break None;
                }
                let wait = leaf.retry.wait(calls, status, asked, &self.jitter);
                let Some(wait) = wait.filter(|wait| Instant::now() + *wait < end) else {
                    break Some(verdict);
                };
                if self.breakers.is_open(&leaf.path) {
                    break Some(verdict);
                }
                if let Some(before) = last.take() {
                    note(meter, &before);
                }
                tokio::time::sleep(wait).await;
                permit = match self.breakers.admit(&leaf.path, leaf.breaker) {
                    Ok(permit) => permit,
                    Err(wait) => {
                        shortest = Some(shortest.map_or(wait, |known| known.min(wait)));
                        break Some(Verdict::Unavailable);
                    }
                };
            };
            next = verdict.and_then(|verdict| walk.after(verdict));
        }
        last.unwrap_or_else(|| Err(unavailable(shortest.unwrap_or_default())))
    }

    fn find_target(&self, headers: &HeaderMap) -> Result<&Target, Rejection> {
        let bad = |message| Rejection::new(RejectionKind::BadRequest).with_message(message);
        let mut names = headers.get_all(&TARGET).iter();
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
        head: &request::Parts,
        body: Body,
    ) -> Result<Content, Rejection> {
        let bad = |message| Rejection::new(RejectionKind::BadRequest).with_message(message);
        let media_type = media_type(&head.headers);
        match endpoint.payload() {
            Payload::None => Ok(Content::None),
            Payload::Form => {
                if !media_type.eq_ignore_ascii_case("multipart/form-data") {
                    return Err(bad("Content-Type must be multipart/form-data"));
                }
                Ok(Content::Form(Upload::new(body)))
            }
            Payload::Json => {
                if !is_json(media_type) {
                    return Err(bad("Content-Type must be application/json"));
                }
                require_utf8(&head.headers)?;
                let coding = Coding::of(&head.headers)?;
                let too_large = || Rejection::new(RejectionKind::PayloadTooLarge);
                let body = body.collect_up_to(self.max_body).await.map_err(|error| {
                    if error.is_too_large() {
                        too_large()
                    } else {
                        bad("The request body could not be read")
                    }
                })?;
                let max = self.max_body.min(MAX_INFLATED);
                let body = match coding.inflate(body, max).await {
                    Ok(Some(body)) => body,
                    Ok(None) => return Err(too_large()),
                    Err(_) => return Err(bad("The request body could not be decompressed")),
                };
                Ok(Content::Json(without_byte_order_mark(body)))
            }
        }
    }

    /// Passes an answer on, with a meter on its body.
    fn pass(&self, answer: Response<AnswerBody>, mut meter: Meter) -> Response<Body> {
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
        let tally = match Tally::new(content_type, self.log_response) {
            _ if compressed => Tally::Off,
            // A stream is read all the same: whether it is complete decides how it ends.
            Tally::Json(_) if !self.log_usage && !self.log_response => Tally::Off,
            tally => tally,
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

/// Logs a call that another one follows.
fn note(meter: &Meter, outcome: &Result<Response<AnswerBody>, Failure>) {
    match outcome {
        Ok(answer) => {
            let details = format!("the upstream answered with {}", answer.status());
            meter.another_follows(answer.status(), "upstream_status", &details);
        }
        Err(failure) => {
            meter.another_follows(failure.rejection.status(), failure.name, &failure.details);
        }
    }
}

fn time_to_send(body: &Bytes) -> Duration {
    HttpClient::time_to_send(u64::try_from(body.len()).unwrap_or(u64::MAX))
}

/// No provider was called, as each is known to be down.
fn unavailable(wait: Duration) -> Failure {
    let wait = wait.max(Duration::from_secs(1));
    Failure {
        rejection: Rejection::new(RejectionKind::Unavailable)
            .with_message("The target is not available, please try again later.")
            .with_retry_after(wait),
        name: "breaker_open",
        details: "not called: the provider is known to be down".to_owned(),
        verdict: Some(Verdict::Unavailable),
    }
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
            Ok(this.answer(request).await.unwrap_or_else(|rejection| {
                rejection.into_response(&this.renderer, request_id.as_ref())
            }))
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
pub struct AiLinkFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>);

impl AiLinkFuture {
    /// The future as what it is inside, for a caller that would box it.
    #[must_use]
    pub fn into_boxed(
        self,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>> {
        self.0
    }
}

impl Future for AiLinkFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
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
    retain(&mut headers, |name| {
        let dropped = matches!(*name, ACCEPT_ENCODING | ORIGIN | REFERER)
            || matches!(
                name.as_str(),
                "api-key"
                    | "ocp-apim-subscription-key"
                    | "openai-organization"
                    | "openai-project"
                    | "x-api-key"
                    | "x-request-id"
            )
            || ["access-control-", "sec-", "x-amz-", "x-goog-", "x-portkey-"]
                .iter()
                .any(|prefix| name.as_str().starts_with(prefix));
        !dropped
    });
    headers
}

/// Removes what tells a client about the account at the provider, and what would undo this program's own CORS
/// and authentication headers.
fn to_client(headers: &mut HeaderMap) {
    retain(headers, |name| {
        let dropped = *name == WWW_AUTHENTICATE
            || matches!(
                name.as_str(),
                "openai-organization" | "openai-project" | "openai-version"
            )
            || ["access-control-", "cf-", "x-amzn-", "x-ms-"]
                .iter()
                .any(|prefix| name.as_str().starts_with(prefix));
        !dropped
    });
}

fn media_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
}

/// Refuses a `charset` other than UTF-8, the only one of JSON (RFC 8259 section 8.1).
fn require_utf8(headers: &HeaderMap) -> Result<(), Rejection> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let parameters = content_type.unwrap_or_default().split(';').skip(1);
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !name.trim().eq_ignore_ascii_case("charset") {
            continue;
        }
        let charset = value.trim().trim_matches('"');
        if !["utf-8", "utf8"]
            .iter()
            .any(|utf8| charset.eq_ignore_ascii_case(utf8))
        {
            return Err(unsupported("charset", charset));
        }
    }
    Ok(())
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug)]
enum Coding {
    Deflate,
    Gzip,
    Identity,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut found = Self::Identity;
        for field in headers.get_all(CONTENT_ENCODING) {
            for name in field.to_str().unwrap_or("?").split(',').map(str::trim) {
                let coding = match name.to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    _ => return Err(unsupported("content encoding", name)),
                };
                // Compressed twice, a little expands to very much.
                if !matches!(found, Self::Identity) {
                    return Err(unsupported("content encoding", "more than one"));
                }
                found = coding;
            }
        }
        Ok(found)
    }

    /// The body as it was before it was compressed; `None` when that is longer than `max`.
    async fn inflate(self, body: Bytes, max: usize) -> io::Result<Option<Bytes>> {
        let mut reader: Box<dyn io::Read + Send> = match self {
            Self::Identity => return Ok(Some(body)),
            Self::Gzip => Box::new(MultiGzDecoder::new(body.reader())),
            Self::Deflate => Box::new(ZlibDecoder::new(body.reader())),
        };
        let mut inflated = Vec::new();
        loop {
            let room = max.saturating_add(1) - inflated.len();
            let step = u64::try_from(room.min(INFLATE_STEP)).unwrap_or(u64::MAX);
            if reader.by_ref().take(step).read_to_end(&mut inflated)? == 0 {
                return Ok(Some(inflated.into()));
            }
            if inflated.len() > max {
                return Ok(None);
            }
            // Other requests on this thread go on in between.
            tokio::task::yield_now().await;
        }
    }
}

fn unsupported(what: &str, name: &str) -> Rejection {
    let shown =
        name.len() <= MAX_SHOWN_NAME && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let message = if shown {
        format!("unsupported {what} \"{name}\"")
    } else {
        format!("unsupported {what}")
    };
    Rejection::new(RejectionKind::BadRequest)
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .with_message(message)
}

/// Some programs put the mark before every text that they write.
fn without_byte_order_mark(body: Bytes) -> Bytes {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if body.starts_with(MARK) {
        body.slice(MARK.len()..)
    } else {
        body
    }
}

fn is_json(media_type: &str) -> bool {
    let ends_with = |end: &str| {
        let from = media_type.len().checked_sub(end.len());
        let rest = from.and_then(|from| media_type.get(from..));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(end))
    };
    media_type.eq_ignore_ascii_case("application/json") || ends_with("+json")
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
