//! EDAPI decides who may enter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proactions_testkit::{Edapi, EdapiMode, Gate, Reply, TestCertificates, TlsFront, Upstream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{ECHO_TARGET, Hub, Req, SOON, cookie_of};

fn config(edapi: &Edapi, wire: &str) -> String {
    format!(
        "auth:
  enabled: true
  type: edapi
  edapi_url: '{}'
  edapi: {{timeout: 500, {wire}}}
  session:
    store: memory
    cookie:
      secret: cookie-secret-cookie-secret-cookie-secret
",
        edapi.url()
    )
}

/// The calls that check somebody; the hub also asks, without a token, whether EDAPI is there.
fn checks(upstream: &Upstream) -> usize {
    let requests = upstream.requests();
    requests
        .iter()
        .filter(|request| request.target.contains("token="))
        .count()
}

fn with_token(token: &str) -> Req {
    Req::get("/auth/session").header("authorization", &format!("Bearer {token}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_first_requests_make_one_call() {
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token", "ada");
    let gate = Gate::closed();
    edapi.set_mode(EdapiMode::Gated(gate.clone()));
    let hub = Arc::new(
        Hub::start(&format!(
            "{}{ECHO_TARGET}",
            config(&edapi, "revalidateAfter: 300000")
        ))
        .await,
    );
    let mut tasks = JoinSet::new();
    for _ in 0..500 {
        let hub = Arc::clone(&hub);
        tasks.spawn(async move { hub.send(&with_token("the-users-token")).await });
    }
    edapi
        .upstream()
        .until("a check", |upstream| checks(upstream) > 0)
        .await;
    gate.open();
    for answer in tasks.join_all().await {
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        assert_eq!(
            (
                answer.json()["user"].as_str(),
                answer.json()["method"].as_str()
            ),
            (Some("ada"), Some("edapi"))
        );
    }
    assert_eq!(checks(edapi.upstream()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_guesses_at_once_are_ten_questions() {
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token", "ada");
    let yaml = config(&edapi, "revalidateAfter: 300000").replace("timeout: 500", "timeout: 5000");
    let hub = Arc::new(Hub::start(&format!("{yaml}{ECHO_TARGET}")).await);
    assert_eq!(hub.send(&with_token("the-users-token")).await.status, 200);
    let mut tasks = JoinSet::new();
    for guess in 0..400 {
        let hub = Arc::clone(&hub);
        let guess = with_token(&format!("guess-{guess}"));
        tasks.spawn(async move { hub.send(&guess).await.status });
    }
    let statuses = tasks.join_all().await;
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(401), count(429)), (10, 390));
    assert_eq!(checks(edapi.upstream()), 11);
    // Who is known at that address goes on.
    assert_eq!(hub.send(&with_token("the-users-token")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_alike_logins_never_share_an_identity() {
    let edapi = Edapi::start();
    edapi.allow_login("a", "bc");
    edapi.allow_login("a:b", "c");
    edapi.allow_login("ab", "c");
    let hub = Arc::new(
        Hub::start(&format!(
            "{}{ECHO_TARGET}",
            config(&edapi, "revalidateAfter: 300000")
        ))
        .await,
    );
    // `a:bc` and `ab:c` in base64; a name with a colon cannot be said in Basic.
    let logins = [("YTpiYw==", "a"), ("YWI6Yw==", "ab")];
    let mut tasks = JoinSet::new();
    for index in 0..200 {
        let hub = Arc::clone(&hub);
        let (login, user) = logins[index % 2];
        tasks.spawn(async move {
            let request =
                Req::get("/auth/session").header("authorization", &format!("Basic {login}"));
            let answer = hub.send(&request).await;
            assert_eq!(answer.status, 200, "{}", answer.body_text());
            assert_eq!(answer.json()["user"], user);
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_revoked_token_is_refused_after_the_interval() {
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token", "ada");
    let hub = Hub::start(&format!(
        "{}{ECHO_TARGET}",
        config(&edapi, "revalidateAfter: 1000")
    ))
    .await;
    let first = hub.send(&with_token("the-users-token")).await;
    let cookie = cookie_of(&first);
    edapi.revoke_token("the-users-token");
    let began = Instant::now();
    for request in [
        with_token("the-users-token"),
        Req::get("/auth/session").header("cookie", &cookie),
    ] {
        loop {
            let status = hub.send(&request).await.status;
            if status == 401 {
                break;
            }
            assert_eq!(status, 200);
            assert!(began.elapsed() < SOON, "still {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn an_edapi_that_cannot_tell_is_503_and_nothing_is_let_in() {
    for (what, mode) in [
        ("500", EdapiMode::Status(500)),
        ("302", EdapiMode::Redirecting),
        ("hanging", EdapiMode::Hanging),
        ("endless", EdapiMode::Endless),
        ("nonsense", EdapiMode::Nonsense),
        (
            "a body without a user",
            EdapiMode::Fixed(Reply::json(200, &serde_json::json!({"x": 1}))),
        ),
    ] {
        let edapi = Edapi::start();
        edapi.allow_token("the-users-token", "ada");
        edapi.set_mode(mode);
        let hub = Hub::start(&format!(
            "{}{ECHO_TARGET}",
            config(&edapi, "maxBodyBytes: 4096")
        ))
        .await;
        let began = Instant::now();
        let answer = hub.send(&with_token("the-users-token")).await;
        assert_eq!(answer.status, 503, "{what}");
        assert!(answer.header("retry-after").is_some(), "{what}");
        assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
        assert_eq!(hub.send(&Req::get("/health")).await.status, 200);
        assert_eq!(hub.send(&Req::get("/nothing")).await.status, 401, "{what}");
        assert_eq!(
            checks(edapi.upstream()),
            1,
            "{what}: redirects are not followed"
        );
        edapi.set_mode(EdapiMode::Answering);
        let back = Instant::now();
        while hub.send(&with_token("the-users-token")).await.status != 200 {
            assert!(back.elapsed() < SOON, "{what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn sessions_go_on_while_edapi_is_away_for_a_while() {
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token", "ada");
    let wire = "revalidateAfter: 1000, staleIfError: 1500";
    let hub = Hub::start(&format!("{}{ECHO_TARGET}", config(&edapi, wire))).await;
    let cookie = cookie_of(&hub.send(&with_token("the-users-token")).await);
    edapi.set_mode(EdapiMode::Status(500));
    let began = Instant::now();
    let mut went_on = false;
    loop {
        let status = hub
            .send(&Req::get("/auth/session").header("cookie", &cookie))
            .await
            .status;
        let passed = began.elapsed();
        if status == 503 {
            assert!(passed > Duration::from_millis(1900), "{passed:?}");
            break;
        }
        assert_eq!(status, 200, "{passed:?}");
        went_on |= passed > Duration::from_millis(1200);
        assert!(passed < SOON, "no end in sight");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(went_on);
}

#[tokio::test]
async fn the_credential_stays_between_client_and_edapi() {
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token-4711", "ada");
    let upstream = Upstream::start(Reply::chat("x"));
    let targets = format!(
        "targets:\n  - {{id: up, provider: custom, apiKey: k, endpoint: '{}'}}\nlogging: {{defaultLogLevel: silly}}\n",
        upstream.url("/{path}")
    );
    let mut hub = Hub::start(&format!(
        "{}{targets}",
        config(&edapi, "revalidateAfter: 300000")
    ))
    .await;
    let chat = Req::chat(false).header("authorization", "Bearer the-users-token-4711");
    assert_eq!(hub.send(&chat).await.status, 200);
    assert_eq!(hub.send(&with_token("wrong-token-4712")).await.status, 401);
    edapi.set_mode(EdapiMode::Status(500));
    assert_eq!(
        hub.send(&with_token("unknown-token-4713")).await.status,
        503
    );
    hub.stop().await;
    let seen: BTreeSet<_> = [
        "the-users-token-4711",
        "wrong-token-4712",
        "unknown-token-4713",
    ]
    .into_iter()
    .filter(|token| {
        hub.output().contains(token)
            || format!("{:?}", upstream.last_request().header_lines()).contains(token)
    })
    .collect();
    assert!(seen.is_empty(), "{seen:?}");
    assert!(hub.output().contains("edapi_unavailable"));
}

#[tokio::test]
async fn over_tls_with_a_private_authority() {
    let edapi = Edapi::start();
    edapi.allow_token("the-users-token", "ada");
    let certificates = TestCertificates::new();
    let front = TlsFront::start(edapi.addr(), &certificates);
    let folder = tempfile::tempdir().unwrap();
    certificates.write_to(folder.path());
    let ca = folder.path().join("ca.pem");
    for (tls, status) in [
        (format!("tls: {{ca: '{}'}}", ca.display()), 200),
        ("tls: {rejectUnauthorized: false}".to_owned(), 200),
        ("revalidateAfter: 300000".to_owned(), 503),
    ] {
        let yaml = config(&edapi, &tls).replace(&edapi.url(), &front.url("/edapi"));
        let hub = Hub::start(&format!("{yaml}{ECHO_TARGET}")).await;
        let answer = hub.send(&with_token("the-users-token")).await;
        assert_eq!(answer.status, status, "{tls}: {}", answer.body_text());
    }
}
