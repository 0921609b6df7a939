use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{RedisError, RedisErrorKind};
use crate::url::Address;

/// How all servers that are in use are doing. It writes the log lines, so that there are few of them, and the
/// metrics.
#[derive(Debug, Default)]
pub(crate) struct Health {
    up: AtomicBool,
    servers: Mutex<Servers>,
}

#[derive(Debug, Default)]
struct Servers {
    known: HashMap<u64, bool>,
    last_id: u64,
    /// When a line of this kind was last written.
    lines: HashMap<RedisErrorKind, Instant>,
    /// Whether the log's last word is that Redis is down.
    told_down: bool,
}

/// A server in use. It is forgotten when this is dropped, so whoever connects to it holds it and has the last word.
///
/// One address may have two of them for a moment, when it is needed again before the earlier one is gone.
#[derive(Debug)]
pub(crate) struct Server {
    health: Arc<Health>,
    address: Address,
    id: u64,
}

/// How much time lies between two lines that say the same.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

impl Health {
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// A command failed on a server that can be used.
    pub(crate) fn command_failed(&self, error: &RedisError) {
        count(error.kind());
        let is_told = matches!(
            error.kind(),
            RedisErrorKind::Denied
                | RedisErrorKind::Full
                | RedisErrorKind::WrongType
                | RedisErrorKind::Protocol
        );
        if is_told && self.lock().is_due(error.kind()) {
            tracing::error!(target: "redis", kind = error.kind().as_str(), "{error}");
        }
    }

    fn settle(&self, servers: &Servers) {
        self.up.store(servers.is_up(), Ordering::Relaxed);
        self.tell();
    }

    fn tell(&self) {
        metrics::gauge!("hub_redis_up").set(if self.is_up() { 1.0 } else { 0.0 });
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    pub(crate) fn new(health: Arc<Health>, address: Address) -> Self {
        let id = {
            let mut servers = health.lock();
            servers.last_id += 1;
            servers.last_id
        };
        Self {
            health,
            address,
            id,
        }
    }

    /// It cannot be used, or still not.
    pub(crate) fn down(&self, error: &RedisError) {
        count(error.kind());
        let mut servers = self.health.lock();
        servers.known.insert(self.id, false);
        self.health.settle(&servers);
        // A single clock for all kinds: refused, then timed out, is one outage.
        if servers.is_due(RedisErrorKind::Outage) {
            servers.told_down = true;
            tracing::error!(
                target: "redis",
                server = %self.address,
                kind = error.kind().as_str(),
                "{error}",
            );
        }
    }

    /// It can be used.
    pub(crate) fn up(&self) {
        let mut servers = self.health.lock();
        servers.known.insert(self.id, true);
        self.health.settle(&servers);
    }

    /// It has been up for a while. A connection that breaks at once again is not worth a line.
    pub(crate) fn steady(&self) {
        let mut servers = self.health.lock();
        // A client that this one has replaced may have set it since.
        self.health.tell();
        if servers.told_down && self.health.is_up() {
            servers.told_down = false;
            servers.lines.remove(&RedisErrorKind::Outage);
            tracing::info!(target: "redis", "Redis is back");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut servers = self.health.lock();
        servers.known.remove(&self.id);
        let up = servers.is_up();
        self.health.up.store(up, Ordering::Relaxed);
    }
}

impl Servers {
    fn is_up(&self) -> bool {
        !self.known.is_empty() && self.known.values().all(|up| *up)
    }

    fn is_due(&mut self, kind: RedisErrorKind) -> bool {
        let now = Instant::now();
        let due = self
            .lines
            .get(&kind)
            .is_none_or(|last| now.duration_since(*last) >= LINE_INTERVAL);
        if due {
            self.lines.insert(kind, now);
        }
        due
    }
}

fn count(kind: RedisErrorKind) {
    metrics::counter!("hub_redis_errors_total", "kind" => kind.as_str()).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_up_when_every_server_in_use_is() {
        let health = Arc::new(Health::default());
        let server = |port| {
            let host = "h".to_owned();
            Server::new(Arc::clone(&health), Address { host, port })
        };
        let outage = RedisError::outage("x");
        let (first, second) = (server(1), server(2));
        assert!(!health.is_up());
        first.up();
        assert!(health.is_up());
        second.down(&outage);
        assert!(!health.is_up());
        // It is needed again; what its predecessor said, or its end, does not count for it.
        let again = server(2);
        again.up();
        assert!(!health.is_up());
        drop(second);
        assert!(health.is_up());
        first.down(&outage);
        first.up();
        assert!(health.is_up());
        drop((first, again));
        assert!(!health.is_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_a_minute() {
        let mut servers = Servers::default();
        assert!(servers.is_due(RedisErrorKind::Full));
        assert!(!servers.is_due(RedisErrorKind::Full));
        assert!(servers.is_due(RedisErrorKind::Denied));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!servers.is_due(RedisErrorKind::Full));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(servers.is_due(RedisErrorKind::Full));
    }
}
