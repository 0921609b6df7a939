//! What a video is called and who may see it.

use proactions_edge::{Rejection, RejectionKind};
use serde_json::{Map, Value};

/// The resource that an upload begins with (YouTube Data API, `videos.insert`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metadata {
    snippet: Map<String, Value>,
    status: Map<String, Value>,
    notify: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flag,
    Tags,
    Text,
    Visibility,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    /// It is no member, but stands in the URL.
    Query,
    Snippet,
    Status,
}

/// Every field that a form may have, and a `metadata` object beside `snippet` and `status`.
const FIELDS: [(&str, Section, Kind); 14] = [
    ("categoryId", Section::Snippet, Kind::Text),
    ("containsSyntheticMedia", Section::Status, Kind::Flag),
    ("defaultAudioLanguage", Section::Snippet, Kind::Text),
    ("defaultLanguage", Section::Snippet, Kind::Text),
    ("description", Section::Snippet, Kind::Text),
    ("embeddable", Section::Status, Kind::Flag),
    ("license", Section::Status, Kind::Text),
    ("notifySubscribers", Section::Query, Kind::Flag),
    ("privacyStatus", Section::Status, Kind::Visibility),
    ("publicStatsViewable", Section::Status, Kind::Flag),
    ("publishAt", Section::Status, Kind::Text),
    ("selfDeclaredMadeForKids", Section::Status, Kind::Flag),
    ("tags", Section::Snippet, Kind::Tags),
    ("title", Section::Snippet, Kind::Text),
];

impl Metadata {
    /// Takes over one field of the form.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> Result<(), Rejection> {
        if name == "metadata" {
            return self.add_object(text);
        }
        let (section, kind) = field(name).ok_or_else(|| unknown(name))?;
        let value = match kind {
            Kind::Flag => match text.trim() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(bad(name, "true or false")),
            },
            Kind::Tags if text.trim_start().starts_with('[') => {
                serde_json::from_str(text).map_err(|_| bad(name, "a list of texts"))?
            }
            Kind::Tags => text
                .split(',')
                .map(str::trim)
                .filter(|tag| !tag.is_empty())
                .map(Value::from)
                .collect(),
            Kind::Text => Value::from(text),
            Kind::Visibility => Value::from(text.trim()),
        };
        self.set(name, section, kind, value)
    }

    fn add_object(&mut self, text: &str) -> Result<(), Rejection> {
        let Ok(Value::Object(members)) = serde_json::from_str(text) else {
            return Err(bad("metadata", "a JSON object"));
        };
        for (name, value) in members {
            let section = match name.as_str() {
                "snippet" => Section::Snippet,
                "status" => Section::Status,
                _ => {
                    let (section, kind) = field(&name).ok_or_else(|| unknown(&name))?;
                    self.set(&name, section, kind, value)?;
                    continue;
                }
            };
            let Value::Object(members) = value else {
                return Err(bad(&name, "a JSON object"));
            };
            for (name, value) in members {
                // What YouTube knows and this table does not is YouTube's to judge.
                let kind = match field(&name) {
                    Some((of, kind)) if of == section => Some(kind),
                    _ => None,
                };
                match kind {
                    Some(kind) => self.set(&name, section, kind, value)?,
                    None => self.put(&name, section, value)?,
                }
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        name: &str,
        section: Section,
        kind: Kind,
        value: Value,
    ) -> Result<(), Rejection> {
        match kind {
            Kind::Flag if !value.is_boolean() => return Err(bad(name, "true or false")),
            Kind::Text if !value.is_string() => return Err(bad(name, "a text")),
            Kind::Tags
                if !value
                    .as_array()
                    .is_some_and(|tags| tags.iter().all(Value::is_string)) =>
            {
                return Err(bad(name, "a list of texts"));
            }
            Kind::Visibility
                if !value
                    .as_str()
                    .is_some_and(|value| ["private", "public", "unlisted"].contains(&value)) =>
            {
                return Err(bad(name, "private, unlisted or public"));
            }
            Kind::Flag | Kind::Tags | Kind::Text | Kind::Visibility => {}
        }
        self.put(name, section, value)
    }

    fn put(&mut self, name: &str, section: Section, value: Value) -> Result<(), Rejection> {
        let before = match section {
            Section::Query => self.notify.replace(value == Value::Bool(true)).is_some(),
            Section::Snippet => self.snippet.insert(name.to_owned(), value).is_some(),
            Section::Status => self.status.insert(name.to_owned(), value).is_some(),
        };
        if before {
            return Err(refuse(format!(
                "{} is given more than once",
                shortened(name)
            )));
        }
        Ok(())
    }

    /// The body and the query of the request that begins the upload.
    pub(crate) fn finish(mut self) -> Result<(String, String), Rejection> {
        let title = self.snippet.get("title").and_then(Value::as_str);
        if title.is_none_or(|title| title.trim().is_empty()) {
            return Err(refuse("title is required".to_owned()));
        }
        // Nothing is published that nobody asked to publish.
        self.status
            .entry("privacyStatus")
            .or_insert_with(|| Value::from("private"));
        let mut query = "uploadType=resumable&part=snippet,status".to_owned();
        if let Some(notify) = self.notify {
            query.push_str(if notify {
                "&notifySubscribers=true"
            } else {
                "&notifySubscribers=false"
            });
        }
        let resource = serde_json::json!({"snippet": self.snippet, "status": self.status});
        Ok((resource.to_string(), query))
    }
}

fn field(name: &str) -> Option<(Section, Kind)> {
    FIELDS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, section, kind)| (*section, *kind))
}

