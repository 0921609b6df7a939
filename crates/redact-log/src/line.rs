//! How an event becomes a line. Every text passes through the redactor here and nowhere else.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::mem;
use std::time::{Duration, SystemTime};

use crate::escape::{push_json, push_text};
use crate::redact::TRUNCATED;
use crate::{Level, Redactor};

/// One event with everything that is written of it.
pub(crate) struct Event<'e> {
    pub(crate) at: SystemTime,
    pub(crate) level: Level,
    pub(crate) module: &'e str,
    pub(crate) message: Value<'e>,
    /// Calls its argument for each field, in the order in which they are written.
    pub(crate) fields: &'e dyn Fn(&mut PutField<'_>),
}

/// Takes the name and the value of one field.
pub(crate) type PutField<'p> = dyn FnMut(&str, Value<'_>) + 'p;

/// The value of a field.
#[derive(Clone, Copy)]
pub(crate) enum Value<'v> {
    Bool(bool),
    /// A number under a name that is known not to be sensitive.
    Count(u64),
    Float(f64),
    /// A time span in milliseconds with up to three decimals.
    Millis(Duration),
    /// A text that holds no secret, or none any more.
    Safe(&'v str),
    Signed(i128),
    Text(&'v str),
    Unsigned(u128),
}

/// The form of a line.
#[derive(Clone, Debug)]
pub(crate) enum LineFormat {
    Json,
    Text(Vec<Part>),
}

/// A part of the template of a text line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Field(String),
    Level,
    Literal(String),
    Message,
    Module,
    Timestamp,
}

/// How many bytes of an event's texts are written before the rest is cut.
const MAX_EVENT: usize = Redactor::MAX_TEXT;

/// The names that every line begins with; a field of such a name gets an underscore.
const RESERVED: [&str; 4] = ["timestamp", "level", "message", "module"];

