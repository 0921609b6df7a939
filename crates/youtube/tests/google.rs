//! The service against a stand-in for Google.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proactions_edge::{AuthMethod, ClientInfo, ManualClock, Principal, Rejection, Scheme};
use proactions_forward::{Body, BoxError, HttpClient, HttpClientConfig};
use proactions_testkit::{Google, GoogleFault};
use proactions_youtube::{YouTube, YoutubeAccount, YoutubeAccounts, YoutubeConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

const REDIRECT: &str = "https://hub.example.com/youtube/auth/google/callback";
const SECRET: &str = "client-secret-canary";

struct Fixture {
    google: Google,
    folder: TempDir,
    clock: Arc<ManualClock>,
    accounts: YoutubeAccounts,
    service: YouTube,
}

struct Answered {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Answered {
    async fn of(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        if head.status.is_client_error() || head.status.is_server_error() {
            assert!(head.extensions.get::<Rejection>().is_some());
        }
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn set_cookie(&self) -> &str {
        self.headers["set-cookie"].to_str().unwrap()
    }

    fn cookie(&self) -> String {
        self.set_cookie().split(';').next().unwrap().to_owned()
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with(&["main"], 8)
    }

    fn with(ids: &[&str], max_uploads: usize) -> Self {
        let google = Google::start("client", SECRET, REDIRECT);
        let folder = tempfile::tempdir().unwrap();
        let mut config = YoutubeConfig::default();
        for id in ids {
            let mut account = YoutubeAccount::default();
            account.id = (*id).to_owned();
            account.client_id = "client".to_owned();
            account.client_secret = SECRET.into();
            account.redirect_uri = REDIRECT.to_owned();
            config.accounts.push(account);
        }
        config.token_storage_path = folder.path().join("tokens");
        config.endpoints.authorize = google.url("/o/oauth2/v2/auth");
        config.endpoints.token = google.url("/token");
        config.endpoints.revoke = google.url("/revoke");
        config.endpoints.api = google.url("");
        let accounts = YoutubeAccounts::try_from(config).unwrap();
        let clock = Arc::new(ManualClock::default());
        let client = HttpClient::without_tls(&HttpClientConfig::default());
        let service =
            YouTube::with_settings(accounts.clone(), client, Arc::clone(&clock), max_uploads)
                .unwrap();
        Self {
            google,
            folder,
            clock,
            accounts,
            service: service.retry_pause(Duration::from_millis(1)),
        }
    }

    fn token_file(&self, id: &str) -> PathBuf {
        let name = format!("tokens/youtube_token_{id}.json");
        self.folder.path().join(name)
    }

    fn tokens(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.token_file("main")).unwrap()).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answered {
        Answered::of(self.service.clone().oneshot(request).await.unwrap()).await
    }

    async fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answered {
        self.ask(Method::GET, target, headers).await
    }

    /// The URL for the browser, and the cookie.
    async fn begin(&self) -> (String, String) {
        let begun = self.get("/youtube/auth/google", &[]).await;
        assert_eq!(begun.status, 200, "{}", begun.text);
        let url = begun.json()["authUrl"].as_str().unwrap().to_owned();
        (url, begun.cookie())
    }

    async fn connect(&self) {
        let (url, cookie) = self.begin().await;
        let back = path_of(&self.google.consent(&url));
        let answer = self.get(&back, &[("cookie", &cookie)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    async fn upload(&self, form: Form) -> Answered {
        self.send(form.request()).await
    }
}

fn path_of(url: &str) -> String {
    url.strip_prefix("https://hub.example.com")
        .unwrap()
        .to_owned()
}

/// A form as browsers write it.
#[derive(Clone, Default)]
struct Form(Vec<u8>);

impl Form {
    fn titled() -> Self {
        Self::default().field("title", "A title")
    }

    fn field(self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""), None, value.as_bytes())
    }

    fn video(self, bytes: &[u8]) -> Self {
        let disposition = "name=\"video\"; filename=\"a \\\"b\\\".mp4\"";
        self.part(disposition, Some("video/mp4"), bytes)
    }

    fn thumbnail(self, bytes: &[u8]) -> Self {
        let disposition = "name=\"thumbnail\"; filename=\"t.png\"";
        self.part(disposition, Some("image/png"), bytes)
    }

    fn part(mut self, disposition: &str, media_type: Option<&str>, bytes: &[u8]) -> Self {
        let mut head = format!("--b0undary\r\nContent-Disposition: form-data; {disposition}\r\n");
        if let Some(media_type) = media_type {
            head.push_str(&format!("Content-Type: {media_type}\r\n"));
        }
        self.0.extend_from_slice(head.as_bytes());
        self.0.extend_from_slice(b"\r\n");
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"--b0undary--\r\n");
        self.0
    }

    fn request(self) -> Request<Body> {
        request(Body::from(self.bytes()))
    }
}

fn request(body: Body) -> Request<Body> {
    Request::post("/youtube/upload")
        .header("content-type", "multipart/form-data; boundary=b0undary")
        .body(body)
        .unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_account_is_connected_and_its_file_is_closed() {
    let fixture = Fixture::new();
    let status = fixture.get("/youtube/auth/status", &[]).await;
    assert_eq!(
        status.json(),
        json!({"authenticated": false, "target": "main"})
    );

    let begun = fixture.get("/youtube/auth/google", &[]).await;
    let set = begun.set_cookie();
    for attribute in [
        "__Host-proactions_oauth=",
        "Path=/",
        "Max-Age=600",
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
    ] {
        assert!(set.contains(attribute), "{attribute} in {set}");
    }
    assert_eq!(begun.headers["cache-control"], "no-store");
    let url = begun.json()["authUrl"].as_str().unwrap().to_owned();
    assert!(url.contains("&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fyoutube.upload&"));
    assert!(!url.contains(SECRET) && !url.contains(begun.cookie().split_once('=').unwrap().1));
    assert_eq!(fixture.google.calls().all(), 0);

    let back = path_of(&fixture.google.consent(&url));
    let page = fixture
        .get(
            &back,
            &[("cookie", &begun.cookie()), ("accept", "text/html,*/*")],
        )
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(!page.text.contains("<script") && !page.text.contains("style"));
    assert!(page.set_cookie().contains("=; ") && page.set_cookie().contains("Max-Age=0"));
    assert_eq!(fixture.google.calls().exchanges, 1);
    assert_eq!(
        fixture.google.complaints(),
        [""; 0],
        "PKCE, redirect, client"
    );

    let file = fixture.token_file("main");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    let tokens = fixture.tokens();
    let mut names: Vec<_> = tokens.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(
        names,
        [
            "access_token",
            "expiry_date",
            "refresh_token",
            "scope",
            "token_type"
        ]
    );
    // 2026-01-01 01:00 UTC, in milliseconds.
    assert_eq!(tokens["expiry_date"], 1_767_229_200_000_u64);
    let status = fixture.get("/youtube/auth/status", &[]).await;
    assert_eq!(
        status.json(),
        json!({"authenticated": true, "target": "main"})
    );
}

#[tokio::test]
async fn a_callback_that_is_not_the_browsers_own_reaches_nobody() {
    let fixture = Fixture::new();
    let (url, cookie) = fixture.begin().await;
    let good = path_of(&fixture.google.consent(&url));
    let declined = path_of(&fixture.google.decline(&url));
    let state = good
        .split_once("state=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    let (other_url, other_cookie) = fixture.begin().await;
    let other = path_of(&fixture.google.consent(&other_url));
    let path = "/youtube/auth/google/callback";

    let mut cases: Vec<(&str, String, Option<String>)> = vec![
        ("no query", path.to_owned(), Some(cookie.clone())),
        ("no state", format!("{path}?code=x"), Some(cookie.clone())),
        (
            "empty state",
            format!("{path}?state=&code=x"),
            Some(cookie.clone()),
        ),
        (
            "wrong state",
            good.replace(&state, &"A".repeat(43)),
            Some(cookie.clone()),
        ),
        (
            "state of another kind",
            good.replace("state=", "State="),
            Some(cookie.clone()),
        ),
        (
            "two states",
            format!("{good}&state={state}"),
            Some(cookie.clone()),
        ),
        (
            "a long state",
            format!("{path}?state={}&code=x", "x".repeat(5000)),
            Some(cookie.clone()),
        ),
        (
            "a state that is no text",
            format!("{path}?state=%ff&code=x"),
            Some(cookie.clone()),
        ),
    ];
    // Each of these burns its state, so each gets its own.
    for (name, cookie_of) in [
        ("no cookie", (|_| None) as fn(&str) -> Option<String>),
        ("another name", |value| {
            Some(format!("proactions_oauth={value}"))
        }),
        ("two cookies", |value| {
            Some(format!(
                "__Host-proactions_oauth={value}; __Host-proactions_oauth={value}"
            ))
        }),
        ("half a cookie", |value| {
            Some(format!("__Host-proactions_oauth={}", &value[..20]))
        }),
        ("no value", |_| Some("__Host-proactions_oauth=".to_owned())),
    ] {
        let (url, cookie) = fixture.begin().await;
        let back = path_of(&fixture.google.consent(&url));
        cases.push((name, back, cookie_of(cookie.split_once('=').unwrap().1)));
    }
    cases.push(("another browser", other, Some(cookie.clone())));
    let _ = other_cookie;
    for (name, target, cookie) in cases {
        let cookie = cookie.unwrap_or_default();
        let answer = fixture.get(&target, &[("cookie", &cookie)]).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text);
        assert!(!answer.headers.contains_key("set-cookie"), "{name}");
        assert_eq!(answer.json()["error"], "Bad Request");
    }
    assert_eq!(fixture.google.calls().all(), 0);

    // The user says no; what Google says is not repeated.
    let answer = fixture
        .get(&declined, &[("cookie", &cookie), ("accept", "text/html")])
        .await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("<h1>Not connected</h1>") && !answer.text.contains("denied"));
    let answer = fixture.get(&good, &[("cookie", &cookie)]).await;
    assert_eq!(answer.status, 400, "the state was used");

    // Once it works, then never again.
    let (url, cookie) = fixture.begin().await;
    let good = path_of(&fixture.google.consent(&url));
    assert_eq!(fixture.google.calls().all(), 0);
    assert_eq!(fixture.get(&good, &[("cookie", &cookie)]).await.status, 200);
    assert_eq!(fixture.google.calls().all(), 1);
    assert_eq!(fixture.get(&good, &[("cookie", &cookie)]).await.status, 400);
    assert_eq!(fixture.google.calls().all(), 1);

    // Ten minutes are the end.
    for (seconds, status) in [(599, 200), (600, 400)] {
        let (url, cookie) = fixture.begin().await;
        let back = path_of(&fixture.google.consent(&url));
        fixture.clock.advance(Duration::from_secs(seconds));
        assert_eq!(
            fixture.get(&back, &[("cookie", &cookie)]).await.status,
            status
        );
    }
    assert_eq!(fixture.google.calls().all(), 2);
}

#[tokio::test]
async fn other_accounts_leave_what_is_under_way_alone() {
    let mut fixture = Fixture::new();
    let (url, cookie) = fixture.begin().await;
    let back = path_of(&fixture.google.consent(&url));
    let client = HttpClient::without_tls(&HttpClientConfig::default());
    let accounts = fixture.accounts.clone();
    fixture.service = fixture.service.clone().with_accounts(accounts, client);
    assert_eq!(fixture.get(&back, &[("cookie", &cookie)]).await.status, 200);
}

#[tokio::test]
async fn plain_http_gets_a_cookie_that_it_can_keep() {
    let fixture = Fixture::new();
    for (scheme, name) in [
        (Scheme::Http, "proactions_oauth="),
        (Scheme::Https, "__Host-proactions_oauth="),
    ] {
        let client = ClientInfo::new(IpAddr::V4(Ipv4Addr::LOCALHOST), scheme, None, 0);
        let mut request = Request::get("/youtube/auth/google")
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(client.clone());
        let begun = fixture.send(request).await;
        assert!(
            begun.set_cookie().starts_with(name),
            "{}",
            begun.set_cookie()
        );
        assert_eq!(begun.set_cookie().contains("Secure"), scheme.is_https());
        let url = begun.json()["authUrl"].as_str().unwrap().to_owned();
        let back = path_of(&fixture.google.consent(&url));
        let mut request = Request::get(back)
            .header("cookie", begun.cookie())
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(client);
        assert_eq!(fixture.send(request).await.status, 200);
    }
}

#[tokio::test]
async fn a_code_that_google_refuses_connects_nothing() {
    let fixture = Fixture::new();
    for (fault, status) in [
        (GoogleFault::FailToken(400, "invalid_grant"), 400),
        (GoogleFault::FailToken(401, "invalid_client"), 502),
        (GoogleFault::FailToken(503, "backend_error"), 502),
    ] {
        let (url, cookie) = fixture.begin().await;
        let back = path_of(&fixture.google.consent(&url));
        fixture.google.fail(fault.clone());
        let answer = fixture.get(&back, &[("cookie", &cookie)]).await;
        assert_eq!(answer.status, status, "{fault:?}");
        assert!(!answer.text.contains(SECRET));
    }
    assert!(!fixture.token_file("main").exists());
}

#[tokio::test]
async fn accounts_come_from_the_configuration_alone() {
    let fixture = Fixture::with(&["main", "sports"], 8);
    for target in [
        "@evil.test",
        "main@evil.test",
        "main#",
        "main?x",
        "../main",
        "main/../sports",
        "..",
        "%2e%2e",
        "http://evil.test/",
        "MAIN",
        "main ",
        "main,sports",
        "sports\u{e9}",
        "main;",
        "/",
        "*",
    ] {
        for path in ["/youtube/auth/google", "/youtube/auth/status"] {
            // A space around the value is no part of it.
            let expected = if target.trim() == "main" { 200 } else { 404 };
            let request = Request::get(path)
                .header("x-target", target.trim().as_bytes())
                .header("host", "evil.test")
                .header("x-forwarded-host", "evil.test")
                .body(Body::empty())
                .unwrap();
            let answer = fixture.send(request).await;
            assert_eq!(answer.status, expected, "{target} {path}");
            if expected == 200 && path.ends_with("google") {
                let url = answer.json()["authUrl"].as_str().unwrap().to_owned();
                assert!(url.starts_with(&fixture.google.url("/o/oauth2/v2/auth?")));
                assert!(!url.contains("evil"));
            }
        }
    }
    assert_eq!(fixture.get("/youtube/auth/google", &[]).await.status, 400);
    let twice = [("x-target", "main"), ("x-target", "main")];
    assert_eq!(
        fixture.get("/youtube/auth/status", &twice).await.status,
        400
    );
    let status = fixture
        .get("/youtube/auth/status", &[("x-target", "sports")])
        .await;
    assert_eq!(
        status.json(),
        json!({"authenticated": false, "target": "sports"})
    );

    for (method, path, status) in [
        (Method::POST, "/youtube/auth/google", 405),
        (Method::GET, "/youtube/upload", 405),
        (Method::HEAD, "/youtube/auth/google/callback", 405),
        (Method::GET, "/youtube", 404),
        (Method::GET, "/youtube/auth/google/", 404),
    ] {
        assert_eq!(
            fixture.ask(method, path, &[]).await.status,
            status,
            "{path}"
        );
    }
    assert_eq!(fixture.google.calls().all(), 0);
}

#[tokio::test]
async fn tokens_are_renewed_ahead_once_and_kept_whole() {
    let fixture = Arc::new(Fixture::new());
    fixture.connect().await;
    let mut tokens = fixture.tokens();
    tokens["zone"] = json!({"kept": [1, 2]});
    let refresh_token = tokens["refresh_token"].clone();
    std::fs::write(fixture.token_file("main"), tokens.to_string()).unwrap();

    assert_eq!(fixture.upload(Form::titled().video(b"x")).await.status, 200);
    assert_eq!(fixture.google.calls().refreshes, 0);

    fixture.clock.advance(Duration::from_secs(3541));
    fixture.google.set_token_delay(Duration::from_millis(50));
    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let fixture = Arc::clone(&fixture);
        uploads.spawn(async move { fixture.upload(Form::titled().video(b"x")).await.status });
    }
    assert!(uploads.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(fixture.google.calls().refreshes, 1);
    let renewed = fixture.tokens();
    assert_eq!(renewed["refresh_token"], refresh_token);
    assert_eq!(renewed["zone"], json!({"kept": [1, 2]}));
    assert_ne!(renewed["access_token"], tokens["access_token"]);

    // Google may forget a token before its time.
    fixture.google.forget_access_tokens();
    assert_eq!(fixture.upload(Form::titled().video(b"x")).await.status, 200);
    assert_eq!(fixture.google.calls().refreshes, 2);

    fixture
        .google
        .fail(GoogleFault::FailToken(503, "backend_error"));
    fixture.clock.advance(Duration::from_secs(3590));
    let uploaded = fixture.upload(Form::titled().video(b"x")).await;
    assert_eq!(
        uploaded.status, 200,
        "ten seconds are left: {}",
        uploaded.text
    );

    // Consent withdrawn: not connected, and no more calls.
    fixture.google.forget_refresh_tokens();
    fixture.clock.advance(Duration::from_secs(3600));
    let refused = fixture.upload(Form::titled().video(b"x")).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("not connected"));
    let status = fixture.get("/youtube/auth/status", &[]).await;
    assert_eq!(status.json()["authenticated"], false);
    let calls = fixture.google.calls().all();
    assert_eq!(fixture.upload(Form::titled().video(b"x")).await.status, 403);
    assert_eq!(fixture.google.calls().all(), calls);
}

#[tokio::test]
async fn a_consent_without_a_refresh_token_ends_with_its_access_token() {
    let fixture = Fixture::new();
    fixture.connect().await;
    fixture.google.fail(GoogleFault::NoRefreshToken);
    fixture.connect().await;
    assert_eq!(fixture.tokens().get("refresh_token"), None);
    let status =
        || async { fixture.get("/youtube/auth/status", &[]).await.json()["authenticated"].clone() };
    assert_eq!(status().await, true);
    fixture.clock.advance(Duration::from_secs(3600));
    assert_eq!(status().await, false);
}

#[tokio::test]
async fn a_logout_deletes_the_file_whatever_google_says() {
    let fixture = Fixture::new();
    for (fault, revoked) in [(None, true), (Some(GoogleFault::FailRevoke(503)), false)] {
        fixture.connect().await;
        if let Some(fault) = fault {
            fixture.google.fail(fault);
        }
        let calls = fixture.google.calls().revocations;
        let out = fixture.ask(Method::POST, "/youtube/auth/logout", &[]).await;
        assert_eq!(out.status, 200);
        assert_eq!(out.json()["revoked"], revoked);
        assert_eq!(out.json()["authenticated"], false);
        assert_eq!(out.json().get("message").is_some(), !revoked);
        assert_eq!(fixture.google.calls().revocations, calls + 1);
        assert!(!fixture.token_file("main").exists());
    }
    let again = fixture.ask(Method::POST, "/youtube/auth/logout", &[]).await;
    assert_eq!(
        again.json(),
        json!({"authenticated": false, "target": "main", "revoked": false})
    );
    assert_eq!(fixture.google.calls().revocations, 2);
}

#[tokio::test]
async fn a_logout_does_not_pass_over_tokens_that_it_cannot_read() {
    let fixture = Fixture::new();
    let file = fixture.token_file("main");
    let too_long = format!("{{\"refresh_token\": \"{}\"}}", "x".repeat(70_000));
    for damaged in [
        "",
        "{\"refresh_token\": \"abc",
        "[]",
        "{\"refresh_token\": 1}",
        "{\"access_token\": \"a b\"}",
        &too_long,
    ] {
        fixture.connect().await;
        std::fs::write(&file, damaged).unwrap();
        let out = fixture.ask(Method::POST, "/youtube/auth/logout", &[]).await;
        assert_eq!(out.status, 200);
        assert_eq!(out.json()["revoked"], false);
        let message = out.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("nothing was revoked"), "{message}");
        assert!(!file.exists(), "{damaged}");
    }
    // A file without tokens holds nothing that Google could know.
    fixture.connect().await;
    std::fs::write(&file, "{}").unwrap();
    let out = fixture.ask(Method::POST, "/youtube/auth/logout", &[]).await;
    assert_eq!(out.json().get("message"), None);
    assert!(!file.exists());
    // What cannot be read at all is left as it is, for a logout that can: root reads whatever has a mode, so a
    // directory stands where the file should.
    std::fs::create_dir(&file).unwrap();
    let out = fixture.ask(Method::POST, "/youtube/auth/logout", &[]).await;
    assert_eq!(out.status, 500);
    assert!(file.exists());
    assert_eq!(fixture.google.calls().revocations, 0);
}

