//! The metrics listener tells what was answered, and what was refused and why.

use proactions_testkit::RawClient;

use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req, TOKEN_AUTH};

/// As a collector asks.
fn scrape() -> Req {
    Req::get("/metrics").header("host", "localhost:9464")
}

#[tokio::test]
async fn answers_and_refusals_are_counted() {
    let mut hub = Hub::start(&format!(
        "metrics: {{enabled: true, port: 0}}\n{ECHO_TARGET}{TOKEN_AUTH}"
    ))
    .await;
    let metrics = hub.process.address("metrics on").await;
    for (request, status) in [
        (Req::get("/health"), 200),
        (Req::chat(false).bearer(), 200),
        (Req::chat(false), 401),
        (Req::get("/nothing").bearer(), 404),
    ] {
        assert_eq!(hub.send(&request).await.status, status);
    }
    let mut client = RawClient::connect(metrics).await.unwrap();
    client.send(scrape().to_bytes()).await.unwrap();
    let text = client.next_response(PATIENCE).await.unwrap().body_text();
    for line in [
        "hub_requests_total{class=\"2xx\"} 2",
        "hub_requests_total{class=\"4xx\"} 2",
        "hub_rejections_total{reason=\"unauthorized\"} 1",
        "hub_rejections_total{reason=\"not_found\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains("hub_connections_open "), "{text}");
}

#[tokio::test]
async fn its_listener_is_as_strict_as_the_others() {
    let mut hub = Hub::start(&format!(
        "metrics: {{enabled: true, port: 0}}\n{TOKEN_AUTH}"
    ))
    .await;
    let metrics = hub.process.address("metrics on").await;
    let long = "x".repeat(40_000);
    for (request, status) in [
        (scrape().to_bytes(), 200),
        (Req::get("/").header("host", "localhost").to_bytes(), 404),
        (
            scrape().header("origin", "http://page.test").to_bytes(),
            403,
        ),
        (
            Req::get("/metrics").header("host", "page.test").to_bytes(),
            403,
        ),
        (
            scrape().header("x_forwarded_for", "1.2.3.4").to_bytes(),
            400,
        ),
        (scrape().header("x-long", &long).to_bytes(), 431),
        (b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), 400),
        (
            b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            400,
        ),
    ] {
        let mut client = RawClient::connect(metrics).await.unwrap();
        client.send(&request).await.unwrap();
        let answer = client.next_response(PATIENCE).await.unwrap();
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        assert_eq!(answer.status, status, "{shown}");
        for name in ["x-content-type-options", "x-frame-options"] {
            assert_eq!(answer.header_all(name).count(), 1, "{name}: {shown}");
        }
    }
    for event in ["malformed_request", "cross_site_refused"] {
        let told = hub.process.wait_for_line(event).await;
        assert!(told.contains("\"ip\":\"127.0.0.1\""), "{told}");
    }
}
