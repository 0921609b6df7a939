//! The service between a client and a provider.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use proactions_ai_link::{AiLink, Endpoint, TargetConfig, Targets};
use proactions_edge::{AuthMethod, Principal, Rejection, RequestId, SecretString};
use proactions_forward::{Body, HttpClient, HttpClientConfig};
use proactions_testkit::{Gate, Reply, Step, Upstream, closed_address};
use serde_json::json;
use support::{Events, json, openai, post, send, service, text};
use tower::ServiceExt;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_request_reaches_the_provider_as_it_was_written() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let body = "{\"model\" : \"gpt-4.1\", \"temperature\":0.10, \"big\":12345678901234567890123, \"x\":\"\\u00e9\"}";
    let answer = send(&service, post(CHAT, body)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        json(answer).await["choices"][0]["message"]["content"],
        "hello"
    );
    let received = upstream.last_request();
    assert_eq!(received.target, "/v1/chat/completions");
    assert_eq!(received.body, body);
}

#[tokio::test]
async fn options_go_under_the_request() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let mut target = openai(&upstream.url("/v1"));
    target.options = json!({"model": "default", "temperature": 0.2, "user": "desk"})
        .as_object()
        .unwrap()
        .clone();
    let service = service(vec![target]);
    send(&service, post(CHAT, r#"{"temperature":1}"#)).await;
    assert_eq!(
        upstream.last_request().body,
        r#"{"temperature":1,"model":"default","user":"desk"}"#
    );
}

#[tokio::test]
async fn credentials_and_traces_of_the_client_stay_here() {
    let upstream = Upstream::start(
        Reply::chat("hello")
            .with_header("set-cookie", "a=b")
            .with_header("server", "secret/1")
            .with_header("openai-organization", "org-internal")
            .with_header("access-control-allow-origin", "*")
            .with_header("x-ratelimit-remaining-requests", "9"),
    );
    let mut target = openai(&upstream.url("/v1"));
    target.openai_organization = Some("org-config".to_owned());
    target.headers = [("x-team".to_owned(), SecretString::from("desk"))].into();
    let service = service(vec![target]);
    let mut request = post(CHAT, "{}");
    for (name, value) in [
        ("x-target", "main"),
        ("authorization", "Bearer hub-token"),
        ("cookie", "__Host-proactions_session=s%3Aabc"),
        ("api-key", "hub-token"),
        ("x-api-key", "hub-token"),
        ("x-admin-key", "hub-token"),
        ("x-amz-security-token", "hub-token"),
        ("x-goog-user-project", "evil"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x_team", "evil"),
        ("x-team", "evil"),
        ("openai-organization", "org-evil"),
        ("openai-project", "proj-evil"),
        ("origin", "https://intern.example"),
        ("referer", "https://intern.example/secret"),
        ("sec-fetch-site", "cross-site"),
        ("accept-encoding", "gzip, br"),
        ("x-request-id", "chosen"),
        ("connection", "authorization, x-team"),
        ("openai-beta", "assistants=v2"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let id = RequestId::from_header("r-1".parse().unwrap()).unwrap();
    request.extensions_mut().insert(id);
    let answer = send(&service, request).await;

    let received = upstream.last_request();
    let mut lines = received.header_lines();
    lines.sort_unstable();
    let host = upstream.addr().to_string();
    let lines: Vec<_> = lines
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("accept-encoding", "identity"),
            ("authorization", "Bearer sk-provider"),
            ("content-length", "2"),
            ("content-type", "application/json"),
            ("host", host.as_str()),
            ("openai-beta", "assistants=v2"),
            ("openai-organization", "org-config"),
            ("x-request-id", "r-1"),
            ("x-team", "desk"),
        ]
    );
    assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "9");
    for gone in [
        "set-cookie",
        "server",
        "openai-organization",
        "access-control-allow-origin",
    ] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn x_target_picks_the_target() {
    let one = Upstream::start(Reply::chat("one"));
    let two = Upstream::start(Reply::chat("two"));
    let mut second = openai(&two.url("/v1"));
    second.id = "second".to_owned();
    let service = service(vec![openai(&one.url("/v1")), second]);
    let long = "x".repeat(65);
    for (names, status, told) in [
        (&["main"][..], 200, "one"),
        (&["second"][..], 200, "two"),
        (&[][..], 400, "Header x-target is missing"),
        (&[""][..], 400, "Header x-target is missing"),
        (
            &["main", "main"][..],
            400,
            "Header x-target is given more than once",
        ),
        (
            &["main", "second"][..],
            400,
            "Header x-target is given more than once",
        ),
        (&["xyz"][..], 404, "Target not found: xyz"),
        (&["MAIN"][..], 404, "Target not found: MAIN"),
        (&["main,second"][..], 404, "Target not found: main,second"),
        (
            &["@evil.example"][..],
            404,
            "Target not found: @evil.example",
        ),
        (&["../main"][..], 404, "Target not found: ../main"),
        (&["%2e%2e"][..], 404, "Target not found: %2e%2e"),
        (&["main#"][..], 404, "Target not found: main#"),
        (&["main?x"][..], 404, "Target not found: main?x"),
        (
            &["http://evil.example/"][..],
            404,
            "Target not found: http://evil.example/",
        ),
        (&[long.as_str()][..], 404, "\"Target not found\""),
        (&["a\tb"][..], 404, "\"Target not found\""),
        (&["caf\u{e9}"][..], 404, "\"Target not found\""),
    ] {
        let mut request = post(CHAT, "{}");
        for name in names {
            let value = http::HeaderValue::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append("x-target", value);
        }
        let answer = send(&service, request).await;
        assert_eq!(answer.status(), status, "{names:?}");
        let body = text(answer).await;
        assert!(body.contains(told), "{names:?}: {body}");
    }
    assert_eq!((one.request_count(), two.request_count()), (1, 1));
}

#[tokio::test]
async fn nothing_in_a_request_moves_the_upstream() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let elsewhere = Upstream::start(Reply::chat("evil"));
    let evil = elsewhere.addr().to_string();
    let service = service(vec![openai(&upstream.url("/v1"))]);
    for header in [
        "host",
        "x-forwarded-host",
        "x-portkey-custom-host",
        "x-custom-host",
        "x-host",
        "forwarded",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-prefix",
    ] {
        let mut request = post(
            CHAT,
            format!(r#"{{"api_base":"http://{evil}","base_url":"http://{evil}"}}"#),
        );
        request.headers_mut().insert(header, evil.parse().unwrap());
        assert_eq!(send(&service, request).await.status(), 200, "{header}");
        assert_eq!(
            upstream.last_request().header("host"),
            Some(upstream.addr().to_string().as_str()),
            "{header}"
        );
    }
    for query in ["api-version=evil", "@evil", "host=evil", "a=/../.."] {
        let answer = send(&service, post(&format!("{CHAT}?{query}"), "{}")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(upstream.last_request().target, "/v1/chat/completions");
    }
    for path in [
        "/v1/chat/completions/",
        "/v1/chat/completions/../models",
        "/v1/%63hat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions%2f..",
        "/v1/x",
        "/v1",
        "/",
        "http://evil.example/v1/x",
    ] {
        assert_eq!(
            send(&service, post(path, "{}")).await.status(),
            404,
            "{path}"
        );
    }
    assert_eq!(elsewhere.request_count(), 0);
}

#[tokio::test]
async fn every_endpoint_goes_to_its_path_and_other_methods_are_told_which() {
    let upstream = Upstream::start(Reply::json(200, &json!({})));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    for endpoint in Endpoint::ALL {
        let request = Request::builder()
            .method(endpoint.method())
            .uri(endpoint.path())
            .header(
                "content-type",
                if endpoint.path().ends_with("ions") && endpoint.path().contains("audio") {
                    "multipart/form-data; boundary=b"
                } else {
                    "application/json"
                },
            )
            .body(Body::from("{}"))
            .unwrap();
        assert_eq!(send(&service, request).await.status(), 200, "{endpoint}");
        let received = upstream.last_request();
        assert_eq!(
            (received.method, received.target.as_str()),
            (endpoint.method(), endpoint.path())
        );

        let request = Request::delete(endpoint.path())
            .body(Body::empty())
            .unwrap();
        let answer = send(&service, request).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], endpoint.method().as_str());
    }
    assert_eq!(upstream.request_count(), Endpoint::ALL.len());
}

#[tokio::test]
async fn bad_bodies_are_refused_unsent() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let service = service(vec![openai(&upstream.url("/v1"))]).max_body(20);
    for (content_type, body, status, told) in [
        ("application/json", "", 400, "not valid JSON"),
        ("application/json", "{", 400, "not valid JSON"),
        ("application/json", "[]", 400, "must be a JSON object"),
        (
            "application/json",
            r#"{"a":1,"a":2}"#,
            400,
            "holds a member twice",
        ),
        (
            "application/json",
            r#"{"a":"xxxxxxxxxxxxx"}"#,
            413,
            "too large",
        ),
        (
            "application/x-www-form-urlencoded",
            "{}",
            400,
            "must be application/json",
        ),
        ("text/plain", "{}", 400, "must be application/json"),
        ("", "{}", 400, "must be application/json"),
    ] {
        let mut request = post(CHAT, body);
        request
            .headers_mut()
            .insert("content-type", content_type.parse().unwrap());
        let answer = send(&service, request).await;
        assert_eq!(answer.status(), status, "{content_type} {body}");
        let told_body = text(answer).await;
        assert!(told_body.contains(told), "{told_body}");
    }
    let json_form = post("/v1/audio/transcriptions", "{}");
    assert_eq!(send(&service, json_form).await.status(), 400);
    assert_eq!(upstream.request_count(), 0);
}

