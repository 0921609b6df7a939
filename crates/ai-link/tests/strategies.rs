//! Several providers under one name.

#![allow(
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use http::{Request, StatusCode};
use proactions_ai_link::{AiLink, Breakers, TargetConfig, Targets};
use proactions_forward::{Body, HttpClient, HttpClientConfig};
use proactions_testkit::{Gate, Reply, Step, Upstream, closed_address};
use serde_json::{Value, json};
use support::{Events, json, post, send, text};

const CHAT: &str = "/v1/chat/completions";

fn targets(target: Value) -> Targets {
    let target: TargetConfig = serde_json::from_value(target).unwrap();
    Targets::try_from(vec![target]).unwrap()
}

fn client() -> HttpClient {
    HttpClient::without_tls(&HttpClientConfig::default())
}

/// A target `main` with this strategy.
fn main(config: Value) -> AiLink {
    AiLink::new(targets(json!({"id": "main", "config": config})), client())
}

fn openai(upstream: &Upstream) -> Value {
    json!({"provider": "openai", "api_key": "k", "endpoint": upstream.url("/v1")})
}

fn with(mut target: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        target[key] = value.clone();
    }
    target
}

fn fallback(targets: &[Value]) -> AiLink {
    main(json!({"strategy": {"mode": "fallback"}, "targets": targets}))
}

