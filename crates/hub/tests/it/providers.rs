//! Providers with a protocol of their own, through the whole hub.

use proactions_testkit::{Reply, Upstream};
use serde_json::{Value, json};

use crate::harness::{Hub, Req, TOKEN_AUTH};

/// Answers in the words of Anthropic's, Bedrock's and Vertex AI's references.
fn standin() -> Upstream {
    Upstream::serve(|request| {
        let path = request.path();
        if path.contains("/converse") {
            return Reply::json(
                200,
                &json!({
                    "output": {"message": {"role": "assistant", "content": [{"text": "from bedrock"}]}},
                    "stopReason": "end_turn",
                    "usage": {"inputTokens": 2, "outputTokens": 1, "totalTokens": 3},
                }),
            );
        }
        if path.ends_with("/openapi/chat/completions") {
            return Reply::chat("from vertex");
        }
        if request.json()["stream"] != true {
            return Reply::json(
                200,
                &json!({
                    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1",
                    "content": [{"type": "text", "text": "from anthropic"}],
                    "stop_reason": "end_turn",
                    "usage": {"input_tokens": 2, "output_tokens": 1},
                }),
            );
        }
        Reply::sse(
            [
                json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x-1"}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "streamed"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
                json!({"type": "message_stop"}),
            ]
            .map(|event| format!("event: x\ndata: {event}\n\n")),
        )
    })
}

fn config(upstream: &Upstream) -> String {
    let root = upstream.url("");
    format!(
        "targets:
  - {{id: claude, provider: anthropic, apiKey: anthropic-canary-1, endpoint: '{root}/v1'}}
  - {{id: bedrock, provider: bedrock, awsRegion: eu-central-1, awsAccessKeyId: aws-canary-2, awsSecretAccessKey: aws-canary-3, endpoint: '{root}'}}
  - {{id: vertex, provider: vertex-ai, vertexProjectId: p, vertexRegion: europe-west4, apiKey: vertex-canary-4, endpoint: '{root}'}}
{TOKEN_AUTH}"
    )
}

fn ask(target: &str, model: &str, stream: bool) -> Req {
    Req::post("/v1/chat/completions")
        .bearer()
        .header("x-target", target)
        .header("x-api-key", "evil")
        .header("x-amz-security-token", "evil")
        .header("x-goog-user-project", "evil")
        .json(&json!({
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": "hi"}],
        }))
}

#[tokio::test]
async fn chats_are_translated_both_ways_and_nothing_leaks() {
    let upstream = standin();
    let mut hub = Hub::start(&config(&upstream)).await;
    for (target, model, path, answered) in [
        ("claude", "claude-x", "/v1/messages", "from anthropic"),
        (
            "bedrock",
            "arn:aws:bedrock:eu-central-1:1:inference-profile/eu.x",
            "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Feu.x/converse",
            "from bedrock",
        ),
        (
            "vertex",
            "gemini-x",
            "/v1/projects/p/locations/europe-west4/endpoints/openapi/chat/completions",
            "from vertex",
        ),
        (
            "vertex",
            "claude-x",
            "/v1/projects/p/locations/europe-west4/publishers/anthropic/models/claude-x:rawPredict",
            "from anthropic",
        ),
    ] {
        let answer = hub.send(&ask(target, model, false)).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.body_text());
        assert_eq!(answer.json()["choices"][0]["message"]["content"], answered);
        assert_eq!(answer.header_all("x-content-type-options").count(), 1);
        let received = upstream.last_request();
        assert_eq!(received.target, path);
        let header = format!("{:?}", received.header_lines());
        assert!(
            !header.contains("evil") && !header.contains("aws-canary-3"),
            "{header}"
        );
    }
    let answer = hub.send(&ask("claude", "claude-x", true)).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.body_text();
    let chunks: Vec<Value> = text
        .split("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    assert_eq!(
        chunks[1]["choices"][0]["delta"]["content"], "streamed",
        "{text}"
    );
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");

    hub.stop().await;
    let output = hub.output();
    assert!(!output.contains("canary"), "{output}");
}

#[tokio::test]
async fn no_model_moves_the_upstream() {
    let upstream = standin();
    let elsewhere = Upstream::start(Reply::chat("evil"));
    let evil = elsewhere.addr().to_string();
    let hub = Hub::start(&config(&upstream)).await;
    for target in ["claude", "bedrock", "vertex"] {
        for model in [
            format!("@{evil}"),
            format!("claude@{evil}/x"),
            format!("http://{evil}/"),
            format!("//{evil}/"),
            "..".to_owned(),
            "claude/../../x".to_owned(),
            "claude%2e%2e%2f".to_owned(),
            "claude#x".to_owned(),
            "claude?x".to_owned(),
            "claude\\x".to_owned(),
            "claude\r\nhost: evil".to_owned(),
            "claude\u{0}\u{e9}".to_owned(),
        ] {
            let answer = hub.send(&ask(target, &model, false)).await;
            assert!(
                matches!(answer.status, 200 | 400),
                "{target} {model}: {}",
                answer.status
            );
        }
    }
    assert_eq!(elsewhere.request_count(), 0);
    for received in upstream.requests() {
        assert_eq!(
            received.header("host").unwrap(),
            upstream.addr().to_string()
        );
    }
}
