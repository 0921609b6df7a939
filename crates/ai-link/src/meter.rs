use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use proactions_edge::{Principal, Rejection, RequestId};
use proactions_forward::{BoxError, SendError, SendErrorKind};
use tokio::time::Instant;

use crate::call::SeenModel;
use crate::strategy::tree::{Leaf, Node};
use crate::tally::{Tally, Usage};
use crate::target::Target;
use crate::translate::Told;

/// How much of a model's name goes into the log, in characters.
const MAX_MODEL: usize = 128;

/// One event; its level has to be a constant.
macro_rules! event {
    (
        $meter:expr, $level:ident, $message:literal, $usage:ident, $started:ident, status = $status:expr,
        $($field:ident = $value:expr),*
    ) => {{
        let meter: &Meter = $meter;
        let duration = u64::try_from($started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status: Option<StatusCode> = $status;
        tracing::$level!(
            target: "aiLink",
            requestId = meter.request_id.as_ref().map(RequestId::as_str),
            username = meter.principal.as_ref().map(|principal| &*principal.id),
            target = &*meter.target,
            targetPath = meter.attempt.as_ref().map(|attempt| &*attempt.path),
            attempt = meter.attempt.as_ref().map(|attempt| attempt.number),
            provider = meter.provider,
            model = $usage.model.as_deref().or(meter.model.as_deref()),
            promptTokens = $usage.prompt_tokens,
            completionTokens = $usage.completion_tokens,
            totalTokens = $usage.total_tokens,
            duration,
            stream = meter.stream,
            statusCode = status.map(|status| status.as_u16()),
            prompt = meter.prompt.as_deref(),
            response = $usage.text.as_deref(),
            $($field = $value,)*
            $message
        );
    }};
}

/// One request, from the moment its target is known until its answer has ended. When it is dropped it leaves one
/// event in the log, whichever way it ended; each attempt before the last has left its own.
pub(crate) struct Meter {
    target: Arc<str>,
    started: Instant,
    request_id: Option<RequestId>,
    principal: Option<Principal>,
    provider: Option<&'static str>,
    /// Where the target has strategies.
    attempt: Option<Attempt>,
    model: Option<String>,
    form: Option<SeenModel>,
    stream: bool,
    prompt: Option<String>,
    status: Option<StatusCode>,
    tally: Tally,
    ending: Ending,
}

/// One of several calls.
struct Attempt {
    path: Arc<str>,
    /// From 1.
    number: u32,
    started: Instant,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// The client left before the answer's end.
    ClientLeft,
    Complete,
    /// With a name for the log and the details.
    Failed(&'static str, String),
    /// The request was not sent.
    Refused(String),
}

impl Meter {
    pub(crate) fn new(target: &Target, started: Instant, extensions: &http::Extensions) -> Self {
        Self {
            target: Arc::clone(&target.id),
            started,
            request_id: extensions.get().cloned(),
            principal: extensions.get().cloned(),
            provider: match &target.root {
                Node::Leaf(leaf) => Some(leaf.provider),
                Node::Choice(_) => None,
            },
            attempt: None,
            model: None,
            form: None,
            stream: false,
            prompt: None,
            status: None,
            tally: Tally::Off,
            ending: Ending::ClientLeft,
        }
    }

    /// Notes which provider is called now, of a target that has several.
    pub(crate) fn attempts(&mut self, leaf: &Leaf) {
        let before = self.attempt.as_ref().map_or(0, |attempt| attempt.number);
        self.provider = Some(leaf.provider);
        self.attempt = Some(Attempt {
            path: Arc::clone(&leaf.path),
            number: before.saturating_add(1),
            started: Instant::now(),
        });
    }

    /// Notes what the request says.
    pub(crate) fn asked(&mut self, model: Option<String>, stream: bool, prompt: Option<String>) {
        self.model = model.map(shown);
        self.stream = stream;
        self.prompt = prompt;
    }

    /// Notes where a form's model will be known.
    pub(crate) fn uploads(&mut self, model: SeenModel) {
        self.form = Some(model);
    }

    /// Notes the answer's head and how its body is read.
    pub(crate) fn answered(&mut self, status: StatusCode, tally: Tally) {
        self.status = Some(status);
        self.tally = tally;
    }

    /// Notes that the request is not sent.
    pub(crate) fn refused(&mut self, rejection: &Rejection) {
        self.status = Some(rejection.status());
        self.ending = Ending::Refused(rejection.message().to_owned());
    }

    /// Notes that there is no answer to pass on.
    pub(crate) fn failed(&mut self, status: StatusCode, name: &'static str, details: String) {
        self.status = Some(status);
        self.ending = Ending::Failed(name, details);
    }

    /// Logs the attempt under way as one that another will follow.
    pub(crate) fn another_follows(&self, status: StatusCode, name: &'static str, details: &str) {
        let started = match &self.attempt {
            Some(attempt) => attempt.started,
            None => self.started,
        };
        let usage = Usage::default();
        event!(
            self,
            warn,
            "AI request failed, another attempt follows",
            usage,
            started,
            status = Some(status),
            outcome = name,
            error = details
        );
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let usage = self.tally.finish();
        if let Some(model) = self.form.as_ref().and_then(SeenModel::get) {
            self.model = Some(model);
        }
        let started = self.started;
        let status = self.status;
        match &self.ending {
            Ending::Complete => event!(
                self,
                info,
                "AI request answered",
                usage,
                started,
                status = status,
            ),
            Ending::ClientLeft => event!(
                self,
                info,
                "AI request left by the client",
                usage,
                started,
                status = status,
                outcome = "client_left"
            ),
            Ending::Refused(why) => {
                event!(
                    self,
                    info,
                    "AI request refused",
                    usage,
                    started,
                    status = status,
                    outcome = "refused",
                    error = why.as_str()
                );
            }
            Ending::Failed(name, details) => {
                event!(
                    self,
                    error,
                    "AI request failed",
                    usage,
                    started,
                    status = status,
                    outcome = *name,
                    error = details.as_str()
                );
            }
        }
    }
}

/// As much of a model's name as goes into the log.
pub(crate) fn shown(mut model: String) -> String {
    if let Some((end, _)) = model.char_indices().nth(MAX_MODEL) {
        model.truncate(end);
    }
    model
}

/// An answer's body on its way: passed on frame by frame, read by the meter.
///
/// A stream of events whose upstream breaks off ends with one event that says so, as a client of such a
/// stream has no other way to learn of it. Any other body fails, so that the connection is cut and the client
/// does not take a part for the whole.
pub(crate) struct Metered<B> {
    body: B,
    meter: Option<Meter>,
}

impl<B: HttpBody> Metered<B> {
    pub(crate) fn new(body: B, mut meter: Meter) -> Self {
        if body.is_end_stream() {
            meter.ending = Ending::Complete;
        }
        Self {
            body,
            meter: Some(meter),
        }
    }
}

impl<B> HttpBody for Metered<B>
where
    B: HttpBody<Data = Bytes, Error = SendError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(meter) = &mut this.meter else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    meter.tally.feed(data);
                }
                if this.body.is_end_stream() {
                    meter.ending = Ending::Complete;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(end) = meter.tally.done() {
                    // The answer is whole: how the connection ends does not matter any more.
                    meter.ending = Ending::Complete;
                    this.meter = None;
                    let end = Bytes::from_static(end.as_bytes());
                    return Poll::Ready((!end.is_empty()).then(|| Ok(Frame::data(end))));
                }
                let name = error.kind().as_str();
                let message = match error.kind() {
                    SendErrorKind::Timeout => "The upstream service did not go on in time",
                    _ => "The upstream service broke off its answer",
                };
                meter.ending = Ending::Failed(name, error.to_string());
                // What the provider itself said in the middle of its stream is for the client.
                let told = std::error::Error::source(&error)
                    .and_then(|source| source.downcast_ref::<Told>());
                let (kind, message) = told.map_or(("upstream_error", message), |told| {
                    (told.kind.as_str(), told.message.as_str())
                });
                let chunk = serde_json::json!({
                    "error": {"message": message, "type": kind, "code": name},
                });
                let last = match &meter.tally {
                    Tally::Events(events) => Ok(Frame::data(Bytes::from(format!(
                        "{}data: {chunk}\n\n",
                        events.separator(),
                    )))),
                    _ => Err(error.into()),
                };
                this.meter = None;
                Poll::Ready(Some(last))
            }
            None => {
                meter.ending = Ending::Complete;
                this.meter = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // The stream's error event may still be to come while the body under it has ended.
        self.meter.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.meter {
            Some(meter) if matches!(meter.tally, Tally::Events(_)) => SizeHint::default(),
            _ => self.body.size_hint(),
        }
    }
}
