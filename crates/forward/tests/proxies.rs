//! `/proxy/forward/{id}` over real sockets: what travels, what does not, and where to.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::field_reassign_with_default,
    reason = "the types may get more fields"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proactions_edge::{RequestId, SecretString};
use proactions_forward::{
    Body, BoxError, ForwardProxies, HttpClientConfig, ProxyConfig, ProxyPolicies,
    RemoveSourceHeaders,
};
use proactions_testkit::{
    Gate, OutboundMode, OutboundProxy, Reply, Step, Upstream, closed_address,
};
use support::{Authority, call, client_at, egress, get, proxy, service, service_within, text, tls};

fn one(upstream: &Upstream, change: impl FnOnce(&mut ProxyConfig)) -> ForwardProxies {
    let mut config = proxy("a", &upstream.url("/base"));
    change(&mut config);
    service(vec![config])
}

#[tokio::test]
async fn only_the_exact_id_leads_somewhere() {
    let upstream = Upstream::start(Reply::new(200));
    let service = one(&upstream, |_| {});
    for (path, target) in [
        ("/proxy/forward/a", "/base"),
        ("/proxy/forward/a/", "/base/"),
        ("/proxy/forward/a?x=1&y=%2F", "/base?x=1&y=%2F"),
        ("/proxy/forward/a/b/c%2Fd?e", "/base/b/c%2Fd?e"),
        ("/proxy/forward/a//evil.test/x", "/base//evil.test/x"),
        ("/proxy/forward/a/@evil.test", "/base/@evil.test"),
        (
            "/proxy/forward/a/https://evil.test/",
            "/base/https://evil.test/",
        ),
    ] {
        assert_eq!(get(&service, path).await.status(), 200, "{path}");
        let received = upstream.last_request();
        assert_eq!(received.target, target);
        assert_eq!(
            received.header("host").unwrap(),
            upstream.addr().to_string()
        );
    }
    let count = upstream.request_count();
    for (path, status) in [
        ("/proxy/forward/", 404),
        ("/proxy/forward/b", 404),
        ("/proxy/forward/A/x", 404),
        ("/proxy/forward/%61/x", 404),
        ("/proxy/forward/a@evil.test/x", 404),
        ("/proxy/forward/a:80/x", 404),
        ("/proxy/forward//a/x", 404),
        ("/proxy/forwarda", 404),
        ("/other", 404),
        ("/proxy/forward/a/..", 400),
        ("/proxy/forward/a/../b", 400),
        ("/proxy/forward/a/%2e%2e/b", 400),
        ("/proxy/forward/a/%252e%252e/b", 400),
        ("/proxy/forward/a/..%2fb", 400),
        ("/proxy/forward/a/x%5c..%5cb", 400),
        ("/proxy/forward/a/..;x/b", 400),
        ("/proxy/forward/a/%00", 400),
        ("/proxy/forward/a/x%0d%0ay", 400),
    ] {
        assert_eq!(get(&service, path).await.status(), status, "{path}");
    }
    for method in ["CONNECT", "TRACE"] {
        let request = Request::builder().method(method).uri("/proxy/forward/a");
        let answer = call(&service, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 405);
    }
    assert_eq!(upstream.request_count(), count);
}

