//! Several hubs, one Redis: sessions and counters are shared, and an outage shuts nobody in or out by mistake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use proactions_testkit::{HubProcess, RawClient, RedisServer, closed_address};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{BINARY, ECHO_TARGET, Hub, PATIENCE, Req, SOON, TOKEN, cookie_of};

/// Token authentication with sessions and counters in Redis.
fn config(redis: &str, limit: &str) -> String {
    format!(
        "hub:
  shutdownTimeout: 10000
  security:
    rateLimit: {{store: redis, windowMs: 600000, standardHeaders: draft-6, {limit}}}
auth:
  enabled: true
  type: token
  tokens: [{TOKEN}]
  session:
    store: redis
    redis_client: {redis}
    cookie:
      secret: cookie-secret-cookie-secret-cookie-secret
{ECHO_TARGET}"
    )
}

fn url(redis: &RedisServer) -> String {
    format!("{{url: '{}'}}", redis.url())
}

async fn status(hub: &Hub, request: Req) -> u16 {
    hub.send(&request).await.status
}

fn whoami(cookie: &str) -> Req {
    Req::get("/auth/session").header("cookie", cookie)
}

#[tokio::test]
async fn a_session_is_everybodys() {
    let redis = RedisServer::start().await;
    let yaml = config(&url(&redis), "max: 10000");
    let (a, b) = (Hub::start(&yaml).await, Hub::start(&yaml).await);
    let cookie = cookie_of(&a.send(&Req::get("/auth/session").bearer()).await);
    assert_eq!(status(&b, whoami(&cookie)).await, 200);
    assert_eq!(
        status(&b, Req::post("/auth/logout").header("cookie", &cookie)).await,
        204
    );
    assert_eq!(status(&a, whoami(&cookie)).await, 401);

    // A hub that is killed takes no session with it.
    let cookie = cookie_of(&a.send(&Req::get("/auth/session").bearer()).await);
    a.process.signal("KILL");
    assert_eq!(status(&b, whoami(&cookie)).await, 200);
    let keys = redis.command(&["KEYS", "*"]);
    assert!(keys.contains("sess:"), "{keys}");
    assert!(!redis.command(&["KEYS", "*"]).contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_at_once_over_two_hubs_and_exactly_max_pass() {
    let redis = RedisServer::start().await;
    let yaml = config(&url(&redis), "max: 100");
    let hubs = Arc::new([Hub::start(&yaml).await, Hub::start(&yaml).await]);
    let mut tasks = JoinSet::new();
    for index in 0..400 {
        let hubs = Arc::clone(&hubs);
        tasks.spawn(async move { status(&hubs[index % 2], Req::get("/nothing")).await });
    }
    let answers = tasks.join_all().await;
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(401), count(429)), (100, 300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let redis = RedisServer::start().await;
    let yaml = config(&url(&redis), "max: 1000000")
        .replace("shutdownTimeout", "preStopDelay: 400\n  shutdownTimeout");
    let mut hubs = Vec::new();
    for _ in 0..2 {
        hubs.push(Hub::start(&yaml).await);
    }
    let cookie = cookie_of(&hubs[0].send(&Req::get("/auth/session").bearer()).await);
    let addrs = [hubs[0].addr, hubs[1].addr];
    // A balancer that sends requests where `/ready` said yes when it last asked.
    let ready: Arc<[AtomicBool; 2]> = Arc::new([AtomicBool::new(true), AtomicBool::new(true)]);
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for index in 0..2 {
        let (ready, stop) = (Arc::clone(&ready), Arc::clone(&stop));
        load.spawn(async move {
            while !stop.load(Relaxed) {
                let is_ready = ask(addrs[index], &Req::get("/ready")).await == Some(200);
                ready[index].store(is_ready, Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    for worker in 0..4 {
        let (ready, stop, answered) =
            (Arc::clone(&ready), Arc::clone(&stop), Arc::clone(&answered));
        let request = whoami(&cookie);
        load.spawn(async move {
            let mut turn = worker;
            while !stop.load(Relaxed) {
                turn += 1;
                let index = if ready[turn % 2].load(Relaxed) {
                    turn % 2
                } else {
                    (turn + 1) % 2
                };
                assert_eq!(ask(addrs[index], &request).await, Some(200), "hub {index}");
                answered.fetch_add(1, Relaxed);
            }
        });
    }
    for hub in &mut hubs {
        let seen = answered.load(Relaxed);
        hub.process.terminate();
        assert_eq!(hub.process.exit_code().await, 0);
        let args = ["serve", "--config", hub.config.path().to_str().unwrap()].map(str::to_owned);
        let env = [("PROACTIONS_HUB_PORT", hub.addr.port().to_string())];
        hub.process = HubProcess::start(BINARY, args, env);
        hub.process.wait_for_line("listening on").await;
        let index = addrs.iter().position(|addr| *addr == hub.addr).unwrap();
        let back = async {
            while !ready[index].load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, back)
            .await
            .expect("ready again");
        assert!(answered.load(Relaxed) > seen);
    }
    stop.store(true, Relaxed);
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
    assert!(answered.load(Relaxed) > 50, "{answered:?}");
}

async fn ask(addr: std::net::SocketAddr, request: &Req) -> Option<u16> {
    let mut client = RawClient::connect(addr).await.ok()?;
    client.send(request.to_bytes()).await.ok()?;
    Some(client.next_response(PATIENCE).await.ok()?.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_gone_cookies_wait_and_tokens_pass() {
    // What Redis has answered is in its file, for the system keeps that when Redis is killed. With the usual
    // `everysec`, a write may wait for the one before to reach the disk.
    let mut redis = RedisServer::builder()
        .option("appendonly", "yes")
        .option("appendfsync", "no")
        .start()
        .await;
    let hub = Hub::start(&config(&url(&redis), "max: 1000000")).await;
    let cookie = cookie_of(&hub.send(&Req::get("/auth/session").bearer()).await);
    assert_eq!(status(&hub, whoami(&cookie)).await, 200);
    assert_eq!(status(&hub, Req::get("/ready")).await, 200);

    redis.kill();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(status(&hub, whoami(&cookie)).await, 503);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(status(&hub, Req::get("/auth/session").bearer()).await, 200);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    assert_eq!(status(&hub, Req::get("/health")).await, 200);
    let ready = hub.send(&Req::get("/ready")).await;
    assert_eq!(
        (ready.status, &ready.json()["checks"]["redis"]),
        (503, &"down".into())
    );
    let answer = hub.send(&whoami(&cookie)).await;
    assert!(answer.header("retry-after").is_some());

    redis.restart().await;
    let back = Instant::now();
    while status(&hub, whoami(&cookie)).await != 200 {
        assert!(back.elapsed() < SOON, "back for {:?}", back.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&hub, Req::get("/ready")).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_is_no_reason_to_wait() {
    let redis = RedisServer::start().await;
    let hub = Hub::start(&config(&url(&redis), "max: 1000000")).await;
    let cookie = cookie_of(&hub.send(&Req::get("/auth/session").bearer()).await);
    redis.freeze();
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(status(&hub, whoami(&cookie)).await, 503);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    redis.thaw();
    let back = Instant::now();
    while status(&hub, whoami(&cookie)).await != 200 {
        assert!(back.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_later_is_found() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let mut hub = Hub::start(&config(&url(&redis), "max: 1000000")).await;
    assert_eq!(status(&hub, Req::get("/ready")).await, 503);
    assert_eq!(status(&hub, Req::get("/health")).await, 200);
    let forged = whoami("proactions_session=s%3Aabc.def");
    assert_eq!(status(&hub, forged).await, 401);
    hub.process.wait_for_line("\"level\":\"error\"").await;
    redis.restart().await;
    let back = Instant::now();
    while status(&hub, Req::get("/ready")).await != 200 {
        assert!(back.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = hub.send(&Req::get("/auth/session").bearer()).await;
    assert!(answer.header("set-cookie").is_some());
}

#[tokio::test]
async fn limits_that_go_on_without_redis_do_not_make_a_hub_unready() {
    let gone = closed_address();
    let yaml = |limit: &str, sessions: &str| {
        config(&format!("{{url: 'redis://{gone}'}}"), limit)
            .replace("    store: redis", &format!("    store: {sessions}"))
    };
    let mut hub = Hub::start(&yaml("max: 1000000", "memory")).await;
    hub.process.wait_for_line("\"level\":\"error\"").await;
    assert_eq!(status(&hub, Req::get("/ready")).await, 200);
    assert_eq!(status(&hub, Req::get("/auth/session").bearer()).await, 200);
    for (round, (on_store_error, ready)) in [("closed", 503), ("open", 200), ("local", 200)]
        .into_iter()
        .enumerate()
    {
        let limit = format!("max: 1000000, onStoreError: {on_store_error}");
        hub.config.write("config.yaml", yaml(&limit, "memory"));
        hub.process.signal("HUP");
        hub.process
            .wait_for_lines("\"config_reloaded\"", round + 1)
            .await;
        let found = status(&hub, Req::get("/ready")).await;
        assert_eq!(found, ready, "{on_store_error}");
    }
    let hub = Hub::start(&yaml("max: 1000000", "redis")).await;
    assert_eq!(status(&hub, Req::get("/ready")).await, 503);
}

#[tokio::test]
async fn over_tls_with_a_private_authority() {
    let redis = RedisServer::builder()
        .tls()
        .password("redis-password-4711")
        .start()
        .await;
    let ca = redis.file("ca.pem");
    let trusted = format!(
        "{{url: '{}', tls: {{ca: '{}'}}}}",
        redis.url(),
        ca.display()
    );
    let mut hub = Hub::start(&config(&trusted, "max: 1000000")).await;
    let cookie = cookie_of(&hub.send(&Req::get("/auth/session").bearer()).await);
    assert_eq!(status(&hub, whoami(&cookie)).await, 200);
    hub.stop().await;
    assert!(!hub.output().contains("redis-password-4711"));

    let untrusted = format!("{{url: '{}'}}", redis.url());
    let mut hub = Hub::start(&config(&untrusted, "max: 1000000")).await;
    assert_eq!(status(&hub, whoami(&cookie)).await, 503);
    hub.process.wait_for_line("\"level\":\"error\"").await;
    assert!(!hub.output().contains("redis-password-4711"));

    let unverified = format!(
        "{{url: '{}', tls: {{rejectUnauthorized: false}}}}",
        redis.url()
    );
    let hub = Hub::start(&config(&unverified, "max: 1000000")).await;
    assert_eq!(status(&hub, whoami(&cookie)).await, 200);

    let wrong = format!(
        "{{url: 'rediss://:wrong-password-4712@{}', tls: {{ca: '{}'}}}}",
        redis.addr(),
        ca.display()
    );
    let hub = Hub::start(&config(
        &wrong.replace("127.0.0.1", "localhost"),
        "max: 1000000",
    ))
    .await;
    assert_eq!(status(&hub, whoami(&cookie)).await, 503);
    assert!(!hub.output().contains("wrong-password-4712"));
}
