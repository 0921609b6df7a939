//! Events of the `tracing` crate.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::ops::Range;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::Context;

use crate::line::{Event, Scratch, Value};
use crate::policy::Category;
use crate::{Level, Logging};

/// Writes every event of the process to the log, with secrets filtered out of its message and its fields.
///
/// The target of an event names its type: `security`, `aiLink`, `proxy`, `youtube`, `tools`. Of the rest,
/// warnings and errors are of type `error`, and what is below goes to the console with the last part of the
/// target as its module. `TRACE` is level `verbose` for this project's own crates and the types, and `silly` for
/// libraries. Fields of spans are not written.
#[derive(Clone, Debug)]
pub struct TracingLayer {
    logging: Logging,
}

impl TracingLayer {
    /// A layer that writes to `logging`.
    #[must_use]
    pub const fn new(logging: Logging) -> Self {
        Self { logging }
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for TracingLayer {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.logging.policy().most_verbose_level() {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Verbose | Level::Silly => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let (category, level) = classify(metadata);
        if !self.logging.is_enabled(category, level) {
            return;
        }
        let module = match Category::of_target(metadata.target()) {
            Some(category) => category.as_str(),
            None => last_part(metadata.target()),
        };
        Scratch::with(|scratch| {
            let mut fields = Fields {
                text: std::mem::take(&mut scratch.text),
                message: None,
                kept: Vec::with_capacity(metadata.fields().len()),
                traces: self.logging.policy().trace_logged(),
            };
            event.record(&mut fields);
            let line = Event {
                at: self.logging.clock().now(),
                level,
                module,
                message: Value::Text(
                    fields
                        .message
                        .clone()
                        .map_or("", |range| fields.text(range)),
                ),
                fields: &|put| {
                    for (name, value) in &fields.kept {
                        put(name, fields.value(value));
                    }
                },
            };
            self.logging.write(category, scratch, &line);
            scratch.text = fields.text;
        });
    }
}

fn classify(metadata: &Metadata<'_>) -> (Category, Level) {
    let target = metadata.target();
    let of_target = Category::of_target(target);
    let is_own = of_target.is_some() || target.starts_with("proactions_");
    let level = match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE if is_own => Level::Verbose,
        tracing::Level::TRACE => Level::Silly,
    };
    let category = of_target.unwrap_or(if level <= Level::Warn {
        Category::Error
    } else {
        Category::General
    });
    (category, level)
}

fn last_part(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

/// The fields of one event.
struct Fields {
    text: String,
    message: Option<Range<usize>>,
    kept: Vec<(&'static str, Kept)>,
    traces: bool,
}

enum Kept {
    Bool(bool),
    Float(f64),
    Signed(i128),
    Text(Range<usize>),
    Unsigned(u128),
}

/// Names under which stack traces come.
const TRACES: [&str; 4] = ["backtrace", "stack", "stackTrace", "trace"];

/// How a trace begins in the Debug form of an error.
const TRACE_HEADINGS: [&str; 2] = ["Stack backtrace:", "stack backtrace:"];

impl Fields {
    fn text(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    fn value(&self, kept: &Kept) -> Value<'_> {
        match kept {
            Kept::Bool(value) => Value::Bool(*value),
            Kept::Float(value) => Value::Float(*value),
            Kept::Signed(value) => Value::Signed(*value),
            Kept::Text(range) => Value::Text(self.text(range.clone())),
            Kept::Unsigned(value) => Value::Unsigned(*value),
        }
    }

    fn keep_text(&mut self, field: &Field, write: impl FnOnce(&mut String) -> fmt::Result) {
        let start = self.text.len();
        // What a failing Debug has written up to then is written.
        let _ = write(&mut self.text);
        if !self.traces
            && let Some(heading) = TRACE_HEADINGS
                .iter()
                .filter_map(|heading| self.text.get(start..)?.find(heading))
                .min()
        {
            self.text.truncate(start + heading);
        }
        let range = start..self.text.len();
        if field.name() == "message" {
            self.message = Some(range);
        } else {
            self.keep(field, Kept::Text(range));
        }
    }

    fn keep(&mut self, field: &Field, kept: Kept) {
        if self.traces || !TRACES.contains(&field.name()) {
            self.kept.push((field.name(), kept));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, Kept::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, Kept::Signed(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, Kept::Unsigned(value.into()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.keep(field, Kept::Signed(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.keep(field, Kept::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, Kept::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep_text(field, |text| text.write_str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.keep_text(field, |text| {
            write!(text, "{value}")?;
            let mut source = value.source();
            for _ in 0..MAX_SOURCES {
                let Some(error) = source else {
                    break;
                };
                write!(text, ": {error}")?;
                source = error.source();
            }
            Ok(())
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep_text(field, |text| write!(text, "{value:?}"));
    }
}

/// How far the causes of an error are followed.
const MAX_SOURCES: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use proactions_edge::ManualClock;
    use serde_json::{Value as Json, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::{LoggingConfig, LoggingPolicy};

    #[derive(Clone, Default)]
    struct Console(Arc<Mutex<Vec<u8>>>);

    impl Write for Console {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` leads to, without their times.
    fn lines(config: LoggingConfig, work: impl FnOnce(&Logging)) -> Vec<Json> {
        let console = Console::default();
        let policy = LoggingPolicy::try_from(config).unwrap();
        let clock = Arc::new(ManualClock::default());
        let (logging, guard) = Logging::start_with(policy, console.clone(), clock).unwrap();
        let subscriber = tracing_subscriber::registry().with(TracingLayer::new(logging.clone()));
        tracing::subscriber::with_default(subscriber, || work(&logging));
        drop(guard);
        let text = String::from_utf8(console.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| {
                let mut line: Json = serde_json::from_str(line).unwrap();
                assert_eq!(
                    line.as_object_mut().unwrap().remove("timestamp").unwrap(),
                    "2026-01-01T00:00:00.000Z"
                );
                line
            })
            .collect()
    }

    #[test]
    fn events_become_lines_of_their_type() {
        let found = lines(LoggingConfig::default(), |_| {
            tracing::warn!(target: "security", event = "rate_limited", ip = %"192.0.2.1", "too many");
            tracing::info!(target: "aiLink", promptTokens = 15, duration = 1.5, stream = true, token = 7, "done");
            tracing::error!(target: "hyper::proto::h1", "broken");
            tracing::info!(target: "proactions_hub::listen", port = 3000_u16, "listening");
            tracing::debug!(target: "proxy", "not written");
        });
        assert_eq!(
            found,
            [
                json!({"level":"warn","message":"too many","module":"security","event":"rate_limited","ip":"192.0.2.1"}),
                json!({"level":"info","message":"done","module":"aiLink","promptTokens":15,"duration":1.5,"stream":true,"token":"[FILTERED]"}),
                json!({"level":"error","message":"broken","module":"h1"}),
                json!({"level":"info","message":"listening","module":"listen","port":3000}),
            ]
        );
    }

    #[test]
    fn levels_are_set_for_each_type() {
        let mut config = LoggingConfig {
            default_log_level: Level::Warn,
            ..LoggingConfig::default()
        };
        config.types.proxy.level = Some(Level::Verbose);
        config.types.security.enabled = false;
        let found = lines(config, |_| {
            tracing::trace!(target: "proxy", "a");
            tracing::trace!(target: "h2::frame", "b");
            tracing::info!(target: "tools", "c");
            tracing::error!(target: "security", "d");
            tracing::warn!(target: "x", "e");
        });
        let seen: Vec<_> = found
            .iter()
            .map(|line| {
                (
                    line["level"].as_str().unwrap(),
                    line["message"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(seen, [("verbose", "a"), ("warn", "e")]);
    }

    #[test]
    fn stacks_are_written_only_when_asked_for() {
        for traces in [false, true] {
            let config = LoggingConfig {
                log_trace: traces,
                ..LoggingConfig::default()
            };
            let found = lines(config, |_| {
                tracing::error!(stack = "at a", error = ?"x\nStack backtrace:\n  0: main", "failed");
            });
            let line = found.first().unwrap();
            assert_eq!(line.get("stack").is_some(), traces);
            assert_eq!(line["error"].as_str().unwrap().contains("main"), traces);
            assert!(line["error"].as_str().unwrap().starts_with("\"x"));
        }
    }

    #[test]
    fn causes_are_written_and_filtered() {
        #[derive(Debug)]
        struct Outer(std::io::Error);

        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cannot connect")
            }
        }

        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }

        let found = lines(LoggingConfig::default(), |_| {
            let error = Outer(std::io::Error::other("redis://u:p@h refused"));
            tracing::error!(error = &error as &(dyn Error + 'static), "failed");
        });
        assert_eq!(
            found.first().unwrap()["error"],
            "cannot connect: redis://[FILTERED]@h refused"
        );
    }

    #[test]
    fn an_event_inside_of_an_event_is_written_too() {
        struct Chatty;

        impl fmt::Debug for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::info!(target: "tools", "inner");
                f.write_str("chatty")
            }
        }

        let found = lines(LoggingConfig::default(), |_| {
            tracing::info!(target: "proxy", value = ?Chatty, "outer");
        });
        assert_eq!(found.last().unwrap()["value"], "chatty");
    }

    #[test]
    fn a_panic_is_one_filtered_line() {
        let found = lines(LoggingConfig::default(), |logging| {
            let before = std::panic::take_hook();
            crate::install_panic_hook(logging);
            let result = std::thread::spawn(|| panic!("bad apiKey=abc\nat once")).join();
            std::panic::set_hook(before);
            assert!(result.is_err());
        });
        let line = found.first().unwrap();
        assert_eq!(line["message"], "bad apiKey=[FILTERED]\nat once");
        assert_eq!(
            (&line["level"], &line["module"]),
            (&json!("error"), &json!("panic"))
        );
        assert!(line["location"].as_str().unwrap().starts_with("events.rs:"));
        assert_eq!(line.get("stack"), None);
    }
}
