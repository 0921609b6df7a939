//! Amazon Bedrock's Converse API, the same for every model there.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use proactions_edge::ConfigError;
use proactions_forward::{BaseUrl, Outgoing};
use serde_json::{Map, Value, json};

use super::{
    Call, PrepareError, Prepared, bearer, check_label, extra_headers, refuse_endpoint, require,
};
use crate::event_stream::{EventStream, Message};
use crate::sigv4::{Signable, Signer, segment};
use crate::translate::{
    Adapter, Chat, Choice, Chunks, Completion, Delta, Dialect, Finish, Image, Part, StreamDecoder,
    ToolCall, Usage,
};
use crate::{Endpoint, TargetConfig, tree};

const JSON: &str = "application/json";

/// AWS's own bound for the name of a model, in characters.
const MAX_MODEL: usize = 2048;

/// The counts in the API's `usage`.
const USAGE: [&str; 4] = [
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
];

/// A target at Bedrock.
#[derive(Clone, Debug)]
pub(crate) struct Bedrock {
    base: BaseUrl,
    /// `Host`, as it is signed.
    host: String,
    credential: Credential,
    extra: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug)]
enum Credential {
    Bearer((HeaderName, HeaderValue)),
    Keys(Signer),
}

impl Bedrock {
    pub(crate) fn new(target: &TargetConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let region = target.aws_region.as_deref();
        let keys = (&target.aws_access_key_id, &target.aws_secret_access_key);
        // The region is a part of the signature, too.
        if target.endpoint.is_none() || matches!(keys, (Some(_), _)) {
            found.extend(require("awsRegion", region));
        }
        if region.is_some_and(|region| !region.is_empty()) {
            found.extend(check_label("awsRegion", region));
        }
        let credential = match (keys, &target.api_key) {
            ((Some(access), Some(secret)), _) => Some(Credential::Keys(Signer::new(
                access.clone(),
                secret.clone(),
                target.aws_session_token.clone(),
                region.unwrap_or_default().to_owned(),
                "bedrock",
            ))),
            ((None, None), Some(key)) => match bearer(key) {
                Ok(header) => Some(Credential::Bearer(header)),
                Err(error) => {
                    found.push(error);
                    None
                }
            },
            ((None, None), None) => {
                found.push(ConfigError::new(
                    "awsAccessKeyId",
                    "is required, with awsSecretAccessKey (or apiKey for a bearer key)",
                ));
                None
            }
            _ => {
                found.push(ConfigError::new(
                    "awsAccessKeyId",
                    "and awsSecretAccessKey belong together: set both",
                ));
                None
            }
        };
        let region = region.unwrap_or_default();
        let default = format!("https://bedrock-runtime.{region}.{}", domain(region));
        // Without a region the default is no URL, which was reported above.
        let base = match (&target.endpoint, found.is_empty()) {
            (None, false) => None,
            _ => super::base(target, &default, &mut found),
        };
        let extra = extra_headers(target);
        super::finish(base.zip(credential), found, |(base, credential)| Self {
            host: host(&base),
            base,
            credential,
            extra,
        })
    }

