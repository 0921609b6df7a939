//! Anthropic's Messages API.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use proactions_edge::{ConfigError, ExposeSecret};
use proactions_forward::{BaseUrl, Outgoing};
use serde_json::{Map, Value, json};

use super::{
    Call, PrepareError, Prepared, check_header_text, check_word, extra_headers, refuse_endpoint,
    require_key, sensitive,
};
use crate::translate::{
    Adapter, Chat, Choice, Chunks, Completion, Delta, Dialect, Finish, Image, Part, SseLines,
    StreamDecoder, ToolCall, Usage,
};
use crate::{Endpoint, TargetConfig, tree};

const BASE: &str = "https://api.anthropic.com/v1";

/// The version of the API that this file speaks.
const VERSION: &str = "2023-06-01";

/// From this version on the API refuses the members that tune how the next token is drawn.
const WITHOUT_SAMPLING: &str = "2026-10-21";

/// The API wants a bound for every answer; this one holds where the request names none.
pub(crate) const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The counts in the API's `usage`.
pub(crate) const USAGE: [&str; 4] = [
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
];

/// A target at Anthropic.
#[derive(Clone, Debug)]
pub(crate) struct Anthropic {
    base: BaseUrl,
    version: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Anthropic {
    pub(crate) fn new(target: &TargetConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut headers = Vec::new();
        found.extend(require_key(target));
        if let Some(key) = &target.api_key {
            match sensitive(HeaderName::from_static("x-api-key"), key.expose_secret()) {
                Ok(header) => headers.push(header),
                Err(error) => found.push(error),
            }
        }
        let version = target.anthropic_version.as_deref().unwrap_or(VERSION);
        found.extend(check_word("anthropicVersion", Some(version)));
        found.extend(check_header_text(
            "anthropicBeta",
            target.anthropic_beta.as_deref(),
        ));
        for (name, value) in [
            ("anthropic-version", Some(version)),
            ("anthropic-beta", target.anthropic_beta.as_deref()),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.push((HeaderName::from_static(name), value));
            }
        }
        headers.extend(extra_headers(target));
        let base = super::base(target, BASE, &mut found);
        super::finish(base, found, |base| Self {
            base,
            version: version.to_owned(),
            headers,
        })
    }

    pub(super) fn prepare(&self, call: &Call<'_>) -> Result<Prepared<'static>, PrepareError> {
        match call.endpoint {
            Endpoint::ChatCompletions => {
                let chat = Chat::parse(call.body).map_err(PrepareError::Refused)?;
                let mut request = request(&chat, &self.version);
                request.insert("model".to_owned(), Value::from(chat.model.as_str()));
                if call.stream {
                    request.insert("stream".to_owned(), Value::Bool(true));
                }
                let outgoing =
                    Outgoing::new(call.endpoint.method(), &self.base, "/messages", None)?;
                Ok(self.prepared(
                    outgoing,
                    Some(body(&request)),
                    Adapter::new(Messages::new(&chat, call), call.stream),
                ))
            }
            Endpoint::Models => {
                let query = Some("limit=1000");
                let outgoing = Outgoing::new(call.endpoint.method(), &self.base, "/models", query)?;
                Ok(self.prepared(outgoing, None, Adapter::new(Models, false)))
            }
            other => Err(refuse_endpoint("anthropic", other)),
        }
    }

    fn prepared(
        &self,
        outgoing: Outgoing,
        body: Option<Bytes>,
        adapter: Adapter,
    ) -> Prepared<'static> {
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        if body.is_some() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        headers.extend_from_slice(&self.headers);
        Prepared {
            outgoing,
            headers: headers.into(),
            body,
            adapter: Some(adapter),
        }
    }
}

pub(super) fn body(request: &Map<String, Value>) -> Bytes {
    Bytes::from(serde_json::to_vec(request).unwrap_or_default())
}

/// A request in the words of this version of the Messages API, less `model` and `stream`.
pub(super) fn request(chat: &Chat, version: &str) -> Map<String, Value> {
    let mut request = Map::new();
    let mut set = |name: &str, value: Value| {
        request.insert(name.to_owned(), value);
    };
    set(
        "max_tokens",
        chat.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS).into(),
    );
    if !chat.system.is_empty() {
        set(
            "system",
            chat.system.iter().map(|text| block(text)).collect(),
        );
    }
    set(
        "messages",
        chat.turns
            .iter()
            .map(|turn| {
                let content: Vec<Value> = turn.parts.iter().map(part).collect();
                json!({"role": turn.role.as_str(), "content": content})
            })
            .collect(),
    );
    if !chat.tools.is_empty() {
        set(
            "tools",
            chat.tools
                .iter()
                .map(|tool| {
                    let mut written = json!({"name": tool.name, "input_schema": tool.schema});
                    if let (Some(text), Some(map)) = (&tool.description, written.as_object_mut()) {
                        map.insert("description".to_owned(), Value::from(text.as_str()));
                    }
                    written
                })
                .collect(),
        );
        if let Some(choice) = choice(chat) {
            set("tool_choice", choice);
        }
    }
    if takes_sampling(version) {
        for (name, value) in [
            ("temperature", &chat.temperature),
            ("top_p", &chat.top_p),
            ("top_k", &chat.top_k),
        ] {
            if let Some(number) = value {
                set(name, Value::Number(number.clone()));
            }
        }
    }
    if !chat.stop.is_empty() {
        set("stop_sequences", json!(chat.stop));
    }
    if let Some(user) = &chat.user {
        set("metadata", json!({"user_id": user}));
    }
    if let Some(thinking) = &chat.thinking {
        set("thinking", thinking.clone());
    }
    if let Some(schema) = &chat.schema {
        set(
            "output_config",
            json!({"format": {"type": "json_schema", "schema": schema}}),
        );
    }
    request
}

