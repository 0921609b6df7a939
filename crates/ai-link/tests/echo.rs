//! The provider that answers by itself, in the shapes that official clients read.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use http::Request;
use proactions_ai_link::{AiLink, TargetConfig};
use proactions_forward::Body;
use serde_json::{Value, json};
use support::{Events, json, post, send, service, text};

fn echo() -> AiLink {
    service(vec![TargetConfig::new("probe", "echo")]).clock(proactions_edge::SystemClock::new())
}

/// The JSON of every `data:` line but the last, which is `[DONE]`.
fn chunks(stream: &str) -> Vec<Value> {
    let mut lines: Vec<_> = stream
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .map(|event| event.strip_prefix("data: ").unwrap())
        .collect();
    assert_eq!(lines.pop(), Some("[DONE]"));
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_chat_completion() {
    let (events, _guard) = Events::capture();
    let request = json!({"model": "gpt-4.1", "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello out there"}]},
    ]});
    let answer = send(&echo(), post("/v1/chat/completions", request.to_string())).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body = json(answer).await;
    assert_eq!(body["object"], "chat.completion");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(body["model"], "gpt-4.1");
    assert_eq!(
        body["choices"],
        json!([{
            "index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hello out there", "refusal": null, "annotations": []},
        }])
    );
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8})
    );
    let event = events.only();
    assert_eq!(
        (event["provider"].as_str(), event["totalTokens"].as_str()),
        ("echo", "8")
    );
}

#[tokio::test]
async fn a_stream_adds_up_to_the_answer() {
    let request = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "one  two\nthree"}]});
    let answer = send(&echo(), post("/v1/chat/completions", request.to_string())).await;
    assert_eq!(
        answer.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let chunks = chunks(&text(answer).await);
    let mut said = String::new();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
        said.push_str(
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default(),
        );
    }
    assert_eq!(said, "one  two\nthree");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, rest) = chunks.split_last().unwrap();
    assert_eq!(
        (&last["choices"], &last["usage"]["total_tokens"]),
        (&json!([]), &json!(6))
    );
    assert!(rest.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_stream_without_asking_for_usage_has_none() {
    let request = json!({"stream": true, "messages": [{"role": "user", "content": "x"}]});
    let answer = send(&echo(), post("/v1/chat/completions", request.to_string())).await;
    let chunks = chunks(&text(answer).await);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["choices"].as_array().unwrap().len() == 1)
    );
}

#[tokio::test]
async fn completions_responses_and_models() {
    let body = json(send(&echo(), post("/v1/completions", r#"{"prompt":"a b"}"#)).await).await;
    assert_eq!(
        (&body["object"], &body["choices"][0]["text"]),
        (&json!("text_completion"), &json!("a b"))
    );

    let body = json(send(&echo(), post("/v1/responses", r#"{"input":"a b"}"#)).await).await;
    assert_eq!(
        (&body["object"], &body["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(body["output"][0]["content"][0]["text"], "a b");
    assert_eq!(body["usage"]["total_tokens"], 4);

    let request = Request::get("/v1/models").body(Body::empty()).unwrap();
    let body = json(send(&echo(), request).await).await;
    assert_eq!(
        (&body["object"], &body["data"][0]["object"]),
        (&json!("list"), &json!("model"))
    );
}

#[tokio::test]
async fn embeddings_as_numbers_and_as_base64() {
    let request = json!({"input": ["a", "b", "a"], "model": "e", "dimensions": 3});
    let body = json(send(&echo(), post("/v1/embeddings", request.to_string())).await).await;
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    assert_eq!(data[2]["index"], 2);
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    let numbers: Vec<f64> = serde_json::from_value(data[0]["embedding"].clone()).unwrap();
    assert_eq!(numbers.len(), 3);
    assert!((numbers.iter().map(|n| n * n).sum::<f64>() - 1.0).abs() < 1e-6);

    let request = json!({"input": "a", "encoding_format": "base64", "dimensions": 1});
    let body = json(send(&echo(), post("/v1/embeddings", request.to_string())).await).await;
    // 1.0 as a little-endian f32: 00 00 80 3f.
    assert_eq!(body["data"][0]["embedding"], "AACAPw==");
}

#[tokio::test]
async fn what_it_cannot_answer_it_refuses() {
    for (path, body) in [
        ("/v1/chat/completions", "{}"),
        ("/v1/completions", "{}"),
        ("/v1/embeddings", "{}"),
        ("/v1/embeddings", r#"{"input":"a","dimensions":0}"#),
        ("/v1/embeddings", r#"{"input":"a","dimensions":100000}"#),
        (
            "/v1/embeddings",
            r#"{"input":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"],"dimensions":4096}"#,
        ),
        ("/v1/responses", "{}"),
        ("/v1/images/generations", "{}"),
        ("/v1/audio/speech", "{}"),
    ] {
        assert_eq!(
            send(&echo(), post(path, body)).await.status(),
            400,
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn a_streamed_response_adds_up() {
    let (log, _guard) = Events::capture();
    let request = json!({"model": "m", "input": "one two", "stream": true});
    let stream = text(send(&echo(), post("/v1/responses", request.to_string())).await).await;
    let mut said = String::new();
    let mut names = Vec::new();
    for (number, event) in stream.split_terminator("\n\n").enumerate() {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!(
            (&data["type"], &data["sequence_number"]),
            (&json!(name), &json!(number))
        );
        if name == "response.output_text.delta" {
            said.push_str(data["delta"].as_str().unwrap());
        }
        names.push(name.to_owned());
    }
    assert_eq!(said, "one two");
    assert_eq!(
        (names[0].as_str(), names.last().unwrap().as_str()),
        ("response.created", "response.completed")
    );
    let event = log.only();
    assert_eq!(
        (event["totalTokens"].as_str(), event["model"].as_str()),
        ("4", "m")
    );
}

#[tokio::test]
async fn an_answer_is_not_much_longer_than_what_it_echoes() {
    let model = "m".repeat(100_000);
    let spaces = " ".repeat(2_000);
    for (path, member, content) in [
        (
            "/v1/chat/completions",
            "messages",
            json!([{"role": "user", "content": spaces}]),
        ),
        ("/v1/completions", "prompt", json!(spaces)),
        ("/v1/responses", "input", json!(spaces)),
    ] {
        let request = json!({"model": model, "stream": true, member: content});
        let stream = text(send(&echo(), post(path, request.to_string())).await).await;
        assert!(stream.contains(&"m".repeat(128)) && !stream.contains(&"m".repeat(129)));
        assert!(stream.len() < 2_000_000, "{path}: {}", stream.len());
    }
}
