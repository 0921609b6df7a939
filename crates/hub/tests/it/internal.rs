//! The internal listener: `/v1/*` without credentials, for programs on this machine alone.

use proactions_testkit::{RawClient, RawResponse, Reply, Upstream};

use crate::harness::{ECHO_TARGET, Hub, PATIENCE, Req, TOKEN_AUTH};

struct Inside {
    hub: Hub,
    addr: std::net::SocketAddr,
}

impl Inside {
    async fn start(targets: &str) -> Self {
        let yaml = format!("hub: {{port: 0, ailink_port: 0}}\n{targets}{TOKEN_AUTH}");
        let mut hub = Hub::start(&yaml).await;
        let addr = hub.process.address("internal listener on").await;
        Self { hub, addr }
    }

    async fn send(&self, request: Req) -> RawResponse {
        let mut client = RawClient::connect(self.addr).await.unwrap();
        client
            .send(request.header("host", "localhost").to_bytes())
            .await
            .unwrap();
        client.next_response(PATIENCE).await.unwrap()
    }
}

#[tokio::test]
async fn it_serves_ai_link_without_credentials_and_nothing_else() {
    let inside = Inside::start(ECHO_TARGET).await;
    assert!(inside.addr.ip().is_loopback());
    let answer = inside.send(Req::chat(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert!(answer.json()["choices"].is_array());
    assert!(answer.header("set-cookie").is_none());
    for name in ["x-content-type-options", "x-request-id", "x-frame-options"] {
        assert_eq!(answer.header_all(name).count(), 1, "{name}");
    }
    assert_eq!(inside.send(Req::get("/v1/models")).await.status, 200);
    for path in [
        "/",
        "/health",
        "/ready",
        "/metrics",
        "/auth/session",
        "/proxy/forward/a/",
        "/youtube/auth/status",
        "/v1",
        "/v1/",
        "/v1/models/",
        "/V1/models",
    ] {
        let answer = inside.send(Req::get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["statusCode"], 404);
        assert_eq!(answer.header_all("x-content-type-options").count(), 1);
    }
    for (method, path) in [("DELETE", "/v1/models"), ("OPTIONS", "/v1/models")] {
        assert_eq!(inside.send(Req::new(method, path)).await.status, 405);
    }
    // A path that others could read in another way is refused before it is looked up.
    assert_eq!(inside.send(Req::get("/v1//models")).await.status, 400);
    // The public listener asks as ever.
    assert_eq!(inside.hub.send(&Req::chat(false)).await.status, 401);
}

#[tokio::test]
async fn a_web_page_cannot_use_it() {
    let upstream = Upstream::start(Reply::chat("x"));
    let inside = Inside::start(&format!(
        "targets:\n  - {{id: up, provider: custom, endpoint: '{}'}}\n",
        upstream.url("/v1/{path}")
    ))
    .await;
    let form = Req::post("/v1/audio/transcriptions")
        .body("multipart/form-data; boundary=b", "--b--\r\n")
        .header("origin", "http://evil.example");
    assert_eq!(inside.send(form).await.status, 403);
    // A name of somebody else's that was made to lead to this machine.
    let mut client = RawClient::connect(inside.addr).await.unwrap();
    let rebound = Req::chat(false).header("host", "evil.example:3001");
    client.send(rebound.to_bytes()).await.unwrap();
    let answer = client.next_response(PATIENCE).await.unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(upstream.request_count(), 0);
    let mut hub = inside.hub;
    hub.process.wait_for_line("cross_site_refused").await;
}

#[tokio::test]
async fn it_answers_to_the_names_that_are_listed_and_to_no_other() {
    let yaml = format!(
        "hub:\n  port: 0\n  ailink_port: 0\n  ailink_host: 0.0.0.0\n  ailink_allow_external: true\n  \
         ailink_hosts: [proactions-hub, hub.default.svc.cluster.local]\n{ECHO_TARGET}{TOKEN_AUTH}"
    );
    let mut hub = Hub::start(&yaml).await;
    let mut addr = hub.process.address("internal listener on").await;
    addr.set_ip([127, 0, 0, 1].into());
    let inside = Inside { hub, addr };
    for (host, status) in [
        ("proactions-hub", 200),
        ("Proactions-Hub:3001", 200),
        ("hub.default.svc.cluster.local:3001", 200),
        ("localhost:3001", 200),
        ("127.0.0.1", 200),
        ("hub.default.svc", 403),
        ("proactions-hub.evil.example", 403),
        ("evil.example", 403),
    ] {
        let mut client = RawClient::connect(inside.addr).await.unwrap();
        let request = Req::get("/v1/models").header("host", host);
        client.send(request.to_bytes()).await.unwrap();
        let answer = client.next_response(PATIENCE).await.unwrap();
        assert_eq!(answer.status, status, "{host}");
    }
    // A page is a page under a listed name too.
    let page = Req::get("/v1/models")
        .header("host", "proactions-hub")
        .header("origin", "http://proactions-hub");
    let mut client = RawClient::connect(inside.addr).await.unwrap();
    client.send(page.to_bytes()).await.unwrap();
    assert_eq!(client.next_response(PATIENCE).await.unwrap().status, 403);
}

#[tokio::test]
async fn forwarding_headers_and_credentials_change_nothing() {
    let upstream = Upstream::start(Reply::chat("x"));
    let inside = Inside::start(&format!(
        "targets:\n  - {{id: up, provider: custom, endpoint: '{}'}}\n",
        upstream.url("/v1/{path}")
    ))
    .await;
    let request = Req::chat(false)
        .bearer()
        .header("x-forwarded-for", "203.0.113.9")
        .header("cookie", "proactions_session=abc");
    assert_eq!(inside.send(request).await.status, 200);
    let received = upstream.last_request();
    for name in ["authorization", "cookie", "x-forwarded-for"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    let mut hub = inside.hub;
    let access = hub.process.wait_for_line("\"module\":\"access\"").await;
    assert!(!access.contains("203.0.113.9"), "{access}");
}
