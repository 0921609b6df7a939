//! Request bodies that end at a limit, chosen by content type.
//!
//! [`BodyLimitLayer`] refuses a body that is larger than its [`BodyLimitPolicy`] allows with
//! 413 Content Too Large ([RFC 9110 section 15.5.14](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.14)),
//! whether the client declares the length or sends chunks, and never holds more of it than the part that is passing.
//!
//! # What is decided, in this order
//!
//! 1. The limit goes by `Content-Type`: `application/json` and any type with the suffix `+json` have the one for
//!    JSON, `application/x-www-form-urlencoded` the one for forms, everything else, and a request without the field,
//!    the one for other bodies. Case and parameters do not matter.
//! 2. Several `Content-Length` fields, or one that is no plain number, are 400. A server that frames
//!    messages refuses them earlier; this layer does not rely on it.
//! 3. A declared length above the limit is 413 at once. No byte of the body is read.
//! 4. Any other body is counted as it passes. The part that would go beyond the limit is not handed on: the body
//!    fails with [`LengthLimitError`] and is not read further.
//! 5. If that happens before the inner service has answered, its answer or error is replaced by 413. Afterwards the
//!    status has been sent, and the failed body is all that the inner service sees.
//! 6. A refusal says `Connection: close` in HTTP/1, because the rest of the body is still on its way.
//!
//! A body of exactly the limit passes. Compressed bodies stay compressed and count as they are sent: a layer that
//! inflates them has to bound what comes out.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use proactions_body_limit::{BodyLimitConfig, BodyLimitLayer, BodyLimitPolicy, ByteSize, Limited};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = BodyLimitConfig::default();
//! config.json = ByteSize::new(10);
//!
//! let service = BodyLimitLayer::new(BodyLimitPolicy::try_from(config)?).layer(service_fn(
//!     |request: Request<Limited<Full<Bytes>>>| async {
//!         let body = request.into_body().collect().await.map(|body| body.to_bytes());
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body.unwrap_or_default())))
//!     },
//! ));
//!
//! let request = |body: &'static str| {
//!     Request::post("/").header("content-type", "application/json").body(Full::<Bytes>::from(body))
//! };
//! assert_eq!(service.clone().oneshot(request("{\"a\": 1}")?).await?.status(), 200);
//! assert_eq!(service.oneshot(request("{\"abc\": 123}")?).await?.status(), 413);
//! # Ok(())
//! # }
//! ```
//!
//! From a configuration file (feature `config`):
//!
//! ```
//! # #[cfg(feature = "config")] {
//! use proactions_body_limit::BodyLimitConfig;
//!
//! let config: BodyLimitConfig = serde_json::from_str(r#"{"json": "1.5kb", "other": 100}"#).unwrap();
//! assert_eq!((config.json.bytes(), config.other.bytes()), (1536, 100));
//! assert!(serde_json::from_str::<BodyLimitConfig>(r#"{"json": "50m"}"#).is_err());
//! # }
//! ```
//!
//! # Deployment caveats
//!
//! - The inner service sees `Request<Limited<B>>`. [`BodyLimitPolicy::off`] keeps that type and lets everything pass,
//!   so that the layer can always be in the stack.
//! - Put it outside of whatever reads bodies, and inside of what answers without reading them.
//! - An inner service that keeps the failed body's error to itself and answers 200 is still replaced by 413.
//!
//! # Compared with the limits of body-parser for Express
//!
//! | body-parser | here | why |
//! |---|---|---|
//! | only exactly `application/json` and forms are limited | every body is | `text/plain` and multipart had no limit |
//! | `50m` is 50 bytes, `"10MB "` is 10 | an error that says what to write | both were meant as megabytes |
//! | a body over the limit is read to its end first | the connection is closed | a client could go on for ever |
//! | counts after inflating | counts what is sent | bodies are passed on as they are |

mod body;
mod config;
mod future;
mod layer;
mod policy;
mod service;

pub use body::{LengthLimitError, Limited};
pub use config::{BodyLimitConfig, ByteSize, ParseByteSizeError};
pub use future::ResponseFuture;
pub use layer::BodyLimitLayer;
pub use policy::{BodyKind, BodyLimitPolicy};
pub use service::BodyLimit;
