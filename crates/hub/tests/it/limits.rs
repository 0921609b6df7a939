//! How often, how much, how large: refused exactly at the limit.

use std::sync::Arc;

use proactions_testkit::{Reply, Upstream};

use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req, TOKEN_AUTH};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_and_exactly_max_pass() {
    let hub = Arc::new(
        Hub::start(
            "hub:\n  security:\n    rateLimit: {windowMs: 600000, max: 100, standardHeaders: true, legacyHeaders: false}\n",
        )
        .await,
    );
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..200 {
        let hub = Arc::clone(&hub);
        tasks.spawn(async move {
            // Whatever an untrusted client writes there, it is one client.
            let request = Req::get("/nothing")
                .header("x-forwarded-for", &format!("198.51.100.{client}"))
                .header("x-real-ip", &format!("198.51.100.{client}"))
                .header("forwarded", &format!("for=198.51.100.{client}"));
            hub.send(&request).await
        });
    }
    let answers = tasks.join_all().await;
    let passed = answers.iter().filter(|answer| answer.status == 404).count();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert_eq!((passed, refused.len()), (100, 100));
    for answer in refused {
        assert_eq!(answer.header("ratelimit-limit"), Some("100"));
        assert_eq!(answer.header("ratelimit-remaining"), Some("0"));
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=600).contains(&wait));
        assert_eq!(answer.json()["statusCode"], 429);
    }
    // Probes are not counted.
    assert_eq!(hub.send(&Req::get("/health")).await.status, 200);
    assert_eq!(hub.send(&Req::get("/ready")).await.status, 200);
}

#[tokio::test]
async fn rules_by_target_count_the_targets_that_there_are() {
    let upstream = Upstream::start(Reply::echo());
    let yaml = format!(
        "hub:\n  security:\n    rateLimit: {{max: 100, rules: [{{by: target, max: 1}}]}}\n\
         proxies:\n  - {{id: cms, url: '{}'}}\n{TOKEN_AUTH}{ECHO_TARGET}",
        upstream.url("/")
    );
    let hub = Hub::start(&yaml).await;
    let status = async |path: &str, target: Option<&str>| {
        let mut request = Req::get(path).bearer();
        if let Some(target) = target {
            request = request.header("x-target", target);
        }
        hub.send(&request).await.status
    };
    assert_eq!(status("/v1/models", None).await, 200);
    assert_eq!(status("/v1/models", Some("echo")).await, 429);
    assert_eq!(status("/v1/models", Some("made-up-1")).await, 404);
    assert_eq!(status("/v1/models", Some("made-up-2")).await, 429);
    assert_eq!(status("/proxy/forward/cms/a", Some("made-up-3")).await, 200);
    assert_eq!(status("/proxy/forward/cms/b", Some("made-up-4")).await, 429);
    assert_eq!(status("/auth/session", Some("made-up-5")).await, 200);
    assert_eq!(status("/auth/session", Some("made-up-6")).await, 429);
}

#[tokio::test]
async fn bodies_are_refused_from_the_first_byte_too_many() {
    let upstream = Upstream::start(Reply::echo());
    let yaml = format!(
        "hub:\n  security:\n    limits: {{json: 1kb, urlencoded: 500, other: 2kb}}\n\
         targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n{TOKEN_AUTH}",
        upstream.url("/{path}")
    );
    let hub = Hub::start(&yaml).await;
    for (content_type, limit) in [
        ("application/json", 1024),
        ("Application/JSON; charset=utf-8", 1024),
        ("application/vnd.api+json", 1024),
        ("application/x-www-form-urlencoded", 500),
        ("text/plain", 2048),
        ("multipart/form-data; boundary=x", 2048),
    ] {
        for (len, over) in [(limit - 1, false), (limit, false), (limit + 1, true)] {
            let request = Req::post("/v1/embeddings")
                .bearer()
                .body(content_type, vec![b'x'; len]);
            let answer = hub.send(&request).await;
            assert_eq!(
                answer.status == 413,
                over,
                "{content_type} {len}: {}",
                answer.status
            );
        }
    }
    // Chunks are counted where they are read: a JSON body by the gateway, a form by the upstream.
    let filler = "x".repeat(1024 - 9);
    let json = format!("{{\"a\":\"{filler}\"}}");
    for (path, content_type, body) in [
        ("/v1/embeddings", "application/json", json),
        (
            "/v1/audio/transcriptions",
            "multipart/form-data; boundary=x",
            "x".repeat(2047),
        ),
    ] {
        for (padding, over) in [(0, false), (1, false), (2, true)] {
            let len = body.len() + padding;
            let chunked = format!(
                "POST {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-type: {content_type}\r\n\
                 transfer-encoding: chunked\r\n\r\n7\r\n{}\r\n{:x}\r\n{}{}\r\n0\r\n\r\n",
                crate::harness::TOKEN,
                &body[..7],
                len - 7,
                &body[7..],
                " ".repeat(padding),
            );
            let answer = hub.raw(chunked).await;
            assert_eq!(
                answer.status,
                if over { 413 } else { 200 },
                "{path} {len}: {}",
                answer.body_text()
            );
            if over {
                assert_eq!(answer.json()["error"], "Payload Too Large");
                assert_eq!(answer.header("connection"), Some("close"));
            }
        }
    }
}

