//! The Redis store on a real server.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics"
)]

use std::sync::Arc;
use std::time::Duration;

use proactions_edge::SecretString;
use proactions_redis_client::{RedisClient, RedisSettings, RedisTls};
use proactions_session_store::{
    Record, RedisClientConfig, RedisStore, SecretList, SessionId, SessionStore, StoreErrorKind,
    conformance,
};
use proactions_testkit::RedisServer;
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3600);

fn store(server: &RedisServer) -> RedisStore {
    let url = SecretString::from(server.url());
    let settings = RedisSettings::new([&url], &RedisTls::default()).unwrap();
    RedisStore::new(RedisClient::new(settings))
}

fn id(text: &str) -> SessionId {
    SessionId::from_bytes(text.as_bytes()).unwrap()
}

fn record(json: &str) -> Arc<Record> {
    Arc::new(Record::parse(json.as_bytes()).unwrap())
}

#[tokio::test]
async fn it_behaves_as_every_store_must() {
    let server = RedisServer::start().await;
    conformance::check_store(Arc::new(store(&server)), async |time| sleep(time).await).await;
}

#[tokio::test]
async fn what_node_wrote_is_read_and_the_other_way_round() {
    let server = RedisServer::start().await;
    let store = store(&server);
    let json = concat!(
        r#"{"cookie":{"originalMaxAge":86399999,"expires":"2001-01-01T00:00:00.000Z","httpOnly":true,"#,
        r#""path":"/"},"auth":{"type":"edapi","subject":"bob"},"odd":[1.5]}"#
    );
    assert_eq!(
        server.command(&["SET", "sess:node", json, "EX", "3600"]),
        "+OK"
    );
    // The stale `expires` does not matter.
    let stored = store.load(&id("node")).await.unwrap().unwrap();
    assert_eq!(stored.record.get("auth").unwrap()["subject"], "bob");
    let left = stored.expires_at.duration_since(now()).unwrap();
    assert!(
        left > HOUR - Duration::from_secs(60) && left <= HOUR + Duration::from_secs(1),
        "{left:?}"
    );

    let changed = record(&json.replace("bob", "eve"));
    store
        .save(&id("node"), changed.clone(), stored.record, HOUR * 2)
        .await
        .unwrap();
    assert_eq!(server.command(&["GET", "sess:node"]), changed.to_json());
    assert_eq!(server.command(&["TTL", "sess:node"]), ":7200");
    // A Node process rewrites the record: what was seen here counts no more.
    assert_eq!(
        server.command(&["SET", "sess:node", json, "EX", "3600"]),
        "+OK"
    );
    let again = store
        .save(&id("node"), changed.clone(), changed, HOUR)
        .await;
    assert_eq!(again.unwrap_err().kind(), StoreErrorKind::Conflict);

    store.create(&id("rust"), record(json), HOUR).await.unwrap();
    assert_eq!(server.command(&["TYPE", "sess:rust"]), "+string");
    assert_eq!(
        server.command(&["GET", "sess:rust"]),
        record(json).to_json()
    );
    assert_eq!(server.command(&["TTL", "sess:rust"]), ":3600");
    assert!(store.touch(&id("rust"), HOUR * 3).await.unwrap());
    assert_eq!(server.command(&["TTL", "sess:rust"]), ":10800");
    store.destroy(&id("rust")).await.unwrap();
    assert_eq!(server.command(&["EXISTS", "sess:rust"]), ":0");
}