    pub(super) fn prepare(&self, call: &Call<'_>) -> Result<Prepared<'static>, PrepareError> {
        if call.endpoint != Endpoint::ChatCompletions {
            return Err(refuse_endpoint("bedrock", call.endpoint));
        }
        let chat = Chat::parse(call.body).map_err(PrepareError::Refused)?;
        let bad_model = || PrepareError::Refused("`model` is not the name of a model".to_owned());
        if chat.model.len() > MAX_MODEL {
            return Err(bad_model());
        }
        let operation = if call.stream {
            "converse-stream"
        } else {
            "converse"
        };
        let tail = format!("/model/{}/{operation}", segment(&chat.model));
        let outgoing = Outgoing::new(call.endpoint.method(), &self.base, &tail, None)
            .map_err(|_| bad_model())?;
        let body = super::anthropic::body(&request(&chat).map_err(PrepareError::Refused)?);
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static(JSON))];
        match &self.credential {
            Credential::Bearer(header) => headers.push(header.clone()),
            Credential::Keys(signer) => self.sign(signer, call, &outgoing, &body, &mut headers)?,
        }
        headers.extend_from_slice(&self.extra);
        Ok(Prepared {
            outgoing,
            headers: headers.into(),
            body: Some(body),
            adapter: Some(Adapter::new(
                Converse {
                    model: chat.model,
                    created: call.created(),
                    with_usage: chat.with_usage,
                },
                call.stream,
            )),
        })
    }

    fn sign(
        &self,
        signer: &Signer,
        call: &Call<'_>,
        outgoing: &Outgoing,
        body: &[u8],
        headers: &mut Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(), PrepareError> {
        let method = call.endpoint.method();
        let request = Signable {
            method: method.as_str(),
            path: outgoing.uri().path(),
            query: outgoing.uri().query().unwrap_or_default(),
            headers: &[("content-type", JSON), ("host", &self.host)],
            body,
        };
        let signed = signer
            .sign(request, call.clock.now())
            .ok_or_else(|| PrepareError::Credential("the clock is wrong".to_owned()))?;
        let token = signer.session_token().map(str::to_owned);
        for (name, value) in [
            (HeaderName::from_static("x-amz-date"), Some(signed.date)),
            (HeaderName::from_static("x-amz-security-token"), token),
            (AUTHORIZATION, Some(signed.authorization)),
        ] {
            let Some(value) = value else { continue };
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                PrepareError::Credential("a key that cannot stand in a header".to_owned())
            })?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(())
    }
}

/// The domain of a region's services: AWS has separate parts, each with its own.
fn domain(region: &str) -> &'static str {
    [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("eu-isoe-", "cloud.adc-e.uk"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
    ]
    .into_iter()
    .find(|(prefix, _)| region.starts_with(prefix))
    .map_or("amazonaws.com", |(_, domain)| domain)
}

/// The host as a client sends it: with its port, unless that is the scheme's own.
fn host(base: &BaseUrl) -> String {
    let authority = base.authority();
    let own = if base.is_https() { 443 } else { 80 };
    match authority.port_u16() {
        Some(port) if port != own => authority.as_str().to_owned(),
        _ => authority.host().to_owned(),
    }
}

/// A request in the words of the Converse API.
fn request(chat: &Chat) -> Result<Map<String, Value>, String> {
    if chat.schema.is_some() {
        return Err("`response_format` is not supported by this target's provider".to_owned());
    }
    let mut request = Map::new();
    let mut messages = Vec::with_capacity(chat.turns.len());
    let mut files = 0;
    for turn in &chat.turns {
        let content = parts(&turn.parts, &mut files)?;
        messages.push(json!({"role": turn.role.as_str(), "content": content}));
    }
    request.insert("messages".to_owned(), Value::Array(messages));
    if !chat.system.is_empty() {
        let system = chat.system.iter().map(|text| json!({"text": text}));
        request.insert("system".to_owned(), system.collect());
    }
    let mut inference = Map::new();
    if let Some(tokens) = chat.max_tokens {
        inference.insert("maxTokens".to_owned(), tokens.into());
    }
    for (name, value) in [("temperature", &chat.temperature), ("topP", &chat.top_p)] {
        if let Some(number) = value {
            inference.insert(name.to_owned(), Value::Number(number.clone()));
        }
    }
    if !chat.stop.is_empty() {
        inference.insert("stopSequences".to_owned(), json!(chat.stop));
    }
    if !inference.is_empty() {
        request.insert("inferenceConfig".to_owned(), Value::Object(inference));
    }
    if let Some(config) = tools(chat)? {
        request.insert("toolConfig".to_owned(), config);
    }
    Ok(request)
}

