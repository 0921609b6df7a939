//! Every configuration in `examples/` can be served.

use std::path::Path;

use proactions_testkit::{Edapi, HubProcess, RawClient, RedisServer};

use crate::harness::{BINARY, PATIENCE, Req};

const ENV: [(&str, &str); 4] = [
    ("AUTH_TOKEN", "example-token-0123456789abcdef"),
    (
        "PROACTIONS_SESSION_SECRET",
        "example-secret-example-secret-example",
    ),
    ("OPENAI_API_KEY", "example-key"),
    ("PROACTIONS_HUB_PORT", "0"),
];

#[tokio::test]
async fn the_development_example_serves() {
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/development/config.yaml");
    let args = ["serve", "--config", config.to_str().unwrap()].map(str::to_owned);
    let env = ENV.map(|(name, value)| (name, value.to_owned()));
    let mut process = HubProcess::start(BINARY, args, env);
    let addr = process.address("listening on").await;
    let ask = |request: Req| async move {
        let mut client = RawClient::connect(addr).await.unwrap();
        client.send(request.to_bytes()).await.unwrap();
        client.next_response(PATIENCE).await.unwrap()
    };
    let bearer = format!("Bearer {}", ENV[0].1);
    let chat = Req::chat(false)
        .header("x-target", "echo")
        .header("authorization", &bearer);
    let answer = ask(chat).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(ask(Req::chat(false)).await.status, 401);
}

#[tokio::test]
async fn the_production_example_serves() {
    serves_beside_edapi_and_redis("production-edapi-redis").await;
}

#[tokio::test]
async fn the_containers_example_serves() {
    serves_beside_edapi_and_redis("containers").await;
}

async fn serves_beside_edapi_and_redis(example: &str) {
    let redis = RedisServer::start().await;
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token", "ada");
    let logs = tempfile::tempdir().unwrap();
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{example}/config.yaml"));
    let args = ["serve", "--config", config.to_str().unwrap()].map(str::to_owned);
    let mut env: Vec<_> = ENV.map(|(name, value)| (name, value.to_owned())).into();
    env.extend([
        ("EDAPI_URL", edapi.url()),
        ("PROACTIONS_REDIS_URL", redis.url()),
        ("TRUSTED_PROXIES", "loopback".to_owned()),
        (
            "LOG_DIRECTORY",
            logs.path().join("logs").display().to_string(),
        ),
        ("METRICS_PORT", "0".to_owned()),
    ]);
    let mut process = HubProcess::start(BINARY, args, env);
    let mut addr = process.address("listening on").await;
    addr.set_ip([127, 0, 0, 1].into());
    let metrics = process.address("metrics on").await;
    let ask = |addr, request: Req| async move {
        let mut client = RawClient::connect(addr).await.unwrap();
        client.send(request.to_bytes()).await.unwrap();
        client.next_response(PATIENCE).await.unwrap()
    };
    let login = Req::get("/auth/session")
        .header("authorization", "Bearer the-users-token")
        .header("x-forwarded-for", "198.51.100.1")
        .header("x-forwarded-proto", "https");
    let answer = ask(addr, login).await;
    assert_eq!(
        (answer.status, &answer.json()["user"]),
        (200, &"ada".into())
    );
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-proactions_session=") && cookie.contains("Secure"),
        "{cookie}"
    );
    assert_eq!(answer.header("ratelimit-limit"), Some("1000"));
    assert!(redis.command(&["KEYS", "*"]).contains("sess:"));
    assert_eq!(ask(addr, Req::get("/ready")).await.status, 200);
    let counters = ask(metrics, Req::get("/metrics").header("host", "localhost")).await;
    assert!(
        counters.body_text().contains("hub_edapi_checks_total"),
        "{}",
        counters.body_text()
    );
    assert!(!process.stdout().join("\n").contains("the-users-token"));
}
