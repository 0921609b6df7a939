//! Only the exact public paths answer without credentials, however the others are spelled.

use proactions_testkit::{Reply, Upstream};

use crate::harness::{Hub, PATIENCE, Req, TOKEN_AUTH};

const PUBLIC: [&str; 2] = ["/health", "/ready"];
const CALLBACK: &str = "/youtube/auth/google/callback";

/// Spellings of a public path that are other paths, or none.
fn spellings(path: &str) -> Vec<String> {
    let name = path.trim_start_matches('/');
    let first = name.as_bytes()[0];
    let upper = path.to_uppercase();
    let capital = format!("/{}{}", char::from(first).to_uppercase(), &name[1..]);
    let mut all: Vec<String> = [
        "/{}",
        "{}/",
        "{}//",
        "/./{}",
        "/.{}",
        "{}/.",
        "{}/..",
        "/x/..{}",
        "{}/../v1/models",
        "{}/%2e%2e/v1/models",
        "{}/.%2e/v1/models",
        "{}/%2E./v1/models",
        "{}%2f..%2fv1%2fmodels",
        "{}%252f..%252fv1",
        "{}/..%2fv1/models",
        "{}%2f",
        "%2f{}",
        "{}%5c..",
        "{}\\..\\v1\\models",
        "\\{}",
        "{}.",
        "{}..",
        "{}.json",
        "{};",
        "{};x",
        "{};x=1",
        "/;{}",
        "{}%00",
        "{}%00/v1/models",
        "{}%0a",
        "{}%0d%0a",
        "{}%20",
        "{}+",
        "{}%3f",
        "{}%23",
        "{}%3b",
        "{}x",
        "{}1",
        "{}/v1/models",
        "/v1{}",
        "/v1/models?{}",
        "/v1/models#{}",
        "/v1/models?x={}",
        "{}%",
        "{}%2",
        "{}%zz",
        "{}%c0%af",
        "{}*",
        "{}~",
        "{}:80",
        "{}@x",
        "/x{}",
        "//evil.test{}",
        "{}/health",
        "{},",
        "{}'",
        "{}%25",
        "{}&x=1",
        "{}=1",
    ]
    .iter()
    .map(|pattern| pattern.replace("{}", path))
    .collect();
    all.push(upper);
    all.push(capital);
    all.push(format!("/%{first:02x}{}", &name[1..]));
    all.push(format!("/%{first:02X}{}", &name[1..]));
    all.push(format!("/%25{first:02x}{}", &name[1..]));
    all
}

#[tokio::test]
async fn no_other_spelling_is_public() {
    let upstream = Upstream::start(Reply::echo());
    let yaml = format!(
        "targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n{TOKEN_AUTH}",
        upstream.url("/{path}")
    );
    let youtube = "youtube:\n  accounts: [{id: main, client_id: c, client_secret: s, \
                   redirect_uri: 'https://hub.test/youtube/auth/google/callback'}]\n";
    let hub = Hub::start(&format!("{youtube}{yaml}")).await;

    let mut tried = 0;
    for public in PUBLIC.into_iter().chain([CALLBACK]) {
        for target in spellings(public) {
            for method in ["GET", "POST", "HEAD"] {
                let request =
                    format!("{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
                let seen = hub.connect().await;
                let mut client = seen;
                client.send(&request).await.unwrap();
                let answer = client.next_head(PATIENCE).await.unwrap();
                assert!(
                    matches!(answer.status, 400 | 401 | 405),
                    "{method} {target} was answered {}",
                    answer.status
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 3 * 60 * 3, "{tried}");
    for public in PUBLIC {
        let answer = hub.send(&Req::get(public)).await;
        assert_eq!(answer.status, 200, "{public}");
        // A query does not make another path; what stands in it is nobody's concern.
        let answer = hub.send(&Req::get(&format!("{public}?x=/v1/models"))).await;
        assert_eq!(answer.status, 200, "{public}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = hub.send(&Req::new(method, public)).await;
            assert!(
                matches!(answer.status, 401 | 405),
                "{method} {public}: {}",
                answer.status
            );
        }
    }
    for target in [CALLBACK.to_owned(), format!("{CALLBACK}?state=x&code=y")] {
        let answer = hub.send(&Req::get(&target)).await;
        assert_eq!(answer.status, 400, "{target}");
        for method in ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let request = format!("{method} {target} HTTP/1.1\r\nhost: h\r\n\r\n");
            let mut client = hub.connect().await;
            client.send(&request).await.unwrap();
            let answer = client.next_head(PATIENCE).await.unwrap();
            assert_eq!(answer.status, 401, "{method} {target}");
        }
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn headers_open_no_door() {
    let upstream = Upstream::start(Reply::echo());
    let yaml = format!(
        "targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\n{TOKEN_AUTH}",
        upstream.url("/{path}")
    );
    let hub = Hub::start(&yaml).await;
    for (name, value) in [
        ("x-original-url", "/health"),
        ("x-rewrite-url", "/health"),
        ("x-forwarded-uri", "/health"),
        ("x-forwarded-prefix", "/health"),
        ("x-forwarded-path", "/health"),
        ("x-http-method-override", "GET"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("user-agent", "kube-probe/1.0"),
        ("user-agent", "GoogleHC/1.0"),
        ("x-forwarded-user", "admin"),
        ("x-hub-user", "admin"),
        ("x-admin-key", "admin"),
        ("cookie", "proactions_session=s%3Aabc.def"),
        ("authorization", "Bearer"),
        ("authorization", "Bearer  "),
        ("authorization", "Bearer wrong"),
        ("authorization", "Basic dTpw"),
        ("authorization", "test-token-0123456789abcdef"),
    ] {
        let answer = hub.send(&Req::chat(false).header(name, value)).await;
        assert_eq!(answer.status, 401, "{name}: {value}");
        assert!(answer.header("www-authenticate").is_some());
    }
    let twice = Req::chat(false)
        .bearer()
        .header("authorization", "Bearer x");
    assert_eq!(hub.send(&twice).await.status, 400);
    for method in ["TRACE", "CONNECT"] {
        let answer = hub
            .raw(format!("{method} /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"))
            .await;
        assert!(
            matches!(answer.status, 400 | 405),
            "{method}: {}",
            answer.status
        );
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn known_and_unknown_paths_with_credentials() {
    let hub = Hub::start(&format!("{TOKEN_AUTH}{}", crate::harness::ECHO_TARGET)).await;
    for (method, path, status, allow) in [
        ("GET", "/", 404, None),
        ("GET", "/nothing", 404, None),
        ("GET", "/v1/chat/completions", 405, Some("POST")),
        ("POST", "/v1/models", 405, Some("GET")),
        ("GET", "/auth/logout", 405, Some("POST")),
        ("GET", "/auth/session", 200, None),
        ("GET", "/v1/models", 200, None),
    ] {
        let without = hub.send(&Req::new(method, path)).await;
        assert_eq!(without.status, 401, "{method} {path}");
        let with = hub.send(&Req::new(method, path).bearer()).await;
        assert_eq!(with.status, status, "{method} {path}: {}", with.body_text());
        if let Some(allow) = allow {
            assert!(with.header("allow").unwrap().contains(allow));
        }
        if status >= 400 {
            let json = with.json();
            assert_eq!(json["statusCode"], status);
            assert!(
                json["message"].is_string()
                    && json["error"].is_string()
                    && json["requestId"].is_string()
            );
        }
    }
}