#[tokio::test]
async fn a_record_that_was_created_here_can_be_saved_without_reading_it() {
    let server = RedisServer::start().await;
    let store = store(&server).with_prefix("hub:{1}:");
    let (first, second) = (
        record(r#"{"cookie":{},"n":1}"#),
        record(r#"{"cookie":{},"n":2}"#),
    );
    store.create(&id("a"), first.clone(), HOUR).await.unwrap();
    store.save(&id("a"), second, first, HOUR).await.unwrap();
    assert_eq!(
        server.command(&["GET", "hub:{1}:a"]),
        r#"{"cookie":{},"n":2}"#
    );
}

#[tokio::test]
async fn what_is_no_record_is_corrupt() {
    let server = RedisServer::start().await;
    let store = store(&server);
    let long = format!(r#"{{"cookie":{{}},"x":"{}"}}"#, "x".repeat(Record::MAX_LEN));
    for (name, command) in [
        ("json", &["SET", "sess:json", "{oops"][..]),
        ("cookie", &["SET", "sess:cookie", "{}"]),
        ("empty", &["SET", "sess:empty", ""]),
        ("long", &["SET", "sess:long", &long]),
        ("list", &["RPUSH", "sess:list", "a"]),
        ("binary", &["SET", "sess:binary", "\u{0}\u{ff}"]),
    ] {
        let _ = server.command(command);
        let error = store.load(&id(name)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}");
    }
    // A record that could not be read again is not written.
    let mut almost = r#"{"cookie":{},"x":""#.to_owned();
    almost.push_str(&"\\u0001".repeat(10));
    almost.push_str(&"x".repeat(Record::MAX_LEN - almost.len() - 2));
    almost.push_str("\"}");
    store
        .create(&id("fits"), record(&almost), HOUR)
        .await
        .unwrap();
    assert!(store.load(&id("fits")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_record_without_an_end_is_about_to_end() {
    let server = RedisServer::start().await;
    let store = store(&server);
    assert_eq!(
        server.command(&["SET", "sess:a", r#"{"cookie":{}}"#]),
        "+OK"
    );
    let stored = store.load(&id("a")).await.unwrap().unwrap();
    assert!(stored.expires_at <= now());
}

#[tokio::test]
async fn every_call_ends_within_a_second_while_redis_is_gone() {
    for frozen in [false, true] {
        let mut server = RedisServer::start().await;
        let store = store(&server);
        let record = record(r#"{"cookie":{}}"#);
        store.create(&id("a"), record.clone(), HOUR).await.unwrap();
        if frozen {
            server.freeze();
        } else {
            server.kill();
        }
        let check = |kind: Option<StoreErrorKind>, start: Instant| {
            assert_eq!(kind, Some(StoreErrorKind::Outage));
            assert!(start.elapsed() < Duration::from_secs(1));
        };
        let start = Instant::now();
        // All of them, one after the other: only the first may run into its deadline.
        check(store.load(&id("a")).await.err().map(|e| e.kind()), start);
        check(
            store
                .create(&id("b"), record.clone(), HOUR)
                .await
                .err()
                .map(|e| e.kind()),
            start,
        );
        let saved = store
            .save(&id("a"), record.clone(), record.clone(), HOUR)
            .await;
        check(saved.err().map(|e| e.kind()), start);
        check(
            store.touch(&id("a"), HOUR).await.err().map(|e| e.kind()),
            start,
        );
        check(store.destroy(&id("a")).await.err().map(|e| e.kind()), start);
        if frozen {
            server.thaw();
        } else {
            server.restart().await;
        }
        let start = Instant::now();
        while store.load(&id("a")).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(2));
            sleep(Duration::from_millis(10)).await;
        }
        // A frozen server has forgotten nothing.
        assert_eq!(store.load(&id("a")).await.unwrap().is_some(), frozen);
    }
}

#[tokio::test]
async fn a_full_server_reads_but_does_not_write() {
    let server = RedisServer::builder().max_memory("3mb").start().await;
    let store = store(&server);
    store
        .create(&id("a"), record(r#"{"cookie":{}}"#), HOUR)
        .await
        .unwrap();
    for size in [100_000, 10_000] {
        let value = "x".repeat(size);
        let mut nth = 0;
        while server.command(&["SET", &format!("fill{size}.{nth}"), &value]) == "+OK" {
            nth += 1;
        }
    }
    let large = record(&format!(
        r#"{{"cookie":{{}},"x":"{}"}}"#,
        "x".repeat(200_000)
    ));
    let error = store
        .create(&id("b"), large.clone(), HOUR)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Outage);
    let seen = store.load(&id("a")).await.unwrap().unwrap().record;
    let error = store.save(&id("a"), large, seen, HOUR).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Outage);
    assert!(store.touch(&id("a"), HOUR).await.unwrap());
    store.destroy(&id("a")).await.unwrap();
}

#[tokio::test]
async fn the_rights_in_the_documentation_are_enough() {
    let server = RedisServer::builder()
        .user(
            "hub on >hunter2 ~sess:* +ping +set +get +del +pexpire +pttl +strlen +exists +eval +evalsha",
        )
        .start()
        .await;
    let mut config = RedisClientConfig::default();
    config.url = SecretList::from_iter([server.url_as("hub", "hunter2")]);
    let store = RedisStore::new(RedisClient::new(config.settings().unwrap()));
    conformance::records_come_back(&store).await;
    conformance::save_needs_what_was_seen(&store).await;
    conformance::an_ended_session_stays_ended(&store).await;
    assert!(!format!("{store:?}").contains("hunter2"));
}

#[test]
fn problems_of_the_settings_are_named() {
    let mut config = RedisClientConfig::default();
    config.url = SecretList::from_iter(["rediss://hub:hunter2@host"]);
    config.tls.ca = Some("/does/not/exist.pem".to_owned());
    let error = config.settings().unwrap_err();
    assert_eq!(error.problems()[0].key, "tls.ca");
    assert!(!error.to_string().contains("hunter2"));
}

#[allow(
    clippy::disallowed_methods,
    reason = "the store goes by the real time here"
)]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
