//! Every answer carries the security headers, each exactly once.

use proactions_testkit::{RawResponse, Reply, Upstream};

use crate::harness::{Hub, Req, TOKEN_AUTH};

const HELMET: [(&str, &str); 12] = [
    (
        "content-security-policy",
        "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';\
         img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';\
         style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    ("referrer-policy", "no-referrer"),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-dns-prefetch-control", "off"),
    ("x-download-options", "noopen"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-xss-protection", "0"),
];

fn assert_headers(what: &str, answer: &RawResponse) {
    for (name, value) in HELMET {
        let all: Vec<_> = answer.header_all(name).collect();
        assert_eq!(all, [value], "{what}: {name}");
    }
    assert_eq!(answer.header_all("x-request-id").count(), 1, "{what}");
    for name in ["server", "x-powered-by", "x-aspnet-version"] {
        assert_eq!(answer.header(name), None, "{what}: {name}");
    }
}

#[tokio::test]
async fn on_every_status_that_the_hub_can_give() {
    let upstream = Upstream::serve(|received| {
        let want = received.header("x-want").unwrap_or("200").to_owned();
        let reply = match want.as_str() {
            "stream" => Reply::chat_stream(2),
            status => Reply::new(status.parse().unwrap()),
        };
        HELMET
            .iter()
            .fold(reply, |reply, (name, _)| {
                reply.with_header(name, "theirs").with_header(name, "again")
            })
            .with_header("server", "leaky")
            .with_header("x-powered-by", "leaky")
            .with_header("x-aspnet-version", "1")
    });
    let yaml = format!(
        "hub:
  listener: {{maxHeaderBytes: 8000}}
  security:
    cors: {{origin: https://app.example.com}}
    rateLimit: {{windowMs: 60000, max: 10000, rules: [{{path: /limited, by: ip, windowMs: 60000, max: 1}}]}}
    limits: {{json: 1kb}}
targets:
  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}
  - {{id: dead, provider: custom, apiKey: k, endpoint: 'http://{}/'}}
{TOKEN_AUTH}",
        upstream.url("/{path}"),
        proactions_testkit::closed_address(),
    );
    let hub = Hub::start(&yaml).await;
    let chat = |want: &str| {
        Req::chat(false)
            .bearer()
            .header("x-target", "up")
            .header("x-want", want)
    };
    let limited = Req::get("/limited").bearer();
    hub.send(&limited).await;
    for (what, request, status) in [
        ("health", Req::get("/health"), 200),
        ("ready", Req::get("/ready"), 200),
        ("no credentials", Req::get("/"), 401),
        ("unknown path", Req::get("/nothing").bearer(), 404),
        (
            "wrong method",
            Req::get("/v1/chat/completions").bearer(),
            405,
        ),
        ("bad path", Req::get("/a/%2e%2e/b"), 400),
        ("two credentials", Req::get("/").bearer().bearer(), 400),
        (
            "too large",
            Req::post("/v1/embeddings")
                .bearer()
                .body("application/json", vec![b'x'; 1025]),
            413,
        ),
        (
            "long target",
            Req::get(&format!("/{}", "x".repeat(9000))),
            414,
        ),
        ("too often", limited, 429),
        (
            "large head",
            Req::get("/").header("x-fill", &"x".repeat(8001)),
            431,
        ),
        (
            "no such target",
            Req::chat(false).bearer().header("x-target", "none"),
            404,
        ),
        (
            "dead target",
            Req::chat(false).bearer().header("x-target", "dead"),
            502,
        ),
        (
            "preflight",
            Req::new("OPTIONS", "/v1/chat/completions")
                .header("origin", "https://app.example.com")
                .header("access-control-request-method", "POST"),
            204,
        ),
        (
            "refused preflight",
            Req::new("OPTIONS", "/v1/chat/completions")
                .header("origin", "https://evil.test")
                .header("access-control-request-method", "POST"),
            204,
        ),
        ("forwarded 200", chat("200"), 200),
        ("forwarded 204", chat("204"), 204),
        ("forwarded 304", chat("304"), 304),
        ("forwarded 400", chat("400"), 400),
        ("forwarded 500", chat("500"), 500),
        ("forwarded stream", chat("stream"), 200),
        ("who am I", Req::get("/auth/session").bearer(), 200),
        ("logout", Req::post("/auth/logout").bearer(), 204),
    ] {
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body_text());
        assert_headers(what, &answer);
    }
}

#[tokio::test]
async fn cross_origin_answers_depend_on_the_origin_alone() {
    let upstream =
        Upstream::start(Reply::chat("x").with_header("access-control-allow-origin", "*"));
    let yaml = format!(
        "hub:
  security:
    cors:
      enabled: true
      origin: https://your-app.example.com
      methods: GET,POST,PUT,DELETE
      credentials: true
      allowedHeaders: Content-Type,Authorization,x-target
      maxAge: 86400
targets:
  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}
{TOKEN_AUTH}",
        upstream.url("/{path}")
    );
    let hub = Hub::start(&yaml).await;
    let preflight = |origin: &str| {
        Req::new("OPTIONS", "/v1/chat/completions")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
    };
    let answer = hub.send(&preflight("https://your-app.example.com")).await;
    for (name, value) in [
        (
            "access-control-allow-origin",
            "https://your-app.example.com",
        ),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,POST,PUT,DELETE"),
        (
            "access-control-allow-headers",
            "Content-Type,Authorization,x-target",
        ),
        ("access-control-max-age", "86400"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for origin in [
        "https://evil.test",
        "https://your-app.example.com.evil.test",
        "http://your-app.example.com",
        "https://your-app.example.com:444",
        "https://your-app.example.com.",
        "null",
        "https://xyour-app.example.com",
        "https://your-app.example.com/",
        "https://your-app.example.com@evil.test",
    ] {
        for request in [
            preflight(origin),
            Req::chat(false).bearer().header("origin", origin),
        ] {
            let answer = hub.send(&request).await;
            let names = format!("{answer:?}").to_lowercase();
            assert!(!names.contains("access-control-"), "{origin}: {names}");
            assert!(
                answer
                    .header_all("vary")
                    .any(|vary| vary.contains("Origin")),
                "{origin}"
            );
        }
    }
    let actual = Req::chat(false)
        .bearer()
        .header("origin", "https://your-app.example.com");
    let answer = hub.send(&actual).await;
    let allowed: Vec<_> = answer.header_all("access-control-allow-origin").collect();
    assert_eq!(allowed, ["https://your-app.example.com"]);
    let before = upstream.request_count();
    // OPTIONS that is no preflight needs credentials like any other request.
    let bare = hub.send(&Req::new("OPTIONS", "/v1/chat/completions")).await;
    assert_eq!(bare.status, 401);
    assert_eq!(upstream.request_count(), before);
}
