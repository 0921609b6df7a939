//! What goes to a provider and what comes back, byte for byte.

use proactions_testkit::{Gate, RawClient, Reply, Step, Upstream, closed_address};
use serde_json::{Value, json};

use crate::harness::{Hub, PATIENCE, Req, SOON, TOKEN, TOKEN_AUTH};

fn config(upstream: &Upstream, target: &str) -> String {
    format!(
        "targets:\n  - {{id: up, provider: custom, apiKey: provider-key, endpoint: '{}'{target}}}\n{TOKEN_AUTH}",
        upstream.url("/v1/{path}")
    )
}

#[tokio::test]
async fn a_chat_goes_out_clean_and_comes_back_whole() {
    let upstream = Upstream::start(
        Reply::chat("hello there")
            .with_header("server", "leaky/1.0")
            .with_header("x-powered-by", "leaky")
            .with_header("set-cookie", "upstream=1")
            .with_header("strict-transport-security", "max-age=1")
            .with_header("x-request-id", "theirs"),
    );
    let hub = Hub::start(&config(&upstream, ", options: {temperature: 0.5, seed: 7}")).await;
    let body = r#"{"model":"m","temperature":1.0,"messages":[{"role":"user","content":"hi"}],"big":12345678901234567890123}"#;
    let request = Req::post("/v1/chat/completions?x=1")
        .bearer()
        .header("cookie", "proactions_session=abc; other=1")
        .header("x-target", "up")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-forwarded-host", "evil.test")
        .header("x-hub-user", "admin")
        .header("connection", "x-drop-me, authorization")
        .header("x-drop-me", "1")
        .header("te", "trailers")
        .header("openai-beta", "assistants=v2")
        .body("application/json", body);
    let answer = hub.send(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"],
        "hello there"
    );
    for name in ["server", "x-powered-by"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header_all("strict-transport-security").count(), 1);
    assert_eq!(answer.header_all("x-request-id").count(), 1);
    assert_ne!(answer.header("x-request-id"), Some("theirs"));
    assert!(
        !answer
            .header_all("set-cookie")
            .any(|cookie| cookie.contains("upstream"))
    );

    let received = upstream.last_request();
    assert_eq!(
        (received.method.as_str(), received.path()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(
        received.header("authorization"),
        Some("Bearer provider-key")
    );
    assert_eq!(
        received.header("host").unwrap(),
        upstream.addr().to_string()
    );
    assert_eq!(received.header("openai-beta"), Some("assistants=v2"));
    for name in [
        "cookie",
        "x-target",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-hub-user",
        "x-drop-me",
        "te",
        "connection",
        "x-forwarded-proto",
        "forwarded",
    ] {
        assert_eq!(received.header(name), None, "{name}");
    }
    let all = format!("{:?}", received.header_lines());
    assert!(!all.contains(TOKEN), "{all}");
    let sent = String::from_utf8_lossy(&received.body).into_owned();
    assert_eq!(
        received.json()["temperature"],
        json!(1.0),
        "the request wins"
    );
    assert_eq!(received.json()["seed"], json!(7), "options fill in");
    assert!(
        sent.contains("12345678901234567890123"),
        "numbers keep their digits: {sent}"
    );
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_as_it_comes() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(5).gated(&gate));
    let hub = Hub::start(&config(&upstream, "")).await;
    let mut client = hub.connect().await;
    client
        .send(Req::chat(true).bearer().to_bytes())
        .await
        .unwrap();
    upstream.until_requests(1).await;
    gate.release(1);
    // The first event arrives while the others are still held back.
    let first = client.read_until("data: ", PATIENCE).await.unwrap();
    assert!(
        first.starts_with("HTTP/1.1 200") && first.contains("text/event-stream"),
        "{first}"
    );
    assert!(!first.contains("[DONE]"), "{first}");
    gate.open();
    let rest = client
        .read_until("data: [DONE]\n\n", PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        format!("{first}{rest}").matches("\"delta\"").count(),
        5,
        "{first}{rest}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_call() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(5).gated(&gate));
    let hub = Hub::start(&config(&upstream, "")).await;
    let mut client = hub.connect().await;
    client
        .send(Req::chat(true).bearer().to_bytes())
        .await
        .unwrap();
    upstream.until_requests(1).await;
    gate.release(2);
    client.read_until("data: ", PATIENCE).await.unwrap();
    client.reset();
    tokio::time::timeout(SOON, upstream.until_abandoned(0))
        .await
        .expect("closed within a second");

    // Also one that leaves in the middle of an answer that is no stream.
    let half = Reply::bytes(200, "application/json", "{\"model\":").declaring(99);
    let stuck = Upstream::start(half.then(Step::Hang));
    let hub = Hub::start(&config(&stuck, "")).await;
    let mut client = hub.connect().await;
    client
        .send(Req::chat(false).bearer().to_bytes())
        .await
        .unwrap();
    client.read_until("{\"model\":", PATIENCE).await.unwrap();
    client.reset();
    tokio::time::timeout(SOON, stuck.until_abandoned(0))
        .await
        .expect("closed within a second");

    // And one that leaves before the head of the answer.
    let silent = Upstream::start(Reply::silence());
    let hub = Hub::start(&config(&silent, "")).await;
    let mut client = hub.connect().await;
    client
        .send(Req::chat(false).bearer().to_bytes())
        .await
        .unwrap();
    silent.until_requests(1).await;
    client.reset();
    tokio::time::timeout(SOON, silent.until_abandoned(0))
        .await
        .expect("closed within a second");
}

#[tokio::test]
async fn an_upstream_that_dies_mid_stream_ends_with_one_error_chunk() {
    let upstream = Upstream::start(Reply::chat_stream(5).cut_after(3, Step::Reset));
    let mut hub = Hub::start(&config(&upstream, "")).await;
    let answer = hub.send(&Req::chat(true).bearer()).await;
    assert_eq!(answer.status, 200);
    let body = answer.body_text();
    let events: Vec<_> = body
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .collect();
    assert_eq!(body.matches("\"error\"").count(), 1, "{body}");
    let last = events.last().unwrap().strip_prefix("data: ").unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(last["error"]["message"].is_string(), "{last}");
    assert!(!body.contains(&upstream.addr().to_string()));
    hub.stop().await;
    let lines = ai_lines(&hub);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["outcome"], "upstream_error");
    assert_eq!(lines[0]["stream"], true);
}

#[tokio::test]
async fn failures_have_their_status_and_tell_nothing_of_the_inside() {
    let dead = closed_address();
    let silent = Upstream::start(Reply::silence());
    let nonsense = Upstream::nonsense();
    let yaml = format!(
        "targets:
  - {{id: dead, provider: custom, apiKey: provider-key, endpoint: 'http://{dead}/v1/{{path}}'}}
  - {{id: silent, provider: custom, apiKey: provider-key, requestTimeout: 200, endpoint: '{}'}}
  - {{id: nonsense, provider: custom, apiKey: provider-key, endpoint: '{}'}}
{TOKEN_AUTH}",
        silent.url("/v1/{path}"),
        nonsense.url("/v1/{path}"),
    );
    let hub = Hub::start(&yaml).await;
    for (target, status) in [
        (Some("dead"), 502),
        (Some("silent"), 504),
        (Some("nonsense"), 502),
        (Some("xyz"), 404),
        (Some("dead@evil.test"), 404),
        (Some("../dead"), 404),
        (Some("dead#"), 404),
        (Some("dead?x"), 404),
        (Some("%64ead"), 404),
        (Some("DEAD"), 404),
        (None, 400),
    ] {
        let mut request = Req::chat(false).bearer();
        if let Some(target) = target {
            request = request.header("x-target", target);
        }
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, status, "{target:?}: {}", answer.body_text());
        let body = answer.json();
        assert_eq!(body["statusCode"], status);
        let text = answer.body_text();
        for secret in [
            "provider-key",
            &dead.to_string(),
            "127.0.0.1",
            "/work",
            "hyper",
            "src/",
        ] {
            assert!(!text.contains(secret), "{text}");
        }
        if target == Some("xyz") {
            assert_eq!(body["message"], "Target not found: xyz");
        }
    }
    let broken = Req::post("/v1/chat/completions")
        .bearer()
        .header("x-target", "dead")
        .body("application/json", "{\"model\":");
    assert_eq!(hub.send(&broken).await.status, 400);
}

