use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proactions_edge::{Clock, SystemClock};
use proactions_redis_client::redis::{self, Value};
use proactions_redis_client::{RedisClient, RedisError, RedisErrorKind, Script};

use crate::store::{SessionStore, StoreError, StoreErrorKind, StoreFuture, Stored};
use crate::{Record, RecordError, SessionId};

/// Records in Redis, shared by several processes, in the layout of connect-redis: the JSON of a record as a
/// string under `sess:<id>`, which Redis drops when its time is over.
///
/// A Node service with express-session and connect-redis may use the same records. The time-to-live of the key
/// alone decides when a session ends; `cookie.expires` inside of a record may be stale, because a touch does
/// not rewrite it.
///
/// Each method is one round trip. Whatever keeps Redis from answering is [`StoreErrorKind::Outage`], within the
/// client's deadline; so are a full memory and a denied command. A key of another type, and a record longer than
/// [`Record::MAX_LEN`], are [`StoreErrorKind::Corrupt`].
///
/// ```no_run
/// use std::sync::Arc;
/// use proactions_redis_client::{RedisClient, RedisSettings, RedisTls};
/// use proactions_session_store::RedisStore;
///
/// let url = "rediss://hub:a%20password@redis.internal:6379".into();
/// let settings = RedisSettings::new([&url], &RedisTls::default().with_ca("/etc/hub/redis-ca.pem"))?;
/// let store = Arc::new(RedisStore::new(RedisClient::new(settings)));
/// # let _ = store;
/// # Ok::<_, proactions_edge::ConfigError>(())
/// ```
///
/// # Rights
///
/// A Redis user for this store needs `+ping +set +get +del +pexpire +pttl +strlen +exists +eval +evalsha` on
/// `~sess:*`.
#[derive(Clone)]
pub struct RedisStore {
    client: RedisClient,
    prefix: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl RedisStore {
    /// What keys begin with unless another prefix is chosen.
    pub const DEFAULT_PREFIX: &'static str = "sess:";

    /// A store on the Redis of `client`.
    #[must_use]
    pub fn new(client: RedisClient) -> Self {
        Self {
            client,
            prefix: Self::DEFAULT_PREFIX.into(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Begins keys with `prefix`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Computes from `clock` when a record ends. Redis itself goes by its own.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn key(&self, id: &SessionId) -> String {
        [&*self.prefix, id.expose()].concat()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("client", &self.client)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl SessionStore for RedisStore {
    fn create(&self, id: &SessionId, record: Arc<Record>, ttl: Duration) -> StoreFuture<()> {
        let (client, key) = (self.client.clone(), self.key(id));
        StoreFuture::boxed(async move {
            let json = json_of(&record)?;
            let mut command = redis::cmd("SET");
            command
                .arg(&key)
                .arg(json)
                .arg("PX")
                .arg(millis(ttl))
                .arg("NX");
            let done: Option<String> = client
                .query(key.as_bytes(), &command)
                .await
                .map_err(failed)?;
            done.map(drop).ok_or(CONFLICT)
        })
    }

    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>> {
        let (store, key) = (self.clone(), self.key(id));
        StoreFuture::boxed(async move {
            let longest = Record::MAX_LEN.to_string();
            let answer = store
                .client
                .eval(&LOAD, key.as_bytes(), &[longest.as_bytes()])
                .await
                .map_err(failed)?;
            let (json, ttl) = match answer {
                Value::Nil => return Ok(None),
                Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                    Ok([Value::BulkString(json), Value::Int(ttl)]) => (json, ttl),
                    _ => return Err(StoreError::new(StoreErrorKind::Corrupt)),
                },
                // Its length.
                _ => return Err(corrupt(RecordError::TOO_LONG)),
            };
            let record = Record::parse(&json).map_err(corrupt)?;
            // A key that never ends is not this crate's. It counts as about to end, so that a session with an
            // idle timeout is touched and gets an end.
            let left = Duration::from_millis(u64::try_from(ttl).unwrap_or_default());
            let ends_at = store.clock.now() + left;
            Ok(Some(Stored::new(Arc::new(record), ends_at)))
        })
    }

    fn save(
        &self,
        id: &SessionId,
        record: Arc<Record>,
        seen: Arc<Record>,
        ttl: Duration,
    ) -> StoreFuture<()> {
        let (client, key) = (self.client.clone(), self.key(id));
        StoreFuture::boxed(async move {
            let json = json_of(&record)?;
            // A record that was not read but written by this process is stored as it writes itself.
            let written;
            let seen = match seen.source() {
                Some(source) => source,
                None => {
                    written = seen.to_json();
                    written.as_bytes()
                }
            };
            let ttl = millis(ttl).to_string();
            let arguments = [seen, json.as_bytes(), ttl.as_bytes()];
            let saved: bool = client
                .eval(&SAVE, key.as_bytes(), &arguments)
                .await
                .map_err(failed)?;
            if saved { Ok(()) } else { Err(CONFLICT) }
        })
    }

    fn touch(&self, id: &SessionId, ttl: Duration) -> StoreFuture<bool> {
        let (client, key) = (self.client.clone(), self.key(id));
        StoreFuture::boxed(async move {
            let mut command = redis::cmd("PEXPIRE");
            command.arg(&key).arg(millis(ttl));
            client.query(key.as_bytes(), &command).await.map_err(failed)
        })
    }

    fn destroy(&self, id: &SessionId) -> StoreFuture<()> {
        let (client, key) = (self.client.clone(), self.key(id));
        StoreFuture::boxed(async move {
            let mut command = redis::cmd("DEL");
            command.arg(&key);
            let _: u64 = client
                .query(key.as_bytes(), &command)
                .await
                .map_err(failed)?;
            Ok(())
        })
    }
}

const CONFLICT: StoreError = StoreError::new(StoreErrorKind::Conflict);

/// The record and how long it is kept, together, so that the one fits the other. Of a record that is too long,
/// only the length.
static LOAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local length = redis.call('STRLEN', KEYS[1]) \
         if length == 0 and redis.call('EXISTS', KEYS[1]) == 0 then return false end \
         if length > tonumber(ARGV[1]) then return length end \
         return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }",
    )
});

static SAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) \
         return 1",
    )
});

fn json_of(record: &Record) -> Result<String, StoreError> {
    let json = record.to_json();
    // Nobody could read it again.
    if json.len() > Record::MAX_LEN {
        return Err(corrupt(RecordError::TOO_LONG));
    }
    Ok(json)
}

/// Redis takes no time that is over; a millisecond is as good.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn corrupt(error: RecordError) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt).with_source(error)
}

fn failed(error: RedisError) -> StoreError {
    let kind = match error.kind() {
        RedisErrorKind::WrongType => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Outage,
    };
    StoreError::new(kind).with_source(error)
}
