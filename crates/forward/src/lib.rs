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
//!    answer once the request has been sent (one that is in memory has a second for each 256 KiB for that), and for
//!    the next byte of it.
//! 5. **A client that leaves** takes the upstream call with it: dropping the future or the body ends it.
//! 6. **Nothing is sent twice.** [`HttpClient`] follows no redirect; [`ForwardProxies`] does where it is told to, and
//!    never with a body or, to another origin, with credentials.
//! 7. **A failure is one of a few kinds**, and one table ([`SendErrorKind::rejection_kind`]) says which become
//!    502, which 504, 408 and 400. What the client reads tells nothing about the upstream.
//! 8. **Where a connection may go** is an [`EgressPolicy`]: an outbound proxy, a list of hosts, no private addresses. It
//!    is kept where the connection is made, to an address that was judged.
//! 9. **TLS** comes from outside, as a `rustls::ClientConfig`: this crate chooses neither cryptography nor roots.
//!    [`UpstreamTls`] derives from it what one upstream needs instead.
//!
//! [`HttpClient`] makes calls, for services of one's own. [`ForwardProxies`] is a whole service: it passes requests to
//! `/proxy/forward/{id}` on to the upstream of that id, WebSockets included.
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
//! A service that passes requests on:
//!
//! ```
//! use std::sync::Arc;
//!
//! use http::Request;
//! use proactions_forward::{
//!     Body, EgressPolicy, ForwardProxies, HttpClientConfig, ProxyConfig, ProxyPolicies,
//! };
//! use rustls::RootCertStore;
//! use rustls::crypto::aws_lc_rs;
//! use tower::ServiceExt;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut archive = ProxyConfig::default();
//! archive.id = "archive".to_owned();
//! archive.url = "http://127.0.0.1:1/api".into();
//! archive.options.xfwd = true;
//! let policies = ProxyPolicies::try_from(vec![archive])?;
//!
//! let tls = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
//!     .with_safe_default_protocol_versions()?
//!     .with_root_certificates(RootCertStore::empty())
//!     .with_no_client_auth();
//! let config = HttpClientConfig::default();
//! let service = ForwardProxies::new(&policies, &config, &tls, &EgressPolicy::open())?;
//!
//! let get = |path| Request::get(path).body(Body::empty());
//! // Nobody listens there.
//! let answer = service.clone().oneshot(get("/proxy/forward/archive/items?id=7")?).await?;
//! assert_eq!(answer.status(), 502);
//! let answer = service.clone().oneshot(get("/proxy/forward/other")?).await?;
//! assert_eq!(answer.status(), 404);
//! let answer = service.oneshot(get("/proxy/forward/archive/%2e%2e/admin")?).await?;
//! assert_eq!(answer.status(), 400);
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
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
//! * [`ForwardProxies`] asks for no credentials: put an entry check before it. It removes those that the request holds.
//! * With `changeOrigin: false` clients choose the `Host` that the upstream sees. The connection goes to the configured
//!   host all the same, but an upstream that has several sites, or builds links from it, can be led astray.
//! * Without an [`EgressPolicy`] a configured host may be anywhere, this machine and the metadata service of a cloud
//!   included. Other origins that an upstream redirects to must always be public or listed.
//! * Behind an outbound proxy names are resolved there, so `denyPrivate` judges only addresses that stand in URLs.
//! * A WebSocket to a plain `http` upstream behind an outbound proxy needs a proxy that passes upgrades.
//! * The pooled connections of a proxy are its own. Building the service anew begins with none.
//!
//! # Compared with http-proxy
//!
//! * `Host` is the upstream's unless `changeOrigin: false`; there the default is the other way round.
//! * The client's forwarding headers never travel, so there is nothing for an upstream to believe by mistake: `xfwd` sets
//!   them, and does not add to a list that the client began.
//! * `Authorization` and `Cookie` end here, and `Set-Cookie` does on the way back.
//! * Redirects keep credentials within one origin, and never repeat a body.
//! * Errors are answers in one shape, not an event that ends the process when nobody listens.
//! * `timeout` and `proxyTimeout` are deadlines for silence, and a connection has its own.

mod body;
mod client;
mod config;
#[cfg(feature = "config")]
pub mod de;
mod direct;
mod egress;
mod error;
mod gather;
pub mod headers;
mod outgoing;
mod proxy;
mod tls;
mod url;

pub use body::{Body, BoxError, CollectError};
pub use client::{HttpClient, UpstreamBody};
pub use config::{
    EgressConfig, HttpClientConfig, ProxyConfig, ProxyOptions, ProxySsl, RemoveSourceHeaders,
    check_headers, check_id, check_millis,
};
pub use egress::{EgressPolicy, is_public};
pub use error::{SendError, SendErrorKind};
pub use outgoing::Outgoing;
pub use proxy::{ForwardFuture, ForwardProxies, ProxyPolicies, ProxyPolicy};
pub use tls::UpstreamTls;
pub use url::{BaseUrl, ConfigUrl, JoinedUrl, UrlError};