fn unknown(name: &str) -> Rejection {
    refuse(format!(
        "The form has an unknown field: {}",
        shortened(name)
    ))
}

fn bad(name: &str, expected: &str) -> Rejection {
    refuse(format!("{}: expected {expected}", shortened(name)))
}

fn refuse(message: String) -> Rejection {
    Rejection::new(RejectionKind::BadRequest).with_message(message)
}

fn shortened(name: &str) -> String {
    name.chars().take(64).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finish(fields: &[(&str, &str)]) -> Result<(Value, String), String> {
        let mut metadata = Metadata::default();
        for (name, text) in fields {
            metadata
                .add(name, text)
                .map_err(|error| error.message().to_owned())?;
        }
        let (body, query) = metadata
            .finish()
            .map_err(|error| error.message().to_owned())?;
        Ok((serde_json::from_str(&body).unwrap(), query))
    }

    #[test]
    fn fields_and_objects_say_the_same() {
        let expected = json!({
            "snippet": {"title": "T", "tags": ["a", "b c"], "categoryId": "25"},
            "status": {"privacyStatus": "unlisted", "embeddable": false},
        });
        let flat = r#"{"title":"T","tags":["a","b c"],"categoryId":"25","privacyStatus":"unlisted","embeddable":false}"#;
        let nested = r#"{"snippet":{"title":"T","tags":["a","b c"],"categoryId":"25"},"status":{"privacyStatus":"unlisted","embeddable":false}}"#;
        for fields in [
            &[
                ("title", "T"),
                ("tags", "a, b c,"),
                ("categoryId", "25"),
                ("privacyStatus", "unlisted"),
                ("embeddable", "false"),
            ][..],
            &[
                ("title", "T"),
                ("tags", r#"["a","b c"]"#),
                ("categoryId", "25"),
                ("privacyStatus", "unlisted"),
                ("embeddable", "false"),
            ],
            &[("metadata", flat)],
            &[("metadata", nested)],
        ] {
            let (body, query) = finish(fields).unwrap();
            assert_eq!(body, expected, "{fields:?}");
            assert_eq!(query, "uploadType=resumable&part=snippet,status");
        }
    }

    #[test]
    fn a_video_is_private_unless_asked_otherwise() {
        let (body, query) = finish(&[("title", "T"), ("notifySubscribers", "false")]).unwrap();
        assert_eq!(body["status"], json!({"privacyStatus": "private"}));
        assert!(query.ends_with("&notifySubscribers=false"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, message) in [
            (&[][..], "title is required"),
            (&[("title", "  ")], "title is required"),
            (
                &[("title", "a"), ("title", "b")],
                "title is given more than once",
            ),
            (
                &[("title", "a"), ("metadata", r#"{"title":"b"}"#)],
                "title is given more than once",
            ),
            (&[("titel", "a")], "The form has an unknown field: titel"),
            (
                &[("metadata", r#"{"id":"x"}"#)],
                "The form has an unknown field: id",
            ),
            (&[("metadata", "[]")], "metadata: expected a JSON object"),
            (
                &[("metadata", r#"{"snippet":1}"#)],
                "snippet: expected a JSON object",
            ),
            (&[("metadata", r#"{"title":1}"#)], "title: expected a text"),
            (
                &[("metadata", r#"{"snippet":{"title":1}}"#)],
                "title: expected a text",
            ),
            (
                &[("privacyStatus", "open")],
                "privacyStatus: expected private, unlisted or public",
            ),
            (
                &[("embeddable", "yes")],
                "embeddable: expected true or false",
            ),
            (&[("tags", "[1]")], "tags: expected a list of texts"),
            (&[("tags", "[")], "tags: expected a list of texts"),
        ] {
            assert_eq!(finish(fields).unwrap_err(), message, "{fields:?}");
        }
    }
}
