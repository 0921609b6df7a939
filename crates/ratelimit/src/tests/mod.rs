mod stack;
mod stores;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use proactions_edge::{AuthMethod, ClientInfo, ManualClock, Principal, Scheme};

use crate::{RateLimitConfig, RateLimitPolicy, RuleConfig};

/// A configuration with `max` and the draft-6 fields only.
fn config(max: u32) -> RateLimitConfig {
    RateLimitConfig {
        max: Some(max),
        standard_headers: crate::StandardHeaders::Draft6,
        legacy_headers: false,
        ..RateLimitConfig::default()
    }
}

fn rule(by: crate::KeyOf, path: &str, max: u32) -> RuleConfig {
    RuleConfig {
        path: Some(path.to_owned()),
        by,
        max: Some(max),
        ..RuleConfig::default()
    }
}

fn policy(config: RateLimitConfig) -> (RateLimitPolicy, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let policy = RateLimitPolicy::try_from(config).unwrap();
    (policy.with_clock(clock.clone()), clock)
}

fn request(method: &str, uri: &str, ip: &str) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
    let ip: IpAddr = ip.parse().unwrap();
    let client = ClientInfo::new(ip, Scheme::Https, None, 0);
    request.extensions_mut().insert(client);
    request
}

fn get(uri: &str) -> Request<()> {
    request("GET", uri, "192.0.2.7")
}

fn with_user(mut request: Request<()>, user: &str) -> Request<()> {
    let user = Principal::new(user, AuthMethod::Token);
    request.extensions_mut().insert(user);
    request
}

fn with_target(mut request: Request<()>, target: &str) -> Request<()> {
    request
        .headers_mut()
        .insert("x-target", target.parse().unwrap());
    request
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("(none)", |value| value.to_str().unwrap())
}

/// How often the inner service was called.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
