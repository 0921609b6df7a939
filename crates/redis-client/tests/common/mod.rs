//! What the tests with a real server share.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use proactions_edge::SecretString;
use proactions_redis_client::{
    RedisClient, RedisError, RedisErrorKind, RedisSettings, RedisTls, redis,
};
use tokio::time::{Instant, sleep};

/// No call may take longer, whatever Redis does.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(1);
/// A client must be able to use a server this long after it is back.
pub(crate) const LONGEST_RECOVERY: Duration = Duration::from_secs(2);

pub(crate) fn client(urls: &[&str]) -> RedisClient {
    client_with(urls, &RedisTls::default())
}

pub(crate) fn client_with(urls: &[&str], tls: &RedisTls) -> RedisClient {
    let urls: Vec<SecretString> = urls.iter().map(|url| SecretString::from(*url)).collect();
    RedisClient::new(RedisSettings::new(&urls, tls).unwrap())
}

pub(crate) async fn set(client: &RedisClient, key: &str, value: &str) -> Result<(), RedisError> {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value);
    timed(client.query(key.as_bytes(), &command)).await
}

pub(crate) async fn get(client: &RedisClient, key: &str) -> Result<Option<String>, RedisError> {
    let mut command = redis::cmd("GET");
    command.arg(key);
    timed(client.query(key.as_bytes(), &command)).await
}

/// The kind of the failure that a read must end with.
pub(crate) async fn failure(client: &RedisClient) -> RedisErrorKind {
    get(client, "a").await.unwrap_err().kind()
}

/// Awaits a call, and fails the test if that takes too long.
pub(crate) async fn timed<T>(call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let answer = call.await;
    let took = start.elapsed();
    assert!(took < LONGEST_CALL, "a call took {took:?}");
    answer
}

/// Asks until there is an answer, and fails the test if that takes longer than recovering may.
pub(crate) async fn recovered(client: &RedisClient) {
    let start = Instant::now();
    while let Err(error) = get(client, "a").await {
        assert!(start.elapsed() < LONGEST_RECOVERY, "{error}");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() < LONGEST_RECOVERY);
}

/// Waits until `is_up` says this, without sending anything. A failover takes its time.
pub(crate) async fn until_up_is(client: &RedisClient, up: bool) {
    let start = Instant::now();
    while client.is_up() != up {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it does not become {up}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}
