//! Clients that are slow or silent are gone at their deadline; others do not notice them.

use std::time::Duration;

use proactions_testkit::{RawClient, Reply, Upstream};

use crate::harness::{Hub, PATIENCE, Req};

const LISTENER: &str = "hub:
  listener:
    firstByteTimeout: 300
    headerTimeout: 300
    idleTimeout: 300
    writeTimeout: 300
    bodyFrameTimeout: 300
    bodyTimeout: 600
";

async fn closed(mut client: RawClient) -> String {
    let seen = client.read_to_end(PATIENCE).await;
    assert!(
        seen.ending != proactions_testkit::Ending::Deadline,
        "still open after {PATIENCE:?}: {seen:?}"
    );
    seen.text()
}

#[tokio::test]
async fn the_silent_and_the_slow_are_cut() {
    let hub = Hub::start(&format!("{LISTENER}{}", crate::harness::ECHO_TARGET)).await;
    for (what, bytes, answer) in [
        ("silent", "", ""),
        ("half a line", "GET /hea", ""),
        ("half a head", "GET /health HTTP/1.1\r\nhost: h\r\n", ""),
        ("half a preface", "PRI * HTTP/2.0\r\n", ""),
        ("preface only", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (
            "idle after an answer",
            "GET /health HTTP/1.1\r\nhost: h\r\n\r\n",
            "HTTP/1.1 200",
        ),
        (
            "half a body",
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
            "HTTP/1.1 408",
        ),
    ] {
        let mut client = hub.connect().await;
        client.send(bytes).await.unwrap();
        let seen = closed(client).await;
        if what != "preface only" {
            assert!(
                seen.starts_with(answer) && (seen.is_empty() == answer.is_empty()),
                "{what}: {seen}"
            );
        }
        assert_eq!(
            hub.send(&Req::get("/health")).await.status,
            200,
            "after {what}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_cut() {
    let upstream = Upstream::start(Reply::huge(200 * 1024 * 1024));
    let hub = Hub::start(&format!(
        "{LISTENER}targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n",
        upstream.url("/{path}")
    ))
    .await;
    let mut client = hub.connect().await;
    client.send(Req::chat(false).to_bytes()).await.unwrap();
    upstream.until_requests(1).await;
    // The upstream learns of it within the deadline: nobody holds the answer for ever.
    upstream.until_abandoned(0).await;
    drop(client);
}

#[tokio::test]
async fn connections_are_capped() {
    let hub =
        Hub::start("hub:\n  listener: {maxConnections: 5, maxConnectionsPerAddress: 5}\n").await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut client = hub.connect().await;
        client.send(Req::get("/health").to_bytes()).await.unwrap();
        assert_eq!(client.next_response(PATIENCE).await.unwrap().status, 200);
        held.push(client);
    }
    assert_eq!(closed(hub.connect().await).await, "");
    held.pop();
    let comes_back = async {
        loop {
            let mut client = hub.connect().await;
            if client.send(Req::get("/health").to_bytes()).await.is_ok()
                && client.next_response(PATIENCE).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, comes_back)
        .await
        .expect("a place is given back");
}
