//! The guide's snippets start a hub and take effect.

use std::os::unix::fs::PermissionsExt as _;

use proactions_testkit::TestCertificates;

use crate::harness::{ECHO_TARGET, Hub, Req, cookie_of};

const GUIDE: &str = include_str!("../../../../docs/guide.md");

const ENV: [(&str, &str); 16] = [
    ("AUTH_TOKEN_1", "guide-token-1-0123456789abcdef"),
    ("AUTH_TOKEN_2", "guide-token-2-0123456789abcdef"),
    (
        "PROACTIONS_SESSION_SECRET",
        "guide-secret-guide-secret-guide-secret",
    ),
    ("SESSION_SECRET", "guide-secret-guide-secret-guide-secret"),
    ("ANTHROPIC_API_KEY", "guide-anthropic-key"),
    ("AWS_ACCESS_KEY_ID", "guide-aws-key"),
    ("AWS_SECRET_ACCESS_KEY", "guide-aws-secret"),
    ("AZURE_OPENAI_KEY", "guide-azure-key"),
    ("YOUTUBE_CLIENT_ID", "1234.apps.googleusercontent.com"),
    ("YOUTUBE_CLIENT_SECRET", "guide-youtube-secret"),
    ("OPENAI_API_KEY", "guide-openai-key"),
    ("ARCHIVE_TOKEN", "guide-archive-token"),
    ("PROXY_USER", "guide-proxy-user"),
    ("PROXY_PASSWORD", "guide-proxy-password"),
    ("PROACTIONS_HUB_PORT", "0"),
    ("PROACTIONS_HUB_AILINK_PORT", ""),
];

fn snippets() -> Vec<&'static str> {
    GUIDE
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn env() -> [(&'static str, &'static str); ENV.len()] {
    ENV
}

#[tokio::test]
async fn every_snippet_starts_a_hub() {
    let snippets = snippets();
    assert!(snippets.len() >= 15, "{}", snippets.len());
    let keys = tempfile::tempdir().unwrap();
    TestCertificates::new().write_to(keys.path());
    let key = keys.path().join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let files = [
        ("${TLS_CERT_PATH}", "server.pem"),
        ("${TLS_KEY_PATH}", "server.key"),
        ("${TLS_CA_PATH}", "ca.pem"),
        ("${TLS_PASSPHRASE}", "server.key"),
    ]
    .map(|(name, file)| (name, keys.path().join(file).display().to_string()));
    for snippet in snippets {
        let mut yaml = snippet.to_owned();
        // A log directory of the test's own, for snippets that write files.
        let logs = tempfile::tempdir().unwrap();
        if let Some(rest) = yaml.strip_prefix("logging:\n") {
            yaml = format!(
                "logging:\n  logDirectory: {}\n{rest}",
                logs.path().display()
            );
        }
        // Nothing else may listen on a fixed port while this runs.
        let yaml = yaml.replace("ailink_port: 3001", "ailink_port: 0");
        let yaml = files
            .iter()
            .fold(yaml, |yaml, (name, path)| yaml.replace(name, path));
        let hub = Hub::start_with(&yaml, env()).await;
        // Plain HTTP at a port with TLS is 400.
        let status = if yaml.contains("tls:") { 400 } else { 200 };
        assert_eq!(
            hub.send(&Req::get("/health")).await.status,
            status,
            "{snippet}"
        );
    }
}

