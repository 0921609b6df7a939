//! Reads model and token usage out of an answer while it passes by.
//!
//! Nothing is held back and nothing changed. Of a JSON answer the last part is kept by reference, of a stream
//! of events at most one unfinished line is copied.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::meter::shown;
use crate::translate::BYTE_ORDER_MARK;

/// How much of a JSON answer's end is kept, and how long a line of a stream may be to be read, in bytes.
const WINDOW: usize = 64 * 1024;

/// How long a JSON answer may be to be read as a whole; of a longer one only what stands at its ends.
const READ_WHOLE: usize = 8 * 1024;

/// How far from an end of a long answer its model may stand.
const END: usize = 1024;

/// A frame pins the buffer that it is a part of, so their number is bounded too.
const MAX_FRAMES: usize = 64;

/// How many objects that begin like the counts are read: each may reach to the end of the answer.
const MAX_USAGES: usize = 8;

/// How much of an answer's text goes into the log, in bytes.
const MAX_TEXT: usize = 32 * 1024;

/// After how many events without a model no more are read for it.
const MAX_TRIES: u8 = 4;

/// What an answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) model: Option<String>,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
    pub(crate) total_tokens: Option<u64>,
    /// The answer's text, where it is wanted.
    pub(crate) text: Option<String>,
}

/// The reader that fits an answer's content type.
#[derive(Debug)]
pub(crate) enum Tally {
    Events(EventTally),
    Json(JsonTally),
    /// Audio, a compressed body and the like.
    Off,
}

impl Tally {
    pub(crate) fn new(content_type: &str, want_text: bool) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("text/event-stream") {
            Self::Events(EventTally {
                want_text,
                ..EventTally::default()
            })
        } else if media.eq_ignore_ascii_case("application/json") {
            Self::Json(JsonTally {
                want_text,
                ..JsonTally::default()
            })
        } else {
            Self::Off
        }
    }

    pub(crate) fn feed(&mut self, frame: &Bytes) {
        match self {
            Self::Events(events) => events.feed(frame),
            Self::Json(json) => json.feed(frame),
            Self::Off => {}
        }
    }

    /// What ends a stream that has said that it is complete: nothing, if its last event came whole.
    pub(crate) fn done(&self) -> Option<&'static str> {
        match self {
            Self::Events(events) if events.is_done() => Some(events.separator()),
            _ => None,
        }
    }

    pub(crate) fn finish(&mut self) -> Usage {
        match self {
            Self::Events(events) => std::mem::take(&mut events.usage),
            Self::Json(json) => std::mem::take(json).finish(),
            Self::Off => Usage::default(),
        }
    }
}

/// Reads a JSON answer.
#[derive(Debug, Default)]
pub(crate) struct JsonTally {
    frames: VecDeque<Bytes>,
    kept: usize,
    /// Whether the answer's beginning is no longer there.
    cut: bool,
    want_text: bool,
    head: Vec<u8>,
}

impl JsonTally {
    fn feed(&mut self, frame: &Bytes) {
        if self.want_text && self.head.len() < MAX_TEXT {
            let room = MAX_TEXT - self.head.len();
            self.head
                .extend_from_slice(frame.get(..room).unwrap_or(frame));
        }
        self.kept += frame.len();
        self.frames.push_back(frame.clone());
        while let Some(first) = self.frames.front() {
            let rest = self.kept - first.len();
            if rest < WINDOW && self.frames.len() <= MAX_FRAMES {
                break;
            }
            self.kept = rest;
            self.cut = true;
            self.frames.pop_front();
        }
    }

    fn finish(self) -> Usage {
        let window = match self.frames.len() {
            1 => self.frames.front().cloned().unwrap_or_default(),
            _ => Bytes::from(self.frames.iter().flatten().copied().collect::<Vec<u8>>()),
        };
        let mut usage = Usage::default();
        if self.cut || window.len() > READ_WHOLE {
            usage.note_model(model_at_an_end(&window));
            let end = window.len().saturating_sub(WINDOW);
            usage.count(window.get(end..).and_then(last_usage));
        } else if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&window) {
            usage.note(&answer);
        }
        usage.text = self
            .want_text
            .then(|| String::from_utf8_lossy(&self.head).into_owned());
        usage
    }
}

/// Reads a stream of server-sent events (WHATWG HTML, section 9.2).
#[derive(Debug, Default)]
pub(crate) struct EventTally {
    /// The line under way, as far as it came.
    line: Vec<u8>,
    /// The line under way is longer than the window: it is not read.
    too_long: bool,
    /// The last byte was a carriage return, which a line feed may follow.
    after_return: bool,
    /// The first line has ended, before which a byte order mark may stand.
    begun: bool,
    /// Lines of an event came, and not yet the empty one that ends it.
    open: bool,
    /// `[DONE]` came, after which nothing may follow.
    done: bool,
    tries: u8,
    want_text: bool,
    usage: Usage,
}