fn packed(coding: &str, body: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let level = flate2::Compression::best();
    if coding == "deflate" {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }
}

fn coded(content_type: &str, coding: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = Request::post(CHAT).header("content-type", content_type);
    if !coding.is_empty() {
        request = request.header("content-encoding", coding);
    }
    request.body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn what_was_compressed_or_marked_is_json_like_any() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let chat = br#"{"model":"gpt-4.1"}"#;
    let marked = [b"\xef\xbb\xbf", &chat[..]].concat();
    for (content_type, coding, body) in [
        ("application/json", "identity", chat.to_vec()),
        ("application/json", "gzip", packed("gzip", chat)),
        ("application/json", "X-GZIP, identity", packed("gzip", chat)),
        ("application/json", "deflate", packed("deflate", chat)),
        ("application/json", "gzip", packed("gzip", &marked)),
        ("application/json", "", marked.clone()),
        ("application/json; charset=\"UTF-8\"", "", chat.to_vec()),
        ("application/json;charset=utf8", "", chat.to_vec()),
    ] {
        let answer = send(&service, coded(content_type, coding, body)).await;
        assert_eq!(answer.status(), 200, "{content_type} {coding}");
        let received = upstream.last_request();
        assert_eq!(&*received.body, chat, "{content_type} {coding}");
        assert_eq!(received.header("content-encoding"), None);
        assert_eq!(received.header("content-length"), Some("19"));
    }
}

