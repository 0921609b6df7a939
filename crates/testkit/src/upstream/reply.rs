use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Holds a reply back until the test lets it go on. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A gate through which nothing passes yet.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets `count` waiting or later steps pass.
    pub fn release(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Lets everything pass, now and later.
    pub fn open(&self) {
        self.0.close();
    }

    pub(super) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// One thing that a reply does after the one before it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Breaks off and closes the connection: HTTP/1.1 sees no end of the body, HTTP/2 a reset stream.
    Close,
    /// Sends this many bytes (`x`) without holding them in memory.
    Fill(u64),
    /// Does nothing more until the client leaves.
    Hang,
    /// Waits this long, in real time.
    Pause(Duration),
    /// Sends this again and again until the client leaves.
    Repeat(Bytes),
    /// Breaks off with a TCP reset.
    Reset,
    /// Sends this, as one frame.
    Send(Bytes),
    /// Ends the body with trailer fields. Ignored outside of a body.
    Trailers(HeaderMap),
    /// Waits for the gate.
    Wait(Gate),
}

impl Step {
    /// Sends `bytes`.
    #[must_use]
    pub fn send(bytes: impl Into<Bytes>) -> Self {
        Self::Send(bytes.into())
    }
}

/// What an [`Upstream`](crate::Upstream) answers to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) before_head: Vec<Step>,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The request described in JSON.
    Echo,
    /// The request's body, byte for byte, as it comes.
    EchoBody,
    Steps(Vec<Step>),
}

