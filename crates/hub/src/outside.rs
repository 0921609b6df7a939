//! The services outside of this process that entry and limits depend on: EDAPI and Redis.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proactions_auth_edapi::edapi::{EdapiAuthenticator, EdapiPolicy, EdapiState};
use proactions_config::Policies;
use proactions_edge::{ConfigError, SystemClock};
use proactions_forward::{ProxySsl, UpstreamTls};
use proactions_ratelimit::{CounterStore, RedisCounters, StoreKind as RateLimitStore};
use proactions_redis_client::RedisClient;
use proactions_session_store::{
    KeyRing, MemoryStore, RedisStore, SessionStore, StoreKind as SessionStoreKind,
};
use tokio::task::AbortHandle;

use crate::StartError;
use crate::readiness::Readiness;
use crate::tls;

/// How many sessions are kept in memory; then those that end first go.
const MAX_SESSIONS: usize = 100_000;

/// How often EDAPI is asked whether it is there.
const PROBE: Duration = Duration::from_secs(10);

/// What is kept outside, or in memory in its stead. It outlives a reload.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) sessions: Arc<dyn SessionStore>,
    pub(crate) counters: Arc<dyn CounterStore>,
    redis: Option<RedisClient>,
    sessions_in: SessionStoreKind,
    counters_in: RateLimitStore,
    pub(crate) edapi: Arc<EdapiState>,
    probing: Mutex<Option<Probing>>,
    readiness: Arc<Readiness>,
}

impl Outside {
    pub(crate) fn new(policies: &Policies, readiness: &Arc<Readiness>) -> Result<Self, StartError> {
        let redis = policies.redis.clone().map(RedisClient::new);
        if let Some(redis) = &redis {
            redis.start();
        }
        let sessions: Arc<dyn SessionStore> = match (&redis, policies.session_store) {
            (Some(redis), SessionStoreKind::Redis) => Arc::new(RedisStore::new(redis.clone())),
            _ => Arc::new(MemoryStore::new(MAX_SESSIONS)),
        };
        let counters: Arc<dyn CounterStore> = match (&redis, policies.rate_limit_store) {
            (Some(redis), RateLimitStore::Redis) => Arc::new(RedisCounters::new(redis.clone())),
            _ => policies.rate_limit.counters(),
        };
        Ok(Self {
            sessions,
            counters,
            redis,
            sessions_in: policies.session_store,
            counters_in: policies.rate_limit_store,
            edapi: Arc::new(EdapiState::new()?),
            probing: Mutex::new(None),
            readiness: Arc::clone(readiness),
        })
    }

    /// An outage of Redis counts from now on if it has requests refused. Limits that go on without it are no reason to
    /// send clients to another hub, which misses the same Redis.
    pub(crate) fn watch_redis(&self, policies: &Policies) {
        let sessions = self.sessions_in == SessionStoreKind::Redis && policies.auth.is_some();
        let limits = self.counters_in == RateLimitStore::Redis
            && policies.rate_limit.closes_on_store_error();
        match self.redis.clone().filter(|_| sessions || limits) {
            Some(redis) => self.readiness.watch("redis", move || !redis.is_up()),
            None => self.readiness.unwatch("redis"),
        }
    }

    /// Asks from now on whether this EDAPI is there, or none, in place of the one before.
    pub(crate) fn watch_edapi(&self, authenticator: Option<&EdapiAuthenticator>) {
        match authenticator.cloned() {
            Some(watched) => self.readiness.watch("edapi", move || watched.is_down()),
            None => self.readiness.unwatch("edapi"),
        }
        let mut probing = self.probing.lock().unwrap_or_else(PoisonError::into_inner);
        *probing = authenticator.cloned().map(Probing::start);
    }
}

/// An authenticator that asks EDAPI and remembers in `state`.
pub(crate) fn edapi(
    policy: &EdapiPolicy,
    keys: &KeyRing,
    state: Arc<EdapiState>,
) -> Result<EdapiAuthenticator, StartError> {
    let clock = Arc::new(SystemClock::new());
    EdapiAuthenticator::with_parts(policy, keys, client(policy)?, state, clock)
        .map_err(|error| error.within("auth").into())
}

type EdapiClient = Client<
    hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
    Full<Bytes>,
>;

fn client(policy: &EdapiPolicy) -> Result<EdapiClient, StartError> {
    let within = |error: ConfigError| error.within("auth.edapi.tls");
    let mut ssl = ProxySsl::default();
    ssl.ca.clone_from(&policy.config.tls.ca);
    let tls = UpstreamTls::read(&ssl, policy.config.tls.reject_unauthorized).map_err(within)?;
    let others = tls::client_config().map_err(StartError::Tls)?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls.derive(&others).map_err(StartError::Tls)?)
        .https_or_http()
        .enable_all_versions()
        .build();
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .retry_canceled_requests(false)
        .build(connector))
}

/// Asks EDAPI from time to time, until it is dropped.
#[derive(Debug)]
struct Probing(AbortHandle);

impl Probing {
    fn start(authenticator: EdapiAuthenticator) -> Self {
        let task = tokio::spawn(async move {
            loop {
                authenticator.probe().await;
                tokio::time::sleep(PROBE).await;
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
