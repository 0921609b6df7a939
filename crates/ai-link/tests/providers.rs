//! Providers that do not speak OpenAI's protocol: what they are sent, and what becomes of their answers.
//!
//! The stand-ins answer in the shapes of the providers' own references.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use proactions_ai_link::{Endpoint, TargetConfig};
use proactions_edge::SecretString;
use proactions_forward::Body;
use proactions_testkit::{Gate, Received, Reply, Step, Upstream};
use serde_json::{Value, json};
use support::{Events, json, post, send, service, text};

const CHAT: &str = "/v1/chat/completions";

fn anthropic(upstream: &Upstream) -> TargetConfig {
    let mut target = TargetConfig::new("main", "anthropic");
    target.api_key = Some(SecretString::from("sk-ant-provider"));
    target.anthropic_beta = Some("files-api-2025-04-14".to_owned());
    target.headers = [("x-team".to_owned(), SecretString::from("desk"))].into();
    target.endpoint = Some(upstream.url("/v1").as_str().into());
    target
}

fn bedrock(upstream: &Upstream) -> TargetConfig {
    let mut target = TargetConfig::new("main", "bedrock");
    target.aws_region = Some("eu-central-1".to_owned());
    target.api_key = Some(SecretString::from("bedrock-api-key-x"));
    target.endpoint = Some(upstream.url("").as_str().into());
    target
}

fn vertex(upstream: &Upstream) -> TargetConfig {
    let mut target = TargetConfig::new("main", "vertex-ai");
    target.vertex_project_id = Some("proj".to_owned());
    target.vertex_region = Some("europe-west4".to_owned());
    target.api_key = Some(SecretString::from("ya29.x"));
    target.endpoint = Some(upstream.url("").as_str().into());
    target
}

/// The header of what an upstream received, in the order of the names.
fn header(received: &Received) -> Vec<(String, String)> {
    let mut lines = received.header_lines();
    lines.retain(|(name, _)| name != "host" && name != "content-length");
    lines.sort_unstable();
    lines
}

fn pairs(lines: &[(String, String)]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect()
}

fn message() -> Reply {
    Reply::json(
        200,
        &json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1",
            "content": [{"type": "text", "text": "Hello"}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 12, "output_tokens": 3},
        }),
    )
    .with_header("request-id", "req_1")
    .with_header("anthropic-organization-id", "org-internal")
}

fn sse(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event["type"].as_str().unwrap()
            )
        })
        .collect()
}

