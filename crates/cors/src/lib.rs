//! Cross-origin requests from browsers, answered by one policy that names who may make them.
//!
//! A browser lets a page read the answer of another origin only if that answer says so (the CORS protocol of the
//! [Fetch standard](https://fetch.spec.whatwg.org/#http-cors-protocol)). [`CorsLayer`] says so for the origins
//! that its [`CorsPolicy`] allows, and tells every other origin nothing.
//!
//! # What is decided, in this order
//!
//! 1. A request is a **preflight** if its method is `OPTIONS` and it has both `Origin` and
//!    `Access-Control-Request-Method`; **actual** if it has `Origin` otherwise; else **not cross-origin**. An
//!    `OPTIONS` request that lacks one of the two is an ordinary request and goes on to the inner service.
//! 2. Origins are compared as scheme, host in lower case and port, where the default ports of `http` and
//!    `https` may be left out. Nothing is compared as text, so no suffix or prefix can deceive.
//! 3. `https://*.example.com` allows one or more whole labels in front of `example.com`: `a.example.com` and
//!    `a.b.example.com`, not `example.com` and not `evilexample.com`.
//! 4. The origin `null` is allowed only where it is listed, which excludes credentials. An `Origin` that cannot
//!    be read, and more than one `Origin` line, are refused.
//! 5. A preflight is answered here, with `optionsSuccessStatus` and no body, and never reaches the inner
//!    service unless `preflightContinue` is set. A refused one gets the same status, without any
//!    `Access-Control-*` field.
//! 6. An actual request goes on to the inner service whatever its origin is, for the server must not rely on
//!    browsers alone. The answer for a refused origin has no `Access-Control-*` field.
//! 7. Refused origins leave a `tracing` event (target `security`, `event = "cors_origin_refused"`). A
//!    page of the service's own origin is no stranger and leaves none; the service's own origin is known if
//!    [`ClientInfo`](proactions_edge::ClientInfo) is in the request's extensions.
//! 8. An actual request whose origin is listed, by name or wildcard, in a policy with credentials carries
//!    [`AllowedOrigin`] in its extensions, so that inner layers know that its cookie may act. `'*'`, a
//!    reflected origin, `null` and a policy without credentials never earn that mark.
//! 9. `Access-Control-*` fields of the inner service's answer are removed: one policy counts. `Vary` is merged
//!    with the inner service's, without doubles, and names `Origin` on every answer that depends on it, refused
//!    ones and those without `Origin` included.
//! 10. Without `allowedHeaders` the preflight's `Access-Control-Request-Headers` is reflected, if it is one
//!     line of at most [`MAX_REQUEST_HEADERS_BYTES`] bytes and [`MAX_REQUEST_HEADERS`] names, all of them
//!     valid. Otherwise nothing is reflected.
//!
//! All fields of an answer are made once, with the policy. Per request, an allowed origin is echoed as a
//! shared value and the answer's header map grows at most once.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use proactions_cors::{CorsConfig, CorsLayer, CorsPolicy};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = CorsConfig::default();
//! config.origin = Some("https://app.example.com".into());
//! config.credentials = true;
//!
//! let service = CorsLayer::new(CorsPolicy::try_from(config)?).layer(service_fn(|_: Request<()>| async {
//!     Ok::<_, Infallible>(Response::new(Bytes::from_static(b"hello")))
//! }));
//!
//! let request = Request::get("/").header("origin", "https://app.example.com").body(())?;
//! let response = service.clone().oneshot(request).await?;
//! assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example.com");
//! assert_eq!(response.headers()["vary"], "Origin");
//!
//! let request = Request::get("/").header("origin", "https://evil.example.net").body(())?;
//! let response = service.oneshot(request).await?;
//! assert!(!response.headers().contains_key("access-control-allow-origin"));
//! # Ok(())
//! # }
//! ```
//!
//! From a configuration file (feature `config`):
//!
//! ```
//! # #[cfg(feature = "config")] {
//! use proactions_cors::{CorsConfig, CorsPolicy};
//!
//! let config: CorsConfig = serde_json::from_str(
//!     r#"{
//!         "origin": ["https://app1.example.com", "https://*.apps.example.com"],
//!         "methods": "GET,POST,PUT,DELETE",
//!         "credentials": true,
//!         "allowedHeaders": "Content-Type,Authorization,x-target",
//!         "maxAge": 86400
//!     }"#,
//! )
//! .unwrap();
//! assert!(CorsPolicy::try_from(config).unwrap().is_on());
//!
//! let anybody: CorsConfig = serde_json::from_str(r#"{"origin": "*", "credentials": true}"#).unwrap();
//! let error = CorsPolicy::try_from(anybody).unwrap_err();
//! assert!(error.to_string().starts_with("credentials: "));
//! # }
//! ```
//!
//! # Deployment caveats
//!
//! - CORS is no access control: it keeps pages of other origins from reading answers, and nobody else from
//!   anything. Put an entry check behind this layer, which a preflight must not reach.
//! - `origin: true` and `'*'` let every page on the Internet read what the service answers without
//!   credentials. [`CorsConfig::warnings`] says so at start.
//! - [`CorsPolicy::off`] leaves requests and answers as they are, so that the layer can always be in the stack.
//!   `Access-Control-*` fields of an upstream then pass as well.
//! - Browsers do not keep a preflight's answer for longer than a day; a longer `maxAge` is sent as a day.
//! - Names outside of ASCII are written in punycode (`xn--…`), as browsers send them.
//! - `Access-Control-Allow-Private-Network` is never sent.
//!
//! # Compared with the `cors` package for Express
//!
//! Keys, defaults and the fields of an allowed answer are those of cors 2.8. These differ on purpose:
//!
//! | `cors` | here | why |
//! |---|---|---|
//! | every `OPTIONS` request is a preflight | only with `Origin` and `Access-Control-Request-Method` | it would pass by the entry check |
//! | a single string is sent to everyone | only to that origin | least disclosure |
//! | a refused origin still gets credentials, methods, headers, max-age | no `Access-Control-*` field at all | least disclosure |
//! | origins are compared as text | by scheme, host and port | two spellings are one origin |
//! | `origin: true` reflects `null` and any text | only readable origins, never `null` | sandboxed pages are anybody |
//! | `'*'` or `true` with `credentials: true` | an error | browsers refuse the one, the other opens every session |
//! | `origin: false` switches off | an error; `enabled: false` switches off | one way to say it |
//! | a comma string of origins matches nothing | an error; write a list | |
//! | `allowedHeaders: ''` reflects | an error; leave the key out to reflect, `[]` allows none | an empty variable must not open |
//! | requested headers are reflected whatever they are | only when short and valid | amplification |
//! | `maxAge` is a number or a text of any size | whole seconds, at most a day | |

mod config;
mod decide;
mod future;
mod layer;
mod origin;
mod policy;
mod service;

pub use config::{CommaList, CorsConfig, CorsOrigin};
pub use decide::{MAX_REQUEST_HEADERS, MAX_REQUEST_HEADERS_BYTES, RequestKind, classify};
pub use future::ResponseFuture;
pub use layer::CorsLayer;
pub use policy::{CorsPolicy, OriginMatch};
#[doc(no_inline)]
pub use proactions_edge::AllowedOrigin;
pub use service::Cors;