fn odd_request(path: &str) -> Request<Body> {
    let mut request = Request::post(path);
    for (name, value) in [
        ("host", "hub.test"),
        ("authorization", "Bearer hub-token"),
        ("cookie", "proactions_session=s"),
        ("connection", "close, X-Own, x-nominated"),
        ("x-nominated", "1"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-hub-user", "admin"),
        ("upgrade", "websocket"),
        ("te", "trailers"),
        ("x-own", "from the client"),
        ("x-kept", "yes"),
        ("x-unwanted", "1"),
        ("accept", "text/plain"),
        ("content-type", "text/plain"),
    ] {
        request = request.header(name, value);
    }
    request.body(Body::from("hello")).unwrap()
}

fn names(upstream: &Upstream) -> Vec<String> {
    let mut names: Vec<_> = upstream
        .last_request()
        .header_lines()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_header_is_clean_and_ours_wins() {
    let upstream = Upstream::start(Reply::new(200));
    let service = one(&upstream, |config| {
        config.remove_source_headers = RemoveSourceHeaders::Named(vec!["X-Unwanted".to_owned()]);
        config.options.headers = BTreeMap::from([
            ("X-Own".to_owned(), SecretString::from("ours")),
            ("Authorization".to_owned(), SecretString::from("Basic eA==")),
        ]);
    });
    call(&service, odd_request("/proxy/forward/a/x")).await;
    assert_eq!(
        names(&upstream),
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "x-kept",
            "x-own"
        ]
    );
    let received = upstream.last_request();
    assert_eq!(received.header("x-own"), Some("ours"));
    assert_eq!(received.header("authorization"), Some("Basic eA=="));
    assert_eq!(received.body, "hello");

    let service = one(&upstream, |config| {
        config.remove_source_headers = RemoveSourceHeaders::All;
    });
    call(&service, odd_request("/proxy/forward/a/x")).await;
    assert_eq!(names(&upstream), ["content-length", "content-type", "host"]);
}

#[tokio::test]
async fn what_is_known_of_the_client_travels_only_if_asked() {
    let upstream = Upstream::start(Reply::new(200));
    for (xfwd, change_origin) in [(false, true), (true, true), (true, false), (false, false)] {
        let service = one(&upstream, |config| {
            config.options.xfwd = xfwd;
            config.options.change_origin = change_origin;
        });
        let mut request = odd_request("/proxy/forward/a/x");
        request
            .extensions_mut()
            .insert(client_at("192.0.2.1", "hub.example.com:8443"));
        let id = RequestId::from_header(http::HeaderValue::from_static("r-1")).unwrap();
        request.extensions_mut().insert(id);
        call(&service, request).await;
        let received = upstream.last_request();
        let told = |name| received.header(name);
        let expected = |value| xfwd.then_some(value);
        assert_eq!(told("x-forwarded-for"), expected("192.0.2.1"));
        assert_eq!(told("x-forwarded-proto"), expected("https"));
        assert_eq!(told("x-forwarded-host"), expected("hub.example.com:8443"));
        assert_eq!(told("x-request-id"), Some("r-1"));
        let own = upstream.addr().to_string();
        let host = if change_origin {
            own.as_str()
        } else {
            "hub.example.com:8443"
        };
        assert_eq!(told("host"), Some(host));
    }
    // A host that is none is not passed on.
    let service = one(&upstream, |config| config.options.change_origin = false);
    let mut request = odd_request("/proxy/forward/a/x");
    request
        .extensions_mut()
        .insert(client_at("192.0.2.1", "evil.test/path?x"));
    call(&service, request).await;
    let received = upstream.last_request();
    assert_eq!(
        received.header("host").unwrap(),
        upstream.addr().to_string()
    );
}

#[tokio::test]
async fn the_answer_loses_what_is_the_upstreams_own() {
    let upstream = Upstream::start(
        Reply::bytes(401, "text/plain", "no")
            .with_header("set-cookie", "a=b")
            .with_header("server", "x/1")
            .with_header("x-powered-by", "x")
            .with_header("www-authenticate", "Basic")
            .with_header("access-control-allow-origin", "*")
            .with_header("connection", "x-inner")
            .with_header("x-inner", "1")
            .with_header("etag", "\"1\""),
    );
    let answer = get(&one(&upstream, |_| {}), "/proxy/forward/a").await;
    assert_eq!(answer.status(), 401);
    let mut names: Vec<_> = answer.headers().keys().map(|n| n.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "date", "etag"]);
    assert_eq!(text(answer).await, "no");
}