#[tokio::test]
async fn a_video_arrives_as_it_was_sent() {
    let fixture = Fixture::new();
    fixture.connect().await;
    let chunk = 8 << 20;
    for length in [
        1,
        1000,
        262_144,
        chunk - 1,
        chunk,
        chunk + 1,
        2 * chunk,
        2 * chunk + 77_777,
    ] {
        let video = noise(length);
        let form = Form::default()
            .field("title", "\u{c4} title")
            .field("tags", "a,b")
            .field("privacyStatus", "unlisted")
            .video(&video)
            .thumbnail(b"\x89PNG");
        let parts = fixture.google.calls().parts;
        let answer = fixture.upload(form).await;
        assert_eq!(answer.status, 200, "{length}: {}", answer.text);
        let arrived = fixture.google.videos().pop().unwrap();
        assert_eq!(arrived.length, length as u64);
        assert_eq!(arrived.sha256, sha256(&video), "{length}");
        assert_eq!(arrived.content_type, "video/mp4");
        assert_eq!(arrived.query, "uploadType=resumable&part=snippet,status");
        assert_eq!(
            arrived.resource,
            json!({"snippet": {"title": "\u{c4} title", "tags": ["a", "b"]}, "status": {"privacyStatus": "unlisted"}})
        );
        assert_eq!(arrived.thumbnail.as_deref(), Some(&b"\x89PNG"[..]));
        let json = answer.json();
        assert_eq!(
            (&json["id"], &json["target"], &json["thumbnail"]),
            (&json!(arrived.id), &json!("main"), &json!("set"))
        );
        assert_eq!(fixture.google.calls().parts - parts, length.div_ceil(chunk));
    }
    assert_eq!(fixture.google.complaints(), [""; 0]);
    assert_eq!(fixture.google.calls().cancelled, 0);
}