fn tools(chat: &Chat) -> Result<Option<Value>, String> {
    if chat.choice == Some(Choice::None) {
        // The API has no such choice; without tools there is none to call.
        return if chat.used_tools() {
            Err("`tool_choice` none is not supported by this target's provider once tools were called".to_owned())
        } else {
            Ok(None)
        };
    }
    if chat.tools.is_empty() {
        return Ok(None);
    }
    let tools: Vec<Value> = chat
        .tools
        .iter()
        .map(|tool| {
            let mut spec = json!({"name": tool.name, "inputSchema": {"json": tool.schema}});
            if let (Some(text), Some(spec)) = (&tool.description, spec.as_object_mut()) {
                spec.insert("description".to_owned(), Value::from(text.as_str()));
            }
            json!({"toolSpec": spec})
        })
        .collect();
    let mut config = json!({"tools": tools});
    let choice = match &chat.choice {
        Some(Choice::Any) => Some(json!({"any": {}})),
        Some(Choice::Auto) => Some(json!({"auto": {}})),
        Some(Choice::Tool(name)) => Some(json!({"tool": {"name": name}})),
        Some(Choice::None) | None => None,
    };
    if let (Some(choice), Some(config)) = (choice, config.as_object_mut()) {
        config.insert("toolChoice".to_owned(), choice);
    }
    Ok(Some(config))
}

fn parts(parts: &[Part], files: &mut usize) -> Result<Vec<Value>, String> {
    parts.iter().map(|part| self::part(part, files)).collect()
}

fn part(part: &Part, files: &mut usize) -> Result<Value, String> {
    Ok(match part {
        Part::Text(text) => json!({"text": text}),
        Part::Image(Image::Data { kind, base64 }) => {
            let format = kind.strip_prefix("image/").unwrap_or(kind);
            json!({"image": {"format": format, "source": {"bytes": base64}}})
        }
        Part::Image(Image::Url(_)) => {
            return Err("An image must be a data: URL for this target's provider".to_owned());
        }
        Part::Pdf { base64, .. } => {
            // The API wants a name of its own alphabet, and no two alike.
            *files += 1;
            let name = format!("document {files}");
            json!({"document": {"format": "pdf", "name": name, "source": {"bytes": base64}}})
        }
        Part::ToolUse { id, name, input } => {
            json!({"toolUse": {"toolUseId": id, "name": name, "input": input}})
        }
        Part::ToolResult { id, parts } => {
            let content = self::parts(parts, files)?;
            json!({"toolResult": {"toolUseId": id, "content": content}})
        }
    })
}

/// How the Converse API answers.
pub(super) struct Converse {
    model: String,
    created: u64,
    with_usage: bool,
}

impl Converse {
    #[cfg(feature = "fuzzing")]
    pub(super) fn for_fuzzing() -> Self {
        Self {
            model: "m".to_owned(),
            created: 0,
            with_usage: true,
        }
    }

    /// The answers have no name of their own; the request has one at AWS.
    fn id(&self, head: &HeaderMap) -> String {
        static SERIAL: AtomicU64 = AtomicU64::new(0);

        let known = head
            .get("x-amzn-requestid")
            .and_then(|id| id.to_str().ok())
            .filter(|id| id.len() <= 64);
        match known {
            Some(id) => format!("chatcmpl-{id}"),
            None => {
                let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
                format!("chatcmpl-{:x}-{serial:x}", self.created)
            }
        }
    }
}

