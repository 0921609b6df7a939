#![allow(
    clippy::field_reassign_with_default,
    reason = "users of the crate have no other way to fill in a configuration"
)]

use std::convert::Infallible;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Method};
use proactions_edge::{Peer, Scheme};
use tower::{Layer, ServiceExt, service_fn};
use tracing::field::{Field, Visit};
use tracing::span;

use super::*;
use crate::{CorsConfig, CorsLayer, CorsOrigin};

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example.net";

/// The restrictive block of the operators' guide.
fn guide() -> CorsConfig {
    let mut config = CorsConfig::default();
    config.origin = Some(APP.into());
    config.methods = Some("GET,POST,PUT,DELETE".into());
    config.credentials = true;
    config.allowed_headers = Some("Content-Type,Authorization,x-target".into());
    config.max_age = Some(86_400);
    config
}

fn with(change: impl FnOnce(&mut CorsConfig)) -> CorsConfig {
    let mut config = guide();
    change(&mut config);
    config
}

fn anybody() -> CorsConfig {
    let mut config = CorsConfig::default();
    config.origin = Some("*".into());
    config
}

#[derive(Debug)]
struct Seen {
    response: Response<Bytes>,
    calls: usize,
    marked: bool,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.response.headers().get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} stands there twice");
        value
    }

    fn cors_fields(&self) -> Vec<String> {
        let names = self.response.headers().keys().map(|name| name.as_str());
        let mut found: Vec<_> = names
            .filter_map(|name| name.strip_prefix("access-control-"))
            .map(str::to_owned)
            .collect();
        found.sort_unstable();
        found
    }
}

/// Sends a request through the policy to a service that answers 418 with `inner` header fields.
async fn send_to(policy: CorsPolicy, inner: &HeaderMap, request: Request<()>) -> Seen {
    let calls = AtomicUsize::new(0);
    let marked = AtomicUsize::new(0);
    let service = CorsLayer::new(policy).layer(service_fn(|request: Request<()>| {
        calls.fetch_add(1, Ordering::Relaxed);
        if request.extensions().get::<AllowedOrigin>().is_some() {
            marked.fetch_add(1, Ordering::Relaxed);
        }
        let mut response = Response::new(Bytes::from_static(b"inner"));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        *response.headers_mut() = inner.clone();
        async move { Ok::<_, Infallible>(response) }
    }));
    let response = service.oneshot(request).await.unwrap();
    Seen {
        response,
        calls: calls.into_inner(),
        marked: marked.into_inner() > 0,
    }
}

async fn send(config: CorsConfig, request: Request<()>) -> Seen {
    let policy = CorsPolicy::try_from(config).unwrap();
    send_to(policy, &HeaderMap::new(), request).await
}

fn preflight(origin: &str) -> Request<()> {
    Request::options("/v1/chat/completions")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-target")
        .body(())
        .unwrap()
}

fn post(origins: &[&str]) -> Request<()> {
    let mut request = Request::post("/v1/chat/completions").body(()).unwrap();
    for origin in origins {
        let value = HeaderValue::from_bytes(origin.as_bytes()).unwrap();
        request.headers_mut().append(ORIGIN, value);
    }
    request
}

#[tokio::test]
async fn an_allowed_preflight_is_answered_here() {
    let seen = send(guide(), preflight(APP)).await;
    assert_eq!(seen.calls, 0);
    assert_eq!(seen.response.status(), 204);
    assert!(seen.response.body().is_empty());
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,POST,PUT,DELETE"),
        (
            "access-control-allow-headers",
            "Content-Type,Authorization,x-target",
        ),
        ("access-control-max-age", "86400"),
        ("vary", "Origin"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.response.headers().len(), 6);
}

#[tokio::test]
async fn a_refused_preflight_is_told_nothing() {
    for origin in [
        EVIL,
        "null",
        "https://app.example.com:444",
        "https://APP.example.com.",
        "",
    ] {
        let seen = send(guide(), preflight(origin)).await;
        assert_eq!(seen.calls, 0);
        assert_eq!(seen.response.status(), 204);
        assert!(seen.cors_fields().is_empty(), "{origin}");
        assert_eq!(seen.header("vary"), Some("Origin"));
    }
    let mut twice = preflight(APP);
    twice
        .headers_mut()
        .append(ORIGIN, HeaderValue::from_static(APP));
    assert!(send(guide(), twice).await.cors_fields().is_empty());
}

