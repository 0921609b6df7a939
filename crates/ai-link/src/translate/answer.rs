use bytes::Bytes;
use serde_json::{Value, json};

/// Why an answer ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    ContentFilter,
    Length,
    Stop,
    ToolCalls,
}

impl Finish {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ContentFilter => "content_filter",
            Self::Length => "length",
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
        }
    }

    /// Reads the words that Anthropic and Bedrock share.
    pub(crate) fn from_stop_reason(reason: &str) -> Self {
        match reason {
            "max_tokens" | "model_context_window_exceeded" => Self::Length,
            "tool_use" => Self::ToolCalls,
            "refusal" | "content_filtered" | "guardrail_intervened" => Self::ContentFilter,
            _ => Self::Stop,
        }
    }
}

/// Counted tokens. Other providers count what came from or went into the cache apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write: u64,
}

impl Usage {
    /// Takes over the counts that stand in `usage` under these names; a stream tells some of them twice.
    pub(crate) fn update(&mut self, usage: &Value, names: [&str; 4]) {
        let [input, output, cache_read, cache_write] = names;
        for (slot, name) in [
            (&mut self.input, input),
            (&mut self.output, output),
            (&mut self.cache_read, cache_read),
            (&mut self.cache_write, cache_write),
        ] {
            if let Some(count) = usage.get(name).and_then(Value::as_u64) {
                *slot = count;
            }
        }
    }

    fn to_json(self) -> Value {
        let prompt = self
            .input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write);
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": self.output,
            "total_tokens": prompt.saturating_add(self.output),
            "prompt_tokens_details": {"cached_tokens": self.cache_read},
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON text.
    pub(crate) arguments: String,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

impl Completion {
    pub(crate) fn to_json(&self, created: u64) -> Value {
        let content = match self.text.as_str() {
            "" if !self.calls.is_empty() => Value::Null,
            text => Value::from(text),
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !self.calls.is_empty() {
            let calls: Vec<Value> = self
                .calls
                .iter()
                .map(|call| {
                    json!({
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    })
                })
                .collect();
            if let Some(message) = message.as_object_mut() {
                message.insert("tool_calls".to_owned(), Value::Array(calls));
            }
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": null,
                "finish_reason": self.finish.as_str(),
            }],
            "usage": self.usage.to_json(),
        })
    }
}

/// One step of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delta {
    /// The end of a content block, by its number.
    BlockEnd(u64),
    /// The end of the answer.
    End,
    /// The provider gave up, for this reason (a name, and a text for the client).
    Failed {
        kind: String,
        message: String,
    },
    Finish(Finish),
    Start {
        id: Option<String>,
        model: Option<String>,
    },
    Text(String),
    /// A piece of the arguments of the call in this block.
    ToolArguments {
        block: u64,
        piece: String,
    },
    ToolStart {
        block: u64,
        id: String,
        name: String,
    },
    /// Counts, in the provider's own form.
    Usage(Value),
}

/// Writes the chunks of OpenAI's stream.
#[derive(Debug)]
pub(crate) struct Chunks {
    id: String,
    model: String,
    created: u64,
    with_usage: bool,
    started: bool,
    /// The calls in the order of their index: their block, and whether they have arguments.
    calls: Vec<(u64, bool)>,
    finish: Option<Finish>,
    usage: Usage,
    usage_names: [&'static str; 4],
    ended: bool,
}

/// How many calls an answer may hold; a real one has a few.
const MAX_CALLS: usize = 1024;

impl Chunks {
    pub(crate) fn new(
        id: String,
        model: String,
        created: u64,
        with_usage: bool,
        usage_names: [&'static str; 4],
    ) -> Self {
        Self {
            id,
            model,
            created,
            with_usage,
            started: false,
            calls: Vec::new(),
            finish: None,
            usage: Usage::default(),
            usage_names,
            ended: false,
        }
    }

    /// Whether `[DONE]` was written.
    pub(crate) const fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the answer said why it ended.
    pub(crate) const fn finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Appends what `delta` says to the stream. [`Delta::Failed`] is not written here.
    pub(crate) fn push(&mut self, delta: Delta, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match delta {
            Delta::Start { id, model } => {
                if let (Some(id), false) = (id, self.started) {
                    self.id = id;
                }
                if let (Some(model), false) = (model, self.started) {
                    self.model = model;
                }
                self.start(out);
            }
            Delta::Text(text) => {
                self.start(out);
                if !text.is_empty() {
                    self.delta(json!({"content": text}), out);
                }
            }
            Delta::ToolStart { block, id, name } => {
                self.start(out);
                if self.calls.len() < MAX_CALLS {
                    let index = self.calls.len();
                    self.calls.push((block, false));
                    let call = json!({
                        "index": index,
                        "id": id,
                        "type": "function",
                        "function": {"name": name, "arguments": ""},
                    });
                    self.delta(json!({"tool_calls": [call]}), out);
                }
            }
            Delta::ToolArguments { block, piece } => {
                if !piece.is_empty() {
                    self.arguments(block, &piece, out);
                }
            }
            Delta::BlockEnd(block) => {
                // A call without arguments; clients parse what they got as JSON.
                if self.calls.contains(&(block, false)) {
                    self.arguments(block, "{}", out);
                }
            }
            Delta::Finish(finish) => {
                self.start(out);
                if self.finish.is_none() {
                    self.finish = Some(finish);
                    self.choice(&json!({}), Some(finish), out);
                }
            }
            Delta::Usage(usage) => self.usage.update(&usage, self.usage_names),
            Delta::End => {
                if self.finish.is_none() {
                    self.push(Delta::Finish(Finish::Stop), out);
                }
                if self.with_usage {
                    self.chunk(&json!([]), &self.usage.to_json(), out);
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
                self.ended = true;
            }
            Delta::Failed { .. } => {}
        }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            self.delta(json!({"role": "assistant", "content": ""}), out);
        }
    }

    fn arguments(&mut self, block: u64, piece: &str, out: &mut Vec<u8>) {
        let Some(index) = self.calls.iter().rposition(|(known, _)| *known == block) else {
            return;
        };
        if let Some((_, any)) = self.calls.get_mut(index) {
            *any = true;
        }
        let call = json!({"index": index, "function": {"arguments": piece}});
        self.delta(json!({"tool_calls": [call]}), out);
    }

    #[allow(clippy::needless_pass_by_value, reason = "made for the call")]
    fn delta(&self, delta: Value, out: &mut Vec<u8>) {
        self.choice(&delta, None, out);
    }

    fn choice(&self, delta: &Value, finish: Option<Finish>, out: &mut Vec<u8>) {
        let choice = json!([{
            "index": 0,
            "delta": delta,
            "logprobs": null,
            "finish_reason": finish.map(Finish::as_str),
        }]);
        self.chunk(&choice, &Value::Null, out);
    }

    fn chunk(&self, choices: &Value, usage: &Value, out: &mut Vec<u8>) {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let (true, Some(chunk)) = (self.with_usage, chunk.as_object_mut()) {
            chunk.insert("usage".to_owned(), usage.clone());
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(chunk.to_string().as_bytes());
        out.extend_from_slice(b"\n\n");
    }
}

/// An error in OpenAI's form.
pub(crate) fn error_body(kind: &str, message: &str) -> Bytes {
    let error = json!({
        "error": {"message": message, "type": kind, "param": null, "code": null},
    });
    Bytes::from(error.to_string())
}
