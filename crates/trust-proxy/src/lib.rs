//! Finds the client's address, scheme and host behind trusted proxies.
//!
//! Behind a reverse proxy the socket's other end is the proxy, and the client is only named in header fields.
//! Anybody can write those fields. [`TrustProxyLayer`] believes them only as far as the policy trusts the
//! machines that wrote them, and inserts what it found as a [`ClientInfo`] into the request's extensions.
//! Limits, session cookies, logs and forwarding read that one value and never look at the fields again.
//!
//! # What is decided, in this order
//!
//! 1. The list of addresses is the peer, then the entries of `X-Forwarded-For` from right to left. Several
//!    lines of the field are one list. Empty entries are skipped.
//! 2. The walk begins at the peer and goes on while the address it stands on is trusted: in the first `n`
//!    places with [`TrustProxy::Hops`], inside a listed network with [`TrustProxy::Nets`], never with
//!    [`TrustProxy::None`]. The address where it stops is the client. If all are trusted, that is the
//!    left-most one, also when fewer entries than hops are there.
//! 3. An entry that is no IP address ends the walk, and the last good address counts. `unknown`, obfuscated
//!    names, octal or hexadecimal IPv4 are no addresses. `192.0.2.1:4711`, `[2001:db8::1]` and
//!    `[2001:db8::1]:4711` are: some load balancers add the port, and only the address part is used.
//! 4. At most [`MAX_ENTRIES`] entries are looked at; there the walk ends too.
//! 5. IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`, in any spelling) are folded to IPv4 by their bits before
//!    they are compared or handed on: peer, entries and configured networks alike.
//! 6. `X-Forwarded-Proto` and `X-Forwarded-Host` are read only if the peer itself is trusted, and of several
//!    items the **right-most** counts. It is the only item that the peer wrote or vouches for: a proxy
//!    that appends leaves whatever the client sent to the left of its own item.
//! 7. The scheme is taken from `http`, `https`, `ws` and `wss` in any letter case (the latter two mean `http`
//!    and `https`). Anything else, an empty item too, leaves the scheme of the connection.
//! 8. The host must be a plain authority: name, IPv4 or bracketed IPv6 address, then perhaps `:port`. User
//!    information and odd bytes are refused. A bad `X-Forwarded-Host` leaves the host of the request, that is
//!    the authority of the request target (HTTP/2, absolute form), else `Host`. Two `Host` lines, or a bad
//!    one, mean that the host is not known.
//! 9. No other field is ever read: not `Forwarded`, `X-Real-IP`, `True-Client-IP`, `CF-Connecting-IP`,
//!    `X-Forwarded-Port`, `-Prefix`, `-Uri` nor `X_Forwarded_For`.
//!
//! The layer never refuses a request and never fails. It allocates nothing but the box of the extension, and a
//! copy of the host where no single field holds it (HTTP/2 without `Host`, a list in `X-Forwarded-Host`).
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response};
//! use proactions_edge::{ClientInfo, Peer, Scheme};
//! use proactions_trust_proxy::{TrustProxy, TrustProxyLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = TrustProxy::nets(["loopback", "10.0.0.0/8"])?;
//! let service = TrustProxyLayer::new(policy).layer(service_fn(|request: Request<()>| async move {
//!     let ip = request.extensions().get::<ClientInfo>().map(|client| client.ip);
//!     Ok::<_, Infallible>(Response::new(ip))
//! }));
//!
//! let mut request = Request::get("/").header("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.1.2.3").body(())?;
//! // What the server knows about the connection: here a proxy on the same machine.
//! request.extensions_mut().insert(Peer::new("127.0.0.1:50000".parse()?, Scheme::Http));
//!
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.into_body(), Some("192.0.2.7".parse()?));
//! # Ok(())
//! # }
//! ```
//!
//! From a configuration file (feature `config`):
//!
//! ```
//! # #[cfg(feature = "config")] {
//! use proactions_trust_proxy::{TrustProxy, TrustProxyConfig};
//!
//! let config: TrustProxyConfig = serde_json::from_str(r#"["loopback", "10.0.0.0/255.0.0.0"]"#).unwrap();
//! let policy = TrustProxy::try_from(config).unwrap();
//! assert!(policy.is_on());
//!
//! let quoted: TrustProxyConfig = serde_json::from_str(r#""1""#).unwrap();
//! let error = TrustProxy::try_from(quoted).unwrap_err();
//! assert!(error.to_string().contains("without quotes"));
//! # }
//! ```
//!
//! # Deployment caveats
//!
//! - The server must insert a [`Peer`] into every request's extensions before this layer runs. Without it the
//!   layer inserts nothing, because it does not know whom to believe; inner layers then see no [`ClientInfo`].
//! - A hop count trusts whoever connects. Use it only if nobody can reach the port past the proxy; else
//!   list the proxies' networks.
//! - A list of private networks does not hold loopback. A proxy on the same machine needs `loopback` in the list.
//! - The trusted proxy has to *add* the client's address to `X-Forwarded-For` and to *set* `X-Forwarded-Proto` and
//!   `X-Forwarded-Host`. If it passes on what the client sent, the client decides.
//! - In a chain where every proxy appends to `X-Forwarded-Proto`, the right-most item is what the innermost
//!   proxy saw, often `http`. Let the inner ones pass the field on unchanged.
//!
//! # Compared with Express `trust proxy`
//!
//! The forms of the setting, the names `loopback`, `linklocal` and `uniquelocal`, and the walk are those of
//! Express 5 with proxy-addr 2. These differ on purpose:
//!
//! | Express | here | why |
//! |---|---|---|
//! | `true` takes the left-most entry | `true` is one hop, as `1` is | the left-most entry is the client's own claim |
//! | an unreadable entry becomes the address | it ends the walk | every new text would be a new key for limits |
//! | octal and integer IPv4 are addresses | they are unreadable | two readers could disagree about them |
//! | `192.0.2.1:4711` is taken as text | its address part is used | a key per connection would escape limits |
//! | the first item of `-Proto` and `-Host`, unchecked | the right-most, checked | the first may be the client's |
//! | `-1` and `1.5` are hop counts | errors | they mean something else than they say |
//! | `'1'` trusts nobody, silently | an error | 0.0.0.1 was not meant |

mod config;
mod layer;
mod policy;
mod resolve;
mod service;

pub use config::TrustProxyConfig;
pub use layer::TrustProxyLayer;
pub use policy::{TrustProxy, TrustedNets};
#[doc(no_inline)]
pub use proactions_edge::{ClientInfo, Peer};
pub use resolve::MAX_ENTRIES;
pub use service::TrustProxyService;
