//! Request ids, an access log and log files, with secrets filtered out of everything that is written.
//!
//! [`Logging`] runs the log. [`RequestIdLayer`] names each exchange and [`AccessLogLayer`] writes a line for it;
//! [`TracingLayer`] brings every event of the `tracing` crate into the same log, and [`install_panic_hook`] every
//! panic. All lines are made in one place, and each text in them passes through a [`Redactor`] there, so no call
//! site can forget to.
//!
//! # What is decided here, and how
//!
//! 1. **What a secret is.** The value of a key is one if the key holds a sensitive word: the built-in
//!    [words](built_in_names) and those of `sensitiveData`, which are added and take none away. Words are whole
//!    words: `token` is in `accessToken`, not in `promptTokens`. Whatever its key, a text is one if it looks like
//!    a credential: Bearer and Basic values, `sk-…`, `AIza…` and the like, JSON Web Tokens, PEM blocks, signed
//!    session cookies, the user part of a URL.
//! 2. **What stands in its place.** [`FILTERED`] for the whole value, never a part of it. Where it is not clear
//!    how far a value reaches, more is filtered rather than less.
//! 3. **How much is looked at.** [`Redactor::MAX_TEXT`] bytes of an event; the rest becomes [`TRUNCATED`]. The
//!    time is linear in that, and nesting needs no stack.
//! 4. **When a line is written.** When the answer's body has ended or was dropped; also when the client leaves
//!    before there is an answer, then with status 499. `aborted` marks an answer that was not sent to its end.
//! 5. **Which id counts.** One made here, unless a trusted proxy brings a plain one.
//! 6. **What cannot be forged.** In JSON and in text, line breaks, control characters, escape sequences and
//!    controls of text direction are escaped, so one event is one line and looks like what it is.
//! 7. **Who waits.** Nobody. A line is copied into a queue in memory; a full disk or a slow console costs lines,
//!    which are counted, and no time.
//!
//! # The access line
//!
//! `timestamp` (UTC), `level` (always `info`; the status tells the rest), `message` (`GET /path 200`), `module`
//! (`access`), `method`, `url` (path and query), `statusCode`, `responseTime` (milliseconds from the request's
//! arrival here to the end of the answer), `ip`, `userAgent`, `requestId`, `username`, `reason` (the
//! [`RejectionKind`](proactions_edge::RejectionKind) of a refusal, or `service_error`), `bytesSent` (of the body),
//! `aborted`. What is not known is left out. `username` is what an inner layer notes in
//! [`Exchange`](proactions_edge::Exchange).
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use proactions_redact_log::{AccessLogLayer, Logging, LoggingConfig, LoggingPolicy, RequestIdLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = LoggingPolicy::try_from(LoggingConfig::default())?;
//! // The guard writes what waits when it is dropped: keep it until the end of `main`.
//! let (logging, _guard) = Logging::start(policy)?;
//! let service = ServiceBuilder::new()
//!     .layer(RequestIdLayer::new()?)
//!     .layer(AccessLogLayer::new(logging))
//!     .service(service_fn(|_: Request<()>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hello"))))
//!     }));
//! let response = service.oneshot(Request::get("/?token=abc").body(())?).await?;
//! assert!(response.headers().contains_key("x-request-id"));
//! // Prints {"timestamp":"…","level":"info","message":"GET / 200","module":"access","method":"GET","url":"/?token=[FILTERED]",…}
//! response.into_body().collect().await?;
//! # Ok(()) }
//! ```
//!
//! # Configuration
//!
//! With feature `config`, [`LoggingConfig`] is read with serde:
//!
//! ```
//! # #[cfg(feature = "config")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use proactions_redact_log::{Level, LoggingConfig, LoggingPolicy};
//!
//! let config: LoggingConfig = serde_json::from_str(
//!     r#"{
//!         "defaultLogLevel": "warn",
//!         "sensitiveData": ["iban"],
//!         "maxFiles": "365d",
//!         "types": {"access": {"file": true, "level": "info"}}
//!     }"#,
//! )?;
//! let policy = LoggingPolicy::try_from(config)?;
//! assert_eq!(policy.most_verbose_level(), Level::Info);
//! assert!(policy.redactor().is_sensitive("customerIban"));
//! assert!(policy.redactor().is_sensitive("password"));
//! # Ok(()) }
//! # #[cfg(not(feature = "config"))]
//! # fn main() {}
//! ```
//!
//! # Events
//!
//! An event's `target` names its type and with it its switches and its file: `security`, `aiLink`, `proxy`,
//! `youtube`, `tools`. Warnings and errors of any other target are of type `error`.
//!
//! ```
//! # let ip = "192.0.2.1";
//! tracing::warn!(target: "security", event = "login_failed", ip, "a login failed");
//! ```
//!
//! # Deployment caveats
//!
//! - The log is written to standard output unless a type says `console: false`, and to files only where a type
//!   says `file: true`: `{prefix}-{type}-YYYY-MM-DD.log`, mode 640, in a directory of mode 750 if it is made here.
//!   An existing directory keeps its mode. An existing log file loses the rights beyond 640.
//! - Days end at midnight UTC. A day's earlier parts are numbered from 1 on in the order of their writing and
//!   compressed. One process writes to a directory; two need prefixes that differ.
//! - With `fileRotation: false` a file that another program renames is made anew with the next line.
//! - Up to 100 ms of lines are lost if the process is killed. An orderly end drops the [`LogGuard`].
//! - Filtering by form cannot know every form of credential. A secret in prose, without a name before it and
//!   without a known form, passes; so does one that was encoded in base64 together with other text.
//! - Only the last layer before the listener sees everything: put [`AccessLogLayer`] outside of all layers that
//!   answer by themselves, and [`RequestIdLayer`] and the layer that resolves the client outside of it.
//! - `responseTime` is measured by the wall clock; it is 0 when that was set back meanwhile.
//!
//! # Compared with winston behind Express
//!
//! - Levels are ordered error, warn, info, debug, verbose, silly. In winston `debug` also shows `verbose`.
//! - Names are compared by whole words, and `sensitiveData` adds to the built-in names; a shorter list cannot
//!   open what was closed before.
//! - Event fields keep their types: numbers stay numbers unless their name is sensitive.
//! - A slow output drops lines and counts them; winston buffers without a limit.
//! - Sizes are powers of 1024, `maxFiles: 14d` counts days back from today, and a number counts a type's files.

mod access;
mod config;
mod escape;
mod events;
mod level;
mod line;
mod logging;
mod panics;
mod policy;
mod redact;
mod request_id;
mod sink;

pub use access::{AccessLogBody, AccessLogFuture, AccessLogLayer, AccessLogService};
pub use config::{FileSize, LogFormat, LoggingConfig, Retention, TypeConfig, TypesConfig};
pub use events::TracingLayer;
pub use level::Level;
pub use logging::{LogGuard, Logging};
pub use panics::install_panic_hook;
pub use policy::LoggingPolicy;
pub use redact::{FILTERED, Redactor, TRUNCATED, built_in_names};
pub use request_id::{RequestIdFuture, RequestIdLayer, RequestIdService, X_REQUEST_ID};
