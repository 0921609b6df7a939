//! Which origins may call. Input: the configured origins, `credentials` or nothing, the method, then header fields, a
//! line each.
#![no_main]

use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ORIGIN, VARY};
use http::{HeaderValue, Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use proactions_cors::{
    CorsConfig, CorsLayer, CorsOrigin, CorsPolicy, OriginMatch, RequestKind, classify,
};
use proactions_fuzz::{headers, now, text_line};
use tower_layer::Layer;
use tower_service::Service;

fuzz_target!(|data: &[u8]| {
    let Some((origins, rest)) = text_line(data) else {
        return;
    };
    let Some((credentials, rest)) = text_line(rest) else {
        return;
    };
    let Some((method, rest)) = text_line(rest) else {
        return;
    };
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let listed: Vec<String> = origins.split(' ').map(str::to_owned).collect();
    let mut config = CorsConfig::default();
    config.origin = Some(CorsOrigin::List(listed.clone()));
    config.credentials = credentials == "credentials";
    let Ok(policy) = CorsPolicy::try_from(config) else {
        return;
    };

    // Every origin that is listed by name is allowed as it is written.
    for entry in listed.iter().filter(|entry| !entry.contains('*')) {
        let sent = HeaderValue::from_str(entry).expect("an origin is a header's value");
        assert_ne!(policy.match_origin(&sent), OriginMatch::Refused, "{entry}");
    }

    let mut request = Request::new(());
    *request.headers_mut() = headers(rest);
    *request.method_mut() = method;
    let kind = classify(request.method(), request.headers());
    let mut origins = request.headers().get_all(ORIGIN).iter().cloned();
    let (origin, more) = (origins.next(), origins.next().is_some());
    let matched = origin.as_ref().map(|origin| policy.match_origin(origin));
    match (matched, &origin) {
        (Some(OriginMatch::Named), Some(origin)) => {
            let origin = origin.to_str().expect("an origin is ASCII");
            let parts = Parts::of(origin).expect("an allowed origin has parts");
            let covered = listed.iter().any(|entry| parts.are_covered_by(entry));
            assert!(covered, "{origin} by {listed:?}");
        }
        (Some(OriginMatch::Null), Some(origin)) => {
            assert_eq!(origin, "null");
            assert!(listed.iter().any(|entry| entry == "null"));
        }
        (Some(OriginMatch::Anybody), _) => panic!("a list does not allow everybody"),
        _ => {}
    }

    let mut service = CorsLayer::new(policy).layer(Inner);
    let response = now(service.call(request)).expect("infallible");
    let fields = response.headers();
    let allowed = matches!(matched, Some(OriginMatch::Named | OriginMatch::Null)) && !more;
    let told = fields.get("access-control-allow-origin");
    assert_eq!(told, origin.as_ref().filter(|_| allowed), "{fields:?}");
    let varies = fields.get_all(VARY).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.to_ascii_lowercase().contains("origin"))
    });
    assert!(varies, "{fields:?}");
    if !allowed {
        let named = fields
            .keys()
            .find(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(named, None);
    }
    if kind == RequestKind::Preflight {
        assert!(
            !fields.contains_key("x-inner"),
            "a preflight reached the inner service"
        );
    }
    if fields.contains_key("access-control-allow-credentials") {
        assert_eq!(credentials, "credentials");
    }
});

/// An origin taken apart in the plainest way.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Parts {
    fn of(origin: &str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
            _ => (rest, None),
        };
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().ok()?.to_string(),
            None => host.to_ascii_lowercase(),
        };
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(Self {
            port: port.filter(|port| Some(*port) != usual),
            scheme,
            host,
        })
    }

    fn are_covered_by(&self, entry: &str) -> bool {
        let Some((scheme, rest)) = entry.split_once("://*.") else {
            return Self::of(entry).as_ref() == Some(self);
        };
        let Some(base) = Self::of(&format!("{scheme}://{rest}")) else {
            return false;
        };
        let labels: Vec<_> = self.host.split('.').collect();
        let fixed: Vec<_> = base.host.split('.').collect();
        base.scheme == self.scheme
            && base.port == self.port
            && labels.len() > fixed.len()
            && labels.ends_with(&fixed)
            && labels.iter().all(|label| !label.is_empty())
    }
}

#[derive(Clone)]
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<Bytes>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Bytes>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        // An upstream's own words must not stand beside the policy's.
        let response = Response::builder()
            .header("x-inner", "1")
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
            .body(Bytes::new());
        std::future::ready(Ok(response.expect("plain fields")))
    }
}
