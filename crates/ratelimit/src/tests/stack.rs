use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use proactions_edge::{Rejection, RejectionKind, RequestId};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{KeyOf, RateLimitLayer, ResetFormat, StandardHeaders, TargetRoute};

type Answer = Result<Response<Bytes>, Infallible>;

/// Answers 200, or the status that the header `x-status` asks for, and counts its calls.
fn inner(
    calls: &Calls,
) -> impl Service<Request<()>, Response = Response<Bytes>, Error = Infallible, Future: Send>
+ Clone
+ use<> {
    let calls = calls.clone();
    service_fn(move |request: Request<()>| {
        calls.add();
        let status = request
            .headers()
            .get("x-status")
            .map_or(StatusCode::OK, |status| {
                StatusCode::from_bytes(status.as_bytes()).unwrap()
            });
        let mut response = Response::new(Bytes::from_static(b"inner"));
        *response.status_mut() = status;
        std::future::ready(Ok(response))
    })
}

async fn ask(policy: &RateLimitPolicy, request: Request<()>) -> Response<Bytes> {
    let layer = RateLimitLayer::by_address(policy.clone());
    let answer: Answer = layer.layer(inner(&Calls::default())).oneshot(request).await;
    answer.unwrap()
}

/// Through both places, as in a full stack.
async fn ask_both(policy: &RateLimitPolicy, request: Request<()>) -> Response<Bytes> {
    let by_caller = RateLimitLayer::by_caller(policy.clone()).layer(inner(&Calls::default()));
    let stack = RateLimitLayer::by_address(policy.clone()).layer(by_caller);
    stack.oneshot(request).await.unwrap()
}

fn asking(status: &'static str) -> Request<()> {
    let mut request = get("/");
    let status = HeaderValue::from_static(status);
    request.headers_mut().insert("x-status", status);
    request
}

#[tokio::test]
async fn request_number_max_passes_and_the_next_is_refused_until_the_window_ends() {
    let (policy, clock) = policy(RateLimitConfig {
        window_ms: 900_000,
        message: "Too many requests from this IP, please try again later.".to_owned(),
        ..config(2)
    });
    let mut refused_request = get("/");
    let id = RequestId::from_header(HeaderValue::from_static("r-1")).unwrap();
    refused_request.extensions_mut().insert(id);

    let first = ask(&policy, get("/")).await;
    assert_eq!(first.status(), 200);
    assert_eq!(header(&first, "ratelimit-policy"), "2;w=900");
    assert_eq!(header(&first, "ratelimit-limit"), "2");
    assert_eq!(header(&first, "ratelimit-remaining"), "1");
    assert_eq!(header(&first, "ratelimit-reset"), "900");
    assert_eq!(header(&first, "retry-after"), "(none)");
    assert_eq!(header(&first, "x-ratelimit-limit"), "(none)");

    clock.advance(Duration::from_millis(27_500));
    let second = ask(&policy, get("/x")).await;
    assert_eq!(header(&second, "ratelimit-remaining"), "0");
    assert_eq!(header(&second, "ratelimit-reset"), "873");

    let third = ask(&policy, refused_request).await;
    assert_eq!(third.status(), 429);
    assert_eq!(header(&third, "retry-after"), "873");
    assert_eq!(header(&third, "ratelimit-remaining"), "0");
    assert_eq!(header(&third, "ratelimit-reset"), "873");
    let kind = third.extensions().get::<Rejection>().unwrap().kind();
    assert_eq!(kind, RejectionKind::RateLimited);
    let body: serde_json::Value = serde_json::from_slice(third.body()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "statusCode": 429,
            "message": "Too many requests from this IP, please try again later.",
            "error": "Too Many Requests",
            "requestId": "r-1",
        })
    );

    // Refused requests do not prolong the window.
    clock.advance(Duration::from_millis(872_500));
    let fourth = ask(&policy, get("/")).await;
    assert_eq!(header(&fourth, "ratelimit-remaining"), "1");
}