fn events() -> Vec<String> {
    sse(&[
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x-1", "usage": {"input_tokens": 12, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ])
}

const ASK: &str =
    r#"{"model":"claude-x","messages":[{"role":"user","content":"Hi"}],"max_tokens":50}"#;
const ASK_STREAM: &str = r#"{"model":"claude-x","messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;

#[tokio::test]
async fn anthropic_is_asked_in_its_own_words() {
    let (log, _guard) = Events::capture();
    let upstream = Upstream::start(message());
    let service = service(vec![anthropic(&upstream)]);
    let mut request = post(CHAT, ASK);
    for (name, value) in [
        ("authorization", "Bearer hub-token"),
        ("x-api-key", "hub-token"),
        ("anthropic-version", "1999-01-01"),
        ("anthropic-beta", "evil"),
        ("openai-beta", "assistants=v2"),
        ("cookie", "a=b"),
        ("x-team", "evil"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let answer = send(&service, request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["request-id"], "req_1");
    assert!(!answer.headers().contains_key("anthropic-organization-id"));
    let body = json(answer).await;
    assert_eq!(body["choices"][0]["message"]["content"], "Hello");
    assert_eq!(body["usage"]["total_tokens"], 15);

    let received = upstream.last_request();
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/v1/messages")
    );
    assert_eq!(
        pairs(&header(&received)),
        [
            ("accept-encoding", "identity"),
            ("anthropic-beta", "files-api-2025-04-14"),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
            ("x-api-key", "sk-ant-provider"),
            ("x-team", "desk"),
        ]
    );
    assert_eq!(
        received.json(),
        json!({
            "model": "claude-x",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        })
    );
    let event = log.only();
    for (name, value) in [
        ("provider", "anthropic"),
        ("model", "claude-x-1"),
        ("promptTokens", "12"),
        ("completionTokens", "3"),
        ("statusCode", "200"),
    ] {
        assert_eq!(event[name], value, "{event:?}");
    }
}

#[tokio::test]
async fn a_stream_of_anthropic_becomes_openais() {
    let (log, _guard) = Events::capture();
    let upstream = Upstream::start(Reply::sse(events()));
    let answer = send(&service(vec![anthropic(&upstream)]), post(CHAT, ASK_STREAM)).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let text = text(answer).await;
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let chunks: Vec<Value> = text
        .split_terminator("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).ok())
        .collect();
    assert_eq!(chunks.len(), 4, "{text}");
    assert_eq!(chunks[1]["choices"][0]["delta"]["content"], "Hello");
    assert_eq!(chunks[3]["usage"]["total_tokens"], 15);
    assert_eq!(upstream.last_request().json()["stream"], true);
    drop(text);
    let event = log.only();
    assert_eq!(
        (event["totalTokens"].as_str(), event["stream"].as_str()),
        ("15", "true")
    );
}

#[tokio::test]
async fn every_piece_is_passed_on_when_it_comes() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::sse(events()).gated(&gate));
    let service = service(vec![anthropic(&upstream)]);
    gate.release(1);
    let answer = send(&service, post(CHAT, ASK_STREAM)).await;
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains(r#""role":"assistant""#));
    let early = tokio::time::timeout(Duration::from_millis(50), body.frame()).await;
    assert!(early.is_err(), "nothing comes before it was sent");
    gate.open();
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call() {
    let upstream = Upstream::start(Reply::sse(events().into_iter().take(2)).then(Step::Hang));
    let answer = send(&service(vec![anthropic(&upstream)]), post(CHAT, ASK_STREAM)).await;
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(upstream.open_connections(), 1);
    drop(body);
    for _ in 0..100 {
        if upstream.open_connections() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is still open after a second");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_one_error() {
    let overloaded =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Over\"loaded"}});
    for (end, kind, message) in [
        (
            Reply::sse(events().into_iter().take(4).chain(sse(&[overloaded]))),
            "overloaded_error",
            "Over\"loaded",
        ),
        (
            Reply::sse(events().into_iter().take(4)).then(Step::Close),
            "upstream_error",
            "The upstream service broke off its answer",
        ),
        (
            Reply::sse(events().into_iter().take(4)),
            "upstream_error",
            "The upstream service broke off its answer",
        ),
    ] {
        let (log, guard) = Events::capture();
        let upstream = Upstream::start(end);
        let answer = send(&service(vec![anthropic(&upstream)]), post(CHAT, ASK_STREAM)).await;
        let text = text(answer).await;
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(
            last,
            json!({"error": {"message": message, "type": kind, "code": "upstream_error"}})
        );
        assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
        assert!(!text.contains("[DONE]"));
        drop(guard);
        assert_eq!(log.only()["outcome"], "upstream_error");
    }
}

#[tokio::test]
async fn errors_of_anthropic_keep_their_status() {
    for (status, body, kind, message) in [
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "overloaded_error",
            "Overloaded",
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too large"}}"#,
            "invalid_request_error",
            "max_tokens: too large",
        ),
        (
            502,
            "<html>",
            "upstream_error",
            "The provider answered with the status 502 Bad Gateway",
        ),
    ] {
        for ask in [ASK, ASK_STREAM] {
            let upstream = Upstream::start(
                Reply::bytes(status, "application/json", body).with_header("retry-after", "7"),
            );
            let answer = send(&service(vec![anthropic(&upstream)]), post(CHAT, ask)).await;
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers()["retry-after"], "7");
            assert_eq!(
                json(answer).await["error"],
                json!({"message": message, "type": kind, "param": null, "code": null})
            );
        }
    }
}