#[tokio::test]
async fn codings_that_cannot_be_read_are_refused_unsent() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(11 * 1024 * 1024));
    let half = packed("gzip", b"{}")[..15].to_vec();
    let json = "application/json";
    for (content_type, coding, body, status, told) in [
        (
            json,
            "br",
            b"{}".to_vec(),
            415,
            "unsupported content encoding \"br\"",
        ),
        (json, "gzip, gzip", b"{}".to_vec(), 415, "more than one"),
        (
            "application/json; charset=iso-8859-1",
            "",
            b"{}".to_vec(),
            415,
            "unsupported charset \"iso-8859-1\"",
        ),
        (
            json,
            "gzip",
            b"{}".to_vec(),
            400,
            "could not be decompressed",
        ),
        (json, "gzip", half, 400, "could not be decompressed"),
        (
            json,
            "deflate",
            b"{}".to_vec(),
            400,
            "could not be decompressed",
        ),
        (
            json,
            "deflate",
            packed("deflate", b"{}")[..3].to_vec(),
            400,
            "",
        ),
        (
            json,
            "gzip",
            packed("gzip", long.as_bytes()),
            413,
            "too large",
        ),
        (
            json,
            "deflate",
            packed("deflate", long.as_bytes()),
            413,
            "too large",
        ),
    ] {
        let answer = send(&service, coded(content_type, coding, body)).await;
        assert_eq!(answer.status(), status, "{content_type} {coding}");
        let text = text(answer).await;
        assert!(text.contains(&told.replace('"', "\\\"")), "{text}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn a_form_passes_byte_for_byte() {
    let upstream = Upstream::start(Reply::json(200, &json!({"text": "hi"})));
    let mut target = openai(&upstream.url("/v1"));
    target.options = json!({"model": "whisper"}).as_object().unwrap().clone();
    let service = service(vec![target]);
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--b--\r\n";
    let request = Request::post("/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Body::from(form))
        .unwrap();
    assert_eq!(send(&service, request).await.status(), 200);
    let received = upstream.last_request();
    assert_eq!(received.body, form);
    assert_eq!(
        received.header("content-type"),
        Some("multipart/form-data; boundary=b")
    );
}

#[tokio::test]
async fn the_providers_own_errors_pass_through() {
    for status in [400, 401, 403, 404, 409, 422, 429, 500, 503, 529] {
        let upstream = Upstream::start(
            Reply::json(status, &json!({"error": {"message": "no", "type": "x"}}))
                .with_header("www-authenticate", "Basic")
                .with_header("retry-after", "3"),
        );
        let service = service(vec![openai(&upstream.url("/v1"))]);
        let answer = send(&service, post(CHAT, "{}")).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["retry-after"], "3");
        assert!(!answer.headers().contains_key("www-authenticate"));
        assert_eq!(json(answer).await["error"]["message"], "no");
    }
}

#[tokio::test]
async fn a_provider_that_fails_is_a_bad_gateway_and_tells_nothing() {
    let redirect = Upstream::start(Reply::redirect(302, "http://10.0.0.1/internal"));
    let nonsense = Upstream::nonsense();
    for endpoint in [
        format!("http://{}/v1", closed_address()),
        nonsense.url("/v1"),
        redirect.url("/v1"),
    ] {
        let (events, _guard) = Events::capture();
        let service = service(vec![openai(&endpoint)]);
        let answer = send(&service, post(CHAT, "{}")).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert!(!answer.headers().contains_key("location"));
        let body = json(answer).await;
        assert_eq!(
            body,
            json!({"statusCode": 502, "message": "The upstream service could not be reached", "error": "Bad Gateway"})
        );
        let event = events.only();
        assert_eq!(
            (event["level"].as_str(), event["statusCode"].as_str()),
            ("ERROR", "502")
        );
        assert!(!event["error"].contains("sk-provider"));
    }
}

#[tokio::test]
async fn a_silent_provider_is_a_gateway_timeout() {
    let upstream = Upstream::serve(|request| match request.path() {
        "/v1/models" => Reply::models(),
        _ => Reply::silence(),
    });
    let mut target = openai(&upstream.url("/v1"));
    target.request_timeout = Some(5000);
    let service = service(vec![target]);
    let models = Request::get("/v1/models").body(Body::empty()).unwrap();
    assert_eq!(json(send(&service, models).await).await["object"], "list");
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let answer = send(&service, post(CHAT, "{}")).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece_and_is_counted() {
    let (events, _guard) = Events::capture();
    let gate = Gate::closed();
    let usage = "data: {\"model\":\"stand-in-2\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":6,\"total_tokens\":15}}\r\n\r\n";
    let pieces = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"cho",
        "ices\":[]}\n\n",
        usage,
        "data: [DONE]\n\n",
    ];
    let upstream = Upstream::start(Reply::sse(pieces).gated(&gate));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let mut request = post(CHAT, r#"{"model":"asked","stream":true}"#);
    let id = RequestId::from_header("r-1".parse().unwrap()).unwrap();
    request.extensions_mut().insert(id);
    request
        .extensions_mut()
        .insert(Principal::new("ann", AuthMethod::Token));
    let answer = send(&service, request).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let mut body = answer.into_body();
    for piece in pieces {
        // The next piece does not exist yet: this one was not held back for it.
        gate.release(1);
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    assert!(body.frame().await.is_none());

    let event = events.only();
    for (field, value) in [
        ("level", "INFO"),
        ("message", "AI request answered"),
        ("target", "main"),
        ("provider", "openai"),
        ("model", "stand-in-2"),
        ("promptTokens", "9"),
        ("completionTokens", "6"),
        ("totalTokens", "15"),
        ("stream", "true"),
        ("statusCode", "200"),
        ("requestId", "r-1"),
        ("username", "ann"),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert!(event["duration"].parse::<u64>().is_ok());
    for unasked in ["prompt", "response", "error", "outcome"] {
        assert!(!event.contains_key(unasked), "{unasked}");
    }
}

#[tokio::test]
async fn an_answer_is_counted_and_logged_only_where_asked() {
    let upstream = Upstream::start(Reply::chat("the answer"));
    let (events, _guard) = Events::capture();
    let service = service(vec![openai(&upstream.url("/v1"))])
        .log_prompt(true)
        .log_response(true);
    text(send(&service, post(CHAT, r#"{"model":"m","x":"the question"}"#)).await).await;
    let event = events.only();
    assert_eq!(
        (
            event["promptTokens"].as_str(),
            event["totalTokens"].as_str()
        ),
        ("9", "15")
    );
    assert_eq!(
        (event["model"].as_str(), event["stream"].as_str()),
        ("stand-in", "false")
    );
    assert!(event["prompt"].contains("the question"));
    assert!(event["response"].contains("the answer"));
}

#[tokio::test]
async fn what_no_log_wants_is_not_read() {
    let upstream = Upstream::start(Reply::chat("the answer"));
    let (events, _guard) = Events::capture();
    let service = service(vec![openai(&upstream.url("/v1"))]).log_usage(false);
    let answer = send(&service, post(CHAT, r#"{"model":"m"}"#)).await;
    assert!(text(answer).await.contains("the answer"));
    let event = events.only();
    assert_eq!(event["message"], "AI request answered");
    for unread in ["model", "promptTokens", "totalTokens"] {
        assert!(!event.contains_key(unread), "{unread}");
    }
}

#[tokio::test]
async fn a_stream_whose_provider_dies_ends_with_an_error_event() {
    let event = "data: {\"choices\":[]}\n\n";
    for (sent, ending, before) in [
        (vec![event], Step::Close, ""),
        (vec![event, "data: {\"cho"], Step::Close, "\n\n"),
        (vec![event, "data: {}\n"], Step::Reset, "\n"),
    ] {
        let (events, _guard) = Events::capture();
        let count = sent.len();
        let reply = Reply::sse(sent.clone())
            .then(Step::send("never"))
            .cut_after(count, ending);
        let upstream = Upstream::start(reply);
        let service = service(vec![openai(&upstream.url("/v1"))]);
        let answer = send(&service, post(CHAT, r#"{"stream":true}"#)).await;
        assert_eq!(
            text(answer).await,
            format!(
                "{}{before}data: {{\"error\":{{\"message\":\"The upstream service broke off its answer\",\"type\":\"upstream_error\",\"code\":\"upstream_error\"}}}}\n\n",
                sent.concat()
            )
        );
        let event = events.only();
        assert_eq!(
            (event["level"].as_str(), event["outcome"].as_str()),
            ("ERROR", "upstream_error")
        );
    }
}

#[tokio::test]
async fn nothing_follows_the_end_of_a_stream() {
    for (last, ending, after) in [
        ("data: [DONE]\n\n", Step::Close, ""),
        ("data: [DONE]\n\n", Step::Reset, ""),
        ("data: [DONE]\n", Step::Close, "\n"),
        ("data: [DONE]", Step::Close, "\n\n"),
    ] {
        let (events, _guard) = Events::capture();
        let sent = ["data: {\"choices\":[]}\n\n", last];
        let gate = Gate::closed();
        let reply = Reply::sse(sent).then(Step::Wait(gate.clone())).then(ending);
        let upstream = Upstream::start(reply);
        let service = service(vec![openai(&upstream.url("/v1"))]);
        let answer = send(&service, post(CHAT, r#"{"stream":true}"#)).await;
        let mut body = answer.into_body();
        let mut text = String::new();
        while text.len() < sent.concat().len() {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&data).unwrap());
        }
        gate.open();
        let rest = body.collect().await.unwrap().to_bytes();
        text.push_str(std::str::from_utf8(&rest).unwrap());
        assert_eq!(text, format!("{}{after}", sent.concat()), "{last:?}");
        assert_eq!(events.only()["message"], "AI request answered");
    }
}

#[tokio::test]
async fn a_list_of_models_is_asked_with_the_clients_query() {
    let upstream = Upstream::start(Reply::models());
    let azure = |api_version: Option<&str>| {
        let mut target = TargetConfig::new("azure", "azure-openai");
        target.api_key = Some(SecretString::from("az-key"));
        target.endpoint = Some(upstream.url("").as_str().into());
        target.azure_api_version = api_version.map(str::to_owned);
        target
    };
    let mut custom = TargetConfig::new("custom", "custom");
    custom.endpoint = Some(upstream.url("/{path}?c=d").as_str().into());
    let service = service(vec![openai(&upstream.url("/v1")), azure(Some("1")), custom]);
    for (target, query, path) in [
        ("main", "", "/v1/models"),
        ("main", "?after=1&limit=2", "/v1/models?after=1&limit=2"),
        ("main", "?key=k&after=1&API-Key=k", "/v1/models?after=1"),
        ("main", "?key=k", "/v1/models"),
        (
            "azure",
            "?after=1&api%2Dversion=2",
            "/openai/models?api-version=1&after=1",
        ),
        ("custom", "?c=e&after=1&C=f", "/models?c=d&after=1"),
    ] {
        let request = Request::get(format!("/v1/models{query}"))
            .header("x-target", target)
            .body(Body::empty())
            .unwrap();
        assert_eq!(send(&service, request).await.status(), 200, "{query}");
        assert_eq!(upstream.last_request().target, path, "{target} {query}");
    }
    let mut request = post(CHAT, "{}");
    *request.uri_mut() = format!("{CHAT}?after=1").parse().unwrap();
    request
        .headers_mut()
        .insert("x-target", "main".parse().unwrap());
    assert_eq!(send(&service, request).await.status(), 200);
    assert_eq!(upstream.last_request().target, "/v1/chat/completions");
}

#[tokio::test]
async fn any_other_answer_that_breaks_off_is_cut() {
    let (events, _guard) = Events::capture();
    let upstream = Upstream::wrong_length(100, "{\"half\":");
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let answer = send(&service, post(CHAT, "{}")).await;
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(events.only()["outcome"], "upstream_error");
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_call_with_it_and_is_logged() {
    let (events, _guard) = Events::capture();
    let upstream = Upstream::start(Reply::sse(["data: {\"model\":\"m\"}\n\n"]).then(Step::Hang));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let mut body = send(&service, post(CHAT, r#"{"stream":true}"#))
        .await
        .into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    upstream.until_abandoned(0).await;
    let event = events.only();
    assert_eq!(
        (event["outcome"].as_str(), event["model"].as_str()),
        ("client_left", "m")
    );
}

#[tokio::test]
async fn azure_and_custom_over_the_wire() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let azure = {
        let mut target = TargetConfig::new("azure", "azure-openai");
        target.api_key = Some(SecretString::from("az-key"));
        target.endpoint = Some(upstream.url("").as_str().into());
        target.azure_deployment_id = Some("gpt".to_owned());
        target
    };
    let mut custom = TargetConfig::new("custom", "custom");
    custom.endpoint = Some(upstream.url("/a/{path}/b?c=d").as_str().into());
    custom.headers = [("x-key".to_owned(), SecretString::from("c-key"))].into();
    let service = service(vec![azure, custom]);
    for (target, path, header, value) in [
        (
            "azure",
            "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
            "api-key",
            "az-key",
        ),
        ("custom", "/a/chat/completions/b?c=d", "x-key", "c-key"),
    ] {
        let mut request = post(CHAT, "{}");
        request
            .headers_mut()
            .insert("x-target", target.parse().unwrap());
        assert_eq!(send(&service, request).await.status(), 200);
        let received = upstream.last_request();
        assert_eq!(received.target, path);
        assert_eq!(received.header(header), Some(value));
        assert_eq!(received.header("authorization"), None);
        assert_eq!(received.method, Method::POST);
    }
}

#[tokio::test]
async fn a_provider_that_does_not_speak_tls_is_a_bad_gateway() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = HttpClient::new(&HttpClientConfig::default(), tls);
    for (scheme, status) in [("http", 200), ("https", 502)] {
        let endpoint = format!("{scheme}://{}/v1", upstream.addr());
        let targets = Targets::try_from(vec![openai(&endpoint)]).unwrap();
        let service = AiLink::new(targets, client.clone());
        assert_eq!(
            send(&service, post(CHAT, "{}")).await.status(),
            status,
            "{scheme}"
        );
    }
}

#[tokio::test]
async fn refusals_are_rendered_as_asked() {
    let render = |rejection: &Rejection, id: Option<&RequestId>| {
        let id = id.map(RequestId::as_str).unwrap_or_default();
        http::Response::new(Body::from(format!("{id} {rejection}")))
    };
    let service = service(vec![TargetConfig::new("probe", "echo")]).rendering(render);
    let mut request = post("/v1/x", "{}");
    let id = RequestId::from_header("r-1".parse().unwrap()).unwrap();
    request.extensions_mut().insert(id);
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(text(answer).await, "r-1 404: Not found");
}

#[test]
fn the_service_goes_wherever_a_service_goes() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn owned<T: Send + 'static>() {}
    shared::<AiLink>();
    owned::<proactions_ai_link::AiLinkFuture>();
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_logged_too() {
    let (events, _guard) = Events::capture();
    let upstream = Upstream::start(Reply::silence());
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let call = tokio::spawn(service.oneshot(post(CHAT, r#"{"model":"m"}"#)));
    upstream.until_requests(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    upstream.until_abandoned(0).await;
    let event = events.only();
    assert_eq!(
        (event["outcome"].as_str(), event["model"].as_str()),
        ("client_left", "m")
    );
    assert!(!event.contains_key("statusCode"));
}

#[tokio::test]
async fn a_compressed_answer_passes_as_it_is() {
    let (events, _guard) = Events::capture();
    let packed = &b"\x1f\x8b\x08 not really \xff"[..];
    let upstream = Upstream::start(
        Reply::bytes(200, "application/json", packed).with_header("content-encoding", "gzip"),
    );
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let answer = send(&service, post(CHAT, "{}")).await;
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.headers()["content-length"], packed.len().to_string());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, packed);
    assert!(!events.only().contains_key("totalTokens"));
}

#[tokio::test]
async fn audio_passes_as_it_is() {
    let upstream = Upstream::start(Reply::bytes(200, "audio/mpeg", &b"\xff\xfb\x00\x01"[..]));
    let service = service(vec![openai(&upstream.url("/v1"))]);
    let answer = send(&service, post("/v1/audio/speech", r#"{"input":"hi"}"#)).await;
    assert_eq!(answer.headers()["content-type"], "audio/mpeg");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, &b"\xff\xfb\x00\x01"[..]);
}