async fn content(service: &AiLink, request: Request<Body>) -> String {
    let answer = send(service, request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = json(answer).await;
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn the_second_answers_where_the_first_fails_and_the_log_tells_both() {
    let good = Upstream::start(Reply::chat("second"));
    let nonsense = Upstream::nonsense();
    let away = Upstream::start(Reply::redirect(302, "http://127.0.0.1:1/"));
    let status = |status| Upstream::start(Reply::error(status));
    let (limited, broken, overloaded) = (status(429), status(500), status(529));
    let dead = format!("http://{}/v1", closed_address());
    for (first, code, outcome) in [
        (
            json!({"provider": "openai", "api_key": "k", "endpoint": dead}),
            "502",
            "upstream_unreachable",
        ),
        (openai(&nonsense), "502", "upstream_error"),
        (openai(&away), "502", "upstream_error"),
        (openai(&limited), "429", "upstream_status"),
        (openai(&broken), "500", "upstream_status"),
        (openai(&overloaded), "529", "upstream_status"),
    ] {
        let (events, _guard) = Events::capture();
        let service = fallback(&[first, openai(&good)]);
        let request = post(CHAT, r#"{"model":"m"}"#);
        assert_eq!(content(&service, request).await, "second", "{outcome}");
        let events = events.all();
        assert_eq!(events.len(), 2, "{events:?}");
        for (event, expected) in events.iter().zip([
            [
                ("level", "WARN"),
                ("target", "main"),
                ("targetPath", "main/0"),
                ("attempt", "1"),
                ("provider", "openai"),
                ("model", "m"),
                ("statusCode", code),
                ("outcome", outcome),
            ],
            [
                ("level", "INFO"),
                ("target", "main"),
                ("targetPath", "main/1"),
                ("attempt", "2"),
                ("provider", "openai"),
                ("model", "stand-in"),
                ("statusCode", "200"),
                ("totalTokens", "15"),
            ],
        ]) {
            for (field, value) in expected {
                assert_eq!(event[field], value, "{field} of {event:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_slow_provider_gives_way_after_its_own_time() {
    let slow = Upstream::start(Reply::silence());
    let good = Upstream::start(Reply::chat("second"));
    // The pool connects before the clock stands still.
    let service = fallback(&[
        with(openai(&slow), json!({"request_timeout": 150})),
        openai(&good),
    ]);
    assert_eq!(content(&service, post(CHAT, "{}")).await, "second");
    assert_eq!(slow.request_count(), 1);
}

#[tokio::test]
async fn what_is_the_requests_own_fault_goes_no_further() {
    let second = Upstream::start(Reply::chat("second"));
    for status in [400, 401, 403, 404, 413, 422] {
        let first = Upstream::start(Reply::error(status));
        let service = fallback(&[openai(&first), openai(&second)]);
        assert_eq!(send(&service, post(CHAT, "{}")).await.status(), status);
    }
    let first = Upstream::start(Reply::error(404));
    let service = main(json!({
        "strategy": {"mode": "fallback", "on_status_codes": [404]},
        "targets": [openai(&first), openai(&second)],
    }));
    assert_eq!(send(&service, post(CHAT, "{")).await.status(), 400);
    assert_eq!(second.request_count(), 0);
    assert_eq!(content(&service, post(CHAT, "{}")).await, "second");
}

#[tokio::test]
async fn the_last_answer_counts_where_all_fail() {
    let first = Upstream::start(Reply::error(500));
    let second = Upstream::start(Reply::error(429).with_header("retry-after", "7"));
    let service = fallback(&[openai(&first), openai(&second)]);
    let answer = send(&service, post(CHAT, "{}")).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert!(json(answer).await["error"].is_object());
}

#[tokio::test]
async fn each_provider_gets_its_own_key_options_and_overrides() {
    let first = Upstream::start(Reply::error(500));
    let second = Upstream::start(Reply::chat("second"));
    let service = AiLink::new(
        targets(json!({
            "id": "main",
            "options": {"temperature": 0.5, "model": "default"},
            "headers": {"x-team": "desk"},
            "config": {"strategy": {"mode": "fallback"}, "targets": [
                with(openai(&first), json!({"override_params": {"model": "one"}})),
                with(openai(&second), json!({
                    "api_key": "k2", "override_params": {"model": "two"}, "headers": {"X-Team": "own"},
                })),
            ]},
        })),
        client(),
    );
    let mut request = post(CHAT, r#"{"model":"asked", "n":1.0}"#);
    request
        .headers_mut()
        .insert("openai-beta", "b".parse().unwrap());
    assert_eq!(content(&service, request).await, "second");
    let (one, two) = (first.last_request(), second.last_request());
    assert_eq!(one.body, r#"{"n":1.0,"temperature":0.5,"model":"one"}"#);
    assert_eq!(two.body, r#"{"n":1.0,"temperature":0.5,"model":"two"}"#);
    assert_eq!(one.header("authorization"), Some("Bearer k"));
    assert_eq!(two.header("authorization"), Some("Bearer k2"));
    assert_eq!(one.header("x-team"), Some("desk"));
    assert_eq!(two.header("x-team"), Some("own"));
    for received in [one, two] {
        assert_eq!(received.header("openai-beta"), Some("b"));
    }
}

#[tokio::test]
async fn load_is_shared_by_weight() {
    let heavy = Upstream::start(Reply::chat("heavy"));
    let light = Upstream::start(Reply::chat("light"));
    let never = Upstream::start(Reply::chat("never"));
    let service = main(json!({"strategy": {"mode": "loadbalance"}, "targets": [
        with(openai(&heavy), json!({"weight": 3})),
        with(openai(&never), json!({"weight": 0})),
        with(openai(&light), json!({"weight": 1})),
    ]}));
    for _ in 0..200 {
        text(send(&service, post(CHAT, "{}")).await).await;
    }
    let (heavy, light) = (heavy.request_count(), light.request_count());
    assert_eq!((heavy + light, never.request_count()), (200, 0));
    assert!(heavy.abs_diff(150) <= 4, "{heavy} of 200");
}

#[tokio::test]
async fn a_call_is_repeated_with_pauses_where_asked() {
    let upstream = {
        let count = std::sync::atomic::AtomicUsize::new(0);
        Upstream::serve(
            move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::error(503).with_header("retry-after", "3"),
                1 => Reply::error(500),
                _ => Reply::chat("third"),
            },
        )
    };
    let (events, _guard) = Events::capture();
    let service = main(json!({"retry": {"attempts": 2}, "targets": [openai(&upstream)]}));
    let before = tokio::time::Instant::now();
    let call = tokio::spawn({
        let service = service.clone();
        async move { content(&service, post(CHAT, "{}")).await }
    });
    upstream.until_requests(1).await;
    // Once the first answer is there, the only thing to wait for is the clock.
    events.until(1).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(upstream.request_count(), 1, "Retry-After is kept to");
    tokio::time::advance(Duration::from_millis(1200)).await;
    tokio::time::resume();
    upstream.until_requests(2).await;
    events.until(2).await;
    assert_eq!(call.await.unwrap(), "third");
    assert!(before.elapsed() >= Duration::from_secs(3));
    let outcomes: Vec<_> = events
        .all()
        .iter()
        .map(|event| (event["attempt"].clone(), event["targetPath"].clone()))
        .collect();
    let path = "main/0".to_owned();
    assert_eq!(
        outcomes,
        ["1", "2", "3"].map(|attempt| (attempt.to_owned(), path.clone()))
    );
}

#[tokio::test]
async fn no_repetition_outlasts_the_time_of_the_provider() {
    let upstream = Upstream::start(Reply::error(503).with_header("retry-after", "30"));
    let silent = Upstream::start(Reply::silence());
    for (target, status) in [
        (
            with(openai(&upstream), json!({"request_timeout": 20000})),
            503,
        ),
        (with(openai(&silent), json!({"request_timeout": 100})), 504),
    ] {
        let service = main(json!({"retry": {"attempts": 5}, "targets": [target]}));
        assert_eq!(send(&service, post(CHAT, "{}")).await.status(), status);
    }
    assert_eq!((upstream.request_count(), silent.request_count()), (1, 1));
}

#[tokio::test]
async fn a_form_is_sent_once_it_was_begun_and_elsewhere_before() {
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--b--\r\n";
    let request = || {
        Request::post("/v1/audio/transcriptions")
            .header("content-type", "multipart/form-data; boundary=b")
            .body(Body::from(form))
            .unwrap()
    };
    let good = Upstream::start(Reply::json(200, &json!({"text": "hi"})));
    let dead = json!({
        "provider": "openai", "api_key": "k", "endpoint": format!("http://{}/v1", closed_address()),
    });
    let service = fallback(&[dead, openai(&good)]);
    let answer = send(&service, request()).await;
    assert_eq!(json(answer).await["text"], "hi");
    assert_eq!(good.last_request().body, form);
    let length = form.len().to_string();
    let received = good.last_request();
    assert_eq!(received.header("content-length"), Some(length.as_str()));

    let broken = Upstream::start(Reply::error(500));
    let service = fallback(&[openai(&broken), openai(&good)]);
    assert_eq!(send(&service, request()).await.status(), 500);
    assert_eq!(good.request_count(), 1);
}

#[tokio::test]
async fn usage_and_model_are_in_the_log_for_every_endpoint() {
    let counted = json!({"usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}});
    let upstream = Upstream::serve(move |request| match request.path() {
        "/v1/embeddings" => Reply::embeddings(),
        "/v1/audio/speech" => Reply::bytes(200, "audio/mpeg", &b"\xff\xfb"[..]),
        _ => Reply::json(200, &counted),
    });
    let service = fallback(&[openai(&upstream)]);
    for (path, tokens) in [
        ("/v1/responses", Some("7")),
        ("/v1/images/generations", Some("7")),
        ("/v1/audio/speech", None),
    ] {
        let (events, _guard) = Events::capture();
        text_of(send(&service, post(path, r#"{"model":"m"}"#)).await).await;
        let event = events.only();
        assert_eq!(event["model"], "m", "{path}");
        assert_eq!(
            event.get("totalTokens").map(String::as_str),
            tokens,
            "{path}"
        );
    }
    let (events, _guard) = Events::capture();
    text_of(send(&service, post("/v1/embeddings", r#"{"input":"x"}"#)).await).await;
    assert!(events.only().contains_key("totalTokens"));

    for path in ["/v1/audio/transcriptions", "/v1/audio/translations"] {
        let (events, _guard) = Events::capture();
        let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b--\r\n";
        let request = Request::post(path)
            .header("content-type", "multipart/form-data; boundary=b")
            .body(Body::from(form))
            .unwrap();
        text_of(send(&service, request).await).await;
        let event = events.only();
        assert_eq!(
            (event["model"].as_str(), event["promptTokens"].as_str()),
            ("whisper-1", "3")
        );
    }
}

async fn text_of(answer: http::Response<Body>) {
    use http_body_util::BodyExt;
    answer.into_body().collect().await.unwrap();
}

#[tokio::test]
async fn the_first_that_has_models_lists_them() {
    let none = Upstream::start(Reply::error(404));
    let some = Upstream::start(Reply::models());
    let service = main(json!({"targets": [openai(&none), openai(&some)]}));
    let request = Request::get("/v1/models").body(Body::empty()).unwrap();
    assert_eq!(json(send(&service, request).await).await["object"], "list");
}

#[tokio::test]
async fn a_breaker_opens_fails_fast_and_closes_again() {
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let upstream = Upstream::serve({
        let failing = failing.clone();
        move |_| {
            if failing.load(std::sync::atomic::Ordering::SeqCst) {
                Reply::error(500)
            } else {
                Reply::chat("back")
            }
        }
    });
    let target = || {
        targets(json!({
            "id": "main", "provider": "openai", "apiKey": "k", "endpoint": upstream.url("/v1"),
            "breaker": {"failures": 3, "cooldown": 200},
        }))
    };
    let (events, _guard) = Events::capture();
    let breakers = Breakers::default();
    let service = AiLink::new(target(), client()).breakers(breakers.clone());
    for _ in 0..3 {
        assert_eq!(send(&service, post(CHAT, "{}")).await.status(), 500);
    }
    // A service that takes the place of this one knows it too.
    let service = AiLink::new(target(), client()).breakers(breakers);
    let answer = send(&service, post(CHAT, "{}")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(
        json(answer).await["message"],
        "The target is not available, please try again later."
    );
    assert_eq!(upstream.request_count(), 3);
    let opened = events.all();
    let opened = opened.iter().find(|event| event.contains_key("failures"));
    assert_eq!(opened.unwrap()["target"], "main");
    assert_eq!(events.all().last().unwrap()["outcome"], "breaker_open");

    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(content(&service, post(CHAT, "{}")).await, "back");
    assert_eq!(content(&service, post(CHAT, "{}")).await, "back");
}

/// The status that an upload gets whose client has stopped sending.
fn stalled_upload(service: &AiLink) -> tokio::task::JoinHandle<StatusCode> {
    let stalled = Request::post("/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Body::new(Stalled))
        .unwrap();
    let service = service.clone();
    tokio::spawn(async move { send(&service, stalled).await.status() })
}

#[tokio::test]
async fn a_client_that_stalls_does_not_open_a_breaker() {
    let upstream = Upstream::start(Reply::chat("good"));
    let service = AiLink::new(
        targets(json!({
            "id": "main", "provider": "openai", "apiKey": "k", "endpoint": upstream.url("/v1"),
            "requestTimeout": 1000, "breaker": {"failures": 1},
        })),
        client(),
    );
    let call = stalled_upload(&service);
    upstream.until_requests(1).await;
    tokio::time::pause();
    assert_eq!(call.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
    tokio::time::resume();
    assert_eq!(content(&service, post(CHAT, "{}")).await, "good");
}

#[tokio::test]
async fn a_client_that_stalls_after_a_retry_does_not_open_a_breaker() {
    let address = closed_address();
    let service = main(json!({"retry": {"attempts": 1}, "targets": [{
        "provider": "openai", "api_key": "k", "endpoint": format!("http://{address}/v1"),
        "request_timeout": 10000, "breaker": {"failures": 2},
    }]}));
    let (events, _guard) = Events::capture();
    let call = stalled_upload(&service);
    // The first attempt is refused.
    events.until(1).await;
    let upstream = Upstream::builder().at(address).start(Reply::chat("good"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(500)).await;
    tokio::time::resume();
    upstream.until_requests(1).await;
    tokio::time::pause();
    assert_eq!(call.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
    tokio::time::resume();
    assert_eq!(content(&service, post(CHAT, "{}")).await, "good");
}

#[tokio::test]
async fn a_long_body_has_its_time_after_a_retry_too() {
    let gate = Gate::closed();
    let upstream = {
        let (count, gate) = (std::sync::atomic::AtomicUsize::new(0), gate.clone());
        Upstream::serve(
            move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::error(503),
                _ => Reply::chat("second").before_head(Step::Wait(gate.clone())),
            },
        )
    };
    let service = main(json!({"retry": {"attempts": 1}, "targets": [
        with(openai(&upstream), json!({"request_timeout": 10000})),
    ]}));
    // Eight seconds' worth.
    let body = format!(r#"{{"user":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let (events, _guard) = Events::capture();
    let call = tokio::spawn({
        let service = service.clone();
        async move { content(&service, post(CHAT, body)).await }
    });
    events.until(1).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(500)).await;
    tokio::time::resume();
    upstream.until_requests(2).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(12)).await;
    tokio::time::resume();
    gate.open();
    assert_eq!(call.await.unwrap(), "second");
}

/// A body of which nothing comes.
struct Stalled;

impl http_body::Body for Stalled {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_passed_over() {
    let down = Upstream::start(Reply::error(503));
    let good = Upstream::start(Reply::chat("good"));
    for mode in ["fallback", "loadbalance"] {
        let down_before = down.request_count();
        let service = main(json!({"strategy": {"mode": mode}, "targets": [
            with(openai(&down), json!({"breaker": {"failures": 1, "cooldown": 60000}})),
            openai(&good),
        ]}));
        for _ in 0..20 {
            text(send(&service, post(CHAT, "{}")).await).await;
        }
        assert_eq!(down.request_count(), down_before + 1, "{mode}");
        assert_eq!(content(&service, post(CHAT, "{}")).await, "good");
    }
}
