//! Outgoing HTTP for gateways: header hygiene, path joining, streaming, deadlines.
//!
//! A gateway sends on what a client asked for. What can go wrong on that way is decided here once, for every
//! service that calls an upstream:
//!
//! 1. **Where a request goes** is decided by the configuration. A [`BaseUrl`] is checked when it is read;
//!    what a client sends can only be appended to its path and query, and a tail with a dot segment, a
//!    fragment, a backslash or a control character, encoded or not, is refused.
//! 2. **Which header fields travel** stands in one table, [`headers`]: no hop-by-hop field, no credential of
//!    the client, no claim about its address or name, no name with `_`. `Host` and the body's framing are
//!    made anew.
//! 3. **Bodies stream** both ways, compressed as they came. Nothing is collected; small pieces that are there at
//!    the same time are passed on as one, and none is waited for.
//! 4. **Every wait has an end**: for the connection with its TLS handshake (10 s), for the first byte of the
//!    answer once the request has been sent, and for the next byte of it.
//! 5. **A client that leaves** takes the upstream call with it: dropping the future or the body ends it.
//! 6. **Nothing is sent twice** and no redirect is followed.
//! 7. **A failure is one of five kinds**, and one table ([`SendErrorKind::rejection_kind`]) says which become
//!    502, which 504 and which 400. What the client reads tells nothing about the upstream.
//!
//! # Example
//!
//! ```no_run
//! use http::{Method, header};
//! use proactions_forward::{BaseUrl, Body, HttpClient, HttpClientConfig, Outgoing};
//!
//! # async fn example(incoming: http::Request<Body>) -> Result<(), Box<dyn std::error::Error>> {
//! let client = HttpClient::without_tls(&HttpClientConfig::default());
//! let base = BaseUrl::parse("http://127.0.0.1:8080/api")?;
//!
//! let (head, body) = incoming.into_parts();
//! let outgoing = Outgoing::new(head.method, &base, head.uri.path(), head.uri.query())?
//!     .headers_from_client(head.headers)
//!     .body(body);
//! let answer: http::Response<Body> = match client.send(outgoing).await {
//!     Ok(answer) => answer.map(Body::from),
//!     Err(error) => error.rejection().into_response(&proactions_edge::JsonRejection, None),
//! };
//! # Ok(()) }
//! ```
//!
//! # Configuration
//!
//! [`HttpClientConfig`], [`ProxyConfig`] and [`EgressConfig`] hold what a configuration file says (feature
//! `config` reads them with serde); each has a `check` that reports every problem at once.
//!
//! ```
//! use proactions_forward::ProxyConfig;
//!
//! let mut proxy = ProxyConfig::default();
//! proxy.id = "archive".to_owned();
//! proxy.url = "https://user:pass@archive.example.com".into();
//! let problems = proxy.check().unwrap_err();
//! assert_eq!(problems.problems()[0].key, "url");
//! assert!(!problems.to_string().contains("pass@"));
//! ```
//!
//! # Deployment caveats
//!
//! * The silence deadline also holds within a stream. A model that thinks for longer than it between two
//!   parts of its answer is cut; give such a target a longer one.
//! * An upstream's own `Set-Cookie` is dropped: the client would keep it for this program's host.
//! * Which addresses a host name may resolve to is not checked here; [`HttpClient::with_connector`] is the
//!   place for such a rule.
//!
//! # Compared with http-proxy
//!
//! * `Host` is always the upstream's; the client's forwarding headers never travel, so there is nothing for an
//!   upstream to believe by mistake.
//! * Errors are answers in one shape, not an event that ends the process when nobody listens.
//! * `timeout` and `proxyTimeout` are deadlines for silence, and a connection has its own.

mod body;
mod client;
mod config;
#[cfg(feature = "config")]
pub mod de;
mod error;
mod gather;
pub mod headers;
mod outgoing;
mod url;

pub use body::{Body, BoxError, CollectError};
pub use client::{HttpClient, UpstreamBody};
pub use config::{
    EgressConfig, HttpClientConfig, ProxyConfig, ProxyOptions, ProxySsl, RemoveSourceHeaders,
    check_headers, check_id, check_millis,
};
pub use error::{SendError, SendErrorKind};
pub use outgoing::Outgoing;
pub use url::{BaseUrl, ConfigUrl, UrlError};