/// A JSON object of so many bytes, whole or in chunks.
fn large(len: usize, chunked: bool) -> Vec<u8> {
    const OPEN: &[u8] = b"{\"input\":\"";
    let filler = vec![b'x'; len - OPEN.len() - 2];
    let body = [OPEN, &filler, b"\"}"].concat();
    let length = if chunked {
        "transfer-encoding: chunked".to_owned()
    } else {
        format!("content-length: {len}")
    };
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\n{length}\r\n\r\n",
        crate::harness::TOKEN
    );
    if chunked {
        let (first, rest) = body.split_at(len / 2);
        let size = |part: &[u8]| format!("{:x}\r\n", part.len()).into_bytes();
        let parts = [
            &size(first),
            first,
            b"\r\n",
            &size(rest),
            rest,
            b"\r\n0\r\n\r\n",
        ];
        return [head.as_bytes(), &parts.concat()].concat();
    }
    [head.as_bytes(), &body].concat()
}

#[tokio::test]
async fn a_json_limit_above_the_default_holds_for_ai_link() {
    const MIB: usize = 1 << 20;
    let upstream = Upstream::start(Reply::json(200, &serde_json::json!({"data": []})));
    let yaml = |limits: &str| {
        format!(
            "hub:\n  ailink_port: 0\n  security:\n    limits: {{{limits}}}\n\
             targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n{TOKEN_AUTH}",
            upstream.url("/{path}")
        )
    };
    let mut hub = Hub::start(&yaml("json: 52mb")).await;
    let internal = hub.process.address("internal listener on").await;
    for chunked in [false, true] {
        let answer = hub.raw(large(52 * MIB, chunked)).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        assert_eq!(upstream.last_request().body_len, 52 << 20);
        let mut client = proactions_testkit::RawClient::connect(internal)
            .await
            .unwrap();
        client.send(large(51 * MIB, chunked)).await.unwrap();
        let answer = client.next_response(PATIENCE).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    }
    // What is read into memory has a limit also where bodies have none.
    let hub = Hub::start(&yaml("enabled: false")).await;
    assert_eq!(hub.raw(large(50 * MIB, false)).await.status, 200);
    // The answer comes before the body, which is not read to its end.
    let answer = hub.raw(&large(50 * MIB + 1, false)[..1000]).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"], "Payload Too Large");
}

#[tokio::test]
async fn a_declared_length_is_refused_before_the_body_is_sent() {
    let hub = Hub::start("hub:\n  security:\n    limits: {json: 1kb}\n").await;
    let mut client = hub.connect().await;
    client
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n")
        .await
        .unwrap();
    let answer = client.next_response(PATIENCE).await.unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn heads_are_refused_when_they_are_too_large() {
    let yaml = "hub:\n  listener: {maxHeaders: 20, maxHeaderBytes: 5000, maxUriBytes: 1000}\n";
    let hub = Hub::start(yaml).await;
    let fill = |name: &str, len: usize| Req::get("/x").header(name, &"v".repeat(len));
    let many = |count: usize| {
        (0..count).fold(Req::get("/x"), |request, index| {
            request.header(&format!("x-{index}"), "v")
        })
    };
    for (request, status) in [
        (Req::get(&format!("/{}", "u".repeat(999))), 404),
        (Req::get(&format!("/{}", "u".repeat(1000))), 414),
        (fill("x-fill", 4900), 404),
        (fill("x-fill", 5100), 431),
        // `host` is a header too.
        (many(19), 404),
        (many(20), 431),
        (Req::get("/x").header("x_forwarded_for", "1.1.1.1"), 400),
    ] {
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, status, "{request:?}");
        assert!(
            answer.header("x-content-type-options").is_some(),
            "{status}"
        );
    }
}

/// Clients that are refused, or answered without a look at their body, come again on the same connection.
#[tokio::test]
async fn an_answer_that_needs_no_body_keeps_the_connection() {
    let hub = Hub::start(&format!(
        "hub:\n  security:\n    cors: {{origin: 'https://app.example'}}\n{TOKEN_AUTH}{ECHO_TARGET}"
    ))
    .await;
    let preflight = "OPTIONS /v1/models HTTP/1.1\r\nhost: h\r\norigin: https://app.example\r\n\
                     access-control-request-method: GET\r\n";
    let bodies = [
        (
            "transfer-encoding: chunked\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ("content-length: 5\r\n\r\n", "hello"),
    ];
    for (head, status) in [
        ("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n", 401),
        ("GET /health HTTP/1.1\r\nhost: h\r\n", 200),
        ("GET /nothing HTTP/1.1\r\nhost: h\r\n", 401),
        (preflight, 204),
    ] {
        for (framing, body) in bodies {
            let mut client = hub.connect().await;
            for round in 0..3 {
                client.send(format!("{head}{framing}{body}")).await.unwrap();
                let answer = client.next_response(PATIENCE).await;
                let answer =
                    answer.unwrap_or_else(|error| panic!("{head}{framing}: {round}: {error}"));
                assert_eq!(answer.status, status, "{head}");
                assert_eq!(answer.header("connection"), None, "{head}{framing}");
            }
        }
    }
}
