//! Secrets in every place where a client or an operator can put them; none of them in any log.

use proactions_testkit::{Reply, Upstream};
use serde_json::json;

use crate::harness::{Hub, Req, TOKEN, TOKEN_AUTH};

/// Makes secrets that can be told apart, in the shapes that credentials have.
struct Canaries {
    made: Vec<String>,
}

impl Canaries {
    fn next(&mut self, shape: &str) -> String {
        let number = self.made.len();
        let core = format!("canary{number:04}Zq7Xw9Lk3Vb5Nm1Ty");
        let secret = match shape {
            "sk" => format!("sk-proj-{core}"),
            "aiza" => format!("AIzaSy{core}abcdefgh"),
            "jwt" => format!("eyJhbGciOiJIUzI1NiJ9.eyJ{core}.{core}sig"),
            _ => core,
        };
        self.made.push(format!("canary{number:04}"));
        secret
    }
}

#[tokio::test]
async fn none_reaches_a_log() {
    let upstream = Upstream::serve(|received| match received.header("x-want") {
        Some("error") => Reply::error(401),
        Some("stream") => Reply::chat_stream(2),
        _ => Reply::chat("fine"),
    });
    let mut canaries = Canaries { made: Vec::new() };
    let api_key = canaries.next("sk");
    let header_key = canaries.next("plain");
    let cookie_secret = format!("{}-{}", canaries.next("plain"), "x".repeat(32));
    let logs = tempfile::tempdir().unwrap();
    let yaml = format!(
        "hub:
  security:
    cors: {{origin: https://app.example.com}}
targets:
  - id: up
    provider: custom
    apiKey: {api_key}
    endpoint: '{}'
    headers: {{x-extra-key: {header_key}}}
  - {{id: dead, provider: custom, apiKey: {api_key}, endpoint: 'http://{}/'}}
logging:
  defaultLogLevel: silly
  logTrace: true
  logDirectory: {}
  types:
    access: {{file: true}}
    error: {{file: true}}
    aiLink: {{file: true, logPrompt: true, logResponse: true}}
    security: {{file: true}}
{}",
        upstream.url("/{path}"),
        proactions_testkit::closed_address(),
        logs.path().join("logs").display(),
        TOKEN_AUTH.replace("cookie-secret-cookie-secret-cookie-secret", &cookie_secret),
    );
    let mut hub = Hub::start(&yaml).await;

    // Queries, by the parameter's name and by the value's shape, in paths that exist and paths that do not.
    for name in [
        "token",
        "access_token",
        "accessToken",
        "api_key",
        "apiKey",
        "apikey",
        "key",
        "password",
        "passwd_token",
        "secret",
        "client_secret",
        "sessionId",
        "session_id",
        "authorization",
        "x-api-key",
        "cookie",
        "ACCESS_TOKEN",
        "%74oken",
        "user[password]",
    ] {
        for path in ["/v1/models", "/nothing", "/health"] {
            let secret = canaries.next("plain");
            hub.send(&Req::get(&format!("{path}?a=1&{name}={secret}&b=2")).bearer())
                .await;
        }
    }
    for shape in ["sk", "aiza", "jwt"] {
        for place in [
            "/nothing?q={}",
            "/nothing/{}",
            "/v1/models?x={}&y=1",
            "/nothing?u=https%3A%2F%2Fu%3A{}%40h%2F",
        ] {
            let secret = canaries.next(shape);
            hub.send(&Req::get(&place.replace("{}", &secret)).bearer())
                .await;
        }
    }
    // Headers, with good and bad credentials.
    for name in [
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-auth-token",
        "x-admin-key",
        "x-session-id",
        "x-secret",
        "x-amz-security-token",
        "x-goog-api-key",
    ] {
        for value in [
            "{}",
            "Bearer {}",
            "Basic {}",
            "token={}",
            "proactions_session=s%3A{}.sig",
        ] {
            let secret = canaries.next("plain");
            hub.send(&Req::get("/v1/models").header(name, &value.replace("{}", &secret)))
                .await;
        }
    }
    for (name, value) in [
        ("user-agent", "tool/1.0 (Bearer {})"),
        ("user-agent", "tool token={}"),
        ("referer", "https://u:{}@h.test/?access_token={}"),
        ("origin", "https://{}.test"),
        ("x-request-id", "Bearer {}"),
        ("x-target", "token={}"),
        ("x-target", "Bearer {}"),
    ] {
        let secret = canaries.next("sk");
        let value = value.replace("{}", &secret);
        hub.send(&Req::chat(false).header(name, &value)).await;
        hub.send(&Req::chat(false).bearer().header(name, &value))
            .await;
    }
    // Bodies, which the prompt log shows.
    for want in ["", "stream", "error"] {
        for shape in ["plain", "sk", "aiza", "jwt"] {
            for build in [
                |secret: &str| json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "apiKey": secret}),
                |secret: &str| json!({"model": "m", "metadata": {"deep": [{"password": secret}]}, "messages": []}),
                |secret: &str| json!({"model": "m", "messages": [{"content": format!("{{\"token\":\"{secret}\"}}")}]}),
                |secret: &str| json!({"model": "m", "messages": [{"content": format!("Authorization: Bearer {secret}")}]}),
                |secret: &str| json!({"model": "m", "messages": [{"content": format!("https://u:{secret}@h.test/")}]}),
            ] {
                let secret = canaries.next(shape);
                hub.send(
                    &Req::post("/v1/chat/completions")
                        .bearer()
                        .header("x-target", "up")
                        .header("x-want", want)
                        .json(&build(&secret)),
                )
                .await;
            }
        }
    }
    // Error paths: broken JSON, dead upstream, form, wrong path.
    for (target, content_type, body) in [
        ("up", "application/json", "{\"apiKey\": \"{}\""),
        ("up", "application/json", "[\"Bearer {}\"]"),
        ("dead", "application/json", "{\"model\":\"Bearer {}\"}"),
        (
            "dead",
            "application/x-www-form-urlencoded",
            "password={}&x=1",
        ),
        ("none", "application/json", "{\"secret\":\"{}\"}"),
    ] {
        let secret = canaries.next("sk");
        hub.send(
            &Req::post("/v1/chat/completions")
                .bearer()
                .header("x-target", target)
                .body(content_type, body.replace("{}", &secret)),
        )
        .await;
    }
    for path in ["/v1/../{}", "/x%00token={}", "//u:{}@h/"] {
        let secret = canaries.next("sk");
        hub.send(&Req::get(&path.replace("{}", &secret)).bearer())
            .await;
    }
    let session = hub.send(&Req::get("/auth/session").bearer()).await;
    let cookie = crate::harness::cookie_of(&session);
    hub.send(&Req::get("/v1/models").header("cookie", &cookie))
        .await;

    assert_eq!(hub.stop().await, 0);
    assert!(canaries.made.len() >= 200, "{}", canaries.made.len());
    let mut sinks = hub.output();
    let mut files = 0;
    for entry in std::fs::read_dir(logs.path().join("logs")).unwrap() {
        sinks.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 3);
    let leaks: Vec<_> = sinks
        .lines()
        .filter(|line| {
            canaries
                .made
                .iter()
                .any(|canary| line.contains(canary.as_str()))
        })
        .collect();
    assert!(
        leaks.is_empty(),
        "{} leaks, such as\n{}",
        leaks.len(),
        leaks[..leaks.len().min(10)].join("\n")
    );
    assert!(!sinks.contains(TOKEN));
    let id = cookie
        .split("s%3A")
        .nth(1)
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    assert!(!sinks.contains(id), "a session id is a credential");
    // What only looks like a secret's name stays.
    let numbers = sinks.lines().filter(|line| {
        serde_json::from_str::<serde_json::Value>(line)
            .is_ok_and(|line| line["promptTokens"].is_number())
    });
    assert!(numbers.count() > 0, "promptTokens survive");
}