#[tokio::test]
async fn an_upload_goes_on_after_what_may_pass() {
    let fixture = Fixture::new();
    fixture.connect().await;
    let video = noise((16 << 20) + 5);
    let digest = sha256(&video);
    for (name, faults) in [
        (
            "arrived, not acknowledged",
            vec![GoogleFault::FailUpload(503)],
        ),
        ("lost", vec![GoogleFault::LoseUpload(500)]),
        ("too many", vec![GoogleFault::LoseUpload(429)]),
        ("broken off", vec![GoogleFault::BreakUpload]),
        ("half", vec![GoogleFault::TakeHalf]),
        ("four in a row", vec![GoogleFault::LoseUpload(500); 4]),
        (
            "one for each",
            vec![
                GoogleFault::FailUpload(502),
                GoogleFault::TakeHalf,
                GoogleFault::BreakUpload,
            ],
        ),
        ("begin", vec![GoogleFault::FailBegin(503)]),
    ] {
        for fault in faults {
            fixture.google.fail(fault);
        }
        let answer = fixture.upload(Form::titled().video(&video)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let arrived = fixture.google.videos().pop().unwrap();
        assert_eq!(
            (arrived.length, &arrived.sha256),
            (video.len() as u64, &digest),
            "{name}"
        );
    }
    // The last part arrives and its answer does not.
    fixture.google.fail(GoogleFault::FailUpload(503));
    let videos = fixture.google.videos().len();
    let answer = fixture.upload(Form::titled().video(b"short")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(fixture.google.videos().len(), videos + 1);
    // The token is refused in the middle.
    fixture.google.fail(GoogleFault::LoseUpload(401));
    assert_eq!(
        fixture.upload(Form::titled().video(&video)).await.status,
        200
    );
    assert_eq!(fixture.google.calls().refreshes, 1);
    assert_eq!(fixture.google.complaints(), [""; 0]);
}

#[tokio::test]
async fn an_upload_ends_after_what_does_not() {
    let fixture = Fixture::new();
    fixture.connect().await;
    let elsewhere = Google::start("client", SECRET, REDIRECT);
    for (faults, status, message) in [
        (vec![GoogleFault::LoseUpload(500); 5], 502, "unknown"),
        (vec![GoogleFault::LoseUpload(404)], 502, "unknown"),
        (vec![GoogleFault::LoseUpload(400)], 400, "unknown"),
        (vec![GoogleFault::FailBegin(400)], 400, "forTest"),
        (vec![GoogleFault::FailBegin(403)], 502, "forTest"),
        (vec![GoogleFault::FailBegin(500); 5], 502, "forTest"),
        (
            vec![GoogleFault::Location(elsewhere.url("/upload/session/x"))],
            502,
            "upstream",
        ),
        (
            vec![GoogleFault::Location("/upload/session/x".to_owned())],
            502,
            "upstream",
        ),
        (
            vec![GoogleFault::Location("https://evil.test/".to_owned())],
            502,
            "upstream",
        ),
    ] {
        let name = format!("{faults:?}");
        for fault in faults {
            fixture.google.fail(fault);
        }
        let answer = fixture.upload(Form::titled().video(b"abc")).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(answer.text.contains(message), "{name}: {}", answer.text);
    }
    assert_eq!(fixture.google.videos().len(), 0);
    assert_eq!(elsewhere.calls().all(), 0);
    // Whatever went wrong before is over.
    assert_eq!(
        fixture.upload(Form::titled().video(b"abc")).await.status,
        200
    );
}

#[tokio::test]
async fn a_thumbnail_that_fails_does_not_undo_the_video() {
    let fixture = Fixture::new();
    fixture.connect().await;
    fixture.google.fail(GoogleFault::FailThumbnail(403));
    let answer = fixture
        .upload(Form::titled().thumbnail(b"x").video(b"abc"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["thumbnail"], "failed");
    assert_eq!(fixture.google.videos().len(), 1);
    let without = fixture.upload(Form::titled().video(b"abc")).await;
    assert_eq!(without.json()["thumbnail"], "none");
}

#[tokio::test]
async fn a_bad_form_never_becomes_a_video() {
    let fixture = Fixture::new();
    fixture.connect().await;
    let big = noise(9 << 20);
    let whole = Form::titled().video(&big).bytes();
    let picture = vec![b'x'; (2 << 20) + 1];
    let text = |type_: &str| Form::titled().part("name=\"video\"", Some(type_), b"abc");
    for (name, body, status) in [
        ("empty", Vec::new(), 400),
        ("no video", Form::titled().bytes(), 400),
        ("no title", Form::default().video(b"abc").bytes(), 400),
        ("an empty video", Form::titled().video(b"").bytes(), 400),
        (
            "two videos",
            Form::titled().video(b"abc").video(b"abc").bytes(),
            400,
        ),
        (
            "a field after the video",
            Form::titled().video(b"abc").field("tags", "a").bytes(),
            400,
        ),
        (
            "an unknown field",
            Form::titled().field("x", "y").video(b"abc").bytes(),
            400,
        ),
        ("a page", text("text/html").bytes(), 400),
        ("a type with a line break", text("video/x y").bytes(), 400),
        (
            "a large thumbnail",
            Form::titled().video(b"abc").thumbnail(&picture).bytes(),
            413,
        ),
        (
            "two thumbnails",
            Form::titled()
                .thumbnail(b"x")
                .thumbnail(b"x")
                .video(b"a")
                .bytes(),
            400,
        ),
        (
            "a large field",
            Form::default().field("title", &"x".repeat(70_000)).bytes(),
            413,
        ),
        (
            "not text",
            Form::default()
                .part("name=\"title\"", None, b"\xff")
                .bytes(),
            400,
        ),
        ("broken off", whole[..whole.len() - 20].to_vec(), 400),
        ("broken off early", whole[..9_000_000].to_vec(), 400),
    ] {
        let answer = fixture.send(request(Body::from(body))).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
    }
    let calls = fixture.google.calls();
    assert_eq!(fixture.google.videos().len(), 0);
    assert_eq!(calls.begun, calls.cancelled, "{calls:?}");

    for content_type in [
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=b0undary",
    ] {
        let request = Request::post("/youtube/upload")
            .header("content-type", content_type)
            .body(Body::from("{}"))
            .unwrap();
        assert_eq!(fixture.send(request).await.status, 400, "{content_type}");
    }
}

/// A body of `count` pieces of zeros, and how many of them have been asked for.
fn zeros(count: usize, asked: &Arc<AtomicUsize>) -> Body {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let head = Form::titled().part("name=\"video\"", Some("video/mp4"), b"");
    let head = Bytes::from(head.0[..head.0.len() - 2].to_vec());
    let asked = Arc::clone(asked);
    let pieces = (0..count).map(move |_| {
        asked.fetch_add(1, Ordering::SeqCst);
        Bytes::from_static(&ZEROS)
    });
    let end = Bytes::from_static(b"\r\n--b0undary--\r\n");
    let all = std::iter::once(head)
        .chain(pieces)
        .chain(std::iter::once(end));
    Body::new(StreamBody::new(futures_util::stream::iter(
        all.map(|piece| Ok::<_, BoxError>(Frame::data(piece))),
    )))
}

#[tokio::test]
async fn the_client_is_not_read_faster_than_google_takes() {
    let fixture = Fixture::new();
    fixture.connect().await;
    // Every attempt at the first chunk fails: what was read by then is all that is ever held.
    for _ in 0..5 {
        fixture.google.fail(GoogleFault::LoseUpload(503));
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = fixture.send(request(zeros(2000, &asked))).await;
    assert_eq!(answer.status, 502);
    let read = asked.load(Ordering::SeqCst) * 64 * 1024;
    assert!((8 << 20..(8 << 20) + (256 << 10)).contains(&read), "{read}");
    assert_eq!(fixture.google.calls().cancelled, 1);
}

#[tokio::test]
async fn places_are_bounded_and_freed_when_a_client_leaves() {
    let fixture = Fixture::with(&["main"], 1);
    fixture.connect().await;
    let hanging = Body::new(StreamBody::new(futures_util::stream::pending::<
        Result<Frame<Bytes>, BoxError>,
    >()));
    let mut first = Box::pin(fixture.service.clone().oneshot(request(hanging)));
    let waits = std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
    assert!(waits);
    let busy = fixture.upload(Form::titled().video(b"abc")).await;
    assert_eq!(busy.status, 503);
    assert_eq!(busy.headers["retry-after"], "30");
    drop(first);
    assert_eq!(
        fixture.upload(Form::titled().video(b"abc")).await.status,
        200
    );
}

mod log {
    //! What is logged, as text.

    use std::fmt::Write as _;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    #[derive(Clone, Default)]
    pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
            let log = Self::default();
            let events = tracing_subscriber::registry().with(log.clone());
            (log, tracing::subscriber::set_default(events))
        }

        pub(crate) fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut line = Line(format!(
                "{} {}",
                event.metadata().level(),
                event.metadata().target()
            ));
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let _ = write!(self.0, " {field}={value:?}");
        }
    }
}

#[tokio::test]
async fn every_request_leaves_a_line_and_none_a_secret() {
    let (log, _guard) = log::Log::start();
    let fixture = Fixture::new();
    let (url, cookie) = fixture.begin().await;
    let back = path_of(&fixture.google.consent(&url));
    let _ = fixture
        .get(
            "/youtube/auth/google/callback?state=forged-canary&code=c",
            &[],
        )
        .await;
    assert_eq!(fixture.get(&back, &[("cookie", &cookie)]).await.status, 200);
    let mut request = Form::titled().thumbnail(b"x").video(b"abcdef").request();
    request
        .extensions_mut()
        .insert(Principal::new("ada", AuthMethod::Token));
    fixture.google.fail(GoogleFault::FailThumbnail(403));
    assert_eq!(fixture.send(request).await.status, 200);
    fixture.google.fail(GoogleFault::Location(
        "https://evil.test/upload_id=canary".to_owned(),
    ));
    assert_eq!(
        fixture.upload(Form::titled().video(b"abc")).await.status,
        502
    );
    fixture.google.fail(GoogleFault::LoseUpload(400));
    assert_eq!(
        fixture.upload(Form::titled().video(b"abc")).await.status,
        400
    );
    fixture.google.fail(GoogleFault::FailRevoke(500));
    let out = fixture.ask(Method::POST, "/youtube/auth/logout", &[]).await;
    assert_eq!(out.status, 200);

    let lines: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line.contains(" youtube ") || line.contains(" security "))
        .collect();
    let all = lines.join("\n");
    for wanted in [
        "action=\"authorize\" target=\"main\"",
        "WARN security message=An OAuth callback was refused event=\"oauth_state_refused\"",
        "action=\"callback\" target=\"main\"",
        "username=\"ada\" action=\"upload\" target=\"main\" bytes=6",
        "outcome=\"uploaded_without_thumbnail\"",
        "outcome=\"upstream_nonsense\" statusCode=502",
        "outcome=\"upstream_refused\" statusCode=400",
        "outcome=\"not_revoked\"",
    ] {
        assert!(all.contains(wanted), "{wanted} in\n{all}");
    }
    let mut secrets = fixture.google.secrets();
    secrets.extend([SECRET, "canary", "upload-session"].map(str::to_owned));
    secrets.push(cookie.split_once('=').unwrap().1.to_owned());
    secrets.push(back.split_once("state=").unwrap().1[..43].to_owned());
    let everything = format!("{all}\n{:?}", fixture.service);
    for secret in secrets {
        assert!(!everything.contains(&secret), "{secret} in\n{everything}");
    }
}
