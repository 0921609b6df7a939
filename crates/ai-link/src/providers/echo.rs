//! A provider without an upstream: it answers with the question. For first runs and probes.
//!
//! The answers have the shape that OpenAI's API documents, down to the members that its official clients
//! require.

use std::convert::Infallible;
use std::iter::once;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use proactions_edge::{Clock, Rejection, RejectionKind};
use proactions_forward::Body;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Endpoint;
use crate::meter::shown;
use crate::service::{OwnBody, own_answer};
use crate::tree::{self, TreeError};

/// How much of a question is echoed, in characters.
const MAX_TEXT: usize = 16 * 1024;

/// The end of a stream.
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

const MAX_INPUTS: usize = 2048;

const MAX_DIMENSIONS: usize = 4096;

/// How many numbers the vectors of one answer may have together.
const MAX_NUMBERS: usize = 65_536;

/// The answer to a request whose body was found to be a JSON object.
pub(crate) fn answer(
    endpoint: Endpoint,
    body: &Bytes,
    stream: bool,
    clock: &dyn Clock,
) -> Result<Response<OwnBody>, Rejection> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);

    let created = clock
        .now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let request: Map<String, Value> = match tree::read(body) {
        Err(TreeError::TooLarge) => return Err(refuse("The request body holds too many values")),
        request => request.unwrap_or_default(),
    };
    let echo = Echo {
        created,
        id: format!("echo-{created:x}-{serial:x}"),
        model: request
            .get("model")
            .and_then(Value::as_str)
            .map_or_else(|| "echo".to_owned(), |model| shown(model.to_owned())),
        prompt_tokens: 0,
        text: String::new(),
    };
    let with_usage = request
        .get("stream_options")
        .and_then(|options| options.get("include_usage"))
        == Some(&Value::Bool(true));
    match endpoint {
        Endpoint::ChatCompletions => {
            let echo = echo.about(&request, "messages")?;
            Ok(if stream {
                events(echo.chat_chunks(with_usage))
            } else {
                whole(&echo.chat())
            })
        }
        Endpoint::Completions => {
            let echo = echo.about(&request, "prompt")?;
            Ok(if stream {
                events(echo.completion_chunks(with_usage))
            } else {
                whole(&echo.completion())
            })
        }
        Endpoint::Responses => {
            let echo = echo.about(&request, "input")?;
            Ok(if stream {
                events(echo.response_events())
            } else {
                whole(&echo.response("completed"))
            })
        }
        Endpoint::Embeddings => embeddings(&request, &echo.model),
        Endpoint::Models => Ok(whole(&json!({
            "object": "list",
            "data": [{"id": "echo", "object": "model", "created": created, "owned_by": "proactions"}],
        }))),
        _ => Err(refuse("The echo target does not serve this")),
    }
}

struct Echo {
    created: u64,
    id: String,
    model: String,
    prompt_tokens: usize,
    text: String,
}

impl Echo {
    /// Takes the text to echo from the request.
    fn about(mut self, request: &Map<String, Value>, member: &str) -> Result<Self, Rejection> {
        let question = request
            .get(member)
            .ok_or_else(|| refuse(&format!("The request needs `{member}`")))?;
        self.prompt_tokens = words(question);
        self.text = last_text(question)
            .unwrap_or_default()
            .chars()
            .take(MAX_TEXT)
            .collect();
        Ok(self)
    }

