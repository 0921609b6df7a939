//! Tower layer that sets the security headers of helmet, exactly once on every answer.
//!
//! [`SecureHeadersLayer`] puts the headers of its [`SecureHeadersPolicy`] on whatever the inner service answers:
//! pages, refusals, empty answers to `HEAD`, `304`, streams. It touches nothing but the header fields of the
//! answer, never its status or body, and does not look at the request.
//!
//! # What is decided, in this order
//!
//! 1. With `hidePoweredBy`, all fields of [`FINGERPRINTS`] are removed: `X-Powered-By`, `Server` and the other
//!    fields that tell what an answer was made with, trace ids of common proxies among them.
//! 2. Each header of the policy is set. It replaces what the inner service sent under that name, however often it
//!    did. A header that is switched off is left as the inner service sent it. Where `contentSecurityPolicy` is
//!    on, of `Content-Security-Policy` and `Content-Security-Policy-Report-Only` the one that is not set is removed.
//! 3. `Cache-Control` is set only if the answer has none, so that a stricter one is never weakened.
//!
//! A policy is made of a [`SecureHeadersConfig`], in which each header is one [`Setting`]:
//!
//! - *absent* or `true`: on with the defaults. `Cross-Origin-Embedder-Policy`, `Permissions-Policy`,
//!   `Reporting-Endpoints` and `Cache-Control` are off when they are absent.
//! - `false`: off.
//! - a map: on with these options, and the defaults for those that it leaves out. The directives of
//!   `contentSecurityPolicy` are merged into the default ones unless `useDefaults` is `false`: a directive
//!   replaces the default of its name in its place, a new one is appended, `null` removes.
//!
//! [`Preset::Api`] is another set of defaults, for services that serve no pages. Keys that are there still count
//! for more.
//!
//! | header | default | `preset: api` |
//! |---|---|---|
//! | `Content-Security-Policy` | `default-src 'self'` and ten more directives | `default-src`, `base-uri`, `form-action`, `frame-ancestors`, `object-src`: all `'none'` |
//! | `Cross-Origin-Embedder-Policy` | – | `require-corp` |
//! | `Cross-Origin-Opener-Policy`, `-Resource-Policy` | `same-origin` | same |
//! | `Origin-Agent-Cluster` | `?1` | same |
//! | `Referrer-Policy` | `no-referrer` | same |
//! | `Strict-Transport-Security` | `max-age=31536000; includeSubDomains` | `max-age=63072000; includeSubDomains` |
//! | `X-Content-Type-Options` | `nosniff` | same |
//! | `X-DNS-Prefetch-Control` | `off` | same |
//! | `X-Download-Options` | `noopen` | same |
//! | `X-Frame-Options` | `SAMEORIGIN` | `DENY` |
//! | `X-Permitted-Cross-Domain-Policies` | `none` | same |
//! | `X-XSS-Protection` | `0` | same |
//! | `Permissions-Policy` | – | every feature `()` |
//! | `Cache-Control`, if the answer has none | – | `no-store` |
//!
//! All values are checked and made once. Per answer the header map grows at most once, and values are shared.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response};
//! use proactions_secure_headers::SecureHeadersLayer;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = SecureHeadersLayer::default().layer(service_fn(|_: Request<()>| async {
//!     Ok::<_, Infallible>(Response::builder().header("x-powered-by", "PHP").body("hello").unwrap())
//! }));
//!
//! let response = service.oneshot(Request::new(())).await?;
//! assert_eq!(response.headers()["x-content-type-options"], "nosniff");
//! assert_eq!(response.headers()["x-frame-options"], "SAMEORIGIN");
//! assert!(!response.headers().contains_key("x-powered-by"));
//! # Ok(())
//! # }
//! ```
//!
//! From a configuration file (feature `config`):
//!
//! ```
//! # #[cfg(feature = "config")] {
//! use proactions_secure_headers::{SecureHeadersConfig, SecureHeadersPolicy};
//!
//! let config: SecureHeadersConfig = serde_json::from_str(
//!     r#"{
//!         "preset": "api",
//!         "hsts": {"maxAge": 31536000, "preload": true},
//!         "contentSecurityPolicy": {"directives": {"connectSrc": ["'self'"]}},
//!         "crossOriginEmbedderPolicy": false
//!     }"#,
//! )
//! .unwrap();
//! let policy = SecureHeadersPolicy::try_from(config).unwrap();
//! let hsts = policy.headers().find(|(name, _)| *name == "strict-transport-security").unwrap();
//! assert_eq!(hsts.1, "max-age=31536000; includeSubDomains; preload");
//!
//! let bare = serde_json::from_str::<SecureHeadersConfig>(r#"{"frameguard": "deny"}"#).unwrap_err();
//! assert!(bare.to_string().contains("write `frameguard: {action: deny}`"));
//! # }
//! ```
//!
//! # Deployment caveats
//!
//! - Put the layer outside of everything that can answer. What a server answers by itself, before the stack, it
//!   can send through [`SecureHeadersPolicy::apply`].
//! - `Strict-Transport-Security` is sent over plain HTTP as well, where browsers ignore it. Behind a proxy that
//!   ends TLS that is what is wanted.
//! - `includeSubDomains` is on by default: every host below this one must serve HTTPS.
//! - `hidePoweredBy` also removes trace ids such as `X-B3-TraceId` from answers. Switch it off if clients need them.
//! - A server that adds `Server` itself, after the stack, has to be told not to.
//! - [`SecureHeadersPolicy::off`] leaves answers as they are, so that the layer can always be in the stack.
//! - [`SecureHeadersConfig::warnings`] tells at start what is legal and dangerous, such as `'unsafe-inline'`.
//!
//! # Compared with `helmet` for Express
//!
//! Keys, both names of each, defaults and values are those of helmet 8.3, byte for byte, and so is what helmet
//! refuses to start with. These differ on purpose:
//!
//! | helmet | here | why |
//! |---|---|---|
//! | unknown keys are ignored | an error; `enabled` is a key | a misspelt key would leave a header as it was |
//! | `frameguard: deny` is read as «no options» | an error that says `frameguard: {action: deny}` | it would send SAMEORIGIN |
//! | `noSniff: null`, `0`, `{}` mean on | errors | they say nothing about what was meant |
//! | `directives: null` means the defaults | an error; `null` for one directive removes it | |
//! | truthy and falsy options | `true` and `false` | `'false'` in quotes is truthy |
//! | numbers in a list of sources are printed | an error | no source is a number |
//! | keywords without quotes are found where they stand alone | also among other sources in one text | `self https:` allows a host named self |
//! | `useDefaults: false` without directives sends the defaults | an error | it says the opposite |
//! | `dangerouslyDisableDefaultSrc` | there is no such thing | it is a value of JavaScript |
//! | directives may be functions | values are fixed | put a nonce on the answer in the service |
//! | only `X-Powered-By` is removed | also the rest of [`FINGERPRINTS`] | upstream services tell more than that |
//! | no `Permissions-Policy`, `Reporting-Endpoints`, `Cache-Control`, preset | `permissionsPolicy`, `reportingEndpoints`, `cacheControl`, `preset` | graders and browsers ask for them |

mod config;
mod fingerprints;
mod future;
mod header;
mod layer;
mod policy;
mod preset;
#[cfg(feature = "config")]
mod read;
mod service;
mod setting;

pub use config::SecureHeadersConfig;
pub use fingerprints::FINGERPRINTS;
pub use future::ResponseFuture;
pub use header::{
    CacheControlConfig, CrossDomainConfig, CrossOriginConfig, CspConfig, CspDirectives, CspSources,
    DnsPrefetchConfig, FrameguardConfig, HstsConfig, PermissionsPolicyConfig, ReferrerPolicyConfig,
    ReportingEndpointsConfig,
};
pub use layer::SecureHeadersLayer;
pub use policy::SecureHeadersPolicy;
pub use preset::Preset;
pub use service::SecureHeaders;
pub use setting::Setting;
