//! A real server, and everything that may go wrong with it.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use proactions_redis_client::{RedisErrorKind, RedisTls, Script};
use proactions_testkit::{RedisServer, closed_address};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn absent_at_start() {
    let mut server = RedisServer::start().await;
    server.kill();
    let client = client(&[&server.url()]);
    assert!(!client.is_up());
    client.start();
    assert_eq!(failure(&client).await, RedisErrorKind::Outage);
    assert_eq!(
        client.ping().await.unwrap_err().kind(),
        RedisErrorKind::Outage
    );
    // What is known to be down costs nothing.
    let start = Instant::now();
    for _ in 0..1000 {
        failure(&client).await;
    }
    assert!(start.elapsed() < LONGEST_CALL, "{:?}", start.elapsed());
    assert!(!client.is_up());
    server.restart().await;
    recovered(&client).await;
    client.ping().await.unwrap();
    assert!(client.is_up());
}

#[tokio::test]
async fn killed_and_restarted() {
    let mut server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    set(&client, "a", "b").await.unwrap();
    assert_eq!(get(&client, "a").await.unwrap().as_deref(), Some("b"));
    for _ in 0..3 {
        server.kill();
        assert_eq!(failure(&client).await, RedisErrorKind::Outage);
        until_up_is(&client, false).await;
        server.restart().await;
        recovered(&client).await;
        assert_eq!(get(&client, "a").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_dead_server_is_noticed_without_a_command() {
    let mut server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    client.start();
    until_up_is(&client, true).await;
    server.kill();
    until_up_is(&client, false).await;
    server.restart().await;
    until_up_is(&client, true).await;
    server.freeze();
    until_up_is(&client, false).await;
    server.thaw();
    until_up_is(&client, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen() {
    let server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    set(&client, "a", "b").await.unwrap();
    server.freeze();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { failure(&client).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), RedisErrorKind::Outage);
    }
    // Connections are still taken by the kernel, so that each attempt has to run into its deadline; but the
    // callers do not wait for it.
    let end = Instant::now() + Duration::from_millis(1500);
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        let start = Instant::now();
        assert_eq!(failure(&client).await, RedisErrorKind::Outage);
        longest = longest.max(start.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    assert!(longest < Duration::from_millis(300), "{longest:?}");
    server.thaw();
    recovered(&client).await;
    assert_eq!(get(&client, "a").await.unwrap().as_deref(), Some("b"));
}

#[tokio::test]
async fn frozen_at_start() {
    let server = RedisServer::start().await;
    server.freeze();
    let client = client(&[&server.url()]);
    assert_eq!(failure(&client).await, RedisErrorKind::Outage);
    server.thaw();
    recovered(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow() {
    let server = RedisServer::builder()
        .option("enable-debug-command", "local")
        .start()
        .await;
    let client = client(&[&server.url()]);
    set(&client, "a", "b").await.unwrap();
    let server = Arc::new(server);
    let sleeper = Arc::clone(&server);
    let asleep = tokio::task::spawn_blocking(move || sleeper.command(&["DEBUG", "SLEEP", "2"]));
    // The sleep begins at some time soon; from then on, and until it ends, nothing is answered.
    let start = Instant::now();
    while get(&client, "a").await.is_ok() {
        assert!(start.elapsed() < LONGEST_RECOVERY);
    }
    assert_eq!(failure(&client).await, RedisErrorKind::Outage);
    assert_eq!(asleep.await.unwrap(), "+OK");
    recovered(&client).await;
}

#[tokio::test]
async fn full() {
    let server = RedisServer::builder().max_memory("3mb").start().await;
    let client = client(&[&server.url()]);
    set(&client, "a", "b").await.unwrap();
    // Nearly full, so that the command itself does not fit.
    let large = "x".repeat(500_000);
    for size in [100_000, 10_000] {
        let value = "x".repeat(size);
        let mut nth = 0;
        while server.command(&["SET", &format!("fill{size}.{nth}"), &value]) == "+OK" {
            nth += 1;
        }
    }
    let error = set(&client, "c", &large).await.unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Full);
    assert_eq!(
        error.to_string(),
        "the memory of Redis is full: OOM; `maxmemory` is reached"
    );
    let script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let error = client
        .eval::<String>(&script, b"c", &[large.as_bytes()])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Full);
    // Reading goes on.
    assert_eq!(get(&client, "a").await.unwrap().as_deref(), Some("b"));
    assert!(client.is_up());
    assert_eq!(server.command(&["FLUSHALL"]), "+OK");
    set(&client, "c", "d").await.unwrap();
}

#[tokio::test]
async fn a_replica_takes_no_changes() {
    let server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    set(&client, "a", "b").await.unwrap();
    let nobody = closed_address().port().to_string();
    assert_eq!(server.command(&["REPLICAOF", "127.0.0.1", &nobody]), "+OK");
    let error = set(&client, "a", "c").await.unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Outage);
    assert_eq!(server.command(&["REPLICAOF", "NO", "ONE"]), "+OK");
    let start = Instant::now();
    while set(&client, "a", "c").await.is_err() {
        assert!(start.elapsed() < LONGEST_RECOVERY);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn passwords_and_users() {
    let server = RedisServer::builder()
        .password("hunter2")
        .user("hub on >hunter3 ~sess:* +get +set +ping")
        .start()
        .await;
    for (url, kind) in [
        (server.url_as("", "hunter9"), RedisErrorKind::Auth),
        (server.url_as("hub", "hunter2"), RedisErrorKind::Auth),
        (
            format!("redis://localhost:{}", server.addr().port()),
            RedisErrorKind::Auth,
        ),
        (server.url_as("hub", "hunter3"), RedisErrorKind::Denied),
    ] {
        let client = client(&[&url]);
        let error = get(&client, "a").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!format!("{error} {error:?} {client:?}").contains("hunter"));
    }
    set(&client(&[&server.url()]), "sess:a", "b").await.unwrap();
    let hub = client(&[&server.url_as("hub", "hunter3")]);
    assert_eq!(get(&hub, "sess:a").await.unwrap().as_deref(), Some("b"));
    assert!(hub.is_up());
}

#[tokio::test]
async fn certificates() {
    let server = RedisServer::builder().tls().start().await;
    let url = server.url();
    let ca = tls().with_ca(path(&server, "ca.pem"));
    set(&client_with(&[&url], &ca), "a", "b").await.unwrap();
    let text = tls().with_ca(&server.certificates().ca);
    get(&client_with(&[&url], &text), "a").await.unwrap();

    let other = proactions_testkit::TestCertificates::new();
    let untrusted = tls().with_ca(other.ca);
    let error = get(&client_with(&[&url], &untrusted), "a")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Tls, "{error}");
    assert!(
        error.to_string().contains("invalid peer certificate"),
        "{error}"
    );

    let any = untrusted.dangerous_accept_any_certificate();
    assert_eq!(
        get(&client_with(&[&url], &any), "a")
            .await
            .unwrap()
            .as_deref(),
        Some("b")
    );

    // Each side speaks what the other does not.
    let plain = url.replace("rediss://", "redis://");
    assert_eq!(failure(&client(&[&plain])).await, RedisErrorKind::Outage);
    let plain = RedisServer::start().await;
    let url = plain.url().replace("redis://", "rediss://");
    let kind = failure(&client_with(&[&url], &ca)).await;
    assert!(
        matches!(kind, RedisErrorKind::Tls | RedisErrorKind::Outage),
        "{kind:?}"
    );
}

#[tokio::test]
async fn client_certificates() {
    let server = RedisServer::builder().client_certificates().start().await;
    let stranger = tls().with_ca(path(&server, "ca.pem"));
    let error = get(&client_with(&[&server.url()], &stranger), "a")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Tls, "{error}");
    let known = stranger
        .with_cert(path(&server, "client.pem"))
        .with_key(path(&server, "client.key"));
    set(&client_with(&[&server.url()], &known), "a", "b")
        .await
        .unwrap();
    // A key that belongs to another certificate is an error before anything is connected.
    let wrong = known.with_key(path(&server, "server.key"));
    let urls = [server.url().into()];
    let error = proactions_redis_client::RedisSettings::new(&urls, &wrong).unwrap_err();
    assert_eq!(error.problems()[0].key, "tls.key");
    assert_eq!(
        error.problems()[0].message,
        "does not fit the certificate in `cert`"
    );
}

#[tokio::test]
async fn a_connection_that_the_server_closes_fails_nobody() {
    let server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    for _ in 0..2 {
        set(&client, "a", "b").await.unwrap();
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(server.command(&["CLIENT", "KILL", "TYPE", "normal"]), ":1");
        // This connection, and the one that the client makes without being asked.
        let start = Instant::now();
        while server
            .command(&["CLIENT", "LIST", "TYPE", "normal"])
            .lines()
            .count()
            < 2
        {
            assert!(start.elapsed() < LONGEST_RECOVERY);
            sleep(Duration::from_millis(5)).await;
        }
        get(&client, "a").await.unwrap();
    }
}

#[tokio::test]
async fn a_script_is_sent_when_the_server_lacks_it() {
    let server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for n in 1..4 {
        let sum: u32 = client.eval(&script, b"n", &[b"5"]).await.unwrap();
        assert_eq!(sum, n * 5);
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "+OK");
    }
    let error = client
        .eval::<Vec<u8>>(&Script::new("return redis.call('NO')"), b"n", &[])
        .await;
    assert_eq!(error.unwrap_err().kind(), RedisErrorKind::Protocol);
}

#[tokio::test]
async fn metrics_tell_what_is_up_and_what_failed() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let mut server = RedisServer::start().await;
    let client = client(&[&server.url()]);
    set(&client, "a", "b").await.unwrap();
    assert!(
        shown.render().contains("hub_redis_up 1"),
        "{}",
        shown.render()
    );
    assert_eq!(server.command(&["RPUSH", "list", "a"]), ":1");
    let error = get(&client, "list").await.unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::WrongType);
    server.kill();
    until_up_is(&client, false).await;
    let text = shown.render();
    for line in [
        "hub_redis_up 0",
        "hub_redis_errors_total{kind=\"wrong_type\"} 1",
        "hub_redis_errors_total{kind=\"outage\"}",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    drop(guard);
}

#[tokio::test]
async fn names_that_lead_nowhere() {
    for url in [
        "redis://does-not-exist.invalid",
        &format!("redis://{}", closed_address()),
    ] {
        let client = client(&[url]);
        assert_eq!(failure(&client).await, RedisErrorKind::Outage);
    }
}

fn path(server: &RedisServer, name: &str) -> String {
    server.file(name).display().to_string()
}

fn tls() -> RedisTls {
    RedisTls::default()
}
