//! The last words of a thread.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};
use std::path::Path;

use crate::line::{Event, Scratch, Value};
use crate::policy::Category;
use crate::{Level, Logging};

/// Has panics written to the log, as one line each and with secrets filtered out, in place of standard error.
///
/// The line is an `error` of module `panic` with the place in the source; the stack only with `logTrace`. The
/// metric `hub_panics_total` counts them. The process goes on or ends as it would without this.
pub fn install_panic_hook(logging: &Logging) {
    let logging = logging.clone();
    panic::set_hook(Box::new(move |info| report(&logging, info)));
}

fn report(logging: &Logging, info: &PanicHookInfo<'_>) {
    metrics::counter!("hub_panics_total").increment(1);
    if !logging.is_enabled(Category::Error, Level::Error) {
        return;
    }
    let place = info.location().map(|location| {
        // The path of the source tree on the build machine is nobody's business.
        let file = Path::new(location.file())
            .file_name()
            .and_then(|name| name.to_str());
        format!("{}:{}", file.unwrap_or_default(), location.line())
    });
    let payload = info.payload();
    let payload = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let trace = logging
        .policy()
        .trace_logged()
        .then(|| Backtrace::force_capture().to_string());
    let event = Event {
        at: logging.clock().now(),
        level: Level::Error,
        module: "panic",
        message: Value::Text(payload.unwrap_or("a thread panicked without a message")),
        fields: &|put| {
            if let Some(place) = &place {
                put("location", Value::Safe(place));
            }
            if let Some(trace) = &trace {
                put("stack", Value::Text(trace));
            }
        },
    };
    Scratch::with(|scratch| logging.write(Category::Error, scratch, &event));
}