#[tokio::test]
async fn answers_of_the_provider_pass_through() {
    let upstream = Upstream::serve(|received| {
        let status = received.json()["want"].as_u64().unwrap_or(200);
        Reply::error(u16::try_from(status).unwrap()).with_header("retry-after", "7")
    });
    let hub = Hub::start(&config(&upstream, "")).await;
    for status in [400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 529] {
        let request = Req::post("/v1/chat/completions")
            .bearer()
            .json(&json!({ "want": status }));
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, status);
        assert!(
            answer.json()["error"].is_object(),
            "the provider's own words: {}",
            answer.body_text()
        );
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
    assert_eq!(upstream.request_count(), 11);
}

#[tokio::test]
async fn the_log_tells_the_tokens() {
    let upstream = Upstream::start(Reply::chat("x"));
    let mut hub = Hub::start(&config(&upstream, "")).await;
    hub.send(&Req::chat(false).bearer()).await;
    let line = hub.process.wait_for_line("\"module\":\"aiLink\"").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["target"], "up");
    assert_eq!(line["provider"], "custom");
    for number in [
        "promptTokens",
        "completionTokens",
        "totalTokens",
        "duration",
    ] {
        assert!(line[number].is_number(), "{number}: {line}");
    }
    assert_eq!(line["stream"], false);
    let access = hub.process.wait_for_line("\"module\":\"access\"").await;
    let access: serde_json::Value = serde_json::from_str(&access).unwrap();
    assert_eq!(access["requestId"], line["requestId"]);
    assert!(access["username"].is_string());
}

