//! Counters on a real Redis.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics"
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use proactions_edge::{ClientInfo, Scheme, SecretString};
use proactions_ratelimit::{
    KeyOf, OnStoreError, RateLimitConfig, RateLimitLayer, RateLimitPolicy, RedisCounters,
    RuleConfig,
};
use proactions_redis_client::{RedisClient, RedisSettings, RedisTls};
use proactions_testkit::RedisServer;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

fn counters(server: &RedisServer) -> Arc<RedisCounters> {
    let url = SecretString::from(server.url());
    let settings = RedisSettings::new([&url], &RedisTls::default()).unwrap();
    Arc::new(RedisCounters::new(RedisClient::new(settings)))
}

fn config(max: u32) -> RateLimitConfig {
    let mut config = RateLimitConfig::default();
    config.max = Some(max);
    config.window_ms = 600_000;
    config
}

/// A service of a process of its own: nothing is shared but the server.
fn service(
    server: &RedisServer,
    config: RateLimitConfig,
    status: StatusCode,
) -> impl Service<Request<()>, Response = Response<Bytes>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<> {
    let policy = RateLimitPolicy::with_counters(config, counters(server)).unwrap();
    RateLimitLayer::by_address(policy).layer(service_fn(move |_: Request<()>| async move {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        Ok::<_, Infallible>(response)
    }))
}

fn request(ip: &str, uri: &str) -> Request<()> {
    let mut request = Request::builder().uri(uri).body(()).unwrap();
    let client = ClientInfo::new(ip.parse().unwrap(), Scheme::Https, None, 0);
    request.extensions_mut().insert(client);
    request
}

async fn ask<S>(service: &S, ip: &str, uri: &str) -> Response<Bytes>
where
    S: Service<Request<()>, Response = Response<Bytes>, Error = Infallible> + Clone,
{
    let start = Instant::now();
    let response = service.clone().oneshot(request(ip, uri)).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    response
}