impl EventTally {
    fn feed(&mut self, frame: &[u8]) {
        let mut rest = frame;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let (line, after) = rest.split_at(end);
            rest = match after {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => after,
            };
            self.after_return = after == b"\r";
            if self.line.is_empty() && !self.too_long {
                self.end_line(line);
                continue;
            }
            self.extend(line);
            let line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.too_long) {
                self.open = true;
                self.begun = true;
            } else {
                self.end_line(&line);
            }
        }
        if !rest.is_empty() {
            self.extend(rest);
        }
    }

    /// What has to be sent before another event can begin.
    pub(crate) fn separator(&self) -> &'static str {
        if self.too_long || !self.line.is_empty() {
            "\n\n"
        } else if self.open && self.after_return {
            // The first of the two would still belong to the line before.
            "\n\n"
        } else if self.open {
            "\n"
        } else {
            ""
        }
    }

    fn is_done(&self) -> bool {
        self.done || is_done(&self.line)
    }

    fn extend(&mut self, part: &[u8]) {
        if self.too_long || self.line.len() + part.len() > WINDOW {
            self.too_long = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, line: &[u8]) {
        let marked = !std::mem::replace(&mut self.begun, true);
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(line) if marked => line,
            _ => line,
        };
        self.open = !line.is_empty();
        let Some(data) = line.strip_prefix(b"data:") else {
            return;
        };
        self.done |= is_done(line);
        // Most events say nothing new; they are passed over unread.
        let for_model = self.usage.model.is_none() && self.tries < MAX_TRIES;
        let news = for_model || self.want_text || find(data, b"\"usage\"").is_some();
        if !news {
            return;
        }
        if for_model {
            self.tries += 1;
        }
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(data) {
            if self.want_text
                && let Some(piece) = answer.piece()
            {
                let text = self.usage.text.get_or_insert_default();
                if text.len() + piece.len() <= MAX_TEXT {
                    text.push_str(&piece);
                }
            }
            self.usage.note(&answer);
        }
    }
}

fn is_done(line: &[u8]) -> bool {
    let data = line.strip_prefix(b"data:");
    data.is_some_and(|data| data.trim_ascii() == b"[DONE]")
}

/// What an answer of any of the endpoints, or an event of one, says about itself. Its parts are text until they are
/// wanted, as most of it is the model's own words.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    /// The events of the responses endpoint wrap the answer once more.
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Value,
    #[serde(default)]
    text: Value,
}

/// How many tokens there were, under both sets of names.
#[derive(Deserialize)]
struct Counts<'a> {
    #[serde(borrow, default)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    total_tokens: Option<&'a RawValue>,
}

impl Answer<'_> {
    /// The piece of text that an event brings.
    fn piece(&self) -> Option<String> {
        let choices = self
            .choices
            .map(|choices| serde_json::from_str(choices.get()));
        if let Some(Ok::<Vec<Choice>, _>(choices)) = choices {
            let mut choice = choices.into_iter().next()?;
            let content = choice.delta.get_mut("content").map(Value::take);
            return text(content.unwrap_or(choice.text));
        }
        text(serde_json::from_str(self.delta?.get()).ok()?)
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

impl Usage {
    fn note(&mut self, answer: &Answer<'_>) {
        self.note_model(answer.model);
        self.count(answer.usage);
        let response = answer.response.map(RawValue::get);
        if let Some(Ok(response)) = response.map(serde_json::from_str::<Answer<'_>>) {
            self.note_model(response.model);
            self.count(response.usage);
        }
    }

    fn note_model(&mut self, model: Option<&RawValue>) {
        if self.model.is_some() {
            return;
        }
        let model = model.and_then(|model| serde_json::from_str::<String>(model.get()).ok());
        self.model = model.filter(|model| !model.is_empty()).map(shown);
    }

    /// Takes the counts over under either of their names. Some providers send them with every event, each
    /// replacing the ones before.
    fn count(&mut self, usage: Option<&RawValue>) {
        let Some(Ok(counts)) = usage.map(|usage| serde_json::from_str::<Counts<'_>>(usage.get()))
        else {
            return;
        };
        let number = |value: Option<&RawValue>| value.and_then(|value| value.get().parse().ok());
        let prompt = number(counts.prompt_tokens).or_else(|| number(counts.input_tokens));
        let completion = number(counts.completion_tokens).or_else(|| number(counts.output_tokens));
        if prompt.is_none() && completion.is_none() {
            return;
        }
        self.prompt_tokens = prompt;
        self.completion_tokens = completion;
        self.total_tokens = number(counts.total_tokens).or_else(|| {
            prompt
                .unwrap_or_default()
                .checked_add(completion.unwrap_or_default())
        });
    }
}

/// The last `"usage":{…}` of a JSON text whose beginning may be missing.
///
/// Within a string the quotes would be escaped, so what is found is a member, not text that looks like one.
fn last_usage(window: &[u8]) -> Option<&RawValue> {
    let name: &[u8] = b"\"usage\"";
    let mut end = window.len();
    let mut tries = 0;
    while tries < MAX_USAGES {
        let at = window
            .get(..end)?
            .windows(name.len())
            .rposition(|part| part == name)?;
        let after = window.get(at + name.len()..)?.trim_ascii_start();
        let value = after.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if let Some(value) = value.filter(|value| value.starts_with(b"{")) {
            tries += 1;
            let mut values = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>();
            if let Some(Ok(counts)) = values.next() {
                return Some(counts);
            }
        }
        // The next one may overlap with this one by a quote.
        end = at + name.len() - 1;
    }
    None
}

/// The `"model":"…"` that stands near the beginning of a long JSON text, or near its end.
fn model_at_an_end(window: &[u8]) -> Option<&RawValue> {
    let name: &[u8] = b"\"model\"";
    [0, window.len().saturating_sub(END)]
        .into_iter()
        .find_map(|from| {
            let near = window.get(from..)?;
            let at = find(near.get(..END)?, name)?;
            let after = near.get(at + name.len()..)?.trim_ascii_start();
            let value = after.strip_prefix(b":")?.trim_ascii_start();
            let mut values = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>();
            values.next()?.ok()
        })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|part| part == needle)
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
