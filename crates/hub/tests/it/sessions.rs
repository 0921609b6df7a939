//! The cookie of a login, from the first request to the logout.

use crate::harness::{ECHO_TARGET, Hub, Req, TOKEN, TOKEN_AUTH, cookie_of};

#[tokio::test]
async fn a_cookie_opens_until_the_logout() {
    let hub = Hub::start(&format!("{TOKEN_AUTH}{ECHO_TARGET}")).await;
    let first = hub.send(&Req::get("/auth/session").bearer()).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.json()["method"], "token");
    assert!(first.json()["expiresAt"].is_number());
    let set = first.header("set-cookie").unwrap();
    assert!(set.starts_with("proactions_session=s%3A"), "{set}");
    for attribute in [
        "Path=/",
        "HttpOnly",
        "SameSite=Strict",
        "Max-Age=86400",
        "Expires=",
    ] {
        assert!(set.contains(attribute), "{attribute} in {set}");
    }
    assert!(!set.contains("Secure"), "plain HTTP: {set}");

    let cookie = cookie_of(&first);
    let by_cookie = hub
        .send(&Req::get("/auth/session").header("cookie", &cookie))
        .await;
    assert_eq!(by_cookie.status, 200);
    assert_eq!(by_cookie.json()["user"], first.json()["user"]);
    assert_eq!(by_cookie.header("set-cookie"), None);

    let out = hub
        .send(&Req::post("/auth/logout").header("cookie", &cookie))
        .await;
    assert_eq!(out.status, 204);
    assert_eq!(out.header("clear-site-data"), Some("\"cookies\""));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    let after = hub
        .send(&Req::get("/auth/session").header("cookie", &cookie))
        .await;
    assert_eq!(after.status, 401);
}

#[tokio::test]
async fn a_client_without_cookies_has_one_session() {
    let hub = Hub::start(&format!("{TOKEN_AUTH}{ECHO_TARGET}")).await;
    let mut cookies: Vec<String> = Vec::new();
    for _ in 0..5 {
        cookies.push(cookie_of(
            &hub.send(&Req::get("/auth/session").bearer()).await,
        ));
    }
    cookies.dedup();
    assert_eq!(cookies.len(), 1);
}

#[tokio::test]
async fn forged_and_shadowed_cookies_open_nothing() {
    let mut hub = Hub::start(&format!("{TOKEN_AUTH}{ECHO_TARGET}")).await;
    let cookie = cookie_of(&hub.send(&Req::get("/auth/session").bearer()).await);
    let (name, value) = cookie.split_once('=').unwrap();
    let status = |line: String| {
        let request = Req::get("/auth/session").header("cookie", &line);
        let hub = &hub;
        async move { hub.send(&request).await.status }
    };
    let mut flipped = value.to_owned();
    let last = if flipped.pop() == Some('A') { 'B' } else { 'A' };
    flipped.push(last);
    for (line, open) in [
        (cookie.clone(), true),
        (format!("a=1; {cookie}; b=2"), true),
        (format!("{name}={flipped}"), false),
        (format!("{name}={}", &value[..value.len() - 1]), false),
        (format!("{name}={value}x"), false),
        (
            format!("{name}=s%3Ainvented.{}", value.rsplit('.').next().unwrap()),
            false,
        ),
        (format!("{name}=bad; {cookie}"), true),
        (format!("{cookie}; {name}=bad"), true),
        (format!("{cookie}; {cookie}"), false),
        (format!("{}={value}", name.to_uppercase()), false),
        (format!("={cookie}"), false),
        (format!("__Host-{cookie}"), false),
        (format!("$Version=1; {name}x={value}"), false),
    ] {
        let expected = if open { 200 } else { 401 };
        assert_eq!(status(line.clone()).await, expected, "{line}");
    }
    hub.process.wait_for_line("cookie_signature_bad").await;
}

#[tokio::test]
async fn other_sites_cannot_use_the_cookie() {
    let yaml = format!(
        "hub:\n  security:\n    cors: {{origin: https://app.example.com, credentials: true}}\n{TOKEN_AUTH}{ECHO_TARGET}"
    );
    let hub = Hub::start(&yaml).await;
    let cookie = cookie_of(&hub.send(&Req::get("/auth/session").bearer()).await);
    for (headers, status) in [
        (&[][..], 200),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "none")], 200),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("origin", "https://evil.test")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "http://hub.test")], 200),
        (
            &[
                ("origin", "https://app.example.com"),
                ("sec-fetch-site", "cross-site"),
            ],
            200,
        ),
    ] {
        let mut request = Req::chat(false).header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body_text());
    }
    // A credential of one's own is no ambient authority.
    let own = Req::chat(false)
        .bearer()
        .header("origin", "https://evil.test");
    assert_eq!(hub.send(&own).await.status, 200);
}

#[tokio::test]
async fn guessing_is_locked_out() {
    let mut hub = Hub::start(&format!("{TOKEN_AUTH}{ECHO_TARGET}")).await;
    let guess = Req::get("/auth/session").header("authorization", "Bearer guess");
    for _ in 0..10 {
        assert_eq!(hub.send(&guess).await.status, 401);
    }
    let locked = hub.send(&guess).await;
    assert_eq!(locked.status, 429);
    assert!(locked.header("retry-after").is_some());
    hub.process.wait_for_line("login_locked_out").await;
    assert!(!hub.output().contains(TOKEN));
}

#[tokio::test]
async fn a_secure_cookie_is_not_sent_over_plain_http() {
    let yaml = format!("hub:\n  security:\n    trustProxy: loopback\n{TOKEN_AUTH}{ECHO_TARGET}");
    let hub = Hub::start(&yaml).await;
    let plain = hub.send(&Req::get("/auth/session").bearer()).await;
    assert_eq!((plain.status, plain.header("set-cookie")), (200, None));
    let request = Req::get("/auth/session")
        .bearer()
        .header("x-forwarded-proto", "https");
    let secure = hub.send(&request).await;
    let set = secure.header("set-cookie").unwrap();
    assert!(
        set.starts_with("__Host-proactions_session=") && set.contains("; Secure"),
        "{set}"
    );
}
