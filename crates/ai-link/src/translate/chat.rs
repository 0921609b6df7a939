use serde_json::{Map, Number, Value};

use crate::tree::{Budget, TreeError};

/// The refusal of a request that cannot be put into the provider's words, told to the client.
pub(crate) type Refused = String;

const TOO_LARGE: &str = "The request body holds too many values";

/// A request to `/v1/chat/completions`, as far as other providers know the same things.
///
/// Members that are not read here are left out: what the provider does not have cannot be sent, and
/// `seed` or `logit_bias` only tune an answer. Members whose loss would change what the answer is (`n`,
/// `response_format`, audio) are refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chat {
    pub(crate) model: String,
    pub(crate) system: Vec<String>,
    /// No two in a row have the same role; none is empty.
    pub(crate) turns: Vec<Turn>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: Option<Choice>,
    /// `false`: at most one call in an answer.
    pub(crate) parallel: Option<bool>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<Number>,
    pub(crate) top_p: Option<Number>,
    pub(crate) top_k: Option<Number>,
    pub(crate) stop: Vec<String>,
    pub(crate) user: Option<String>,
    /// The JSON schema that the answer must follow.
    pub(crate) schema: Option<Value>,
    /// Anthropic's own member, for those who want it.
    pub(crate) thinking: Option<Value>,
    /// Whether a stream ends with the counts.
    pub(crate) with_usage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Assistant,
    User,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Assistant => "assistant",
            Self::User => "user",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Image(Image),
    /// A PDF, in base64.
    Pdf {
        name: Option<String>,
        base64: String,
    },
    Text(String),
    ToolResult {
        id: String,
        parts: Vec<Part>,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Of the type `image/…`.
    Data {
        kind: String,
        base64: String,
    },
    Url(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) schema: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Any,
    Auto,
    None,
    Tool(String),
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(message.into())
}

impl Chat {
    /// Reads a request's body, which was found to be a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refused> {
        let mut budget = Budget::default();
        let mut request: Map<String, Value> = budget.read(body).map_err(|error| match error {
            TreeError::Syntax => "The request body is not valid JSON",
            TreeError::TooLarge => TOO_LARGE,
        })?;
        // `null` means what absence means, everywhere in this API.
        request.retain(|_, value| !value.is_null());
        let mut chat = Self {
            model: text(&mut request, "model")?
                .filter(|model| !model.is_empty())
                .ok_or("The request needs `model`")?,
            max_tokens: match whole(&mut request, "max_completion_tokens")? {
                Some(tokens) => Some(tokens),
                None => whole(&mut request, "max_tokens")?,
            },
            temperature: number(&mut request, "temperature")?,
            top_p: number(&mut request, "top_p")?,
            top_k: number(&mut request, "top_k")?,
            stop: stop(&mut request)?,
            user: match text(&mut request, "safety_identifier")? {
                Some(user) => Some(user),
                None => text(&mut request, "user")?,
            },
            schema: schema(&mut request)?,
            thinking: request.remove("thinking"),
            ..Self::default()
        };
        if whole(&mut request, "n")?.is_some_and(|n| n != 1) {
            return refuse("`n` other than 1 is not supported by this target's provider");
        }
        if request.contains_key("functions") || request.contains_key("function_call") {
            return refuse("`functions` is not supported: use `tools`");
        }
        let audio = |list: &Value| list.as_array().is_some_and(|l| l.contains(&"audio".into()));
        if request.get("modalities").is_some_and(audio) {
            return refuse("Audio is not supported by this target's provider");
        }
        chat.with_usage = request
            .get("stream_options")
            .and_then(|options| options.get("include_usage"))
            == Some(&Value::Bool(true));
        chat.parallel = match request.remove("parallel_tool_calls") {
            None => None,
            Some(Value::Bool(parallel)) => Some(parallel),
            Some(_) => return refuse("`parallel_tool_calls` must be true or false"),
        };
        match request.remove("tools") {
            None => {}
            Some(Value::Array(tools)) => {
                for value in tools {
                    chat.tools.push(tool(value)?);
                }
            }
            Some(_) => return refuse("`tools` must be a list"),
        }
        chat.choice = match request.remove("tool_choice") {
            None => None,
            Some(value) => Some(choice(&value)?),
        };
        let Some(Value::Array(messages)) = request.remove("messages") else {
            return refuse("`messages` must be a list");
        };
        for (index, message) in messages.into_iter().enumerate() {
            chat.add(message, &mut budget)
                .map_err(|why| format!("messages[{index}]: {why}"))?;
        }
        if chat.turns.is_empty() {
            return refuse("`messages` holds nothing to answer");
        }
        Ok(chat)
    }

    fn add(&mut self, message: Value, budget: &mut Budget) -> Result<(), Refused> {
        let Value::Object(mut message) = message else {
            return refuse("must be an object");
        };
        message.retain(|_, value| !value.is_null());
        let role = text(&mut message, "role")?.unwrap_or_default();
        let content = message.remove("content");
        match role.as_str() {
            "system" | "developer" => {
                for part in parts(content)? {
                    match part {
                        Part::Text(text) => self.system.push(text),
                        _ => return refuse("a system message holds text only"),
                    }
                }
            }
            "user" => {
                let parts = parts(content)?;
                self.extend(Role::User, parts);
            }
            "assistant" => {
                let mut parts = parts(content)?;
                if parts.iter().any(|part| !matches!(part, Part::Text(_))) {
                    return refuse("an assistant's message holds text only");
                }
                if parts.is_empty()
                    && let Some(refusal) = text(&mut message, "refusal")?
                    && !refusal.is_empty()
                {
                    parts.push(Part::Text(refusal));
                }
                match message.remove("tool_calls") {
                    None => {}
                    Some(Value::Array(calls)) => {
                        for call in calls {
                            parts.push(tool_call(call, budget)?);
                        }
                    }
                    Some(_) => return refuse("`tool_calls` must be a list"),
                }
                self.extend(Role::Assistant, parts);
            }
            "tool" => {
                let id = text(&mut message, "tool_call_id")?
                    .filter(|id| !id.is_empty())
                    .ok_or("needs `tool_call_id`")?;
                let parts = parts(content)?;
                self.extend(Role::User, vec![Part::ToolResult { id, parts }]);
            }
            _ => {
                return refuse("`role` must be one of developer, system, user, assistant and tool");
            }
        }
        Ok(())
    }

    /// Appends to the last turn if that has the same role: the others' APIs want the roles in turn.
    fn extend(&mut self, role: Role, parts: Vec<Part>) {
        if parts.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => self.turns.push(Turn { role, parts }),
        }
    }

    /// Whether the conversation holds calls or results of tools.
    pub(crate) fn used_tools(&self) -> bool {
        self.turns
            .iter()
            .flat_map(|turn| &turn.parts)
            .any(|part| matches!(part, Part::ToolUse { .. } | Part::ToolResult { .. }))
    }
}

