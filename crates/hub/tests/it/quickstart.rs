//! The first minute: one command, one token, one line to paste.

use proactions_testkit::{HubProcess, RawClient};

use crate::harness::{BINARY, PATIENCE, Req};

#[tokio::test]
async fn what_it_prints_works_when_pasted() {
    let args = ["quickstart", "--port", "0"].map(str::to_owned);
    let mut process = HubProcess::start(BINARY, args, []);
    let addr = process.address("Serving on").await;
    assert!(addr.ip().is_loopback());
    let curl = process.wait_for_line("/v1/chat/completions").await;
    assert!(curl.trim_start().starts_with("curl"), "{curl}");
    let all = process.stdout().join("\n");
    let token = all
        .split("Authorization: Bearer ")
        .nth(1)
        .and_then(|rest| rest.split(['\'', '"']).next())
        .expect("a token in the curl line")
        .to_owned();
    assert!(token.len() >= 32, "{token}");

    let send = |request: Req| async move {
        let mut client = RawClient::connect(addr).await.unwrap();
        client.send(request.to_bytes()).await.unwrap();
        client.next_response(PATIENCE).await.unwrap()
    };
    let bearer = format!("Bearer {token}");
    let answer = send(Req::chat(false).header("authorization", &bearer)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["choices"][0]["message"]["content"].is_string());
    let stream = send(Req::chat(true).header("authorization", &bearer)).await;
    assert!(stream.body_text().ends_with("data: [DONE]\n\n"));
    assert_eq!(send(Req::chat(false)).await.status, 401);

    process.terminate();
    assert_eq!(process.exit_code().await, 0);
    let logged: Vec<_> = process
        .stdout()
        .into_iter()
        .filter(|line| line.starts_with('{'))
        .collect();
    assert!(logged.iter().any(|line| line.contains("\"access\"")));
    assert!(
        !logged.join("\n").contains(&token),
        "the token is printed once, and not logged"
    );
}

#[tokio::test]
async fn the_port_is_the_flags_or_else_the_variables() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let variable = [("PROACTIONS_HUB_PORT", port.clone())];
    let mut process = HubProcess::start(BINARY, ["quickstart".to_owned()], variable.clone());
    assert_eq!(process.exit_code().await, 1);
    let said = process.stderr().join("\n");
    assert!(said.contains(&port), "{said}");

    let args = ["quickstart", "--port", "0"].map(str::to_owned);
    let mut process = HubProcess::start(BINARY, args, variable);
    process.address("Serving on").await;
    process.terminate();
    assert_eq!(process.exit_code().await, 0);

    let wrong = [("PROACTIONS_HUB_PORT", "http".to_owned())];
    let mut process = HubProcess::start(BINARY, ["quickstart".to_owned()], wrong);
    assert_eq!(process.exit_code().await, 2);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_in_plain_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let args = ["quickstart", "--port", &port].map(str::to_owned);
    let mut process = HubProcess::start(BINARY, args, []);
    assert_eq!(process.exit_code().await, 1);
    let said = process.stderr().join("\n");
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
}