#[tokio::test]
async fn a_refused_request_never_reaches_the_inner_service() {
    let (policy, _) = policy(config(1));
    let calls = Calls::default();
    let service = RateLimitLayer::by_address(policy).layer(inner(&calls));
    for _ in 0..5 {
        service.clone().oneshot(get("/")).await.unwrap();
    }
    assert_eq!(calls.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_at_once_are_not_one_too_many() {
    let (policy, _) = policy(config(100));
    let calls = Calls::default();
    let service = RateLimitLayer::by_address(policy).layer(inner(&calls));
    let start = Arc::new(tokio::sync::Barrier::new(200));
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (service, start) = (service.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                service.oneshot(get("/")).await.unwrap().status()
            })
        })
        .collect();
    let mut passed = 0;
    for task in tasks {
        passed += usize::from(task.await.unwrap() == StatusCode::OK);
    }
    assert_eq!((passed, calls.count()), (100, 100));
}

#[tokio::test]
async fn addresses_are_counted_apart_and_networks_together() {
    let (policy, _) = policy(config(10));
    for _ in 0..10 {
        assert_eq!(ask(&policy, get("/")).await.status(), 200);
    }
    // All spellings of one host are one client.
    for ip in ["192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207"] {
        assert_eq!(ask(&policy, request("GET", "/", ip)).await.status(), 429);
    }
    let other = ask(&policy, request("GET", "/", "::ffff:192.0.2.8")).await;
    assert_eq!(other.status(), 200);
    // A thousand sources inside of one /64 are one client as well.
    let mut passed = 0;
    for host in 0..1000 {
        let ip = format!("2001:db8:1:2::{host:x}");
        passed += usize::from(ask(&policy, request("GET", "/", &ip)).await.status() == 200);
    }
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn headers_that_a_client_writes_change_nothing() {
    let (policy, _) = policy(config(10));
    let mut passed = 0;
    for host in 0..1000 {
        let mut request = get("/");
        let claim = format!("198.51.{}.{}", host / 250, host % 250);
        for name in [
            "x-forwarded-for",
            "x-real-ip",
            "true-client-ip",
            "forwarded",
        ] {
            request.headers_mut().insert(name, claim.parse().unwrap());
        }
        passed += usize::from(ask(&policy, request).await.status() == 200);
    }
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn requests_without_a_known_address_share_one_counter() {
    let (policy, _) = policy(config(1));
    assert_eq!(ask(&policy, Request::new(())).await.status(), 200);
    assert_eq!(ask(&policy, Request::new(())).await.status(), 429);
    assert_eq!(ask(&policy, get("/")).await.status(), 200);
}

#[tokio::test]
async fn a_policy_that_is_off_leaves_everything_alone() {
    let disabled = RateLimitConfig {
        enabled: false,
        denylist: vec!["192.0.2.7".to_owned()],
        ..config(0)
    };
    for policy in [RateLimitPolicy::off(), policy(disabled).0] {
        let response = ask_both(&policy, get("/")).await;
        assert_eq!(response.status(), 200);
        assert!(response.headers().is_empty());
    }
}

#[tokio::test]
async fn lists_of_addresses() {
    let (policy, _) = policy(RateLimitConfig {
        allowlist: vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()],
        denylist: vec!["10.6.6.0/24".to_owned()],
        rules: vec![rule(KeyOf::User, "/**", 0)],
        ..config(0)
    });
    for (ip, status) in [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("2001:db8:9::1", 200),
        ("10.6.6.6", 403),
        ("::ffff:10.6.6.6", 403),
        ("192.0.2.7", 429),
    ] {
        let response = ask_both(&policy, request("GET", "/", ip)).await;
        assert_eq!(response.status(), status, "{ip}");
        assert_eq!(
            response.headers().contains_key("ratelimit-limit"),
            status == 429,
            "{ip}"
        );
        let kind = response
            .extensions()
            .get::<Rejection>()
            .map(Rejection::kind);
        assert_eq!(
            kind == Some(RejectionKind::DeniedAddress),
            status == 403,
            "{ip}"
        );
    }
}

#[tokio::test]
async fn exempt_paths_are_exact_and_for_reading_only() {
    let (policy, _) = policy(RateLimitConfig {
        denylist: vec!["10.6.6.6".to_owned()],
        ..config(0)
    });
    let policy = policy.exempt(["/health", "/ready"]);
    for (method, uri, status) in [
        ("GET", "/health", 200),
        ("HEAD", "/ready", 200),
        ("GET", "/health?x=1", 200),
        ("POST", "/health", 429),
        ("GET", "/health/", 429),
        ("GET", "/Health", 429),
        ("GET", "/%68ealth", 429),
        ("GET", "/v1?/health", 429),
    ] {
        let response = ask(&policy, request(method, uri, "192.0.2.7")).await;
        assert_eq!(response.status(), status, "{method} {uri}");
    }
    let denied = ask(&policy, request("GET", "/health", "10.6.6.6")).await;
    assert_eq!(denied.status(), 403);
}

#[tokio::test]
async fn rules_hold_for_their_paths_and_methods_in_addition() {
    let mut images = rule(KeyOf::Ip, "/v1/images/**", 1);
    images.methods = Some(vec!["GET".to_owned()]);
    images.window_ms = Some(1000);
    let (policy, clock) = policy(RateLimitConfig {
        rules: vec![images],
        ..config(5)
    });
    let first = ask(&policy, get("/v1/images/x")).await;
    // The rule is the tighter limit, so it is the one that is shown.
    assert_eq!(header(&first, "ratelimit-policy"), "1;w=1");
    assert_eq!(header(&first, "ratelimit-remaining"), "0");
    for (method, uri, status) in [
        ("GET", "/v1/images/y", 429),
        ("HEAD", "/v1/%69mages", 429),
        ("POST", "/v1/images/x", 200),
    ] {
        let response = ask(&policy, request(method, uri, "192.0.2.7")).await;
        assert_eq!(response.status(), status, "{method} {uri}");
    }
    // Five were counted by the general limit, the refused ones too.
    clock.advance(Duration::from_secs(1));
    let fifth = ask(&policy, get("/v1/images/x")).await;
    assert_eq!(fifth.status(), 200);
    let sixth = ask(&policy, get("/")).await;
    assert_eq!(sixth.status(), 429);
    assert_eq!(header(&sixth, "ratelimit-policy"), "5;w=60");
    assert_eq!(header(&sixth, "retry-after"), "59");
}

#[tokio::test]
async fn users_and_targets_have_counters_of_their_own() {
    let (policy, _) = policy(RateLimitConfig {
        rules: vec![
            rule(KeyOf::User, "/**", 3),
            rule(KeyOf::Target, "/v1/**", 1),
        ],
        ..config(100)
    });
    let policy = policy.with_targets([TargetRoute::by_header("/v1/", ["a", "b", "aa"])]);
    for (user, target, uri, status) in [
        ("ann", "a", "/v1/x", 200),
        ("ann", "a", "/v1/x", 429),
        // What was refused counted for the user as well.
        ("ann", "b", "/v1/x", 200),
        ("ann", "b", "/other", 429),
        ("bob", "a", "/v1/x", 200),
        ("anna", "", "/v1/x", 200),
        ("ann", "aa", "/v1/x", 429),
    ] {
        let request = with_target(with_user(get(uri), user), target);
        let response = ask_both(&policy, request).await;
        assert_eq!(response.status(), status, "{user} {target} {uri}");
    }
}

#[tokio::test]
async fn made_up_targets_make_no_counters() {
    let (policy, _) = policy(RateLimitConfig {
        rules: vec![rule(KeyOf::Target, "/**", 1)],
        ..config(100)
    });
    let policy = policy.with_targets([TargetRoute::by_header("/v1/", ["only"])]);
    let ask = async |uri: &str, target: &str| {
        let request = with_target(with_user(get(uri), "ann"), target);
        ask_both(&policy, request).await.status().as_u16()
    };
    assert_eq!(ask("/v1/x", "only").await, 200);
    let without = with_user(get("/v1/x"), "ann");
    assert_eq!(ask_both(&policy, without).await.status(), 429);
    assert_eq!(ask("/v1/x", "made-up").await, 200);
    assert_eq!(ask("/v1/x", "made-up-2").await, 429);
    assert_eq!(ask("/auth/whoami", "made-up").await, 200);
    assert_eq!(ask("/auth/whoami", "made-up-2").await, 429);
}

#[tokio::test]
async fn where_no_user_is_known_the_address_counts() {
    let (policy, _) = policy(RateLimitConfig {
        rules: vec![rule(KeyOf::User, "/**", 1), rule(KeyOf::Target, "/t", 1)],
        ..config(100)
    });
    assert_eq!(ask_both(&policy, get("/")).await.status(), 200);
    assert_eq!(ask_both(&policy, get("/")).await.status(), 429);
    let other = || request("GET", "/", "192.0.2.8");
    assert_eq!(ask_both(&policy, other()).await.status(), 200);
}

#[tokio::test]
async fn of_both_places_the_limit_with_less_left_is_shown() {
    for (style, name, by_user, by_ip) in [
        (StandardHeaders::Draft6, "ratelimit-remaining", "1", "0"),
        (
            StandardHeaders::Draft7,
            "ratelimit",
            "limit=2, remaining=1, reset=60",
            "limit=4, remaining=0, reset=60",
        ),
        (StandardHeaders::Off, "x-ratelimit-remaining", "1", "0"),
    ] {
        let (policy, _) = policy(RateLimitConfig {
            standard_headers: style,
            legacy_headers: style == StandardHeaders::Off,
            rules: vec![rule(KeyOf::User, "/**", 2)],
            ..config(4)
        });
        let first = ask_both(&policy, with_user(get("/"), "ann")).await;
        assert_eq!(header(&first, name), by_user);
        for user in ["bob", "cid"] {
            ask_both(&policy, with_user(get("/"), user)).await;
        }
        let last = ask_both(&policy, with_user(get("/"), "dan")).await;
        assert_eq!(header(&last, name), by_ip);
        assert_eq!(last.headers().get_all(name).iter().count(), 1);
    }
}

#[tokio::test]
async fn draft_8_lists_every_limit() {
    let (policy, _) = policy(RateLimitConfig {
        standard_headers: StandardHeaders::Draft8,
        identifier: Some("hub".to_owned()),
        rules: vec![rule(KeyOf::User, "/**", 2), rule(KeyOf::Ip, "/x", 3)],
        ..config(4)
    });
    let response = ask_both(&policy, with_user(get("/x"), "ann")).await;
    let all = |name| {
        let values = response.headers().get_all(name).iter();
        values
            .map(|v| v.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        all("ratelimit"),
        [
            "\"2-in-1min\"; r=1; t=60",
            "\"3-in-1min\"; r=2; t=60",
            "\"hub\"; r=3; t=60"
        ]
    );
    let policies = all("ratelimit-policy");
    assert!(
        policies[0].starts_with("\"2-in-1min\"; q=2; w=60; pk=:"),
        "{policies:?}"
    );
    assert_eq!(policies.len(), 3);
}

#[tokio::test]
async fn fields_of_an_upstream_do_not_survive() {
    for standard in [StandardHeaders::Draft6, StandardHeaders::Draft8] {
        let (policy, _) = policy(RateLimitConfig {
            standard_headers: standard,
            rules: vec![rule(KeyOf::User, "/only-here", 9)],
            ..config(4)
        });
        let upstream = service_fn(async |_: Request<()>| {
            let response = Response::builder()
                .header("ratelimit-remaining", "0")
                .header("ratelimit", "\"theirs\"; r=0; t=1")
                .header("ratelimit", "\"theirs too\"; r=0; t=1")
                .header("ratelimit-policy", "theirs");
            Ok::<_, Infallible>(response.body(Bytes::new()).unwrap())
        });
        let by_caller = RateLimitLayer::by_caller(policy.clone()).layer(upstream);
        let stack = RateLimitLayer::by_address(policy).layer(by_caller);
        let response = stack.oneshot(get("/")).await.unwrap();
        if standard == StandardHeaders::Draft6 {
            assert_eq!(header(&response, "ratelimit-remaining"), "3");
        } else {
            assert_eq!(header(&response, "ratelimit"), "\"4-in-1min\"; r=3; t=60");
            assert_eq!(response.headers().get_all("ratelimit").iter().count(), 1);
        }
        assert!(!header(&response, "ratelimit-policy").contains("theirs"));
    }
}

#[tokio::test]
async fn numbers_of_an_upstream_are_not_taken_for_ours() {
    const NAMES: [&str; 8] = [
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ];
    let upstream = service_fn(async |_: Request<()>| {
        let mut response = Response::new(Bytes::new());
        for name in NAMES {
            for value in ["9999", "9998"] {
                let value = HeaderValue::from_static(value);
                response.headers_mut().append(name, value);
            }
        }
        let other = HeaderValue::from_static("150000");
        response
            .headers_mut()
            .insert("x-ratelimit-limit-tokens", other);
        Ok::<_, Infallible>(response)
    });
    use StandardHeaders::{Draft6, Draft7, Draft8, Off};
    for standard in [Off, Draft6, Draft7, Draft8] {
        for legacy in [false, true] {
            for rules in [vec![], vec![rule(KeyOf::User, "/**", 9)]] {
                let (policy, _) = policy(RateLimitConfig {
                    standard_headers: standard,
                    legacy_headers: legacy,
                    rules,
                    ..config(4)
                });
                let by_caller = RateLimitLayer::by_caller(policy.clone()).layer(upstream);
                let stack = RateLimitLayer::by_address(policy).layer(by_caller);
                let response = stack.oneshot(get("/")).await.unwrap();
                let expected = match standard {
                    Off => 0,
                    Draft6 => 4,
                    _ => 2,
                } + if legacy { 3 } else { 0 };
                let headers = response.headers();
                let sent = NAMES.iter().filter(|name| headers.contains_key(**name));
                assert_eq!(sent.count(), expected, "{standard:?} {legacy}");
                for (name, value) in headers {
                    let value = value.to_str().unwrap();
                    assert!(!value.contains("999"), "{name}: {value}");
                }
                assert_eq!(headers["x-ratelimit-limit-tokens"], "150000");
            }
        }
    }
    // Without a limit they tell about the provider's.
    for policy in [
        RateLimitPolicy::off(),
        policy(RateLimitConfig {
            allowlist: vec!["192.0.2.0/24".to_owned()],
            ..config(4)
        })
        .0,
    ] {
        let stack = RateLimitLayer::by_address(policy).layer(upstream);
        let response = stack.oneshot(get("/")).await.unwrap();
        assert_eq!(response.headers().len(), 17);
    }
}

#[tokio::test]
async fn requests_that_are_not_to_count() {
    // The answers in turn, and what is left after each; `-` is a refusal.
    for (failed, successful, steps) in [
        (
            false,
            false,
            [("200", "1"), ("500", "0"), ("200", "-"), ("200", "-")],
        ),
        (
            true,
            false,
            [("400", "1"), ("200", "1"), ("500", "0"), ("200", "0")],
        ),
        (
            false,
            true,
            [("200", "1"), ("399", "1"), ("400", "1"), ("404", "0")],
        ),
    ] {
        let (policy, _) = policy(RateLimitConfig {
            skip_failed_requests: failed,
            skip_successful_requests: successful,
            ..config(2)
        });
        for (step, (status, left)) in steps.into_iter().enumerate() {
            let response = ask(&policy, asking(status)).await;
            let told = match response.extensions().get::<Rejection>() {
                Some(_) => "-",
                None => header(&response, "ratelimit-remaining"),
            };
            assert_eq!(told, left, "{failed} {successful} step {step}");
        }
    }
}

#[tokio::test]
async fn an_error_of_the_inner_service_is_a_failed_request_and_passes_untouched() {
    let (policy, _) = policy(RateLimitConfig {
        skip_failed_requests: true,
        ..config(1)
    });
    let failing = service_fn(async |_: Request<()>| Err::<Response<Bytes>, _>("broken"));
    let service = RateLimitLayer::by_address(policy.clone()).layer(failing);
    for _ in 0..3 {
        assert_eq!(
            service.clone().oneshot(get("/")).await.unwrap_err(),
            "broken"
        );
    }
    assert_eq!(ask(&policy, get("/")).await.status(), 200);
}

#[tokio::test]
async fn a_request_that_its_client_gives_up_stays_counted() {
    let (policy, _) = policy(RateLimitConfig {
        skip_failed_requests: true,
        ..config(1)
    });
    let hanging =
        service_fn(|_: Request<()>| std::future::pending::<Result<Response<Bytes>, Infallible>>());
    let mut service = RateLimitLayer::by_address(policy.clone()).layer(hanging);
    drop(service.call(get("/")));
    assert_eq!(ask(&policy, get("/")).await.status(), 429);
}

#[tokio::test]
async fn with_all_fields_off_a_refusal_is_silent_too() {
    let (policy, _) = policy(RateLimitConfig {
        standard_headers: StandardHeaders::Off,
        status_code: 503,
        ..config(0)
    });
    let response = ask(&policy, get("/")).await;
    assert_eq!(response.status(), 503);
    let mut names: Vec<_> = response
        .headers()
        .keys()
        .map(|name| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-type"]);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.kind(), RejectionKind::RateLimited);
}

#[tokio::test]
async fn legacy_fields_and_the_epoch_format_hold_times() {
    let (policy, _) = policy(RateLimitConfig {
        legacy_headers: true,
        reset_format: ResetFormat::Epoch,
        ..config(4)
    });
    let response = ask(&policy, get("/")).await;
    assert_eq!(header(&response, "x-ratelimit-limit"), "4");
    assert_eq!(header(&response, "x-ratelimit-remaining"), "3");
    assert_eq!(header(&response, "x-ratelimit-reset"), "1767225660");
    assert_eq!(header(&response, "ratelimit-reset"), "1767225660");
}

#[tokio::test]
async fn refusals_are_rendered_as_the_embedder_wants() {
    let (policy, _) = policy(config(0));
    let render = |rejection: &Rejection, _: Option<&RequestId>| {
        let text = Bytes::from(rejection.message().to_owned());
        let mut response = Response::new(text);
        *response.status_mut() = rejection.status();
        response
    };
    let layer = RateLimitLayer::by_address(policy).rendering(render);
    let response = layer
        .layer(inner(&Calls::default()))
        .oneshot(get("/"))
        .await;
    let response = response.unwrap();
    assert_eq!(
        response.body(),
        "Too many requests, please try again later."
    );
    assert_eq!(header(&response, "retry-after"), "60");
    assert_eq!(header(&response, "ratelimit-limit"), "0");
}

/// Collects events as `target name=value …`.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields<'a>(&'a mut String);
        impl tracing::field::Visit for Fields<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let metadata = event.metadata();
        let mut line = format!("{} {}", metadata.level(), metadata.target());
        event.record(&mut Fields(&mut line));
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn refusals_are_security_events() {
    let events = Events::default();
    // While there is one dispatcher only, tracing asks the thread that comes first to a call site, which may
    // be that of another test.
    let _second = tracing::Dispatch::new(Events::default());
    let _guard = tracing::subscriber::set_default(events.clone());
    let (policy, _) = policy(RateLimitConfig {
        denylist: vec!["10.6.6.6".to_owned()],
        ..config(1)
    });
    let id = RequestId::from_header(HeaderValue::from_static("r-1")).unwrap();
    for ip in ["192.0.2.7", "192.0.2.7", "10.6.6.6"] {
        let mut request = request("GET", "/", ip);
        request.extensions_mut().insert(id.clone());
        ask(&policy, request).await;
    }
    assert_eq!(
        *events.0.lock().unwrap(),
        [
            "WARN security message=A request over the rate limit was refused event=\"rate_limited\" ip=192.0.2.7 \
             requestId=\"r-1\" by=\"ip\" limit=1",
            "WARN security message=A request from an address on the deny list was refused \
             event=\"denied_address\" ip=10.6.6.6 requestId=\"r-1\"",
        ]
    );
}

#[tokio::test]
async fn counters_outlive_the_policy() {
    let rules = || vec![rule(KeyOf::Ip, "/a", 1), rule(KeyOf::Ip, "/b", 1)];
    let (old, clock) = policy(RateLimitConfig {
        rules: rules(),
        ..config(100)
    });
    assert_eq!(ask(&old, get("/b")).await.status(), 200);
    // The rule has moved up, and the general limit has changed.
    let config = RateLimitConfig {
        rules: rules().split_off(1),
        ..config(50)
    };
    let new = RateLimitPolicy::with_counters(config, old.counters()).unwrap();
    let new = new.with_clock(clock);
    assert_eq!(ask(&new, get("/b")).await.status(), 429);
    let other = ask(&new, get("/a")).await;
    assert_eq!(header(&other, "ratelimit-remaining"), "47");
}