    fn usage(&self) -> Value {
        let completion = self.text.split_whitespace().count();
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        })
    }

    fn chat(&self) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.id),
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": self.text, "refusal": null, "annotations": []},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": self.usage(),
            "service_tier": "default",
            "system_fingerprint": null,
        })
    }

    fn chat_chunks(mut self, with_usage: bool) -> impl Iterator<Item = Bytes> + Send + 'static {
        let usage = self.usage();
        let pieces = pieces(std::mem::take(&mut self.text));
        let chunk = move |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": format!("chatcmpl-{}", self.id),
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "service_tier": "default",
                "system_fingerprint": null,
                "choices": choices,
            });
            if let (true, Some(chunk)) = (with_usage, chunk.as_object_mut()) {
                chunk.insert("usage".to_owned(), usage);
            }
            event(&chunk)
        };
        let choice = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        let first = json!({"role": "assistant", "content": "", "refusal": null});
        let first = chunk(choice(first, Value::Null), Value::Null);
        let last = [
            Some(chunk(choice(json!({}), "stop".into()), Value::Null)),
            with_usage.then(|| chunk(json!([]), usage)),
            Some(DONE),
        ];
        let pieces = pieces.map(move |piece| {
            let delta = json!({"content": piece});
            chunk(choice(delta, Value::Null), Value::Null)
        });
        once(first).chain(pieces).chain(last.into_iter().flatten())
    }

    fn completion(&self) -> Value {
        json!({
            "id": format!("cmpl-{}", self.id),
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"text": self.text, "index": 0, "logprobs": null, "finish_reason": "stop"}],
            "usage": self.usage(),
        })
    }

    fn completion_chunks(
        mut self,
        with_usage: bool,
    ) -> impl Iterator<Item = Bytes> + Send + 'static {
        let usage = self.usage();
        let pieces = pieces(std::mem::take(&mut self.text));
        let chunk = move |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": format!("cmpl-{}", self.id),
                "object": "text_completion",
                "created": self.created,
                "model": self.model,
                "choices": choices,
            });
            if let (true, Some(chunk)) = (with_usage, chunk.as_object_mut()) {
                chunk.insert("usage".to_owned(), usage);
            }
            event(&chunk)
        };
        let choice = |text: &str, finish: Value| json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]);
        let last = [
            Some(chunk(choice("", "stop".into()), Value::Null)),
            with_usage.then(|| chunk(json!([]), usage)),
            Some(DONE),
        ];
        pieces
            .map(move |piece| chunk(choice(&piece, Value::Null), Value::Null))
            .chain(last.into_iter().flatten())
    }

    fn output(&self, status: &str, text: Option<&str>) -> Value {
        let content =
            text.map(|text| json!({"type": "output_text", "text": text, "annotations": []}));
        json!({
            "id": format!("msg_{}", self.id),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content.into_iter().collect::<Vec<_>>(),
        })
    }

    fn response(&self, status: &str) -> Value {
        let done = status == "completed";
        let completion = self.text.split_whitespace().count();
        let output = done.then(|| self.output("completed", Some(&self.text)));
        let usage = done.then(|| {
            json!({
                "input_tokens": self.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.prompt_tokens + completion,
            })
        });
        json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "instructions": null,
            "max_output_tokens": null,
            "metadata": {},
            "model": self.model,
            "output": output.into_iter().collect::<Vec<_>>(),
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage,
            "user": null,
        })
    }

    /// The events of a streamed response. Unlike the other streams it has no `[DONE]`.
    fn response_events(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        fn part(text: &str) -> Value {
            json!({"type": "output_text", "text": text, "annotations": []})
        }

        fn with(mut event: Value, name: &str, value: Value) -> Value {
            if let Some(event) = event.as_object_mut() {
                event.insert(name.to_owned(), value);
            }
            event
        }

        let pieces = pieces(self.text.clone());
        let echo = Arc::new(self);
        let at =
            json!({"item_id": format!("msg_{}", echo.id), "output_index": 0, "content_index": 0});
        let begin = [
            (
                "response.created",
                json!({"response": echo.response("in_progress")}),
            ),
            (
                "response.in_progress",
                json!({"response": echo.response("in_progress")}),
            ),
            (
                "response.output_item.added",
                json!({"output_index": 0, "item": echo.output("in_progress", None)}),
            ),
            (
                "response.content_part.added",
                with(at.clone(), "part", part("")),
            ),
        ];
        let place = at.clone();
        let pieces = pieces.map(move |piece| {
            let delta = with(place.clone(), "delta", piece.into());
            ("response.output_text.delta", delta)
        });
        let ends = [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ];
        let ends = ends.into_iter().map(move |name| {
            let text = echo.text.as_str();
            let event = match name {
                "response.output_text.done" => with(at.clone(), "text", text.into()),
                "response.content_part.done" => with(at.clone(), "part", part(text)),
                "response.output_item.done" => {
                    json!({"output_index": 0, "item": echo.output("completed", Some(text))})
                }
                _ => json!({"response": echo.response("completed")}),
            };
            (name, event)
        });
        begin
            .into_iter()
            .chain(pieces)
            .chain(ends)
            .enumerate()
            .map(|(number, (name, event))| {
                let event = with(event, "type", name.into());
                let event = with(event, "sequence_number", number.into());
                Bytes::from(format!("event: {name}\ndata: {event}\n\n"))
            })
    }
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Base64(String),
    Numbers(Vec<f32>),
}

