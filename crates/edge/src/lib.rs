//! The words that every ProActions layer shares.
//!
//! A layer learns who is calling from a [`ClientInfo`], who that is from a [`Principal`], refuses with a
//! [`Rejection`], reads the time from a [`Clock`] and keeps what peers make it remember in a [`TtlMap`].
//! There is no layer here and no I/O, so a service that embeds one layer takes on nothing else.
//!
//! # The facts of a request
//!
//! | type | who inserts it into the request's extensions | who reads it |
//! |---|---|---|
//! | [`Peer`] | the listener | `trust-proxy` |
//! | [`ClientInfo`] | `trust-proxy` | limits, sessions, logs, forwarding |
//! | [`RequestId`] | `redact-log` | every rejection and log line |
//! | [`Exchange`] | `redact-log` | inner layers leave notes in it for the access log |
//! | [`AllowedOrigin`] | `cors` | `auth-edapi`, against cross-site requests |
//! | [`ReadableOrigin`] | `cors` | `auth-edapi`, where nobody is asked for credentials |
//! | [`Principal`] | `auth-edapi` | limits by user, routes |

mod byte_set;
mod client;
mod clock;
mod config_error;
mod decimal;
mod exchange;
pub mod headers;
mod inner_waker;
pub mod path;
mod principal;
mod reject;
mod request_id;
mod secret;
mod ttl_map;

pub use byte_set::ByteSet;
pub use client::{AllowedOrigin, ClientInfo, Peer, ReadableOrigin, Scheme};
#[cfg(any(test, feature = "test-util"))]
pub use clock::ManualClock;
pub use clock::{Clock, SystemClock};
pub use config_error::{ConfigError, ConfigProblem};
pub use exchange::Exchange;
pub use inner_waker::InnerWaker;
pub use principal::{AuthMethod, Principal};
pub use reject::{JsonRejection, Rejection, RejectionKind, RenderRejection};
pub use request_id::RequestId;
pub use secret::{DigestKey, ExposeSecret, SecretDigest, SecretString, secrets_match};
pub use ttl_map::TtlMap;