/// Whether a version, such as `2023-06-01` or Vertex AI's `vertex-2023-10-16`, takes `temperature` and its like.
/// Dates in this form are in order as texts.
fn takes_sampling(version: &str) -> bool {
    version.strip_prefix("vertex-").unwrap_or(version) < WITHOUT_SAMPLING
}

fn choice(chat: &Chat) -> Option<Value> {
    let mut choice = match (&chat.choice, chat.parallel) {
        (None, Some(false)) | (Some(Choice::Auto), _) => json!({"type": "auto"}),
        (None, _) => return None,
        (Some(Choice::None), _) => return Some(json!({"type": "none"})),
        (Some(Choice::Any), _) => json!({"type": "any"}),
        (Some(Choice::Tool(name)), _) => json!({"type": "tool", "name": name}),
    };
    if let (Some(false), Some(choice)) = (chat.parallel, choice.as_object_mut()) {
        choice.insert("disable_parallel_tool_use".to_owned(), Value::Bool(true));
    }
    Some(choice)
}

fn block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => block(text),
        Part::Image(Image::Data { kind, base64 }) => json!({
            "type": "image",
            "source": {"type": "base64", "media_type": kind, "data": base64},
        }),
        Part::Image(Image::Url(url)) => json!({
            "type": "image",
            "source": {"type": "url", "url": url},
        }),
        Part::Pdf { name, base64 } => {
            let source = json!({"type": "base64", "media_type": "application/pdf", "data": base64});
            let mut document = json!({"type": "document", "source": source});
            if let (Some(name), Some(document)) = (name, document.as_object_mut()) {
                document.insert("title".to_owned(), Value::from(name.as_str()));
            }
            document
        }
        Part::ToolUse { id, name, input } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
        Part::ToolResult { id, parts } => {
            let content: Vec<Value> = parts.iter().map(self::part).collect();
            json!({"type": "tool_result", "tool_use_id": id, "content": content})
        }
    }
}

/// How the Messages API answers.
pub(super) struct Messages {
    model: String,
    created: u64,
    with_usage: bool,
}

impl Messages {
    #[cfg(feature = "fuzzing")]
    pub(super) fn for_fuzzing() -> Self {
        Self {
            model: "m".to_owned(),
            created: 0,
            with_usage: true,
        }
    }

    pub(super) fn new(chat: &Chat, call: &Call<'_>) -> Self {
        Self {
            model: chat.model.clone(),
            created: call.created(),
            with_usage: chat.with_usage,
        }
    }
}

fn string(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

impl Dialect for Messages {
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn stream(&self, _: &HeaderMap) -> (Box<dyn StreamDecoder>, Chunks) {
        let chunks = Chunks::new(
            "msg".to_owned(),
            self.model.clone(),
            self.created,
            self.with_usage,
            USAGE,
        );
        (Box::new(Events::default()), chunks)
    }

    fn whole(&self, _: &HeaderMap, body: &[u8]) -> Option<Bytes> {
        let answer: Value = tree::read(body).ok()?;
        let mut text = String::new();
        let mut calls = Vec::new();
        for block in answer.get("content")?.as_array()? {
            match block.get("type").and_then(Value::as_str) {
                Some("text") => text.push_str(block.get("text")?.as_str()?),
                Some("tool_use") => calls.push(ToolCall {
                    id: string(block, "id")?,
                    name: string(block, "name")?,
                    arguments: block.get("input")?.to_string(),
                }),
                _ => {}
            }
        }
        let mut usage = Usage::default();
        if let Some(counts) = answer.get("usage") {
            usage.update(counts, USAGE);
        }
        let completion = Completion {
            id: string(&answer, "id")?,
            model: string(&answer, "model").unwrap_or_else(|| self.model.clone()),
            text,
            calls,
            finish: Finish::from_stop_reason(
                answer
                    .get("stop_reason")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            ),
            usage,
        };
        Some(Bytes::from(completion.to_json(self.created).to_string()))
    }

    fn error(&self, _: &HeaderMap, body: &[u8]) -> (Option<String>, Option<String>) {
        error(body)
    }
}

/// Reads `{"type":"error","error":{"type":…,"message":…}}`, and Google's errors, which have `status`.
fn error(body: &[u8]) -> (Option<String>, Option<String>) {
    let body: Value = tree::read(body).unwrap_or_default();
    let error = body.get("error").or_else(|| body.pointer("/0/error"));
    let Some(error) = error else {
        return (None, None);
    };
    let kind = string(error, "type").or_else(|| string(error, "status"));
    (kind, string(error, "message"))
}

/// Reads the events of a stream.
#[derive(Default)]
struct Events(SseLines);

impl StreamDecoder for Events {
    fn feed(&mut self, piece: &[u8], deltas: &mut Vec<Delta>) -> Result<(), &'static str> {
        let mut fault = None;
        self.0
            .feed(piece, |data| match tree::read(data) {
                // What follows a broken event must not be taken for a proper end.
                _ if fault.is_some() => {}
                Ok(event) => read_event(&event, deltas),
                Err(_) => fault = Some("an event that cannot be read"),
            })
            .map_err(|_| "an event without an end")?;
        fault.map_or(Ok(()), Err)
    }
}

