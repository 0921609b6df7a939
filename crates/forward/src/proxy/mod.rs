//! `/proxy/forward/{id}`: requests that are passed on to one of the configured upstreams.

mod from_client;
mod meter;
mod policy;
mod redirect;
mod service;
mod tunnel;

pub(crate) use from_client::ClientSilent;
pub use policy::{ProxyPolicies, ProxyPolicy};
pub use service::{ForwardFuture, ForwardProxies};
