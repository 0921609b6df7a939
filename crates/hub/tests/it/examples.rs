//! Every configuration in `examples/` can be served.

use std::path::Path;

use proactions_testkit::HubProcess;

use crate::harness::{BINARY, PATIENCE, Req};

const ENV: [(&str, &str); 4] = [
    ("AUTH_TOKEN", "example-token-0123456789abcdef"),
    ("PROACTIONS_SESSION_SECRET", "example-secret-example-secret-example"),
    ("OPENAI_API_KEY", "example-key"),
    ("PROACTIONS_HUB_PORT", "0"),
];

#[tokio::test]
async fn the_development_example_serves() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/development/config.yaml");
    let args = ["serve", "--config", config.to_str().unwrap()].map(str::to_owned);
    let env = ENV.map(|(name, value)| (name, value.to_owned()));
    let mut process = HubProcess::start(BINARY, args, env);
    let addr = process.address("listening on").await;
    let ask = |request: Req| async move {
        let mut client = proactions_testkit::RawClient::connect(addr).await.unwrap();
        client.send(request.to_bytes()).await.unwrap();
        client.next_response(PATIENCE).await.unwrap()
    };
    let bearer = format!("Bearer {}", ENV[0].1);
    let chat = Req::chat(false).header("x-target", "echo").header("authorization", &bearer);
    let answer = ask(chat).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(ask(Req::chat(false)).await.status, 401);
}