impl LineFormat {
    /// Reads a template.
    pub(crate) fn text(template: &str) -> Result<Self, String> {
        if template.chars().any(char::is_control) {
            return Err("control characters and line breaks cannot stand in a line".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, tail)) = rest.split_once("${") {
            let (name, tail) = tail
                .split_once('}')
                .ok_or_else(|| format!("a }} was expected after ${{{tail}"))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(match name {
                "timestamp" => Part::Timestamp,
                "level" => Part::Level,
                "module" => Part::Module,
                "message" => Part::Message,
                "" => return Err("the name of a field was expected in ${}".to_owned()),
                name => Part::Field(name.to_owned()),
            });
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if parts.iter().all(|part| matches!(part, Part::Literal(_))) {
            return Err("at least one field was expected, as in ${message}".to_owned());
        }
        Ok(Self::Text(parts))
    }

    /// Adds the event to `out` as one line with its line break.
    pub(crate) fn write(
        &self,
        out: &mut String,
        stamp: &str,
        redactor: &Redactor,
        event: &Event<'_>,
    ) {
        let mut budget = MAX_EVENT;
        match self {
            Self::Json => {
                out.push_str("{\"timestamp\":\"");
                out.push_str(stamp);
                out.push_str("\",\"level\":\"");
                out.push_str(event.level.as_str());
                out.push_str("\",\"message\":");
                push_json_value(out, redactor, "message", event.message, &mut budget);
                out.push_str(",\"module\":\"");
                push_json(out, event.module);
                out.push('"');
                (event.fields)(&mut |name, value| {
                    out.push_str(",\"");
                    push_json(out, name);
                    if RESERVED.contains(&name) {
                        out.push('_');
                    }
                    out.push_str("\":");
                    push_json_value(out, redactor, name, value, &mut budget);
                });
                out.push('}');
            }
            Self::Text(parts) => {
                for part in parts {
                    match part {
                        Part::Literal(text) => out.push_str(text),
                        Part::Timestamp => out.push_str(stamp),
                        Part::Level => out.push_str(event.level.as_str()),
                        Part::Module => push_text(out, event.module),
                        Part::Message => {
                            push_text_value(out, redactor, "message", event.message, &mut budget);
                        }
                        Part::Field(wanted) => {
                            let before = out.len();
                            (event.fields)(&mut |name, value| {
                                if name == wanted && out.len() == before {
                                    push_text_value(out, redactor, name, value, &mut budget);
                                }
                            });
                            if out.len() == before {
                                out.push('-');
                            }
                        }
                    }
                }
            }
        }
        out.push('\n');
    }
}

fn push_json_value(
    out: &mut String,
    redactor: &Redactor,
    name: &str,
    value: Value<'_>,
    budget: &mut usize,
) {
    let is_bare = match value {
        Value::Float(number) => number.is_finite() && !redactor.is_sensitive(name),
        Value::Signed(_) | Value::Unsigned(_) | Value::Bool(_) => !redactor.is_sensitive(name),
        Value::Count(_) | Value::Millis(_) => true,
        Value::Safe(_) | Value::Text(_) => false,
    };
    if is_bare {
        push_value(out, redactor, name, value, budget, push_json);
    } else {
        out.push('"');
        push_value(out, redactor, name, value, budget, push_json);
        out.push('"');
    }
}

fn push_text_value(
    out: &mut String,
    redactor: &Redactor,
    name: &str,
    value: Value<'_>,
    budget: &mut usize,
) {
    push_value(out, redactor, name, value, budget, push_text);
}

fn push_value(
    out: &mut String,
    redactor: &Redactor,
    name: &str,
    value: Value<'_>,
    budget: &mut usize,
    push: fn(&mut String, &str),
) {
    match value {
        // Writing to a String cannot fail.
        Value::Count(value) => push_decimal(out, value),
        Value::Millis(span) => push_millis(out, span),
        Value::Safe(text) => push(out, text),
        _ if name != "message" && redactor.is_sensitive(name) => push(out, crate::FILTERED),
        Value::Text(text) => {
            let max = *budget;
            *budget = budget.saturating_sub(text.len());
            if max == 0 && !text.is_empty() {
                push(out, TRUNCATED);
            } else {
                push(out, &redactor.redact(text, false, max));
            }
        }
        Value::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Signed(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Unsigned(value) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn push_millis(out: &mut String, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    push_decimal(out, micros / 1000);
    let rest = micros % 1000;
    if rest > 0 {
        let digits = [rest / 100, rest / 10 % 10, rest % 10];
        let len = digits.iter().rposition(|digit| *digit > 0).unwrap_or(0) + 1;
        out.push('.');
        for digit in digits.into_iter().take(len) {
            push_decimal(out, digit);
        }
    }
}

/// Adds a number without the formatting machinery: every line has several.
pub(crate) fn push_decimal(out: &mut String, number: u64) {
    let mut divisor = number
        .checked_ilog10()
        .map_or(1, |digits| 10_u64.pow(digits));
    while divisor > 0 {
        let digit = u8::try_from(number / divisor % 10).unwrap_or_default();
        out.push(char::from(b'0' + digit));
        divisor /= 10;
    }
}

/// Buffers that a thread uses for one line after the other.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) line: String,
    pub(crate) text: String,
    second: Option<i64>,
    stamp: String,
}

/// A buffer that grew beyond this is not kept.
const MAX_KEPT: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Lends this thread's buffers, emptied; fresh ones if they are lent already or gone.
    pub(crate) fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        let taken = SCRATCH.try_with(|scratch| {
            scratch
                .try_borrow_mut()
                .map(|mut kept| mem::take(&mut *kept))
        });
        let mut scratch = match taken {
            Ok(Ok(scratch)) => scratch,
            _ => Self::default(),
        };
        let result = work(&mut scratch);
        for buffer in [&mut scratch.line, &mut scratch.text] {
            buffer.clear();
            buffer.shrink_to(MAX_KEPT);
        }
        let _ = SCRATCH.try_with(|kept| kept.try_borrow_mut().map(|mut kept| *kept = scratch));
        result
    }

    /// The time in UTC as `2026-11-23T19:07:08.123Z`. The text up to the second is made once a second.
    pub(crate) fn stamp(&mut self, at: SystemTime) -> &str {
        const UP_TO_SECOND: usize = "2026-11-23T19:07:08".len();
        let time = jiff::Timestamp::try_from(at).unwrap_or_default();
        if self.second != Some(time.as_second()) {
            self.second = Some(time.as_second());
            self.stamp.clear();
            let _ = write!(
                self.stamp,
                "{}",
                jiff::tz::Offset::UTC
                    .to_datetime(time)
                    .strftime("%Y-%m-%dT%H:%M:%S")
            );
        }
        self.stamp.truncate(UP_TO_SECOND);
        let millis = time.subsec_millisecond().unsigned_abs();
        self.stamp.push('.');
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            self.stamp.extend(char::from_digit(digit, 10));
        }
        self.stamp.push('Z');
        &self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &LineFormat, message: &str, fields: &[(&str, Value<'_>)]) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_007);
        let mut scratch = Scratch::default();
        let stamp = scratch.stamp(at).to_owned();
        let mut out = String::new();
        let event = Event {
            at,
            level: Level::Warn,
            module: "tools",
            message: Value::Text(message),
            fields: &|put| {
                for (name, value) in fields {
                    put(name, *value);
                }
            },
        };
        format.write(&mut out, &stamp, &Redactor::default(), &event);
        out
    }

    #[test]
    fn json_has_the_documented_order_and_types() {
        let fields = [
            ("promptTokens", Value::Unsigned(15)),
            ("token", Value::Signed(4711)),
            ("ok", Value::Bool(true)),
            ("ratio", Value::Float(0.5)),
            ("bad", Value::Float(f64::NAN)),
            ("duration", Value::Millis(Duration::from_micros(12_340))),
            ("level", Value::Text("Bearer abc")),
        ];
        assert_eq!(
            line(&LineFormat::Json, "a \"b\"\napiKey=x", &fields),
            concat!(
                r#"{"timestamp":"2026-01-01T00:00:00.007Z","level":"warn","message":"a \"b\"\napiKey=[FILTERED]","#,
                r#""module":"tools","promptTokens":15,"token":"[FILTERED]","ok":true,"ratio":0.5,"bad":"NaN","#,
                r#""duration":12.34,"level_":"Bearer [FILTERED]"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn text_follows_its_template() {
        let format =
            LineFormat::text("${timestamp} [${level}] [${module}]: ${message} u=${user} ${x}")
                .unwrap();
        assert_eq!(
            line(&format, "hi\nthere", &[("user", Value::Text("bob\u{1b}"))]),
            "2026-01-01T00:00:00.007Z [warn] [tools]: hi\\nthere u=bob\\u001b -\n"
        );
    }

    #[test]
    fn templates_that_cannot_be_meant_are_refused() {
        for (template, problem) in [
            ("${message", "a } was expected"),
            ("${}", "the name of a field"),
            ("hello", "at least one field"),
            ("${message}\n", "control characters"),
        ] {
            let error = LineFormat::text(template).unwrap_err();
            assert!(error.contains(problem), "{template:?}: {error}");
        }
    }

    #[test]
    fn an_event_has_an_end() {
        let long = "word ".repeat(20_000);
        let text = line(&LineFormat::Json, &long, &[("more", Value::Text("x"))]);
        assert!(text.len() < 70_000, "{}", text.len());
        assert!(
            text.contains("[TRUNCATED]\",\"module\""),
            "{}",
            &text[text.len() - 99..]
        );
        assert!(text.ends_with("\"more\":\"[TRUNCATED]\"}\n"));
    }

    #[test]
    fn milliseconds_have_up_to_three_decimals() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.001"),
            (1500, "1.5"),
            (20_000, "20"),
            (1_234_567, "1234.567"),
            (1_010, "1.01"),
        ] {
            let mut out = String::new();
            push_millis(&mut out, Duration::from_micros(micros));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn the_stamp_is_renewed() {
        let mut scratch = Scratch::default();
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(scratch.stamp(at(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(scratch.stamp(at(999)), "1970-01-01T00:00:00.999Z");
        assert_eq!(
            scratch.stamp(at(951_782_400_123)),
            "2000-02-29T00:00:00.123Z"
        );
    }

    #[test]
    fn decimals_are_written_in_full() {
        for number in [0, 7, 10, 99, 100, 999, 1_000, 4_294_967_295, u64::MAX] {
            let mut out = String::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string());
        }
    }
}
