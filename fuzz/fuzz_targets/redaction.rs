//! What must not stand in a log. Input: a secret's own text, a name, then a text, which is also read as JSON.
#![no_main]

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use proactions_fuzz::text_line;
use proactions_redact_log::{FILTERED, Redactor, TRUNCATED};
use serde_json::{Map, Value};

/// No fuzzer writes this by chance.
const PLANTED: &str = "pLaNtEd7331";

const NAMES: [&str; 8] = [
    "apiKey",
    "password",
    "x-access-token",
    "Authorization",
    "client_secret",
    "Cookie",
    "sessionId",
    "iban",
];

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(["iban"]));

fuzz_target!(|data: &[u8]| {
    let Some((secret, rest)) = text_line(data) else {
        return;
    };
    let Some((name, rest)) = text_line(rest) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if data
        .windows(PLANTED.len())
        .any(|window| window == PLANTED.as_bytes())
    {
        return;
    }
    let redactor = &*REDACTOR;

    for redacted in [redactor.redact_text(text), redactor.redact_url(text)] {
        assert!(
            redacted.len() <= bound(text.len()),
            "{} from {}",
            redacted.len(),
            text.len()
        );
    }

    let secret = format!("{PLANTED}{secret}{PLANTED}");
    if redactor.is_sensitive(name) {
        assert_eq!(redactor.redact_field(name, text), FILTERED);
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
            && let Ok(value) = HeaderValue::from_str(&secret)
            && redactor.is_sensitive(name.as_str())
        {
            assert_eq!(redactor.redact_header(&name, &value), FILTERED);
        }
    }

    let encoded: String = secret.bytes().map(encode).collect();
    for name in NAMES {
        gone(redactor, &format!("{name}={encoded}&page=2"));
        gone(redactor, &format!("/a?page=2&{name}={encoded}"));
    }

    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let plain = is_plain(&value);
    let mut planted = value;
    let mut names = NAMES.iter().cycle();
    plant(&mut planted, &secret, &mut names);
    let compact = planted.to_string();
    if compact.len() > Redactor::MAX_TEXT {
        return;
    }
    let redacted = gone(redactor, &compact);
    // In strings that look like something else, such as a private key without an end, more is taken than the secret.
    if plain {
        let read: Value = serde_json::from_str(&redacted)
            .unwrap_or_else(|error| panic!("{error}: {compact} became {redacted}"));
        assert_eq!(keys(&read), keys(&planted), "{compact} became {redacted}");
    }
    if let Ok(pretty) = serde_json::to_string_pretty(&planted) {
        gone(redactor, &pretty);
    }
    // JSON in a string, and that in another one.
    let inside = Value::from(compact).to_string();
    gone(redactor, &format!("{{\"body\":{inside}}}"));
    let twice = Value::from(format!("{{\"body\":{inside}}}")).to_string();
    gone(redactor, &format!("{{\"body\":{twice}}}"));
});

/// Each replacement takes the place of a value of at least one character behind a name of at least three and a
/// separator, and may add the quotation marks that the name had.
fn bound(len: usize) -> usize {
    4 * len + FILTERED.len() + TRUNCATED.len()
}

fn gone(redactor: &Redactor, text: &str) -> String {
    let redacted = redactor.redact_text(text).into_owned();
    assert!(!redacted.contains(PLANTED), "{text} became {redacted}");
    redacted
}

fn encode(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// Puts the secret under a sensitive name into every object and behind every object of a list.
fn plant<'n>(value: &mut Value, secret: &str, names: &mut impl Iterator<Item = &'n &'n str>) {
    match value {
        Value::Array(items) => {
            for item in items.iter_mut() {
                plant(item, secret, names);
            }
            if let Some(name) = names.next() {
                let members = Map::from_iter([((*name).to_owned(), Value::from(secret))]);
                items.push(Value::Object(members));
            }
        }
        Value::Object(members) => {
            for member in members.values_mut() {
                plant(member, secret, names);
            }
            if let Some(name) = names.next() {
                members.insert((*name).to_owned(), Value::from(secret));
            }
        }
        _ => {}
    }
}

/// The names of the outermost members: a secret's replacement takes nothing else along.
fn keys(value: &Value) -> Option<Vec<&String>> {
    value.as_object().map(|members| members.keys().collect())
}

/// Whether all names and texts are words, in which there is nothing to find.
fn is_plain(value: &Value) -> bool {
    let words = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
    };
    match value {
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => members
            .iter()
            .all(|(name, value)| words(name) && is_plain(value)),
        Value::String(text) => words(text),
        _ => true,
    }
}