/// An answer that would be fine if its unknown member were smaller.
fn of_many_values() -> Value {
    json!({"id": "msg_1", "content": [{"type": "text", "text": "Hello"}], "more": vec![0; 200_000]})
}

#[tokio::test]
async fn a_chat_of_too_many_values_is_not_translated() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let zeros = format!("[{}0]", "0,".repeat(200_000));
    let unknown = format!(
        r#"{{"model":"claude-m","messages":[{{"role":"user","content":"Hi"}}],"x":{zeros}}}"#
    );
    let half = format!(r#"{{"x":[{}0]}}"#, "0,".repeat(60_000));
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": half}});
    let arguments = json!({"model": "claude-m", "messages": [
        {"role": "assistant", "tool_calls": [call, call]},
    ]});
    for target in [
        anthropic(&upstream),
        bedrock(&upstream),
        vertex(&upstream),
        TargetConfig::new("main", "echo"),
    ] {
        let echo = target.provider.as_deref() == Some("echo");
        let service = service(vec![target]);
        for ask in [unknown.clone(), arguments.to_string()] {
            if echo && ask != unknown {
                continue;
            }
            let answer = send(&service, post(CHAT, ask)).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert!(text(answer).await.contains("holds too many values"));
        }
    }
    assert_eq!(upstream.request_count(), 0);
    // Whoever gets it as it is may get any number.
    let answer = send(
        &service(vec![support::openai(&upstream.url("/v1"))]),
        post(CHAT, unknown),
    )
    .await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn answers_that_are_none() {
    for (ask, reply) in [
        (ASK, Reply::bytes(200, "text/html", "<html>")),
        (ASK, Reply::json(200, &json!({"id": "x"}))),
        (ASK, message().with_header("content-encoding", "gzip")),
        (ASK, Reply::huge(40 * 1024 * 1024)),
        (ASK, Reply::json(200, &of_many_values())),
        (ASK_STREAM, message()),
    ] {
        let upstream = Upstream::start(reply);
        let answer = send(&service(vec![anthropic(&upstream)]), post(CHAT, ask)).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn what_a_provider_does_not_serve_is_refused_here() {
    let upstream = Upstream::start(Reply::chat("no"));
    for target in [anthropic(&upstream), bedrock(&upstream), vertex(&upstream)] {
        let provider = target.provider.clone().unwrap();
        let service = service(vec![target]);
        for endpoint in Endpoint::ALL {
            let models = endpoint == Endpoint::Models && provider == "anthropic";
            if endpoint == Endpoint::ChatCompletions || models {
                continue;
            }
            let audio = matches!(
                endpoint,
                Endpoint::AudioTranscriptions | Endpoint::AudioTranslations
            );
            let request = Request::builder()
                .method(endpoint.method())
                .uri(endpoint.path())
                .header(
                    "content-type",
                    if audio {
                        "multipart/form-data; boundary=x"
                    } else {
                        "application/json"
                    },
                )
                .body(match endpoint.method() {
                    Method::GET => Body::empty(),
                    _ => Body::from("{}"),
                })
                .unwrap();
            let answer = send(&service, request).await;
            assert_eq!(
                answer.status(),
                StatusCode::BAD_REQUEST,
                "{provider} {endpoint}"
            );
            let told = text(answer).await;
            let expected = format!("The provider {provider} does not serve {endpoint}, only ");
            assert!(told.contains(&expected), "{told}");
        }
        let answer = send(
            &service,
            post(CHAT, r#"{"model":"claude-m","messages":[]}"#),
        )
        .await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(
            text(answer)
                .await
                .contains("`messages` holds nothing to answer")
        );
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn the_models_of_anthropic() {
    let list = json!({"data": [{"type": "model", "id": "claude-x", "created_at": "2025-05-14T00:00:00Z"}], "has_more": false});
    let upstream = Upstream::start(Reply::json(200, &list));
    let request = Request::get("/v1/models").body(Body::empty()).unwrap();
    let answer = send(&service(vec![anthropic(&upstream)]), request).await;
    assert_eq!(json(answer).await["data"][0]["id"], "claude-x");
    assert_eq!(upstream.last_request().target, "/v1/models?limit=1000");
}

#[tokio::test]
async fn bedrock_with_a_bearer_key() {
    let upstream = Upstream::start(
        Reply::json(
            200,
            &json!({
                "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 12, "outputTokens": 3, "totalTokens": 15},
            }),
        )
        .with_header("x-amzn-requestid", "r-1"),
    );
    let ask = ASK.replace("claude-x", "eu.anthropic.claude-x-v1:0");
    let answer = send(&service(vec![bedrock(&upstream)]), post(CHAT, ask)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("x-amzn-requestid"));
    let body = json(answer).await;
    assert_eq!(
        (&body["id"], &body["model"]),
        (&json!("chatcmpl-r-1"), &json!("eu.anthropic.claude-x-v1:0"))
    );
    assert_eq!(body["choices"][0]["message"]["content"], "Hello");

    let received = upstream.last_request();
    assert_eq!(
        received.target,
        "/model/eu.anthropic.claude-x-v1%3A0/converse"
    );
    assert_eq!(
        pairs(&header(&received)),
        [
            ("accept-encoding", "identity"),
            ("authorization", "Bearer bedrock-api-key-x"),
            ("content-type", "application/json"),
        ]
    );
    assert_eq!(
        received.json(),
        json!({
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
            "inferenceConfig": {"maxTokens": 50},
        })
    );
}

#[tokio::test]
async fn bedrock_with_keys() {
    let upstream = Upstream::start(
        Reply::json(403, &json!({"message": "The security token is expired"}))
            .with_header("x-amzn-errortype", "ExpiredTokenException:http://internal/"),
    );
    let mut target = bedrock(&upstream);
    target.api_key = None;
    target.aws_access_key_id = Some(SecretString::from("AKIDEXAMPLE"));
    target.aws_secret_access_key = Some(SecretString::from("aws-secret"));
    target.aws_session_token = Some(SecretString::from("aws-session"));
    let answer = send(&service(vec![target]), post(CHAT, ASK)).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        json(answer).await["error"],
        json!({"message": "The security token is expired", "type": "ExpiredTokenException", "param": null, "code": null})
    );
    let received = upstream.last_request();
    assert_eq!(received.header("x-amz-security-token"), Some("aws-session"));
    let date = received.header("x-amz-date").unwrap();
    assert_eq!(date.len(), "20150830T123600Z".len());
    let authorization = received.header("authorization").unwrap();
    let scope = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/eu-central-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=",
        &date[..8]
    );
    let signature = authorization.strip_prefix(&scope).unwrap();
    assert_eq!(signature.len(), 64);
    assert!(!format!("{:?}", received.header_lines()).contains("aws-secret"));
}

#[tokio::test]
async fn vertex_is_asked_in_both_of_its_protocols() {
    let upstream = Upstream::serve(|request| {
        if request.target.contains("rawPredict") {
            message()
        } else if request.target.contains("streamRawPredict") {
            Reply::sse(events())
        } else {
            Reply::chat("compatible")
        }
    });
    let service = service(vec![vertex(&upstream)]);
    let location = "/v1/projects/proj/locations/europe-west4";
    for (ask, path, answered) in [
        (
            r#"{"model":"gemini-x","messages":[]}"#,
            "/endpoints/openapi/chat/completions",
            "compatible",
        ),
        (
            ASK,
            "/publishers/anthropic/models/claude-x:rawPredict",
            "Hello",
        ),
        (
            ASK_STREAM,
            "/publishers/anthropic/models/claude-x:streamRawPredict",
            "Hello",
        ),
    ] {
        let answer = send(&service, post(CHAT, ask)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(text(answer).await.contains(answered));
        let received = upstream.last_request();
        assert_eq!(received.target, format!("{location}{path}"));
        assert_eq!(received.header("authorization"), Some("Bearer ya29.x"));
    }
}