fn read_event(event: &Value, deltas: &mut Vec<Delta>) {
    let block = || event.get("index").and_then(Value::as_u64).unwrap_or(0);
    match event
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "message_start" => {
            let message = event.get("message").unwrap_or(&Value::Null);
            deltas.push(Delta::Start {
                id: string(message, "id"),
                model: string(message, "model"),
            });
            if let Some(usage) = message.get("usage") {
                deltas.push(Delta::Usage(usage.clone()));
            }
        }
        "content_block_start" => {
            let content = event.get("content_block").unwrap_or(&Value::Null);
            match content.get("type").and_then(Value::as_str) {
                Some("tool_use") => deltas.push(Delta::ToolStart {
                    block: block(),
                    id: string(content, "id").unwrap_or_default(),
                    name: string(content, "name").unwrap_or_default(),
                }),
                Some("text") => {
                    deltas.extend(string(content, "text").map(Delta::Text));
                }
                _ => {}
            }
        }
        "content_block_delta" => {
            let delta = event.get("delta").unwrap_or(&Value::Null);
            match delta.get("type").and_then(Value::as_str) {
                Some("text_delta") => deltas.extend(string(delta, "text").map(Delta::Text)),
                Some("input_json_delta") => {
                    deltas.extend(string(delta, "partial_json").map(|piece| {
                        Delta::ToolArguments {
                            block: block(),
                            piece,
                        }
                    }));
                }
                _ => {}
            }
        }
        "content_block_stop" => deltas.push(Delta::BlockEnd(block())),
        "message_delta" => {
            if let Some(usage) = event.get("usage") {
                deltas.push(Delta::Usage(usage.clone()));
            }
            if let Some(reason) = event.pointer("/delta/stop_reason").and_then(Value::as_str) {
                deltas.push(Delta::Finish(Finish::from_stop_reason(reason)));
            }
        }
        "message_stop" => deltas.push(Delta::End),
        "error" => deltas.push(Delta::Failed {
            kind: event
                .pointer("/error/type")
                .and_then(Value::as_str)
                .unwrap_or("upstream_error")
                .to_owned(),
            message: event
                .pointer("/error/message")
                .and_then(Value::as_str)
                .unwrap_or("The provider broke off its answer")
                .to_owned(),
        }),
        // `ping`, and what is yet to come.
        _ => {}
    }
}

/// The list of models.
struct Models;

impl Dialect for Models {
    fn stream_type(&self) -> &'static str {
        ""
    }

    fn stream(&self, _: &HeaderMap) -> (Box<dyn StreamDecoder>, Chunks) {
        let chunks = Chunks::new(String::new(), String::new(), 0, false, USAGE);
        (Box::new(Events::default()), chunks)
    }

    fn whole(&self, _: &HeaderMap, body: &[u8]) -> Option<Bytes> {
        let answer: Value = tree::read(body).ok()?;
        let models: Vec<Value> = answer
            .get("data")?
            .as_array()?
            .iter()
            // These stay in the list as a record; a request that names one fails.
            .filter(|model| {
                model
                    .get("lifecycle")
                    .is_none_or(|state| state != "retired")
            })
            .filter_map(|model| {
                let created = string(model, "created_at")
                    .and_then(|time| time.parse::<jiff::Timestamp>().ok())
                    .map_or(0, |time| time.as_second().max(0));
                Some(json!({
                    "id": string(model, "id")?,
                    "object": "model",
                    "created": created,
                    "owned_by": "anthropic",
                }))
            })
            .collect();
        Some(Bytes::from(
            json!({"object": "list", "data": models}).to_string(),
        ))
    }

    fn error(&self, _: &HeaderMap, body: &[u8]) -> (Option<String>, Option<String>) {
        error(body)
    }
}

#[cfg(test)]
#[path = "anthropic_tests.rs"]
mod tests;