#[tokio::test]
async fn redirects_are_passed_on_unless_asked() {
    let upstream = Upstream::serve(|_| Reply::redirect(302, "/base/next?x=1#f"));
    let answer = get(&one(&upstream, |_| {}), "/proxy/forward/a/x").await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], "/proxy/forward/a/next?x=1#f");
    assert_eq!(upstream.request_count(), 1);

    let service = one(&upstream, |config| {
        config.options.follow_redirects = true;
        config.options.max_redirects = Some(3);
    });
    let answer = get(&service, "/proxy/forward/a/x").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(upstream.request_count(), 1 + 4);
}

#[tokio::test]
async fn no_location_tells_the_key_in_a_proxys_url() {
    for (told, passed_on) in [
        ("/next?key=hunter2&x=1", Some("/proxy/forward/a/next?x=1")),
        ("/next page?key=hunter2", None),
    ] {
        let upstream = Upstream::start(Reply::redirect(302, told));
        let service = service(vec![proxy("a", &upstream.url("/?key=hunter2"))]);
        let answer = get(&service, "/proxy/forward/a/x").await;
        assert_eq!(answer.status(), 302);
        let location = answer.headers().get("location");
        assert_eq!(location.map(|to| to.to_str().unwrap()), passed_on, "{told}");
    }
}

fn follower(upstream: &Upstream, hosts: &[&Upstream]) -> ForwardProxies {
    let mut config = proxy("a", &upstream.url("/base"));
    config.options.follow_redirects = true;
    config.options.headers = BTreeMap::from([("X-Api-Key".to_owned(), SecretString::from("key"))]);
    let rules = egress(|rules| {
        rules.allow_hosts = hosts.iter().map(|host| host.addr().to_string()).collect();
    });
    service_within(&rules, vec![config])
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let other = Upstream::start(Reply::bytes(200, "text/plain", "there"));
    let elsewhere = other.url("/landing");
    let upstream = Upstream::serve(move |received| match received.path() {
        "/base/inside" => Reply::redirect(301, "final"),
        "/base/outside" => Reply::redirect(302, &elsewhere),
        _ => Reply::bytes(200, "text/plain", "here"),
    });
    let service = follower(&upstream, &[&upstream, &other]);
    let request = |path: &str| {
        Request::get(path)
            .header("accept", "text/plain")
            .header("x-client-key", "mine")
            .body(Body::empty())
            .unwrap()
    };
    let answer = call(&service, request("/proxy/forward/a/inside")).await;
    assert_eq!(text(answer).await, "here");
    assert_eq!(upstream.last_request().target, "/base/final");
    assert_eq!(upstream.last_request().header("x-api-key"), Some("key"));
    assert_eq!(upstream.last_request().header("x-client-key"), Some("mine"));

    let answer = call(&service, request("/proxy/forward/a/outside")).await;
    assert_eq!(text(answer).await, "there");
    assert_eq!(names(&other), ["accept", "host"]);
    assert_eq!(
        other.last_request().header("host").unwrap(),
        other.addr().to_string()
    );
}

