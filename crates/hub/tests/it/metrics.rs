//! The metrics listener tells what was answered, and what was refused and why.

use proactions_testkit::RawClient;

use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req, TOKEN_AUTH};

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
    client.send(Req::get("/metrics").to_bytes()).await.unwrap();
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
