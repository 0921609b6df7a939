//! A cluster, and a master behind a sentinel.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics"
)]

mod common;

use std::time::Duration;

use common::*;
use proactions_redis_client::{RedisErrorKind, Script};
use proactions_testkit::RedisServer;
use tokio::time::{Instant, sleep};

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn cluster() -> Vec<RedisServer> {
    let mut servers = Vec::new();
    for (first, last) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")] {
        let server = RedisServer::builder().cluster().start().await;
        assert_eq!(
            server.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]),
            "+OK"
        );
        servers.push(server);
    }
    for server in &servers[1..] {
        let port = server.addr().port().to_string();
        assert_eq!(
            servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port]),
            "+OK"
        );
    }
    eventually("the cluster comes about", || {
        servers.iter().all(|server| {
            let info = server.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_size:3")
        })
    })
    .await;
    servers
}

#[tokio::test]
async fn a_cluster_that_moves_its_slots() {
    let mut servers = cluster().await;
    // One of the URLs leads nowhere.
    let dead = format!("redis://{}", proactions_testkit::closed_address());
    let client = client(&[&dead, &servers[0].url(), &servers[1].url()]);
    client.start();
    for n in 0..60 {
        set(&client, &format!("key{n}"), &n.to_string())
            .await
            .unwrap();
    }
    for n in 0..60 {
        let value = get(&client, &format!("key{n}")).await.unwrap();
        assert_eq!(value, Some(n.to_string()));
    }
    assert!(
        servers
            .iter()
            .all(|server| server.command(&["DBSIZE"]) != ":0")
    );
    client.ping().await.unwrap();
    until_up_is(&client, true).await;

    // `foo` is in slot 12182, which the third server holds. It moves to the first one, in two steps.
    let slot = "12182";
    let id = |server: &RedisServer| server.command(&["CLUSTER", "MYID"]);
    let ids: Vec<_> = servers.iter().map(id).collect();
    assert_eq!(
        servers[0].command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[2]]),
        "+OK"
    );
    assert_eq!(
        servers[2].command(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[0]]),
        "+OK"
    );
    set(&client, "foo", "asked").await.unwrap();
    assert_eq!(get(&client, "foo").await.unwrap().as_deref(), Some("asked"));
    for server in &servers {
        assert_eq!(
            server.command(&["CLUSTER", "SETSLOT", slot, "NODE", &ids[0]]),
            "+OK"
        );
    }
    let script = Script::new("return redis.call('GET', KEYS[1])");
    let value: String = client.eval(&script, b"foo", &[]).await.unwrap();
    assert_eq!(value, "asked");

    // A replica takes over from the third, which nobody has to send a command for.
    let replica = RedisServer::builder().cluster().start().await;
    let port = servers[0].addr().port().to_string();
    assert_eq!(
        replica.command(&["CLUSTER", "MEET", "127.0.0.1", &port]),
        "+OK"
    );
    eventually("the replica knows its master", || {
        replica.command(&["CLUSTER", "REPLICATE", &ids[2]]) == "+OK"
    })
    .await;
    eventually("the replica is in step, and the others know it", || {
        replica
            .command(&["INFO", "replication"])
            .contains("master_link_status:up")
            && servers[..2].iter().all(|server| {
                server
                    .command(&["CLUSTER", "REPLICAS", &ids[2]])
                    .contains(&ids[2])
            })
    })
    .await;
    servers[2].kill();
    until_up_is(&client, false).await;
    until_up_is(&client, true).await;
    for n in 0..60 {
        assert_eq!(
            get(&client, &format!("key{n}")).await.unwrap(),
            Some(n.to_string())
        );
    }

    // What a dead server without a replica holds is out of reach, the rest is not.
    servers[1].kill();
    let start = Instant::now();
    let mut lost = 0;
    for n in 0..60 {
        match get(&client, &format!("key{n}")).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), RedisErrorKind::Outage);
                lost += 1;
            }
        }
    }
    assert!((1..60).contains(&lost), "{lost}");
    assert!(start.elapsed() < LONGEST_CALL * 2);
    until_up_is(&client, false).await;
}

#[tokio::test]
async fn several_urls_need_a_cluster() {
    let server = RedisServer::start().await;
    let other = RedisServer::start().await;
    let client = client(&[&server.url(), &other.url()]);
    assert_eq!(failure(&client).await, RedisErrorKind::Outage);
}

#[tokio::test]
async fn one_url_of_a_cluster_is_told() {
    let servers = cluster().await;
    let client = client(&[&servers[0].url()]);
    // `foo` belongs to the third.
    let error = get(&client, "foo").await.unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Protocol);
    assert!(
        error.to_string().contains("a list of several URLs"),
        "{error}"
    );
}

#[tokio::test]
async fn sentinels_name_the_master() {
    let master = RedisServer::start().await;
    let replica = RedisServer::start().await;
    let port = |server: &RedisServer| server.addr().port().to_string();
    let answer = replica.command(&["REPLICAOF", "127.0.0.1", &port(&master)]);
    assert_eq!(answer, "+OK");
    eventually("the replica is in step", || {
        replica
            .command(&["INFO", "replication"])
            .contains("master_link_status:up")
    })
    .await;
    let monitor = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\n\
         sentinel failover-timeout main 2000",
        port(&master)
    );
    let sentinel = RedisServer::builder().sentinel(&monitor).start().await;
    // It asks its servers every ten seconds otherwise.
    let hurry = [
        "SENTINEL",
        "DEBUG",
        "info-period",
        "100",
        "ping-period",
        "100",
    ];
    assert_eq!(sentinel.command(&hurry), "+OK");
    eventually("the sentinel knows the replica", || {
        sentinel
            .command(&["SENTINEL", "REPLICAS", "main"])
            .contains(&port(&replica))
    })
    .await;
    let dead = proactions_testkit::closed_address();
    let client = client(&[&format!("redis+sentinel://{dead},{}/main", sentinel.addr())]);
    set(&client, "a", "b").await.unwrap();
    assert_eq!(master.command(&["GET", "a"]), "b");

    // It refuses until it has talked to the replica for a while.
    eventually("the failover begins", || {
        sentinel.command(&["SENTINEL", "FAILOVER", "main"]) == "+OK"
    })
    .await;
    eventually("the replica takes over", || {
        replica.command(&["ROLE"]).starts_with("master")
    })
    .await;
    let start = Instant::now();
    while replica.command(&["GET", "c"]) != "d" {
        let _ = set(&client, "c", "d").await;
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "writes do not reach the new master"
        );
        sleep(Duration::from_millis(20)).await;
    }

    let unknown = common::client(&[&format!("redis+sentinel://{}/other", sentinel.addr())]);
    let error = get(&unknown, "a").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Redis is out of reach: the sentinels do not know the master"
    );
}