impl Reply {
    /// An answer without a body. A status out of range panics.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status between 100 and 999"),
            headers: HeaderMap::new(),
            before_head: Vec::new(),
            content: Content::Steps(Vec::new()),
        }
    }

    /// 200 with `{"method", "target", "version", "headers": [[name, value], …], "body", "bodyHex", "bodyLength"}`.
    /// `body` is null where the body is not UTF-8. The headers come in the order of their first appearance;
    /// [`Connection::wire`](crate::Connection::wire) has the exact bytes.
    #[must_use]
    pub fn echo() -> Self {
        let mut reply = Self::new(200).with_header("content-type", "application/json");
        reply.content = Content::Echo;
        reply
    }

    /// 200 with the request's body, byte for byte, as it comes. The server must
    /// [answer before the body](crate::UpstreamBuilder::answer_before_body), or it is sent back only at its end.
    #[must_use]
    pub fn echo_body() -> Self {
        let mut reply = Self::new(200).with_header("content-type", "application/octet-stream");
        reply.content = Content::EchoBody;
        reply
    }

    /// `body` with this status and content type.
    #[must_use]
    pub fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new(status)
            .with_header(CONTENT_TYPE.as_str(), content_type)
            .then(Step::send(body))
    }

    /// `body` with this status, as JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string())
    }

    /// An error in the shape of the OpenAI API; 429 comes with `Retry-After: 7`.
    #[must_use]
    pub fn error(status: u16) -> Self {
        let body = json!({"error": {
            "message": format!("upstream says {status}"), "type": "stand_in_error", "param": null, "code": null,
        }});
        let reply = Self::json(status, &body);
        if status == 429 {
            reply.with_header(RETRY_AFTER.as_str(), "7")
        } else {
            reply
        }
    }

    /// A redirect to `location`.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::new(status).with_header(LOCATION.as_str(), location)
    }

    /// A chat completion that says `text`.
    #[must_use]
    pub fn chat(text: &str) -> Self {
        let body = json!({
            "id": "chatcmpl-stand-in", "object": "chat.completion", "created": 1_767_225_600, "model": "stand-in",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15},
        });
        Self::json(200, &body)
    }

    /// A streamed chat completion of `count` chunks `w0 `, `w1 ` … and `[DONE]`.
    #[must_use]
    pub fn chat_stream(count: usize) -> Self {
        Self::sse((0..count).map(|index| {
            let finish = (index + 1 == count).then_some("stop");
            let event = json!({
                "id": "chatcmpl-stand-in", "object": "chat.completion.chunk", "created": 1_767_225_600,
                "model": "stand-in",
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": format!("w{index} ")},
                    "logprobs": null, "finish_reason": finish}],
            });
            format!("data: {event}\n\n")
        }))
        .then(Step::send("data: [DONE]\n\n"))
    }

    /// A stream of server-sent events, each sent as one frame, as they are given (with their `data: ` and the
    /// empty line).
    #[must_use]
    pub fn sse<B: Into<Bytes>>(events: impl IntoIterator<Item = B>) -> Self {
        let mut reply = Self::new(200)
            .with_header(CONTENT_TYPE.as_str(), "text/event-stream")
            .with_header("cache-control", "no-cache");
        reply.content = Content::Steps(events.into_iter().map(Step::send).collect());
        reply
    }

    /// One embedding of three numbers.
    #[must_use]
    pub fn embeddings() -> Self {
        let body = json!({
            "object": "list", "model": "stand-in",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1.0]}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        });
        Self::json(200, &body)
    }

    /// A list of two models.
    #[must_use]
    pub fn models() -> Self {
        let model = |id| json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": "stand-in"});
        Self::json(
            200,
            &json!({"object": "list", "data": [model("stand-in"), model("stand-in-large")]}),
        )
    }

    /// A body of `len` bytes that is never held in memory as a whole.
    #[must_use]
    pub fn huge(len: u64) -> Self {
        Self::new(200)
            .with_header(CONTENT_TYPE.as_str(), "application/octet-stream")
            .declaring(len)
            .then(Step::Fill(len))
    }

    /// Adds a header; a second one of the same name is kept beside the first.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.append(name, value);
        self
    }

    /// Declares this `Content-Length`, whatever the body really is. HTTP/1.1 sends no more than that; if the body
    /// is shorter, the connection is closed when it ends.
    #[must_use]
    pub fn declaring(mut self, len: u64) -> Self {
        self.headers.insert(CONTENT_LENGTH, len.into());
        self
    }

    /// Appends a step to the body.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps().push(step);
        self
    }

    /// Does this before the head of the answer is sent: waiting, pausing, hanging or breaking off.
    #[must_use]
    pub fn before_head(mut self, step: Step) -> Self {
        self.before_head.push(step);
        self
    }

    /// Sends nothing at all, and waits until the client leaves.
    #[must_use]
    pub fn silence() -> Self {
        Self::new(200).before_head(Step::Hang)
    }

    /// Each piece of the body so far waits for the gate once; the `[DONE]` of a chat stream is a piece as well.
    #[must_use]
    pub fn gated(self, gate: &Gate) -> Self {
        self.spread(|| Step::Wait(gate.clone()))
    }

    /// Each piece of the body so far comes this much later than the one before.
    #[must_use]
    pub fn spaced(self, pause: Duration) -> Self {
        self.spread(|| Step::Pause(pause))
    }

    /// Sends the body so far byte for byte, each this much later than the one before.
    #[must_use]
    pub fn dripping(mut self, pause: Duration) -> Self {
        let steps = std::mem::take(self.steps());
        *self.steps() = steps
            .into_iter()
            .flat_map(|step| match step {
                Step::Send(bytes) => (0..bytes.len())
                    .map(|at| Step::Send(bytes.slice(at..=at)))
                    .collect(),
                other => vec![other],
            })
            .collect();
        self.spaced(pause)
    }

    /// After `count` sent pieces does `ending` in place of the rest.
    #[must_use]
    pub fn cut_after(mut self, count: usize, ending: Step) -> Self {
        let mut sent = 0;
        self.steps().retain(|step| {
            let keep = sent < count;
            sent += usize::from(matches!(step, Step::Send(_)));
            keep
        });
        self.then(ending)
    }

    fn spread(mut self, mut before_each: impl FnMut() -> Step) -> Self {
        let steps = std::mem::take(self.steps());
        for step in steps {
            if matches!(step, Step::Send(_)) {
                self.steps().push(before_each());
            }
            self.steps().push(step);
        }
        self
    }

    fn steps(&mut self) -> &mut Vec<Step> {
        match &mut self.content {
            Content::Steps(steps) => steps,
            Content::Echo | Content::EchoBody => panic!("an echo has no steps of its own"),
        }
    }
}
