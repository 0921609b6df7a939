use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use proactions_redis_client::{RedisClient, Script};

use crate::counters::{CounterOutage, CounterStore, Counting};
use crate::fixed_window::{Quota, Window};
use crate::key::CounterKey;

/// Counters in Redis: several processes count together, and exactly.
///
/// A counter is an integer under `rl:` and the text form of a [`CounterKey`], and the key's time-to-live is what
/// is left of the window, by Redis's own clock. One script reads both and counts, all at once, so that of any
/// number of simultaneous requests no more than the quota pass. Script and key are those of rate-limit-redis,
/// so that the general limit is shared with Node processes of the same `windowMs`; the counters of rules have
/// names that no client's address can have.
///
/// Each count is one round trip. If Redis does not answer within the client's deadline, the policy's `onStoreError`
/// decides, and the counter `hub_ratelimit_store_errors_total` grows. A request that Redis counted all the same
/// stays counted. While Redis is known to be down, nobody waits for it.
///
/// ```no_run
/// use std::sync::Arc;
/// use proactions_ratelimit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy, RedisCounters};
/// use proactions_redis_client::{RedisClient, RedisSettings, RedisTls};
///
/// let url = "redis://localhost:6379".into();
/// let client = RedisClient::new(RedisSettings::new([&url], &RedisTls::default())?);
/// let counters = Arc::new(RedisCounters::new(client));
/// let policy = RateLimitPolicy::with_counters(RateLimitConfig::default(), counters)?;
/// let layer = RateLimitLayer::by_address(policy);
/// # let _: RateLimitLayer = layer;
/// # Ok::<_, proactions_edge::ConfigError>(())
/// ```
///
/// # Rights
///
/// A Redis user for these counters needs `+ping +get +set +incr +decr +pttl +pexpire +eval +evalsha` on `~rl:*`.
#[derive(Clone, Debug)]
pub struct RedisCounters {
    client: RedisClient,
    prefix: Arc<str>,
}

impl RedisCounters {
    /// What keys begin with unless another prefix is chosen.
    pub const DEFAULT_PREFIX: &'static str = "rl:";

    /// Counters on the Redis of `client`.
    #[must_use]
    pub fn new(client: RedisClient) -> Self {
        Self {
            client,
            prefix: Self::DEFAULT_PREFIX.into(),
        }
    }

    /// Begins keys with `prefix`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn key(&self, key: &CounterKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

impl CounterStore for RedisCounters {
    fn hit(&self, key: &CounterKey, quota: Quota, now: SystemTime) -> Counting {
        let (client, key) = (self.client.clone(), self.key(key));
        Counting::Pending(Box::pin(async move {
            let window = quota.window().as_millis().to_string();
            let counted = client
                .eval::<(i64, i64)>(&HIT, key.as_bytes(), &[window.as_bytes()])
                .await;
            match counted {
                Ok((hits, left)) => {
                    let hits = u64::try_from(hits).unwrap_or_default();
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
                    Ok(Window::new(hits, now.checked_add(left).unwrap_or(now)))
                }
                Err(_) => {
                    metrics::counter!("hub_ratelimit_store_errors_total").increment(1);
                    Err(CounterOutage::new())
                }
            }
        }))
    }

    fn refund(&self, key: &CounterKey, ends_at: SystemTime, now: SystemTime) {
        let Ok(left) = ends_at.duration_since(now) else {
            return;
        };
        let Ok(run_time) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (client, key) = (self.client.clone(), self.key(key));
        run_time.spawn(async move {
            let latest = (left + SLACK).as_millis().to_string();
            // A request that stays counted is the safe side; there is nothing to be done about it.
            let _ = client
                .eval::<bool>(&REFUND, key.as_bytes(), &[latest.as_bytes()])
                .await;
        });
    }
}

/// How much longer than expected a window may last by Redis's clock before it counts as the next one: the time of
/// a round trip.
const SLACK: Duration = Duration::from_millis(800);

/// As `fixed_window::step`. `PTTL` is below 0 for a key that is missing or has no end.
static HIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local window = tonumber(ARGV[1]) \
         local left = redis.call('PTTL', KEYS[1]) \
         if left <= 0 then \
           redis.call('SET', KEYS[1], 1, 'PX', window) \
           return { 1, window } \
         end \
         if left > window then \
           redis.call('PEXPIRE', KEYS[1], window) \
           left = window \
         end \
         return { redis.call('INCR', KEYS[1]), left }",
    )
});

/// Takes one out of a window that ends no later than in `ARGV[1]` milliseconds. It makes no key and no negative
/// count.
static REFUND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local left = redis.call('PTTL', KEYS[1]) \
         if left <= 0 or left > tonumber(ARGV[1]) then return 0 end \
         if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 0 end \
         redis.call('DECR', KEYS[1]) \
         return 1",
    )
});