/// The events of AI-Link, of a hub that was stopped.
fn ai_lines(hub: &Hub) -> Vec<Value> {
    hub.output()
        .lines()
        .filter(|line| line.contains("\"module\":\"aiLink\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Bytes that are no text, and more of them than a buffer holds.
fn sound() -> Vec<u8> {
    (0..=255_u8).cycle().take(300_000).collect()
}

#[tokio::test]
async fn every_endpoint_passes_up_and_down_and_is_counted() {
    let usage = json!({"input_tokens": 7, "output_tokens": 4, "total_tokens": 11});
    let upstream = Upstream::serve(move |received| {
        let asked = received.json();
        match received.path() {
            "/v1/embeddings" => Reply::embeddings(),
            "/v1/models" => Reply::models(),
            "/v1/audio/speech" => Reply::bytes(200, "audio/mpeg", sound()),
            "/v1/images/generations" => Reply::json(
                200,
                &json!({"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage}),
            ),
            "/v1/audio/transcriptions" | "/v1/audio/translations" => Reply::json(
                200,
                &json!({"text": "hi", "usage": {"type": "tokens", "input_tokens": 7, "output_tokens": 4}}),
            ),
            "/v1/responses" => {
                let response =
                    json!({"id": "resp_1", "object": "response", "model": "m-1", "usage": usage});
                if asked["stream"] != true {
                    return Reply::json(200, &response);
                }
                let event = |kind: &str, more: Value| {
                    let mut data = json!({"type": kind});
                    data.as_object_mut()
                        .unwrap()
                        .extend(more.as_object().unwrap().clone());
                    format!("event: {kind}\ndata: {data}\n\n")
                };
                Reply::sse([
                    event(
                        "response.created",
                        json!({"response": {"model": "m-1", "usage": null}}),
                    ),
                    event("response.output_text.delta", json!({"delta": "hi"})),
                    event("response.completed", json!({"response": response})),
                ])
            }
            _ => {
                let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":4,\
                             \"total_tokens\":11}}\n\ndata: [DONE]\n\n";
                match asked["stream_options"]["include_usage"] == true {
                    true => Reply::chat_stream(2).cut_after(2, Step::send(usage)),
                    false => Reply::chat_stream(2),
                }
            }
        }
    });
    let options = ", options: {stream_options: {include_usage: true}}";
    let mut hub = Hub::start(&config(&upstream, options)).await;
    let json_to = |path: &str, body: Value| Req::post(path).bearer().json(&body);
    let form = |path: &str| {
        let mut form =
            b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
            --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\
            Content-Type: audio/mpeg\r\n\r\n"
                .to_vec();
        form.extend(sound());
        form.extend(b"\r\n--b--\r\n");
        Req::post(path)
            .bearer()
            .body("multipart/form-data; boundary=b", form)
    };
    // The request, what the log says of its tokens, and of its model.
    let cases = [
        (
            json_to("/v1/embeddings", json!({"model": "e", "input": "x"})),
            Some(4),
            None,
            "stand-in",
        ),
        (
            json_to("/v1/audio/speech", json!({"model": "tts", "input": "x"})),
            None,
            None,
            "tts",
        ),
        (
            json_to(
                "/v1/images/generations",
                json!({"model": "i", "prompt": "x"}),
            ),
            Some(7),
            Some(4),
            "i",
        ),
        (
            form("/v1/audio/transcriptions"),
            Some(7),
            Some(4),
            "whisper-1",
        ),
        (
            form("/v1/audio/translations"),
            Some(7),
            Some(4),
            "whisper-1",
        ),
        (
            json_to("/v1/responses", json!({"model": "m", "input": "x"})),
            Some(7),
            Some(4),
            "m-1",
        ),
        (
            json_to(
                "/v1/responses",
                json!({"model": "m", "input": "x", "stream": true}),
            ),
            Some(7),
            Some(4),
            "m-1",
        ),
        (Req::chat(true).bearer(), Some(7), Some(4), "stand-in"),
    ];
    for (index, (request, prompt, completion, model)) in cases.into_iter().enumerate() {
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, 200, "{request:?}: {}", answer.body_text());
        let received = upstream.last_request();
        let sent = request.to_bytes();
        let streams = received.json()["stream"] == true;
        match received.path() {
            "/v1/audio/speech" => {
                assert_eq!(answer.header("content-type"), Some("audio/mpeg"));
                assert!(answer.body == sound());
            }
            "/v1/audio/transcriptions" | "/v1/audio/translations" => {
                assert!(sent.ends_with(&received.body), "the form came another way");
                assert_eq!(answer.json()["text"], "hi");
            }
            _ if streams => assert_eq!(answer.header("content-type"), Some("text/event-stream")),
            _ => assert!(answer.json().is_object()),
        }
        let name = received.path().to_owned();
        let lines = hub
            .process
            .wait_for_lines("\"module\":\"aiLink\"", index + 1)
            .await;
        let line: Value = serde_json::from_str(&lines[index]).unwrap();
        assert_eq!(line["promptTokens"], json!(prompt), "{name}: {line}");
        assert_eq!(
            line["completionTokens"],
            json!(completion),
            "{name}: {line}"
        );
        assert_eq!(line["model"], model, "{name}: {line}");
        assert_eq!(line["stream"], streams, "{name}: {line}");
    }
    hub.stop().await;
    assert_eq!(ai_lines(&hub).len(), 8);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let upstream = Upstream::start(Reply::chat("x"));
    let hub = Hub::start(&config(&upstream, "")).await;
    let mut client: RawClient = hub.connect().await;
    let both = [
        Req::chat(false).bearer().to_bytes(),
        Req::get("/health").to_bytes(),
    ]
    .concat();
    client.send(both).await.unwrap();
    assert!(client.next_response(PATIENCE).await.unwrap().json()["choices"].is_array());
    assert_eq!(
        client.next_response(PATIENCE).await.unwrap().json()["status"],
        "ok"
    );
    assert_eq!(upstream.request_count(), 1);
}
