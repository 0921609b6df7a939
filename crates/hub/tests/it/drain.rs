//! SIGTERM: what is in flight is finished, nothing new begins, the exit code tells how it went.

use std::time::Duration;

use proactions_testkit::{Gate, RawClient, Reply, Upstream};

use crate::harness::{Hub, PATIENCE, Req};

fn config(upstream: &Upstream, hub: &str) -> String {
    format!(
        "hub:\n  {hub}\ntargets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n",
        upstream.url("/{path}")
    )
}

#[tokio::test]
async fn streams_in_flight_are_finished() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(3).gated(&gate));
    let mut hub = Hub::start(&config(&upstream, "shutdownTimeout: 15000")).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = hub.connect().await;
        client.send(Req::chat(true).to_bytes()).await.unwrap();
        clients.push(client);
    }
    let mut idle = hub.connect().await;
    idle.send(Req::get("/health").to_bytes()).await.unwrap();
    assert_eq!(idle.next_response(PATIENCE).await.unwrap().status, 200);
    upstream.until_requests(20).await;

    hub.process.terminate();
    hub.process.wait_for_line("draining").await;
    // The port is closed while the streams go on.
    let refused = async {
        while RawClient::connect(hub.addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("the port is closed");
    assert!(hub.process.is_running());

    gate.open();
    for mut client in clients {
        let answer = client.next_response(PATIENCE).await.unwrap();
        assert!(
            answer.body_text().ends_with("data: [DONE]\n\n"),
            "{}",
            answer.body_text()
        );
    }
    assert_eq!(hub.process.exit_code().await, 0);
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut_and_counted() {
    let upstream = Upstream::start(Reply::silence());
    let mut hub = Hub::start(&config(&upstream, "shutdownTimeout: 200")).await;
    let mut client = hub.connect().await;
    client.send(Req::chat(false).to_bytes()).await.unwrap();
    upstream.until_requests(1).await;
    hub.process.terminate();
    assert_eq!(hub.process.exit_code().await, 1);
    assert!(hub.output().contains("\"cut\":1"), "{}", hub.output());
}

#[tokio::test]
async fn readiness_ends_before_the_port_closes() {
    let upstream = Upstream::start(Reply::echo());
    let mut hub = Hub::start(&config(&upstream, "preStopDelay: 60000")).await;
    assert_eq!(
        hub.send(&Req::get("/ready")).await.json()["status"],
        "ready"
    );
    hub.process.terminate();
    hub.process.wait_for_line("draining").await;
    let answer = hub.send(&Req::get("/ready")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["checks"]["draining"], "down");
    assert_eq!(hub.send(&Req::get("/health")).await.status, 200);
    // A second signal does not wait for the delay; nothing was under way, so nothing was cut.
    hub.process.terminate();
    assert_eq!(hub.process.exit_code().await, 0);
}
