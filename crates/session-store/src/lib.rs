//! Sessions in a signed cookie and a store, in the format of express-session.
//!
//! [`SessionLayer`] puts a [`Session`] into the extensions of every request. Whoever asks it for something
//! causes the record to be read, once; whoever changes it causes the record to be written, once, when the
//! answer's head is ready. A request that does neither costs two allocations.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use proactions_edge::SecretString;
//! use proactions_session_store::{CookiePolicy, KeyRing, MemoryStore, Session, SessionLayer, SessionPolicy};
//! use tower::{ServiceExt, service_fn};
//! use tower_layer::Layer;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let secret = SecretString::from("a secret of at least 32 bytes, from openssl rand");
//! let policy = SessionPolicy::new(
//!     KeyRing::new([&secret])?,
//!     // For a development machine without HTTPS; leave this out elsewhere.
//!     CookiePolicy::default().dangerous_insecure(),
//! );
//! let layer = SessionLayer::new(policy, Arc::new(MemoryStore::default()));
//! let service = layer.layer(service_fn(|request: Request<Bytes>| async move {
//!     let session = request.extensions().get::<Session>().unwrap();
//!     let visits = session.get("visits").await?.and_then(|n| n.as_u64()).unwrap_or_default();
//!     session.insert("visits", visits + 1)?;
//!     Ok::<_, Box<dyn std::error::Error>>(Response::new(Bytes::from(visits.to_string())))
//! }));
//!
//! let first = service.clone().oneshot(Request::new(Bytes::new())).await?;
//! let set = first.headers()["set-cookie"].to_str()?;
//! let (cookie, _attributes) = set.split_once(';').unwrap();
//! let again = Request::builder().header("cookie", cookie).body(Bytes::new())?;
//! assert_eq!(service.oneshot(again).await?.body(), "1");
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # What it decides, in this order
//!
//! 1. The `Cookie` fields are read byte by byte. Names are compared exactly; nothing is unquoted or trimmed
//!    beyond spaces and tabs. Cookies of the session's name are taken out of the request before the inner
//!    service sees it; other cookies stay.
//! 2. If the name comes once or several times, and exactly one value has a good signature, that one counts.
//!    Otherwise there is no session, and a security event `cookie_signature_bad`.
//! 3. An id whose record is missing or past its end is no session. It is never taken over: a new session
//!    always gets a new random id, so nobody can choose it.
//! 4. A record that cannot be read is no session, and a security event `session_record_corrupt`.
//! 5. A session comes into being when something is inserted into it, and only if its cookie can be sent: a
//!    secure cookie needs a request over HTTPS, as the extension [`ClientInfo`](proactions_edge::ClientInfo), or
//!    [`Peer`](proactions_edge::Peer), tells it.
//! 6. Changes are written when the answer's head is ready, or when [`Session::commit`] is awaited. They are
//!    merged, member by member, into what the store holds by then. An answer of 500 and above discards them.
//! 7. [`Session::rotate`] and [`Session::regenerate`] store the new record before the old one is removed.
//! 8. With an idle timeout, a session that was read is touched at most once a minute (or a tenth of the idle
//!    timeout, if shorter), and its cookie is sent again. The absolute timeout ends it all the same. A session that was
//!    stored under a longer idle timeout, or none, gets its new end when it is read; until then it keeps the old one.
//! 9. `Set-Cookie` is sent only for a record that was stored.
//! 10. When the store cannot be reached, reading gives [`StoreErrorKind::Outage`], and the caller refuses. A write that
//!     fails after the inner service has answered is logged; the answer stands, without a cookie. A session that could
//!     not be removed keeps its cookie, so that it can still be ended.
//!
//! # Configuration
//!
//! ```
//! use proactions_session_store::{SecretList, SessionConfig};
//!
//! let mut config = SessionConfig::default();
//! config.cookie.secret = SecretList::from_iter(["the new secret, 32 bytes or more", "the old secret, 32 bytes or more"]);
//! config.idle_timeout = Some(std::time::Duration::from_secs(30 * 60));
//! let policy = config.into_policy(true)?;
//! assert_eq!(policy.cookie().name(), "__Host-proactions_session");
//! # Ok::<_, proactions_edge::ConfigError>(())
//! ```
//!
//! With the feature `redis`, `RedisStore` keeps the records in Redis, in the layout of connect-redis.
//! With the feature `config`, [`SessionConfig`] is read with serde. Secrets never show in `Debug` or in errors.
//!
//! # Deployment caveats
//!
//! - Behind a proxy that ends TLS, the scheme comes from `X-Forwarded-Proto`, and only if the proxy is trusted.
//!   If that is missing, no session is made; one warning says so.
//! - [`MemoryStore`] belongs to one process. Several instances need a shared store, such as `RedisStore`.
//! - Redis has to keep what it was given: `maxmemory-policy noeviction`, and persistence if sessions are to outlive
//!   its restart.
//! - To change the secret, put the new one first and keep the old one until its cookies have ended.
//! - Writing what a streamed body still computes needs [`Session::commit`]: the layer writes when the head is
//!   ready, not when the body ends.
//! - If the client goes away while the inner service runs, what was not committed is not written.
//!
//! # Compared with express-session
//!
//! Cookie and record are the same, so a Node service can share the store and the secret. What differs:
//!
//! - The cookie has `Max-Age` beside `Expires`, and is renewed when the idle timeout slides.
//! - If a name comes twice, the first does not simply win.
//! - A broken record is no session, rather than an error.
//! - Records hold a member `hub` with the time at which the session began; a record without it counts from the
//!   first time it is seen here.
//! - Two requests that write at the same time do not undo each other's changes.
//! - `resave` and `saveUninitialized` do not exist: both would be `false`.

mod commit;
mod config;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod cookie;
mod future;
mod id;
mod key_ring;
mod layer;
mod memory;
mod policy;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod service;
mod session;
mod store;
mod verified;

pub use commit::Commit;
pub use config::{
    CookieConfig, RedisClientConfig, RedisTlsConfig, SecretList, SessionConfig, StoreKind,
};
pub use cookie::{CookiePolicy, SameSite};
pub use future::SessionFuture;
pub use id::SessionId;
pub use key_ring::KeyRing;
pub use layer::SessionLayer;
pub use memory::MemoryStore;
pub use policy::SessionPolicy;
pub use record::{Record, RecordError};
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use service::SessionService;
pub use session::{Load, ReservedKey, Session};
pub use store::{SessionStore, StoreError, StoreErrorKind, StoreFuture, Stored};

#[cfg(test)]
mod tests;
