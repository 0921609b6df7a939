//! Tower layer that limits how often a client may ask, and tells it how often it still may.
//!
//! A [`RateLimitPolicy`] holds a general limit by address, any number of rules, an allow list and a deny list.
//! It is applied at two places of a stack: [`RateLimitLayer::by_address`] outside of the entry check, which it
//! protects, and [`RateLimitLayer::by_caller`] inside, where the user is known. Counting is in fixed windows:
//! a client's first request opens a window, and no more than the quota passes until that window ends, however
//! many requests come at once.
//!
//! # What happens to a request
//!
//! At the place *by address*:
//! 1. An address on the deny list gets 403, and the security event `denied_address` is logged.
//! 2. `GET` and `HEAD` of an exempt path pass, and so does everything from an address on the allow list.
//! 3. The general limit and each rule with `by: ip` that covers the method and the path count the request.
//!    All of them count it, also when one refuses.
//! 4. If one of them is used up, the request gets 429 (or `statusCode`) with the configured message and
//!    `Retry-After`, and the security event `rate_limited` is logged. It stays counted; it does not prolong
//!    the window.
//! 5. Otherwise it passes. Its answer gets the same header fields that a refusal would get.
//! 6. If the answer is of a kind that is not to count (`skipFailedRequests`, `skipSuccessfulRequests`), the
//!    request is taken out of its counters again, unless their window is over. An error of the inner service
//!    is a failed request; one that the client abandons stays counted.
//!
//! At the place *by caller* it is 2 to 6 with the rules `by: user` and `by: target`.
//!
//! The client's address is taken from [`ClientInfo`](proactions_edge::ClientInfo) and the user from
//! [`Principal`](proactions_edge::Principal), both in the request's extensions. IPv6 addresses count by their
//! network of `ipv6Subnet` bits, IPv4-mapped ones as IPv4. Where no user is known, rules by user count the
//! address. Requests without `ClientInfo` share one counter.
//!
//! The fields `RateLimit-*` of draft-6 and draft-7 and `X-RateLimit-*` have room for one limit: they show the
//! one with the fewest requests left, over both places. Those of draft-8 list every limit. Fields of any of
//! these names that an upstream sends are removed from answers to requests that are counted, whichever of them
//! are sent: nobody takes the numbers of another service for these. Where nothing is counted they pass, as do
//! others such as `X-RateLimit-Limit-Tokens`, which tell about a provider's own limits.
//!
//! A rule is an additional limit; it never loosens another one. To give some paths more room than others,
//! set the general limit to the largest quota and tighten the rest by rules.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use proactions_edge::{ClientInfo, Scheme};
//! use proactions_ratelimit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = RateLimitConfig::default();
//! config.max = Some(1);
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::by_address(RateLimitPolicy::try_from(config)?))
//!     .service(service_fn(async |_: Request<()>| {
//!         Ok::<_, std::convert::Infallible>(Response::new(Bytes::from("hello")))
//!     }));
//!
//! let request = || {
//!     let mut request = Request::new(());
//!     let client = ClientInfo::new([192, 0, 2, 7].into(), Scheme::Https, None, 0);
//!     request.extensions_mut().insert(client);
//!     request
//! };
//! let first = service.clone().oneshot(request()).await?;
//! assert_eq!(first.status(), StatusCode::OK);
//! assert_eq!(first.headers()["x-ratelimit-remaining"], "0");
//! let second = service.oneshot(request()).await?;
//! assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(second.headers()["retry-after"], "60");
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//!
//! With the feature `config`, [`RateLimitConfig`] is read with serde. One policy serves both places:
//!
//! ```
//! # #[cfg(feature = "config")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! use proactions_ratelimit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy};
//! use tower::ServiceBuilder;
//!
//! let config: RateLimitConfig = serde_json::from_str(r#"{
//!     "windowMs": 900000,
//!     "max": 100,
//!     "standardHeaders": "draft-8",
//!     "legacyHeaders": false,
//!     "allowlist": ["10.0.0.0/8"],
//!     "rules": [
//!         { "path": "/v1/images/**", "methods": ["POST"], "by": "user", "windowMs": 60000, "max": 5 },
//!         { "path": "/auth/*", "max": 10 }
//!     ]
//! }"#)?;
//! assert!(config.warnings().is_empty());
//! let policy = RateLimitPolicy::try_from(config)?.exempt(["/health", "/ready"]);
//!
//! let stack = ServiceBuilder::new()
//!     .layer(RateLimitLayer::by_address(policy.clone()))
//!     // The layer that checks credentials stands here.
//!     .layer(RateLimitLayer::by_caller(policy));
//! # let _ = stack.service_fn(async |_: Request<()>| Ok::<_, std::convert::Infallible>(Response::new(Bytes::new())));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "config"))]
//! # fn main() {}
//! ```
//!
//! When a configuration is read again, hand the counters over, so that nobody starts afresh:
//! `RateLimitPolicy::with_counters(config, old.counters())`. A rule finds its counters by its path, methods,
//! `by` and `windowMs`, not by its place in the list.
//!
//! # Deployment caveats
//!
//! - Behind a proxy, the layer that resolves the client's address must stand further out and must know the
//!   proxy; otherwise all clients are one address and share one quota.
//! - [`MemoryCounters`] count in one process. Two processes admit up to twice the quota. `RedisCounters`, with the
//!   feature `redis`, count for all of them, exactly; they are passed to [`RateLimitPolicy::with_counters`].
//! - While counters in Redis cannot be reached, `onStoreError: local` counts in each process: as many processes
//!   admit as many times the quota, and a window that was begun in Redis starts afresh.
//! - A fixed window allows up to twice its quota around its end: the last requests of one window and the first of
//!   the next.
//! - At most [`MemoryCounters::CAPACITY`] counters are kept. Under a flood of addresses those not used up are
//!   forgotten first, so some clients start afresh; those that are limited stay so.
//! - A rule by target bounds what one user spends on one target. Which targets there are is told by
//!   [`RateLimitPolicy::with_targets`]; names that are none of these share one counter.
//! - Windows follow the wall clock. When it is set back, a window ends at most its length later than now;
//!   when it is set forward, windows end early.
//! - Paths are compared by case, after decoding escapes of letters, digits and `-._~`; `%2F` is not a slash.
//! - Each refused request is a line in the log: bound them by what stands in front, or by a filter on the
//!   target `security`.
//!
//! # Compared with `express-rate-limit`
//!
//! The keys, defaults, header fields and counter names are those of version 8. What differs:
//!
//! - A refusal is JSON in the shape of all other errors, not `text/html`. `message` is text.
//! - `Date` is left to the server. `Retry-After` is at least 1.
//! - `max` and `limit` given together are an error, as are unknown options and values that Node only logs.
//! - A rule's counters have names of their own; Node mounts one limiter for each path instead.
//! - `resetFormat: epoch` puts a time into `RateLimit-Reset` for clients that were built on that.
//! - `passOnStoreError` is `onStoreError`: `closed` answers 503, `open` lets pass, `local` (the default) counts
//!   in this process meanwhile.
//! - A request that its client gives up stays counted, also with `skipFailedRequests`; otherwise hanging up
//!   in time would be a way around the limit.
//! - `keyGenerator`, `handler`, `skip` and `requestWasSuccessful` are functions and have no key in a file. Use
//!   `rules`, [`RateLimitLayer::rendering`] and [`RateLimitPolicy::exempt`].

mod addresses;
mod config;
mod counters;
#[cfg(feature = "config")]
mod de;
pub mod fixed_window;
mod future;
mod glob;
mod headers;
mod key;
mod layer;
mod limit;
mod policy;
#[cfg(feature = "redis")]
mod redis;
mod service;
mod tally;
mod target;
#[cfg(test)]
mod tests;

pub use config::{KeyOf, OnStoreError, RateLimitConfig, RuleConfig, StoreKind};
pub use counters::{CounterOutage, CounterStore, Counting, MemoryCounters};
pub use fixed_window::{Decision, Quota, Window};
pub use future::ResponseFuture;
pub use headers::{ResetFormat, StandardHeaders};
pub use key::{AddressKey, CounterKey};
pub use layer::RateLimitLayer;
pub use policy::RateLimitPolicy;
#[cfg(feature = "redis")]
pub use redis::RedisCounters;
pub use service::RateLimit;
pub use target::TargetRoute;
