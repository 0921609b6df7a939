//! A request's JSON body with a target's options under it and its overrides over it.
//!
//! The bytes of the request are not written anew: what the target adds is put before the closing brace. So
//! numbers, escapes, unknown members and white space reach the provider exactly as the client wrote them. Only
//! where a member has to give way to an override is the object written again, its other values byte for byte.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// How many members a request's object may have; a real one has a few dozen.
const MAX_MEMBERS: usize = 512;

/// A target's options and overrides, written out once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// Those that the request does not have are added.
    members: Arc<[Member]>,
    stream: bool,
    model: Option<Arc<str>>,
    /// Those that stand in place of the request's.
    overrides: Arc<[Member]>,
    forced_stream: Option<bool>,
    forced_model: Option<Arc<str>>,
}

#[derive(Debug)]
struct Member {
    name: Box<str>,
    /// `"name":value`
    text: Box<str>,
}

impl Defaults {
    pub(crate) fn new(options: &Map<String, Value>) -> Self {
        Self {
            members: options.iter().map(Member::new).collect(),
            stream: options.get("stream") == Some(&Value::Bool(true)),
            model: options.get("model").and_then(Value::as_str).map(Arc::from),
            ..Self::default()
        }
    }

    /// Sets what the request cannot choose.
    pub(crate) fn overridden(mut self, overrides: &Map<String, Value>) -> Self {
        self.overrides = overrides.iter().map(Member::new).collect();
        self.forced_stream = overrides
            .get("stream")
            .map(|stream| *stream == Value::Bool(true));
        self.forced_model = overrides
            .get("model")
            .and_then(Value::as_str)
            .map(Arc::from);
        self
    }

    /// Checks that `body` is a JSON object and puts these options under it.
    ///
    /// A member that the request has is left alone, also when it is `null` or an object: nothing is merged
    /// within it. A member that is overridden gives way. `stream_options` is added to a streaming request only, as
    /// providers refuse it on others. Which model is asked is found out where `name_model` says so.
    pub(crate) fn under(&self, body: &Bytes, name_model: bool) -> Result<Merged, MergeError> {
        let request: Members<'_> = serde_json::from_slice(body).map_err(|_| {
            let object = body.trim_ascii_start().starts_with(b"{");
            if !object && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
                MergeError::NotAnObject
            } else {
                MergeError::Syntax
            }
        })?;
        if let Some(fault) = request.fault {
            return Err(fault);
        }
        let stream = match (self.forced_stream, request.get("stream")) {
            (Some(forced), _) => forced,
            (None, Some(value)) => value.get() == "true",
            (None, None) => self.stream,
        };
        let model = match (&self.forced_model, request.get("model")) {
            _ if !name_model => None,
            (Some(forced), _) => Some(String::from(&**forced)),
            (None, Some(value)) => serde_json::from_str(value.get()).ok(),
            (None, None) => self.model.as_deref().map(str::to_owned),
        };
        let fits = |member: &&Member| stream || &*member.name != "stream_options";
        let overridden = |name: &str| {
            let mut overrides = self.overrides.iter().filter(fits);
            overrides.any(|member| &*member.name == name)
        };
        let missing = |member: &&Member| {
            request.get(&member.name).is_none() && !overridden(&member.name) && fits(member)
        };
        let added = || {
            let overrides = self.overrides.iter().filter(fits);
            self.members.iter().filter(missing).chain(overrides)
        };
        let gives_way = |name: &str| {
            overridden(name) || (self.forced_stream == Some(false) && name == "stream_options")
        };
        if request.members.iter().any(|(name, _)| gives_way(name)) {
            let kept = request.members.iter().filter(|(name, _)| !gives_way(name));
            return Ok(Merged {
                body: written(kept, added(), body.len()),
                stream,
                model,
            });
        }
        let extra: usize = added().map(|member| member.text.len() + 1).sum();
        let body = if extra == 0 {
            body.clone()
        } else {
            let end = body
                .iter()
                .rposition(|b| *b == b'}')
                .ok_or(MergeError::NotAnObject)?;
            let (head, tail) = body.split_at(end);
            let mut merged = Vec::with_capacity(body.len() + extra);
            merged.extend_from_slice(head);
            let mut first = request.members.is_empty();
            for member in added() {
                if !std::mem::take(&mut first) {
                    merged.push(b',');
                }
                merged.extend_from_slice(member.text.as_bytes());
            }
            merged.extend_from_slice(tail);
            Bytes::from(merged)
        };
        Ok(Merged {
            body,
            stream,
            model,
        })
    }
}

/// An object of these members.
fn written<'a>(
    kept: impl Iterator<Item = &'a (Cow<'a, str>, &'a RawValue)>,
    added: impl Iterator<Item = &'a Member>,
    capacity: usize,
) -> Bytes {
    let mut text = String::with_capacity(capacity);
    text.push('{');
    for (name, value) in kept {
        text.push_str(&Value::from(&**name).to_string());
        text.push(':');
        text.push_str(value.get());
        text.push(',');
    }
    for member in added {
        text.push_str(&member.text);
        text.push(',');
    }
    if text.ends_with(',') {
        text.pop();
    }
    text.push('}');
    Bytes::from(text)
}

impl Member {
    fn new((name, value): (&String, &Value)) -> Self {
        Self {
            name: name.as_str().into(),
            text: format!("{}:{value}", Value::from(name.as_str())).into(),
        }
    }
}

/// What is sent, and what the log wants to know of it.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) body: Bytes,
    pub(crate) stream: bool,
    pub(crate) model: Option<String>,
}

/// Why a body cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeError {
    /// A name stands twice: readers differ on which of the two counts.
    Duplicate,
    /// It is JSON, and something else.
    NotAnObject,
    /// It is not JSON.
    Syntax,
    /// It has more members than any real request.
    TooManyMembers,
}

impl MergeError {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "The request body holds a member twice",
            Self::NotAnObject => "The request body must be a JSON object",
            Self::Syntax => "The request body is not valid JSON",
            Self::TooManyMembers => "The request body has too many members",
        }
    }
}

/// The members of an object, their values unread.
struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    fault: Option<MergeError>,
}

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> serde::de::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut object: Members<'de> = Members {
                    members: Vec::with_capacity(16),
                    fault: None,
                };
                while let Some(Name(name)) = map.next_key()? {
                    let value = map.next_value()?;
                    if object.fault.is_some() {
                        continue;
                    }
                    if object.get(&name).is_some() {
                        object.fault = Some(MergeError::Duplicate);
                    } else if object.members.len() >= MAX_MEMBERS {
                        object.fault = Some(MergeError::TooManyMembers);
                    } else {
                        object.members.push((name, value));
                    }
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// A member's name, borrowed unless it holds an escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::de::Deserialize<'de> for Name<'a> {
    fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