/// One configuration with everything that goes together.
const TOGETHER: &str = "
hub:
  security:
    trustProxy: 1
    helmet:
      enabled: true
      hsts:
        maxAge: 31536000
        includeSubDomains: true
        preload: true
      contentSecurityPolicy:
        directives:
          defaultSrc: [\"'self'\"]
          scriptSrc: [\"'self'\", \"'unsafe-inline'\"]
          styleSrc: [\"'self'\", \"'unsafe-inline'\"]
          imgSrc: [\"'self'\", \"data:\", \"https:\"]
      frameguard:
        action: deny
    cors:
      origin:
        - https://app1.example.com
        - https://app2.example.com
    rateLimit:
      enabled: true
      windowMs: 900000
      max: 100
      message: Too many requests from this IP, please try again later.
      standardHeaders: true
      legacyHeaders: false
    limits:
      json: 50mb
      urlencoded: 10mb
auth:
  enabled: true
  type: token
  tokens:
    - ${AUTH_TOKEN_1}
    - ${AUTH_TOKEN_2}
  session:
    store: memory
    cookie:
      name: proactions_session
      secret: ${SESSION_SECRET}
      httpOnly: true
      secure: true
      sameSite: strict
      maxAge: 86400000
logging:
  logTrace: false
  sensitiveData: [password, token, apiKey, authorization, key, secret, sessionId, cookie]
";

#[tokio::test]
async fn pasted_together_they_take_effect() {
    let hub = Hub::start_with(&format!("{TOGETHER}{ECHO_TARGET}"), env()).await;
    let https = |request: Req, ip: &str| {
        request
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-for", ip)
    };
    for token in [
        "guide-token-1-0123456789abcdef",
        "guide-token-2-0123456789abcdef",
    ] {
        let login = Req::get("/auth/session").header("authorization", &format!("Bearer {token}"));
        let answer = hub.send(&https(login, "198.51.100.1")).await;
        assert_eq!(answer.status, 200);
        let set = answer.header("set-cookie").unwrap();
        assert!(set.starts_with("proactions_session=s%3A"));
        for attribute in [
            "; HttpOnly",
            "; Secure",
            "; SameSite=Strict",
            "; Max-Age=86400",
        ] {
            assert!(set.contains(attribute), "{set}");
        }
        let cookie = cookie_of(&answer);
        let again = Req::get("/auth/session").header("cookie", &cookie);
        assert_eq!(hub.send(&https(again, "198.51.100.1")).await.status, 200);
    }
    let answer = hub.send(&https(Req::get("/x"), "198.51.100.2")).await;
    assert_eq!(answer.status, 401);
    for (name, value) in [
        (
            "strict-transport-security",
            "max-age=31536000; includeSubDomains; preload",
        ),
        ("x-frame-options", "DENY"),
        (
            "content-security-policy",
            "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';\
             frame-ancestors 'self';img-src 'self' data: https:;object-src 'none';\
             script-src 'self' 'unsafe-inline';script-src-attr 'none';style-src 'self' 'unsafe-inline';\
             upgrade-insecure-requests",
        ),
        ("ratelimit-limit", "100"),
        ("ratelimit-remaining", "99"),
        ("ratelimit-policy", "100;w=900"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let reset: u64 = answer.header("ratelimit-reset").unwrap().parse().unwrap();
    assert!((1..=900).contains(&reset));
    assert_eq!(answer.header("x-ratelimit-limit"), None);

    // Each client address has a quota of its own, and a forged entry further left is not believed.
    for number in 0..99 {
        let forged = format!("6.6.6.{number}, 198.51.100.2");
        assert_eq!(hub.send(&https(Req::get("/x"), &forged)).await.status, 401);
    }
    let refused = hub
        .send(&https(Req::get("/x"), "7.7.7.7, 198.51.100.2"))
        .await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.json()["message"],
        "Too many requests from this IP, please try again later."
    );
    assert_eq!(
        hub.send(&https(Req::get("/x"), "198.51.100.3"))
            .await
            .status,
        401
    );

    for origin in ["https://app1.example.com", "https://app2.example.com"] {
        let preflight = Req::new("OPTIONS", "/v1/models")
            .header("origin", origin)
            .header("access-control-request-method", "GET");
        let answer = hub.send(&preflight).await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (204, Some(origin))
        );
    }
    let large = Req::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("content-length", "52428801");
    assert_eq!(hub.send(&large).await.status, 413);
}

#[tokio::test]
async fn the_three_forms_of_trust() {
    for (form, forwarded, ip) in [
        ("false", "198.51.100.1", "127.0.0.1"),
        ("true", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("2", "6.6.6.6, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        (
            "[10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]",
            "198.51.100.1",
            "127.0.0.1",
        ),
        (
            "[127.0.0.1, 10.0.0.0/8]",
            "6.6.6.6, 198.51.100.1, 10.0.0.1",
            "198.51.100.1",
        ),
        (
            "loopback, uniquelocal",
            "6.6.6.6, 198.51.100.1, 10.0.0.1",
            "198.51.100.1",
        ),
        ("loopback", "198.51.100.1, junk", "127.0.0.1"),
    ] {
        let yaml = format!("hub:\n  security:\n    trustProxy: {form}\n");
        let mut hub = Hub::start(&yaml).await;
        hub.send(&Req::get("/seen").header("x-forwarded-for", forwarded))
            .await;
        let line = hub.process.wait_for_line("/seen").await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["ip"], ip, "{form}: {forwarded}");
    }
}

#[tokio::test]
async fn log_files_are_private_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let yaml = format!(
        "logging:\n  logDirectory: {}\n  filePrefix: hub\n  types:\n    access: {{enabled: true, file: true}}\n    \
         aiLink: {{enabled: true, file: true}}\n    error: {{enabled: true, file: true}}\n  maxFiles: 365d\n{ECHO_TARGET}",
        logs.display()
    );
    let mut hub = Hub::start(&yaml).await;
    hub.send(&Req::chat(false)).await;
    hub.send(&Req::get("/private?token=hidden-4711")).await;
    assert_eq!(hub.stop().await, 0);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&logs), 0o750);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&logs).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o640, "{}", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("hidden-4711"));
        names.push((path.file_name().unwrap().to_str().unwrap().to_owned(), text));
    }
    let access = names
        .iter()
        .find(|(name, _)| name.starts_with("hub-access-20"))
        .unwrap();
    assert_eq!(access.1.lines().count(), 2, "{}", access.1);
    assert!(access.1.contains("[FILTERED]"));
    assert!(
        names
            .iter()
            .any(|(name, text)| name.starts_with("hub-aiLink-20") && text.contains("totalTokens"))
    );
}
