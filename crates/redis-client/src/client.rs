use std::fmt;
use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Value};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::dial::Dialer;
use crate::error::{Failure, RedisError, RedisErrorKind};
use crate::health::Health;
use crate::link::{Link, Request};
use crate::settings::{Layout, RedisSettings};

/// A handle on Redis, for everybody in a process who needs it. See the [crate documentation](crate).
///
/// Clones share one connection to each server. It is closed when the last clone is dropped.
#[derive(Clone)]
pub struct RedisClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: RedisSettings,
    health: Arc<Health>,
    servers: Servers,
}

#[derive(Debug)]
enum Servers {
    One(Link),
    Cluster(Cluster),
}

/// A script that runs on the server, all at once. It may use the one key that is passed to
/// [`RedisClient::eval`], as `KEYS[1]`.
#[derive(Clone, Debug)]
pub struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    /// A script of this Lua text.
    #[must_use]
    pub fn new(code: &'static str) -> Self {
        Self {
            code,
            hash: redis::Script::new(code).get_hash().to_owned(),
        }
    }
}

impl RedisClient {
    /// A client. It does nothing until it is used, or told to [start](Self::start).
    #[must_use]
    pub fn new(settings: RedisSettings) -> Self {
        let health = Arc::new(Health::default());
        let servers = match &settings.layout {
            Layout::Server => Servers::One(Link::new(
                match settings.addresses.first() {
                    Some(address) => Dialer::server(&settings, address.clone()),
                    // Settings always hold an address.
                    None => Dialer::master(&settings, ""),
                },
                Arc::clone(&health),
            )),
            Layout::Sentinels { master } => Servers::One(Link::new(
                Dialer::master(&settings, master),
                Arc::clone(&health),
            )),
            Layout::Cluster => {
                Servers::Cluster(Cluster::new(settings.clone(), Arc::clone(&health)))
            }
        };
        Self(Arc::new(Inner {
            settings,
            health,
            servers,
        }))
    }

    /// Starts connecting in the background, so that the first command does not wait for it. It has to be called
    /// within a tokio run time, and returns at once whether Redis is there or not.
    pub fn start(&self) {
        match &self.0.servers {
            Servers::One(link) => link.start(),
            Servers::Cluster(cluster) => cluster.start(),
        }
    }

    /// Whether every server in use answered last time. It waits for nothing: a connection is tried every second
    /// anyway. While the answer is no, asking starts what can bring Redis back, as [`Self::start`] does.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let up = self.0.health.is_up();
        if !up {
            // In a cluster, another server may have taken over, and commands may wait for this to say so.
            self.start();
        }
        up
    }

    /// Asks Redis whether it is there; a cluster, every server that holds keys.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        let deadline = self.deadline();
        let answer = match &self.0.servers {
            Servers::One(link) => link
                .send(Request::Command(&redis::cmd("PING")), deadline)
                .await
                .map(drop),
            Servers::Cluster(cluster) => cluster.ping(deadline).await,
        };
        match answer {
            Err(Failure::Error { error, .. }) if error.kind() == RedisErrorKind::Denied => Ok(()),
            answer => answer.map_err(Failure::into_error),
        }
    }

    /// Sends a command that is about `key`, once, and waits for the answer until the deadline at most.
    ///
    /// # Errors
    /// When there is no good answer. Whether the command was run is then not known, unless the kind says so.
    pub async fn query<T: FromRedisValue>(
        &self,
        key: &[u8],
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let answer = self.send(key, command, self.deadline()).await;
        self.read(answer)
    }

    /// Runs a script on `key`, with arguments that it sees as `ARGV`. A server that does not know the script yet
    /// gets its text.
    ///
    /// # Errors
    /// As with [`Self::query`].
    pub async fn eval<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &[u8],
        arguments: &[&[u8]],
    ) -> Result<T, RedisError> {
        let deadline = self.deadline();
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(1).arg(key).arg(arguments);
            command
        };
        let mut answer = self
            .send(key, &command("EVALSHA", &script.hash), deadline)
            .await;
        if matches!(answer, Err(Failure::NoScript)) {
            answer = self
                .send(key, &command("EVAL", script.code), deadline)
                .await;
        }
        self.read(answer)
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &RedisSettings {
        &self.0.settings
    }

    async fn send(&self, key: &[u8], command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        match &self.0.servers {
            Servers::One(link) => match link.send(Request::Command(command), deadline).await {
                Err(Failure::Moved { .. } | Failure::Ask { .. }) => {
                    Err(Failure::lasting(RedisError::new(
                        RedisErrorKind::Protocol,
                        "it belongs to a cluster, which needs a list of several URLs",
                    )))
                }
                answer => answer,
            },
            Servers::Cluster(cluster) => cluster.send(key, command, deadline).await,
        }
    }

    fn read<T: FromRedisValue>(&self, answer: Result<Value, Failure>) -> Result<T, RedisError> {
        let answer = answer.map_err(Failure::into_error).and_then(|value| {
            redis::from_redis_value(value).map_err(|_| {
                RedisError::new(RedisErrorKind::Protocol, "it answered with another type")
            })
        });
        if let Err(error) = &answer {
            self.0.health.command_failed(error);
        }
        answer
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.0.settings.deadline
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient")
            .field("settings", &self.0.settings)
            .field("up", &self.0.health.is_up())
            .finish_non_exhaustive()
    }
}