fn text(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Refused> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => refuse(format!("`{name}` must be a string")),
    }
}

fn number(object: &mut Map<String, Value>, name: &str) -> Result<Option<Number>, Refused> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number)),
        Some(_) => refuse(format!("`{name}` must be a number")),
    }
}

fn whole(object: &mut Map<String, Value>, name: &str) -> Result<Option<u64>, Refused> {
    match object.remove(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => refuse(format!("`{name}` must be a positive whole number")),
        },
    }
}

fn stop(request: &mut Map<String, Value>) -> Result<Vec<String>, Refused> {
    let wrong = || "`stop` must be a string or a list of strings".to_owned();
    match request.remove("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop]),
        Some(Value::Array(stops)) => stops
            .into_iter()
            .map(|stop| match stop {
                Value::String(stop) => Ok(stop),
                _ => Err(wrong()),
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn schema(request: &mut Map<String, Value>) -> Result<Option<Value>, Refused> {
    let Some(mut format) = request.remove("response_format") else {
        return Ok(None);
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_schema") => match format.pointer_mut("/json_schema/schema") {
            Some(schema @ Value::Object(_)) => Ok(Some(schema.take())),
            _ => refuse("`response_format.json_schema.schema` must be an object"),
        },
        Some("json_object") => refuse(
            "`response_format` json_object is not supported by this target's provider: use json_schema",
        ),
        _ => refuse("`response_format.type` must be one of text and json_schema"),
    }
}

fn tool(value: Value) -> Result<Tool, Refused> {
    let Value::Object(mut tool) = value else {
        return refuse("`tools` must hold objects");
    };
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return refuse("`tools` may hold functions only, for this target's provider");
    }
    let Some(Value::Object(mut function)) = tool.remove("function") else {
        return refuse("a tool needs `function`");
    };
    function.retain(|_, value| !value.is_null());
    let schema = match function.remove("parameters") {
        None => serde_json::json!({"type": "object", "properties": {}}),
        Some(schema @ Value::Object(_)) => schema,
        Some(_) => return refuse("a function's `parameters` must be an object"),
    };
    Ok(Tool {
        name: text(&mut function, "name")?
            .filter(|name| !name.is_empty())
            .ok_or("a function needs `name`")?,
        description: text(&mut function, "description")?.filter(|text| !text.is_empty()),
        schema,
    })
}

fn choice(value: &Value) -> Result<Choice, Refused> {
    let name = match value {
        Value::String(word) => match word.as_str() {
            "auto" => return Ok(Choice::Auto),
            "none" => return Ok(Choice::None),
            "required" => return Ok(Choice::Any),
            _ => None,
        },
        _ if value.get("type").and_then(Value::as_str) == Some("function") => {
            value.pointer("/function/name").and_then(Value::as_str)
        }
        _ => None,
    };
    match name {
        Some(name) => Ok(Choice::Tool(name.to_owned())),
        None => refuse("`tool_choice` must be one of auto, none, required and a function"),
    }
}

fn tool_call(value: Value, budget: &mut Budget) -> Result<Part, Refused> {
    let Value::Object(mut call) = value else {
        return refuse("`tool_calls` must hold objects");
    };
    let Some(Value::Object(mut function)) = call.remove("function") else {
        return refuse("a tool call needs `function`");
    };
    let arguments = text(&mut function, "arguments")?.unwrap_or_default();
    let input = if arguments.trim().is_empty() {
        Value::Object(Map::new())
    } else {
        match budget.read(arguments.as_bytes()) {
            Ok(input @ Value::Object(_)) => input,
            Err(TreeError::TooLarge) => return refuse(TOO_LARGE),
            _ => return refuse("the `arguments` of a tool call must be a JSON object"),
        }
    };
    Ok(Part::ToolUse {
        id: text(&mut call, "id")?
            .filter(|id| !id.is_empty())
            .ok_or("a tool call needs `id`")?,
        name: text(&mut function, "name")?
            .filter(|name| !name.is_empty())
            .ok_or("a tool call needs `function.name`")?,
        input,
    })
}

/// A message's content. Empty texts are left out: other providers refuse them.
fn parts(content: Option<Value>) -> Result<Vec<Part>, Refused> {
    let list = match content {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => return Ok(vec![Part::Text(text)]),
        Some(Value::Array(list)) => list,
        Some(_) => return refuse("`content` must be a string or a list of parts"),
    };
    let mut parts = Vec::with_capacity(list.len());
    for value in list {
        let Value::Object(mut part) = value else {
            return refuse("`content` must hold objects");
        };
        let kind = text(&mut part, "type")?.unwrap_or_default();
        match kind.as_str() {
            "text" | "refusal" => {
                let text = text(&mut part, &kind)?
                    .ok_or_else(|| format!("a part of the type {kind} needs `{kind}`"))?;
                if !text.is_empty() {
                    parts.push(Part::Text(text));
                }
            }
            "image_url" => {
                let url = match part.remove("image_url") {
                    Some(Value::Object(mut image)) => text(&mut image, "url")?,
                    Some(Value::String(url)) => Some(url),
                    _ => None,
                };
                let url = url.ok_or("a part of the type image_url needs `image_url.url`")?;
                parts.push(Part::Image(image(url)?));
            }
            "file" => {
                let Some(Value::Object(mut file)) = part.remove("file") else {
                    return refuse("a part of the type file needs `file`");
                };
                let data = text(&mut file, "file_data")?.unwrap_or_default();
                let Some(base64) = data.strip_prefix("data:application/pdf;base64,") else {
                    return refuse("a file must be a PDF in `file_data`, as a data: URL");
                };
                parts.push(Part::Pdf {
                    name: text(&mut file, "filename")?,
                    base64: base64.to_owned(),
                });
            }
            _ => return refuse("a part's type must be one of text, image_url and file"),
        }
    }
    Ok(parts)
}

fn image(url: String) -> Result<Image, Refused> {
    let Some(data) = url.strip_prefix("data:") else {
        return if url.starts_with("https://") {
            Ok(Image::Url(url))
        } else {
            refuse("an image's URL must begin with https:// or data:")
        };
    };
    let kinds = ["image/gif", "image/jpeg", "image/png", "image/webp"];
    match data.split_once(";base64,") {
        Some((kind, base64)) if kinds.contains(&kind) => Ok(Image::Data {
            kind: kind.to_owned(),
            base64: base64.to_owned(),
        }),
        _ => refuse("an image's data: URL must hold a GIF, JPEG, PNG or WebP in base64"),
    }
}
