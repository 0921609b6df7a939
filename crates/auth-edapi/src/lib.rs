//! Decides who may enter, by static tokens or by EDAPI, and opens a session for whoever did.
//!
//! [`AuthLayer`] stands inside of a [`SessionLayer`](proactions_session_store::SessionLayer). What it lets in carries
//! a [`Principal`](proactions_edge::Principal) in its extensions, and no `Authorization` any more. It works without a
//! session layer too; then every request needs its credentials.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::{Method, Request, Response};
//! use proactions_auth_edapi::{AccessPolicy, AuthLayer, TokenSet};
//! use proactions_edge::{Principal, SecretString};
//! use proactions_session_store::KeyRing;
//! use tower::{ServiceExt, service_fn};
//! use tower_layer::Layer;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let keys = KeyRing::new([&SecretString::from("a secret of at least 32 bytes, from openssl rand")])?;
//! let tokens = TokenSet::new([&SecretString::from("a-long-random-token")], &keys)?;
//! let access = AccessPolicy::new().with_public(&[Method::GET, Method::HEAD], "/health")?;
//! let service = AuthLayer::new(access, Arc::new(tokens)).layer(service_fn(|request: Request<Bytes>| async move {
//!     let who = request.extensions().get::<Principal>().map_or("anybody", |who| &who.id).to_owned();
//!     Ok::<_, std::convert::Infallible>(Response::new(Bytes::from(who)))
//! }));
//!
//! let get = |path: &str| Request::get(path.to_owned());
//! let answer = service.clone().oneshot(get("/health").body(Bytes::new())?).await?;
//! assert_eq!(answer.body(), "anybody");
//! let answer = service.clone().oneshot(get("/v1/models").body(Bytes::new())?).await?;
//! assert_eq!(answer.status(), 401);
//! let request = get("/v1/models").header("authorization", "Bearer a-long-random-token");
//! assert_eq!(service.oneshot(request.body(Bytes::new())?).await?.body(), "token-1");
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # What it decides, in this order
//!
//! 1. `CONNECT` and `TRACE`: 405.
//! 2. A path that could be read in two ways (`..`, `%2f`, `//`, `;`, …): 400, whatever it would match. Only behind
//!    a prefix named with [`AccessPolicy::with_tail`] may a path hold encoded slashes.
//! 3. Exactly the routes named with [`AccessPolicy::with_public`] are public: method and path, byte by byte. No
//!    header, query or prefix makes anything public.
//! 4. Two `Authorization` fields: 400.
//! 5. A session that says who it belongs to, if [`Authenticate::resume`] still agrees. If another site made the
//!    request, and it is not a plain read: 403. `Sec-Fetch-Site` tells, or `Origin`; an origin that the CORS policy
//!    allows, marked by [`AllowedOrigin`](proactions_edge::AllowedOrigin), may act. A session whose login is no
//!    longer valid is ended; one that another program has opened in the same store is no login here, and stays.
//! 6. When the session store is down: 503 for a session; credentials are checked all the same.
//! 7. `Authorization: Bearer`, and `Basic` where the authenticator wants it. Without usable credentials: 401. A
//!    browser remembers user and password and sends them by itself, so `Basic` from another site gets 403, as in 5.
//! 8. After ten failed logins within a minute, from one address or for one user, each by itself: 429, unchecked,
//!    until the minute is over. A login that is being checked counts like a failed one until it is known to be good;
//!    equal credentials at the same time are one login. A login that its client gives up is counted all the same.
//!    What was good from an address within the last hour is no guess there, and is checked whatever others did.
//! 9. Good credentials open a fresh session; the one before is removed. The same credentials without a cookie get
//!    the session back that they opened before. No session is opened when its cookie could not be sent.
//! 10. Answers to whoever was let in get `Cache-Control: no-store`, unless they say something else.
//!
//! # Configuration
//!
//! ```
//! use proactions_auth_edapi::{AuthConfig, AuthType, EntryPolicy};
//! use proactions_session_store::SecretList;
//!
//! let mut config = AuthConfig::default();
//! config.enabled = true;
//! config.kind = Some(AuthType::Token);
//! config.tokens = SecretList::from_iter(["a-long-random-token", "another-long-random-token"]);
//! config.session.cookie.secret = SecretList::from_iter(["a secret of at least 32 bytes, from openssl rand"]);
//! let policy = config.into_policy(true)?.expect("it is enabled");
//! assert!(matches!(policy.entry, EntryPolicy::Token(_)));
//! # Ok::<_, proactions_edge::ConfigError>(())
//! ```
//!
//! # EDAPI
//!
//! EDAPI is the publisher's own REST service. Its wire contract is not public; the defaults are this project's
//! assumption, and a few lines of configuration fit another one. [`edapi`] says how, what it decides and what
//! happens while EDAPI is down.
//!
//! # Deployment caveats
//!
//! - With EDAPI, sessions hold the credential that opened them, sealed under the cookie's secret. Whoever has both
//!   the session store's content and that secret can read the credentials of open sessions.
//! - Addresses come from [`ClientInfo`](proactions_edge::ClientInfo), else from [`Peer`](proactions_edge::Peer). Behind
//!   a proxy without the former, all clients share one address, and one guesser locks all out.
//! - The lock-out counts in this process. Whoever knows a user's name can keep that user from logging in where the
//!   user was not let in within the last hour; open sessions go on.
//! - Static tokens do not name people. They are for development and tests.
//! - A raw `#` in a request target never reaches a layer; the HTTP parser drops what follows. Refuse it at the
//!   listener if it must not pass.
//!
//! # Compared with the Node hub
//!
//! - Public routes are compared exactly; `/HEALTH` and `/health/` are not public.
//! - An `OPTIONS` request is not let through because it might be a preflight.
//! - A client that keeps no cookies has one session, not one a request.
//! - A session ends with the next request once its token is removed from the configuration.

mod access;
mod authenticate;
mod config;
mod credentials;
mod cross_site;
#[cfg(feature = "config")]
mod de;
pub mod edapi;
mod entry;
mod future;
mod layer;
mod lockout;
mod opened;
mod service;
mod tokens;
mod whoami;

pub use access::{Access, AccessPolicy};
pub use authenticate::{Authenticate, Grant, StoredLogin, Verdict, VerdictFuture};
pub use config::{AuthConfig, AuthPolicy, AuthType, EntryPolicy};
pub use credentials::{BasicLogin, BearerToken, Credentials, Presented, UserId};
pub use future::AuthFuture;
pub use layer::{AuthLayer, AuthState};
pub use service::AuthService;
pub use tokens::TokenSet;
pub use whoami::{logout, whoami};

#[cfg(test)]
mod tests;