/// Vectors that depend on nothing but the text: the shares of the bytes in it.
fn embeddings(request: &Map<String, Value>, model: &str) -> Result<Response<OwnBody>, Rejection> {
    #[derive(Serialize)]
    struct Answer<'a> {
        object: &'static str,
        data: Vec<Embedding>,
        model: &'a str,
        usage: Value,
    }

    let input = request
        .get("input")
        .ok_or_else(|| refuse("The request needs `input`"))?;
    // A list of numbers is one text, given as tokens.
    let inputs: Vec<&Value> = match input {
        Value::Array(items) if items.iter().any(|item| !item.is_number()) => items.iter().collect(),
        _ => vec![input],
    };
    let dimensions = request
        .get("dimensions")
        .map_or(Some(8), Value::as_u64)
        .and_then(|dimensions| usize::try_from(dimensions).ok())
        .filter(|dimensions| (1..=MAX_DIMENSIONS).contains(dimensions))
        .ok_or_else(|| refuse("`dimensions` must be between 1 and 4096"))?;
    if inputs.len() > MAX_INPUTS {
        return Err(refuse("`input` has more than 2048 items"));
    }
    if inputs.len() * dimensions > MAX_NUMBERS {
        return Err(refuse(
            "`input` and `dimensions` ask for more than 65536 numbers",
        ));
    }
    let base64 = request.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(&input.to_string(), dimensions);
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
            Vector::Base64(to_base64(&bytes))
        } else {
            Vector::Numbers(vector)
        };
        Embedding {
            object: "embedding",
            index,
            embedding,
        }
    });
    let tokens = words(input);
    let answer = Answer {
        object: "list",
        data: data.collect(),
        model,
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    // A tree of values would take many times the room of the numbers.
    let text = serde_json::to_string(&answer).unwrap_or_default();
    Ok(own_answer("application/json", Body::from(text)))
}

/// A vector of length one.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut counts = vec![0_f32; dimensions];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte) % dimensions) {
            *count += 1.0;
        }
    }
    let length = counts.iter().map(|n| n * n).sum::<f32>().sqrt().max(1.0);
    counts.iter().map(|n| n / length).collect()
}

fn to_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let known = usize::try_from(index)
                .ok()
                .and_then(|index| ALPHABET.get(index))
                .filter(|_| place <= group.len());
            text.push(known.map_or('=', |b| char::from(*b)));
        }
    }
    text
}

/// The last text of a message, a list of messages, or a list of a message's parts.
fn last_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => items.iter().rev().find_map(last_text),
        Value::Object(members) => members
            .get("content")
            .or_else(|| members.get("text"))
            .and_then(last_text),
        _ => None,
    }
}

/// How many words there are in all texts of a value, numbers (tokens) included.
fn words(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(members) => ["content", "text"]
            .iter()
            .filter_map(|name| members.get(*name))
            .map(words)
            .sum(),
        Value::Number(_) => 1,
        _ => 0,
    }
}

/// The words of a text with the white space that follows them.
fn pieces(text: String) -> impl Iterator<Item = String> + Send + 'static {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let piece = rest.split_inclusive(char::is_whitespace).next()?;
        at += piece.len();
        Some(piece.to_owned())
    })
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn whole(value: &Value) -> Response<OwnBody> {
    own_answer("application/json", Body::from(value.to_string()))
}

fn events(events: impl Iterator<Item = Bytes> + Send + 'static) -> Response<OwnBody> {
    own_answer(
        "text/event-stream; charset=utf-8",
        Body::new(Events(Box::new(events))),
    )
}

/// Refused with a message of its own.
fn refuse(message: &str) -> Rejection {
    Rejection::new(RejectionKind::BadRequest).with_message(message.to_owned())
}

/// One frame an event, made when the one before has gone: a client that reads slowly does not make them pile up.
struct Events(Box<dyn Iterator<Item = Bytes> + Send>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|event| Ok(Frame::data(event))))
    }
}