fn number(response: &Response<Bytes>, name: &str) -> u64 {
    response.headers()[name].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_admit_exactly_the_quota() {
    let server = RedisServer::start().await;
    let first = service(&server, config(100), StatusCode::OK);
    let second = service(&server, config(100), StatusCode::OK);
    let passed = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..400)
        .map(|n| {
            let service = if n % 2 == 0 {
                first.clone()
            } else {
                second.clone()
            };
            let passed = Arc::clone(&passed);
            tokio::spawn(async move {
                let response = service.oneshot(request("192.0.2.7", "/")).await.unwrap();
                if response.status() == StatusCode::OK {
                    passed.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(passed.load(Ordering::SeqCst), 100);
    assert_eq!(server.command(&["GET", "rl:192.0.2.7"]), "400");
}

#[tokio::test]
async fn counters_are_those_of_node() {
    let server = RedisServer::start().await;
    let service = service(&server, config(100), StatusCode::OK);
    // Three requests came to a Node process before, 300 seconds ago.
    let node = ["SET", "rl:2001:db8:0:1200::/56", "3", "PX", "300000"];
    assert_eq!(server.command(&node), "+OK");
    let response = ask(&service, "2001:db8:0:12ff::1", "/").await;
    assert_eq!(number(&response, "x-ratelimit-remaining"), 96);
    assert_eq!(server.command(&["GET", "rl:2001:db8:0:1200::/56"]), "4");
    let left: u64 = server.command(&["PTTL", "rl:2001:db8:0:1200::/56"])[1..]
        .parse()
        .unwrap();
    assert!((290_000..=300_000).contains(&left), "{left}");

    ask(&service, "192.0.2.7", "/").await;
    assert_eq!(server.command(&["GET", "rl:192.0.2.7"]), "1");
    let left: u64 = server.command(&["PTTL", "rl:192.0.2.7"])[1..]
        .parse()
        .unwrap();
    assert!((590_000..=600_000).contains(&left), "{left}");

    // A key without an end, as a decrement by Node may leave it, begins a window; one that ends too late is cut.
    assert_eq!(server.command(&["SET", "rl:192.0.2.8", "-1"]), "+OK");
    let response = ask(&service, "192.0.2.8", "/").await;
    assert_eq!(number(&response, "x-ratelimit-remaining"), 99);
    assert_eq!(
        server.command(&["SET", "rl:192.0.2.9", "7", "PX", "9000000"]),
        "+OK"
    );
    let response = ask(&service, "192.0.2.9", "/").await;
    assert_eq!(number(&response, "x-ratelimit-remaining"), 92);
    let left: u64 = server.command(&["PTTL", "rl:192.0.2.9"])[1..]
        .parse()
        .unwrap();
    assert!(left <= 600_000, "{left}");
}

#[tokio::test]
async fn a_window_ends_by_the_clock_of_redis() {
    let server = RedisServer::start().await;
    let mut short = config(1);
    short.window_ms = 300;
    let service = service(&server, short, StatusCode::OK);
    assert_eq!(ask(&service, "192.0.2.7", "/").await.status(), 200);
    let start = Instant::now();
    while ask(&service, "192.0.2.7", "/").await.status() != 200 {
        assert!(start.elapsed() < Duration::from_secs(2));
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        start.elapsed() > Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn rules_have_counters_of_their_own() {
    let server = RedisServer::start().await;
    let mut config = config(100);
    let mut rule = RuleConfig::default();
    rule.path = Some("/x".to_owned());
    rule.by = KeyOf::Ip;
    rule.max = Some(1);
    config.rules = vec![rule];
    let service = service(&server, config, StatusCode::OK);
    assert_eq!(ask(&service, "192.0.2.7", "/x").await.status(), 200);
    assert_eq!(ask(&service, "192.0.2.7", "/x").await.status(), 429);
    assert_eq!(ask(&service, "192.0.2.7", "/").await.status(), 200);
    let keys = server.command(&["KEYS", "rl:*"]);
    let mut keys: Vec<_> = keys.lines().collect();
    keys.sort_unstable_by_key(|key| key.len());
    let [general, rule] = keys[..] else {
        panic!("{keys:?}");
    };
    assert_eq!(general, "rl:192.0.2.7");
    assert!(
        rule.ends_with(":192.0.2.7") && rule.len() == "rl:192.0.2.7".len() + 17,
        "{rule}"
    );
    assert_eq!(server.command(&["MGET", general, rule]), "3\n2");
}

#[tokio::test]
async fn requests_that_are_not_to_count_are_taken_back() {
    let server = RedisServer::start().await;
    let mut config = config(2);
    config.skip_failed_requests = true;
    let service = service(&server, config, StatusCode::NOT_FOUND);
    for _ in 0..5 {
        assert_eq!(ask(&service, "192.0.2.7", "/").await.status(), 404);
        let start = Instant::now();
        // It is done in the background.
        while server.command(&["GET", "rl:192.0.2.7"]) != "0" {
            assert!(start.elapsed() < Duration::from_secs(2));
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn taking_back_makes_no_counter() {
    use proactions_edge::Clock as _;
    use proactions_ratelimit::{CounterKey, CounterStore, Counting, Quota, Window};

    /// Keeps the key of a hit, which cannot be made outside of the crate.
    #[derive(Debug)]
    struct Spy {
        counters: Arc<RedisCounters>,
        key: std::sync::Mutex<Option<CounterKey>>,
    }

    impl CounterStore for Spy {
        fn hit(&self, key: &CounterKey, quota: Quota, now: std::time::SystemTime) -> Counting {
            *self.key.lock().unwrap() = Some(*key);
            self.counters.hit(key, quota, now)
        }

        fn refund(&self, _: &CounterKey, _: std::time::SystemTime, _: std::time::SystemTime) {}
    }

    let server = RedisServer::start().await;
    let spy = Arc::new(Spy {
        counters: counters(&server),
        key: std::sync::Mutex::default(),
    });
    let policy = RateLimitPolicy::with_counters(config(5), spy.clone()).unwrap();
    let service = RateLimitLayer::by_address(policy).layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Bytes::new()))
    }));
    ask(&service, "192.0.2.7", "/").await;
    let key = spy.key.lock().unwrap().unwrap();
    let now = proactions_edge::SystemClock::new().now();
    let quota = Quota::new(5, Duration::from_secs(600)).unwrap();
    let settled = async || {
        // A count of another client comes after everything that was sent before.
        let Counting::Pending(hit) = spy.counters.hit(&key, quota, now) else {
            panic!("Redis answers later");
        };
        let Window { hits, .. } = hit.await.unwrap();
        hits
    };
    let soon = now + Duration::from_secs(600);
    for (refund_until, redis, hits) in [
        (soon, "keep", 1),                          // 1 - 1, then the hit
        (now, "keep", 2),                           // the window had ended: nothing is taken back
        (now + Duration::from_secs(60), "keep", 3), // another window: this one ends later
        (soon, "gone", 1),
        (soon, "zero", 1),
    ] {
        match redis {
            "gone" => assert_eq!(server.command(&["DEL", "rl:192.0.2.7"]), ":1"),
            "zero" => {
                let set = ["SET", "rl:192.0.2.7", "0", "PX", "500000"];
                assert_eq!(server.command(&set), "+OK");
            }
            _ => {}
        }
        spy.counters.refund(&key, refund_until, now);
        // The refund is a task of its own; it sends before this one goes on.
        sleep(Duration::from_millis(50)).await;
        if redis == "gone" {
            assert_eq!(server.command(&["EXISTS", "rl:192.0.2.7"]), ":0");
        }
        assert_eq!(settled().await, hits, "{redis} {hits}");
    }
}

#[tokio::test]
async fn while_redis_is_gone_the_policy_decides() {
    for frozen in [false, true] {
        let mut server = RedisServer::start().await;
        let with = |on_store_error| {
            let mut config = config(2);
            config.on_store_error = on_store_error;
            service(&server, config, StatusCode::OK)
        };
        let local = with(OnStoreError::Local);
        let closed = with(OnStoreError::Closed);
        let open = with(OnStoreError::Open);
        for (service, ip) in [
            (&local, "192.0.2.1"),
            (&closed, "192.0.2.2"),
            (&open, "192.0.2.3"),
        ] {
            assert_eq!(ask(service, ip, "/").await.status(), 200);
        }
        if frozen {
            server.freeze();
        } else {
            server.kill();
        }
        for (service, statuses) in [
            (&local, [200, 200, 429]),
            (&closed, [503, 503, 503]),
            (&open, [200, 200, 200]),
        ] {
            for status in statuses {
                assert_eq!(ask(service, "192.0.2.7", "/").await.status(), status);
            }
        }
        if frozen {
            server.thaw();
        } else {
            server.restart().await;
        }
        let start = Instant::now();
        while ask(&closed, "192.0.2.7", "/").await.status() == 503 {
            assert!(start.elapsed() < Duration::from_secs(2));
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn the_rights_in_the_documentation_are_enough() {
    let server = RedisServer::builder()
        .user("hub on >hunter2 ~rl:* +ping +get +set +incr +decr +pttl +pexpire +eval +evalsha")
        .start()
        .await;
    let url = SecretString::from(server.url_as("hub", "hunter2"));
    let settings = RedisSettings::new([&url], &RedisTls::default()).unwrap();
    let counters = Arc::new(RedisCounters::new(RedisClient::new(settings)));
    assert!(!format!("{counters:?}").contains("hunter2"));
    let mut config = config(2);
    config.on_store_error = OnStoreError::Closed;
    let policy = RateLimitPolicy::with_counters(config, counters).unwrap();
    let service = RateLimitLayer::by_address(policy).layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Bytes::new()))
    }));
    for status in [200, 200, 429] {
        assert_eq!(ask(&service, "192.0.2.7", "/").await.status(), status);
    }
}