#[tokio::test]
async fn a_redirect_cannot_reach_inside() {
    let other = Upstream::start(Reply::new(200));
    for location in [
        other.url("/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://2130706433/".to_owned(),
        "http://[::ffff:7f00:1]/".to_owned(),
        "http://localhost/".to_owned(),
    ] {
        let upstream = Upstream::start(Reply::redirect(302, &location));
        // The upstream itself is configured, so it may be private; what it names may not.
        let service = one(&upstream, |config| config.options.follow_redirects = true);
        let answer = get(&service, "/proxy/forward/a/x").await;
        assert_eq!(answer.status(), 502, "{location}");
        // Nor with a list that does not name it.
        let answer = get(&follower(&upstream, &[&upstream]), "/proxy/forward/a/x").await;
        assert_eq!(answer.status(), 502, "{location}");
    }
    assert_eq!(other.request_count(), 0);
}

#[tokio::test]
async fn a_body_is_never_sent_twice() {
    let upstream = Upstream::serve(|received| match received.path() {
        "/base/302" => Reply::redirect(302, "/base/final"),
        "/base/303" => Reply::redirect(303, "/base/final"),
        "/base/307" => Reply::redirect(307, "/base/final"),
        _ => Reply::new(200),
    });
    let service = follower(&upstream, &[&upstream]);
    for (path, status, requests) in [("302", 302, 1), ("307", 307, 1), ("303", 200, 2)] {
        let before = upstream.request_count();
        let answer = call(&service, odd_request(&format!("/proxy/forward/a/{path}"))).await;
        assert_eq!(answer.status(), status);
        assert_eq!(upstream.request_count() - before, requests, "{path}");
    }
    let last = upstream.last_request();
    assert_eq!(
        (last.method.as_str(), last.target.as_str()),
        ("GET", "/base/final")
    );
    assert_eq!(last.body_len, 0);
    assert_eq!(last.header("content-type"), None);
    assert_eq!(last.header("x-api-key"), Some("key"));
}

#[tokio::test]
async fn failures_have_their_status() {
    let silent = Upstream::start(Reply::silence());
    let mut configs = vec![
        proxy("dead", &format!("http://{}/", closed_address())),
        proxy("silent", &silent.url("/")),
        proxy("slow-client", &silent.url("/")),
    ];
    configs[1].options.proxy_timeout = Some(100);
    configs[2].options.timeout = Some(100);
    let switching = Upstream::builder().raw([Step::send(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    )]);
    configs.push(proxy("switching", &switching.url("/")));
    let service = service(configs);
    for (id, status) in [("dead", 502), ("silent", 504), ("switching", 502)] {
        let answer = get(&service, &format!("/proxy/forward/{id}")).await;
        assert_eq!(answer.status(), status, "{id}");
        let told = text(answer).await;
        assert!(!told.contains("127.0.0.1"), "{told}");
    }
    let never = StreamBody::new(futures_util::stream::pending::<
        Result<Frame<Bytes>, BoxError>,
    >());
    let request = Request::post("/proxy/forward/slow-client").body(Body::new(never));
    assert_eq!(call(&service, request.unwrap()).await.status(), 408);
}

#[tokio::test]
async fn bodies_stream_both_ways_in_constant_memory() {
    const PART: usize = 64 * 1024;
    const PARTS: u64 = 1024;
    let upstream = Upstream::builder()
        .answer_before_body()
        .recording_at_most(0)
        .start(Reply::echo_body());
    let service = one(&upstream, |_| {});
    let parts = futures_util::stream::iter(0..PARTS)
        .then_frames(|index| Bytes::from(vec![u8::try_from(index % 251).unwrap(); PART]));
    let before = resident();
    let request = Request::post("/proxy/forward/a").body(Body::new(parts));
    let mut body = call(&service, request.unwrap()).await.into_body();
    let (mut got, mut most) = (0_u64, 0_u64);
    while let Some(frame) = body.frame().await {
        for byte in frame.unwrap().into_data().unwrap_or_default() {
            let index = got / PART as u64;
            assert_eq!(u64::from(byte), index % 251);
            got += 1;
        }
        most = most.max(resident());
    }
    assert_eq!(got, PARTS * PART as u64);
    // What the kernel buffers between the sockets is not counted; it may be tens of megabytes on one machine.
    let grown = most.saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} kB more");
}

/// The memory of this process, in kB. The other tests in it need little.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Frames that are made when they are asked for.
trait Frames: Sized {
    fn then_frames<F>(
        self,
        make: F,
    ) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>
    where
        F: FnMut(u64) -> Bytes + Send;
}