#[tokio::test]
async fn options_alone_is_no_preflight() {
    for (origin, method) in [(None, None), (Some(APP), None), (None, Some("POST"))] {
        let mut request = Request::options("/v1/models");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        if let Some(method) = method {
            request = request.header("access-control-request-method", method);
        }
        let seen = send(guide(), request.body(()).unwrap()).await;
        assert_eq!(seen.calls, 1, "{origin:?} {method:?}");
        assert_eq!(seen.response.status(), 418);
    }
}

#[tokio::test]
async fn an_actual_request_goes_on_whatever_its_origin() {
    let seen = send(guide(), post(&[APP])).await;
    assert_eq!((seen.calls, seen.marked), (1, true));
    assert_eq!(seen.header("access-control-allow-origin"), Some(APP));
    assert_eq!(seen.cors_fields(), ["allow-credentials", "allow-origin"]);
    assert_eq!(seen.header("vary"), Some("Origin"));

    for origins in [
        &[EVIL][..],
        &["null"],
        &[APP, APP],
        &[APP, EVIL],
        &["\u{fc}"],
    ] {
        let seen = send(guide(), post(origins)).await;
        assert_eq!((seen.calls, seen.marked), (1, false), "{origins:?}");
        assert_eq!(seen.response.status(), 418);
        assert!(seen.cors_fields().is_empty(), "{origins:?}");
        assert_eq!(seen.header("vary"), Some("Origin"));
    }

    let seen = send(guide(), post(&[])).await;
    assert_eq!((seen.calls, seen.marked), (1, false));
    assert!(seen.cors_fields().is_empty());
    assert_eq!(seen.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn only_named_origins_with_credentials_are_marked() {
    let list = |origins: &[&str]| Some(origins.iter().copied().collect::<CorsOrigin>());
    for (origin, credentials, sent, marked) in [
        (list(&[APP]), true, APP, true),
        (list(&["https://*.example.com"]), true, APP, true),
        (list(&[APP]), true, EVIL, false),
        (list(&[APP]), false, APP, false),
        (list(&["null"]), false, "null", false),
        (Some(CorsOrigin::Reflect), false, APP, false),
        (Some("*".into()), false, APP, false),
    ] {
        let mut config = CorsConfig::default();
        config.origin = origin.clone();
        config.credentials = credentials;
        let seen = send(config, post(&[sent])).await;
        assert_eq!(seen.marked, marked, "{origin:?} {credentials} {sent}");
    }
}

#[tokio::test]
async fn several_origins_in_turn_through_a_cache() {
    let mut config = CorsConfig::default();
    config.origin = Some(
        ["https://app1.example.com", "https://app2.example.com"]
            .into_iter()
            .collect(),
    );
    for origin in ["https://app1.example.com", "https://app2.example.com"] {
        let seen = send(config.clone(), post(&[origin])).await;
        assert_eq!(seen.header("access-control-allow-origin"), Some(origin));
        assert_eq!(seen.header("vary"), Some("Origin"));
        assert_eq!(seen.cors_fields(), ["allow-origin"]);
    }
}

#[tokio::test]
async fn reflecting_names_whoever_asks() {
    let mut config = CorsConfig::default();
    config.origin = Some(CorsOrigin::Reflect);
    let seen = send(config.clone(), post(&[EVIL])).await;
    assert_eq!(seen.header("access-control-allow-origin"), Some(EVIL));
    assert_eq!(seen.header("vary"), Some("Origin"));
    let seen = send(config.clone(), post(&["null"])).await;
    assert!(seen.cors_fields().is_empty());
    let seen = send(config, post(&[])).await;
    assert_eq!(seen.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn a_star_is_the_same_for_everybody() {
    for request in [post(&[APP]), post(&[]), post(&["null"])] {
        let seen = send(anybody(), request).await;
        assert_eq!(seen.header("access-control-allow-origin"), Some("*"));
        assert_eq!(seen.header("vary"), None);
    }
    let seen = send(CorsConfig::default(), preflight(EVIL)).await;
    assert_eq!(seen.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        seen.header("access-control-allow-methods"),
        Some("GET,HEAD,PUT,PATCH,POST,DELETE")
    );
    // What differs from the rest names what it differs by.
    let seen = send(anybody(), post(&[APP, EVIL])).await;
    assert!(seen.cors_fields().is_empty());
    assert_eq!(seen.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn requested_headers_are_reflected_within_bounds() {
    let reflecting = || with(|config| config.allowed_headers = None);
    let both = Some("Origin, Access-Control-Request-Headers");
    let seen = send(reflecting(), preflight(APP)).await;
    assert_eq!(
        seen.header("access-control-allow-headers"),
        Some("content-type,x-target")
    );
    assert_eq!(seen.header("vary"), both);

    let mut flood = preflight(APP);
    flood.headers_mut().insert(
        "access-control-request-headers",
        HeaderValue::from_bytes(&vec![b','; 1 << 20]).unwrap(),
    );
    let seen = send(reflecting(), flood).await;
    assert_eq!(seen.header("access-control-allow-headers"), None);
    assert_eq!(seen.header("access-control-allow-origin"), Some(APP));
    assert_eq!(seen.header("vary"), both);

    let mut silent = preflight(APP);
    silent
        .headers_mut()
        .remove("access-control-request-headers");
    let seen = send(reflecting(), silent).await;
    assert_eq!(seen.header("access-control-allow-headers"), None);
    assert_eq!(seen.header("vary"), both);

    let seen = send(reflecting(), preflight(EVIL)).await;
    assert!(seen.cors_fields().is_empty());
    assert_eq!(seen.header("vary"), both);

    let none = with(|config| config.allowed_headers = Some(std::iter::empty::<&str>().collect()));
    let seen = send(none, preflight(APP)).await;
    assert_eq!(seen.header("access-control-allow-headers"), None);
    assert_eq!(seen.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn the_other_options() {
    let config = with(|config| {
        config.exposed_headers = Some("x-a, x-b".into());
        config.options_success_status = Some(200);
        config.max_age = Some(604_800);
    });
    let seen = send(config.clone(), preflight(APP)).await;
    assert_eq!(seen.response.status(), 200);
    assert_eq!(seen.header("content-length"), Some("0"));
    assert_eq!(seen.header("access-control-max-age"), Some("86400"));
    assert_eq!(
        seen.header("access-control-expose-headers"),
        Some("x-a,x-b")
    );
    let seen = send(config.clone(), post(&[APP])).await;
    assert_eq!(
        seen.header("access-control-expose-headers"),
        Some("x-a,x-b")
    );
    assert_eq!(seen.header("access-control-max-age"), None);
    assert_eq!(send(config, preflight(EVIL)).await.response.status(), 200);

    let zero = with(|config| config.max_age = Some(0));
    let seen = send(zero, preflight(APP)).await;
    assert_eq!(seen.header("access-control-max-age"), Some("0"));
    let seen = send(
        with(|config| config.exposed_headers = Some("".into())),
        post(&[APP]),
    )
    .await;
    assert_eq!(seen.header("access-control-expose-headers"), None);
}

#[tokio::test]
async fn preflights_can_be_left_to_the_inner_service() {
    let config = with(|config| config.preflight_continue = true);
    let seen = send(config.clone(), preflight(APP)).await;
    assert_eq!((seen.calls, seen.marked), (1, false));
    assert_eq!(seen.response.status(), 418);
    assert_eq!(seen.header("access-control-allow-origin"), Some(APP));
    assert_eq!(
        seen.header("access-control-allow-methods"),
        Some("GET,POST,PUT,DELETE")
    );
    let seen = send(config, preflight(EVIL)).await;
    assert_eq!(seen.calls, 1);
    assert!(seen.cors_fields().is_empty());
}

#[tokio::test]
async fn the_inner_answer_is_overruled() {
    let mut inner = HeaderMap::new();
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-origin", EVIL),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "TRACE"),
        ("vary", "Accept-Encoding"),
        ("x-other", "stays"),
    ] {
        inner.append(name, HeaderValue::from_static(value));
    }
    let policy = CorsPolicy::try_from(guide()).unwrap();
    for (origins, fields) in [
        (&[APP][..], &["allow-credentials", "allow-origin"][..]),
        (&[EVIL], &[]),
        (&[], &[]),
    ] {
        let seen = send_to(policy.clone(), &inner, post(origins)).await;
        assert_eq!(seen.cors_fields(), fields, "{origins:?}");
        assert_eq!(seen.header("vary"), Some("Accept-Encoding, Origin"));
        assert_eq!(seen.header("x-other"), Some("stays"));
    }
    let seen = send_to(policy, &inner, post(&[APP])).await;
    assert_eq!(seen.header("access-control-allow-origin"), Some(APP));

    let seen = send_to(CorsPolicy::off(), &inner, post(&[EVIL])).await;
    assert_eq!(seen.response.headers(), &inner);
    let seen = send_to(CorsPolicy::off(), &inner, preflight(EVIL)).await;
    assert_eq!(seen.calls, 1);
}

#[tokio::test]
async fn errors_of_the_inner_service_pass_untouched() {
    for policy in [CorsPolicy::off(), CorsPolicy::try_from(guide()).unwrap()] {
        let service = CorsLayer::new(policy).layer(service_fn(|_: Request<()>| async {
            Err::<Response<Bytes>, _>("down")
        }));
        assert_eq!(service.oneshot(post(&[APP])).await.unwrap_err(), "down");
    }
}

#[tokio::test]
async fn the_answers_own_future_ends_once() {
    let service = CorsLayer::new(CorsPolicy::try_from(guide()).unwrap()).layer(service_fn(
        |_: Request<()>| async { Ok::<_, Infallible>(Response::new(Bytes::new())) },
    ));
    let mut answer = std::pin::pin!(service.oneshot(preflight(APP)));
    assert_eq!(answer.as_mut().await.unwrap().status(), 204);
}

/// Keeps the events of the target `security` as text.
#[derive(Clone, Debug, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "security"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);

        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                use fmt::Write as _;
                write!(self.0, "{field}={value:?};").unwrap();
            }
        }

        let mut text = Text(format!("{};", event.metadata().level()));
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

async fn events_of(config: CorsConfig, request: Request<()>) -> Vec<String> {
    let events = Events::default();
    let guard = tracing::subscriber::set_default(events.clone());
    send(config, request).await;
    drop(guard);
    let found = events.0.lock().unwrap();
    found.clone()
}

fn known(mut request: Request<()>, host: &'static str) -> Request<()> {
    let peer = Peer::new("192.0.2.7:1".parse().unwrap(), Scheme::Https);
    let client = ClientInfo::direct(peer, Some(HeaderValue::from_static(host)));
    let id = RequestId::from_header(HeaderValue::from_static("r-1")).unwrap();
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(id);
    request
}

#[tokio::test]
async fn refusals_are_reported() {
    for (request, preflight) in [(post(&[EVIL]), false), (preflight(EVIL), true)] {
        let found = events_of(guide(), known(request, "hub.example.com")).await;
        let [event] = &found[..] else {
            panic!("{found:?}")
        };
        for part in [
            "WARN;".to_owned(),
            "event=\"cors_origin_refused\";".to_owned(),
            "ip=192.0.2.7;".to_owned(),
            "requestId=\"r-1\";".to_owned(),
            format!("origin=\"{EVIL}\";"),
            format!("preflight={preflight};"),
        ] {
            assert!(event.contains(&part), "{event} has no {part}");
        }
    }
    for request in [post(&[APP]), preflight(APP), post(&[])] {
        assert!(events_of(guide(), request).await.is_empty());
    }
    assert_eq!(events_of(guide(), post(&[APP, APP])).await.len(), 1);
}

#[tokio::test]
async fn the_reported_origin_is_short_and_plain() {
    let long = format!("https://\u{1b}\u{2028}{}", "a".repeat(10_000)).replace('\u{1b}', "\t");
    let found = events_of(guide(), post(&[&long])).await;
    let event = &found[0];
    assert!(event.len() < 1_000, "{}", event.len());
    assert!(event.is_ascii() && !event.contains('\t'), "{event}");
}

#[tokio::test]
async fn the_services_own_pages_are_no_strangers() {
    for (origin, host, reports) in [
        ("https://hub.example.com", "hub.example.com", 0),
        ("https://hub.example.com", "HUB.example.com:443", 0),
        ("https://hub.example.com:8443", "hub.example.com:8443", 0),
        ("https://hub.example.com", "hub.example.com:8443", 1),
        ("http://hub.example.com", "hub.example.com", 1),
        ("https://evil.example.net", "hub.example.com", 1),
        ("null", "hub.example.com", 1),
    ] {
        let request = || known(post(&[origin]), host);
        assert_eq!(
            events_of(guide(), request()).await.len(),
            reports,
            "{origin} {host}"
        );
        let seen = send(guide(), request()).await;
        assert_eq!((seen.calls, seen.marked), (1, false));
        assert!(seen.cors_fields().is_empty());
    }
    let asked = known(preflight("https://hub.example.com"), "hub.example.com");
    assert_eq!(events_of(guide(), asked).await.len(), 1);
}

#[tokio::test]
async fn methods_other_than_options_are_never_preflights() {
    for method in [Method::GET, Method::POST, Method::HEAD, Method::DELETE] {
        let mut request = preflight(APP);
        *request.method_mut() = method.clone();
        assert_eq!(send(guide(), request).await.calls, 1, "{method}");
    }
}