fn string(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

impl Dialect for Converse {
    fn stream_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }

    fn stream(&self, head: &HeaderMap) -> (Box<dyn StreamDecoder>, Chunks) {
        let chunks = Chunks::new(
            self.id(head),
            self.model.clone(),
            self.created,
            self.with_usage,
            USAGE,
        );
        (Box::new(Events::default()), chunks)
    }

    fn whole(&self, head: &HeaderMap, body: &[u8]) -> Option<Bytes> {
        let answer: Value = tree::read(body).ok()?;
        let mut text = String::new();
        let mut calls = Vec::new();
        for block in answer.pointer("/output/message/content")?.as_array()? {
            if let Some(piece) = block.get("text").and_then(Value::as_str) {
                text.push_str(piece);
            }
            if let Some(call) = block.get("toolUse") {
                calls.push(ToolCall {
                    id: string(call, "toolUseId")?,
                    name: string(call, "name")?,
                    arguments: call.get("input")?.to_string(),
                });
            }
        }
        let mut usage = Usage::default();
        if let Some(counts) = answer.get("usage") {
            usage.update(counts, USAGE);
        }
        let reason = string(&answer, "stopReason").unwrap_or_default();
        let completion = Completion {
            id: self.id(head),
            model: self.model.clone(),
            text,
            calls,
            finish: Finish::from_stop_reason(&reason),
            usage,
        };
        Some(Bytes::from(completion.to_json(self.created).to_string()))
    }

    fn error(&self, head: &HeaderMap, body: &[u8]) -> (Option<String>, Option<String>) {
        // `ValidationException:http://internal.amazon.com/…`
        let kind = head
            .get("x-amzn-errortype")
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| kind.split(':').next())
            .map(str::to_owned);
        let body: Value = tree::read(body).unwrap_or_default();
        let message = string(&body, "message").or_else(|| string(&body, "Message"));
        (kind, message)
    }
}

/// Reads the messages of a stream.
#[derive(Default)]
struct Events(EventStream);

impl StreamDecoder for Events {
    fn feed(&mut self, piece: &[u8], deltas: &mut Vec<Delta>) -> Result<(), &'static str> {
        let mut fault = None;
        self.0.feed(piece, |message| {
            // What follows a broken message must not be taken for a proper end.
            if fault.is_none() {
                fault = read_message(&message, deltas).err();
            }
        })?;
        fault.map_or(Ok(()), Err)
    }

    /// The counts come after the end of the text, and nothing after them.
    fn ends_with_body(&self) -> bool {
        true
    }
}

fn read_message(message: &Message, deltas: &mut Vec<Delta>) -> Result<(), &'static str> {
    match message.header(":message-type") {
        Some("event") => {}
        Some("exception") => {
            let body: Value = tree::read(&message.payload).unwrap_or_default();
            deltas.push(Delta::Failed {
                kind: message
                    .header(":exception-type")
                    .unwrap_or("upstream_error")
                    .to_owned(),
                message: string(&body, "message")
                    .unwrap_or_else(|| "The provider broke off its answer".to_owned()),
            });
            return Ok(());
        }
        Some("error") => {
            deltas.push(Delta::Failed {
                kind: message
                    .header(":error-code")
                    .unwrap_or("upstream_error")
                    .to_owned(),
                message: message
                    .header(":error-message")
                    .unwrap_or("The provider broke off its answer")
                    .to_owned(),
            });
            return Ok(());
        }
        _ => return Ok(()),
    }
    let event: Value = tree::read(&message.payload).map_err(|_| "an event that cannot be read")?;
    let block = || {
        event
            .get("contentBlockIndex")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    match message.header(":event-type").unwrap_or_default() {
        "messageStart" => deltas.push(Delta::Start {
            id: None,
            model: None,
        }),
        "contentBlockStart" => {
            if let Some(call) = event.pointer("/start/toolUse") {
                deltas.push(Delta::ToolStart {
                    block: block(),
                    id: string(call, "toolUseId").unwrap_or_default(),
                    name: string(call, "name").unwrap_or_default(),
                });
            }
        }
        "contentBlockDelta" => {
            let delta = event.get("delta").unwrap_or(&Value::Null);
            deltas.extend(string(delta, "text").map(Delta::Text));
            if let Some(piece) = delta.pointer("/toolUse/input").and_then(Value::as_str) {
                deltas.push(Delta::ToolArguments {
                    block: block(),
                    piece: piece.to_owned(),
                });
            }
        }
        "contentBlockStop" => deltas.push(Delta::BlockEnd(block())),
        "messageStop" => {
            let reason = string(&event, "stopReason").unwrap_or_default();
            deltas.push(Delta::Finish(Finish::from_stop_reason(&reason)));
        }
        "metadata" => {
            deltas.extend(event.get("usage").cloned().map(Delta::Usage));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
#[path = "bedrock_tests.rs"]
mod tests;
