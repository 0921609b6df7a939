//! One shared connection to Redis, for services that must answer in time whether Redis does or not.
//!
//! A [`RedisClient`] is made of [`RedisSettings`], cloned freely and used by everybody in a process. It works with
//! a single server, with a cluster and behind sentinels, over plain TCP and TLS.
//!
//! ```no_run
//! use proactions_redis_client::{RedisClient, RedisSettings, RedisTls, redis};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "redis://hub:a%20password@localhost:6379".into();
//! let client = RedisClient::new(RedisSettings::new([&url], &RedisTls::default())?);
//! client.start();
//!
//! let mut command = redis::cmd("GET");
//! command.arg("greeting");
//! let greeting: Option<String> = client.query(b"greeting", &command).await?;
//! # let _ = greeting;
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//!
//! ```
//! use std::time::Duration;
//! use proactions_edge::SecretString;
//! use proactions_redis_client::{RedisClient, RedisSettings, RedisTls};
//!
//! // A cluster is a list of URLs that differ in the host only.
//! let urls = ["a", "b", "c"].map(|host| {
//!     SecretString::from(format!("redis://hub:a%20password@redis-{host}.internal:6379"))
//! });
//! let cluster = RedisSettings::new(&urls, &RedisTls::default())?.with_deadline(Duration::from_millis(400));
//!
//! // Sentinels stand in one URL, with the name of the master; or in several, one each.
//! let url = "redis+sentinel://:a%20password@sentinel-a,sentinel-b:26380/main/1".into();
//! let behind_sentinels = RedisSettings::new([&url], &RedisTls::default())?;
//!
//! // `rediss` is TLS. Files are read here, so that what is wrong with them shows at once.
//! let url = "rediss://redis.internal".into();
//! let tls = RedisTls::default().with_ca("/does/not/exist/ca.pem");
//! let error = RedisSettings::new([&url], &tls).unwrap_err();
//! assert_eq!(error.problems()[0].key, "tls.ca");
//! # let _ = (RedisClient::new(cluster), RedisClient::new(behind_sentinels));
//! # Ok::<_, proactions_edge::ConfigError>(())
//! ```
//!
//! # What it decides
//!
//! 1. Making a client connects nothing. The first command does, or [`RedisClient::start`]. A server that is not
//!    there yet is waited for in the background; the process starts without it.
//! 2. A command is given up after [`RedisSettings::DEFAULT_DEADLINE`], waiting for the connection included, so
//!    that a caller can refuse its own client within a second. A server that is stopped, or whose network
//!    swallows packets, is no different from one that refuses.
//! 3. A command without an answer in time, or that shows that the connection is of no use, ends that connection.
//! 4. From then on every command fails at once, until a background task has connected again and has seen an
//!    answer. It tries after 50 ms, then ever more rarely, at least every second.
//! 5. If the server closed a connection that was good for a second or more, callers wait for the new one instead:
//!    a server that ends idle connections causes no failures.
//! 6. A connection is tried with `PING` every second. [`RedisClient::is_up`] tells what came of it.
//! 7. No command is ever sent twice, except when the server has said that it did not run it: redirects in a
//!    cluster, and a script whose text it does not have.
//! 8. Behind sentinels, the master is looked up for each new connection, and a replica that is not yet promoted is
//!    not used. In a cluster, who holds which keys is asked anew when a server redirects or fails.
//! 9. Errors have a [kind](RedisErrorKind). They show no key, value, password or address.
//!
//! # What an operator sees
//!
//! When Redis goes down, one line at level error and target `redis`; while it stays down, one a minute; when it has
//! been back for a second, one at level info. A full memory, a denied command or an odd answer is a line a minute,
//! too. The gauge `hub_redis_up` is 1 while every server in use answers, else 0. The counter
//! `hub_redis_errors_total` has a label `kind`: `outage`, `tls`, `auth`, `denied`, `full`,
//! `wrong_type`, `protocol`.
//!
//! # Deployment caveats
//!
//! - `rediss://` checks the server's certificate against [`RedisTls::with_ca`], and against the operating system's
//!   certificates only if that is not given. [`RedisTls::dangerous_accept_any_certificate`] accepts anybody.
//! - Several URLs are a cluster. One URL is a server, whose redirects are not followed.
//! - Beside the commands that are sent, a user needs `PING` (its denial counts as an answer), in a cluster
//!   `CLUSTER SLOTS`, and behind sentinels `ROLE`.
//! - The connection lives on the tokio run time that it was first used on.
//! - A server with `maxmemory` and an eviction policy other than `noeviction` drops data that its users
//!   still need.
//! - Commands that hold a connection up, such as `BLPOP` and `SUBSCRIBE`, do not belong here.
//!
//! # Compared with node-redis
//!
//! - node-redis queues commands while it is not connected, by default for ever. Here they fail.
//! - node-redis connects before the service listens. Here the service starts, and says that it is not ready.
//! - Sentinels are named in the URL rather than in a list of root nodes.

mod client;
mod cluster;
mod dial;
mod error;
mod health;
mod link;
mod settings;
mod tls;
mod url;

pub use client::{RedisClient, Script};
pub use error::{RedisError, RedisErrorKind};
pub use redis;
pub use settings::{RedisSettings, RedisTls};