impl<S> Frames for S
where
    S: futures_util::Stream<Item = u64> + Send,
{
    fn then_frames<F>(
        self,
        mut make: F,
    ) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>
    where
        F: FnMut(u64) -> Bytes + Send,
    {
        use futures_util::StreamExt as _;
        StreamBody::new(self.map(move |index| Ok(Frame::data(make(index)))))
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes_and_ends_with_its_client() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::sse(["data: 1\n\n", "data: 2\n\n"]).gated(&gate));
    let service = one(&upstream, |_| {});
    gate.release(1);
    let mut body = get(&service, "/proxy/forward/a").await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: 1\n\n");
    drop(body);
    tokio::time::timeout(Duration::from_secs(1), upstream.until_abandoned(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn certificates_are_checked_as_configured() {
    let (good, other) = (Authority::new(), Authority::new());
    let (certificate, key) = good.issue();
    let open = good.serve(false).await;
    let demanding = good.serve(true).await;
    let mut configs = Vec::new();
    for (id, addr, ca, shows, secure) in [
        ("usual", open, None, false, true),
        ("private", open, Some(&good), false, true),
        ("wrong", open, Some(&other), false, true),
        ("unchecked", open, None, false, false),
        ("shown", demanding, Some(&good), true, true),
        ("shown-unchecked", demanding, None, true, false),
        ("not-shown", demanding, Some(&good), false, true),
    ] {
        let mut config = proxy(id, &format!("https://{addr}"));
        config.options.secure = secure;
        config.options.ssl.ca = ca.map(|ca| ca.pem.clone());
        if shows {
            config.options.ssl.cert = Some(certificate.clone());
            config.options.ssl.key = Some(SecretString::from(key.as_str()));
        }
        // HTTP/2 or not makes no difference to the certificate.
        config.options.change_origin = id != "private";
        configs.push(config);
    }
    let service = service(configs);
    for (id, outcome) in [
        ("usual", Err(502)),
        ("private", Ok("0")),
        ("wrong", Err(502)),
        ("unchecked", Ok("0")),
        ("shown", Ok("1")),
        ("shown-unchecked", Ok("1")),
        ("not-shown", Err(502)),
    ] {
        let answer = get(&service, &format!("/proxy/forward/{id}/")).await;
        let status = answer.status().as_u16();
        match outcome {
            Ok(body) => assert_eq!((status, text(answer).await.as_str()), (200, body), "{id}"),
            Err(expected) => assert_eq!(status, expected, "{id}"),
        }
    }
}

#[tokio::test]
async fn files_and_keys_are_checked_at_start() {
    let authority = Authority::new();
    let ((certificate, key), (_, other_key)) = (authority.issue(), authority.issue());
    let with = |ca: Option<&str>, pair: Option<(&str, &str)>| {
        let mut config = proxy("a", "https://a.example");
        config.options.ssl.ca = ca.map(str::to_owned);
        config.options.ssl.cert = pair.map(|(certificate, _)| certificate.to_owned());
        config.options.ssl.key = pair.map(|(_, key)| SecretString::from(key));
        ProxyPolicies::try_from(vec![config])
    };
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (policies, key, message) in [
        (with(Some("/nowhere.pem"), None), "ca", "cannot be read"),
        (with(Some(&key), None), "ca", "no certificate"),
        (with(Some(junk), None), "ca", "cannot be read"),
        (
            with(None, Some((&certificate, &certificate))),
            "key",
            "no private key",
        ),
        (
            with(None, Some(("/nowhere.pem", &key))),
            "cert",
            "cannot be read",
        ),
    ] {
        let error = policies.unwrap_err();
        let problem = &error.problems()[0];
        assert_eq!(problem.key, format!("[0].options.ssl.{key}"));
        assert!(problem.message.contains(message), "{}", problem.message);
    }
    let start = |key: &str| {
        let policies = with(None, Some((&certificate, key))).unwrap();
        let open = egress(|_| {});
        ForwardProxies::new(&policies, &HttpClientConfig::default(), &tls(), &open)
    };
    assert!(start(&key).is_ok());
    let error = start(&other_key).unwrap_err();
    assert_eq!(error.problems()[0].key, "[0].options.ssl");
}

#[tokio::test]
async fn everything_goes_through_the_outbound_proxy() {
    let authority = Authority::new();
    let upstream = authority.serve(false).await;
    let plain_upstream = Upstream::start(Reply::bytes(200, "text/plain", "proxied"));
    let port = plain_upstream.addr().port();
    let outbound = OutboundProxy::for_user("user:p@ss");
    let rules = egress(|rules| {
        let url = format!("http://user:p%40ss@{}", outbound.addr());
        rules.proxy = Some(SecretString::from(url));
    });
    let mut secure = proxy("secure", &format!("https://{upstream}/x"));
    secure.options.ssl.ca = Some(authority.pem.clone());
    let plain = proxy("plain", &format!("http://name.test:{port}/x"));
    let service = service_within(&rules, vec![secure, plain]);

    let answer = get(&service, "/proxy/forward/secure/y").await;
    assert_eq!(text(answer).await, "0");
    let answer = get(&service, "/proxy/forward/plain/y?z").await;
    assert_eq!(text(answer).await, "proxied");

    let heads = outbound.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(
        heads[0].starts_with(&format!("CONNECT {upstream} HTTP/1.1\r\n")),
        "{heads:?}"
    );
    assert!(heads[0].contains("Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"));
    assert!(
        heads[1].starts_with(&format!("GET http://name.test:{port}/x/y?z HTTP/1.1\r\n")),
        "{heads:?}"
    );
    assert!(heads[1].contains("proxy-authorization: Basic dXNlcjpwQHNz\r\n"));
    assert!(heads[1].contains(&format!("host: name.test:{port}\r\n")));
}

#[tokio::test]
async fn a_refusal_of_the_outbound_proxy_is_a_bad_gateway() {
    for status in [403, 407, 502] {
        let outbound = OutboundProxy::start();
        outbound.set(OutboundMode::Refuse(status));
        let rules = egress(|rules| {
            rules.proxy = Some(SecretString::from(format!("http://{}", outbound.addr())));
        });
        let configs = vec![
            proxy("secure", "https://name.test/"),
            proxy("plain", "http://name.test/"),
        ];
        let service = service_within(&rules, configs);
        let answer = get(&service, "/proxy/forward/secure").await;
        assert_eq!(answer.status(), 502, "{status}");
        if status == 407 {
            let answer = get(&service, "/proxy/forward/plain").await;
            assert_eq!(answer.status(), 502);
            assert_eq!(answer.headers().get(header::PROXY_AUTHENTICATE), None);
        }
    }
}

#[tokio::test]
async fn rules_hold_for_configured_upstreams_too() {
    let upstream = Upstream::start(Reply::new(200));
    let port = upstream.addr().port();
    let configs = || {
        vec![
            proxy("address", &upstream.url("/")),
            proxy("name", &format!("http://localhost:{port}/")),
            proxy("decimal", &format!("http://2130706433:{port}/")),
        ]
    };
    let private = service_within(&egress(|rules| rules.deny_private = true), configs());
    let listed = service_within(
        &egress(|rules| rules.allow_hosts = vec!["api.example.com".to_owned()]),
        configs(),
    );
    for service in [&private, &listed] {
        for id in ["address", "name", "decimal"] {
            let answer = get(service, &format!("/proxy/forward/{id}")).await;
            assert_eq!(answer.status(), 502, "{id}");
        }
    }
    assert_eq!(upstream.request_count(), 0);
    let named = egress(|rules| rules.allow_hosts = vec![format!("localhost:{port}")]);
    let service = service_within(&named, configs());
    assert_eq!(get(&service, "/proxy/forward/name").await.status(), 200);
}
