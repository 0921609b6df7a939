use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use proactions_edge::ExposeSecret;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{Failure, RedisError, RedisErrorKind};
use crate::settings::RedisSettings;
use crate::url::{Address, Login};

/// How to reach one server.
#[derive(Debug)]
pub(crate) struct Dialer {
    target: Target,
    name: Address,
    tls: Tls,
    login: Login,
    sentinel_login: Login,
    db: i64,
}

/// Which server.
#[derive(Debug)]
enum Target {
    Server(Address),
    /// The one that the sentinels call the master. The sentinel that answered last is asked first.
    Master {
        sentinels: Mutex<Vec<Address>>,
        name: String,
    },
}

/// A connection to a server that answers.
pub(crate) struct Dialed {
    pub(crate) connection: MultiplexedConnection,
    /// Ends when the server closes the connection.
    pub(crate) driver: Driver,
}

/// The task that reads and writes. Nothing is left of it when this is dropped.
pub(crate) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

/// How long one attempt at a connection may take, login and first answer included.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// How long one sentinel may take.
const SENTINEL_DEADLINE: Duration = Duration::from_millis(200);

impl Dialer {
    pub(crate) fn server(settings: &RedisSettings, address: Address) -> Self {
        Self::new(settings, address.clone(), Target::Server(address))
    }

    /// Reaches the server that the settings' addresses, which are sentinels, call the master `name`.
    pub(crate) fn master(settings: &RedisSettings, name: &str) -> Self {
        let shown = Address {
            host: name.to_owned(),
            port: settings.addresses.first().map_or(0, |first| first.port),
        };
        let target = Target::Master {
            sentinels: Mutex::new(settings.addresses.clone()),
            name: name.to_owned(),
        };
        Self::new(settings, shown, target)
    }

    fn new(settings: &RedisSettings, name: Address, target: Target) -> Self {
        Self {
            target,
            name,
            tls: Tls(settings.tls.clone()),
            login: settings.login.clone(),
            sentinel_login: settings.sentinel_login.clone(),
            db: settings.db,
        }
    }

    /// What the logs call this server.
    pub(crate) const fn name(&self) -> &Address {
        &self.name
    }

    /// Connects, logs in and waits for the server's first answer.
    pub(crate) async fn dial(&self) -> Result<Dialed, RedisError> {
        let late = RedisError::outage("it did not take the connection in time");
        let (address, is_master) = match &self.target {
            Target::Server(address) => (address.clone(), false),
            Target::Master { sentinels, name } => (self.find_master(sentinels, name).await?, true),
        };
        let attempt = async {
            let mut dialed = self.open(&address, &self.login, self.db).await?;
            check(&mut dialed.connection, is_master).await?;
            Ok(dialed)
        };
        match timeout(CONNECT_DEADLINE, attempt).await {
            Ok(dialed) => dialed.map_err(Failure::into_error),
            Err(_) => Err(late),
        }
    }

    async fn open(&self, address: &Address, login: &Login, db: i64) -> Result<Dialed, Failure> {
        let mut info = RedisConnectionInfo::default()
            .set_db(db)
            .set_skip_set_lib_name();
        if let Some(password) = &login.password {
            info = info.set_password(password.expose_secret());
            if let Some(username) = &login.username {
                info = info.set_username(username);
            }
        }
        // Each call has a deadline of its own.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = match &self.tls.0 {
            None => spawned(MultiplexedConnection::new_with_config(&info, stream, config).await?),
            Some(tls) => {
                let stream = handshake(tls, &address.host, stream).await?;
                spawned(MultiplexedConnection::new_with_config(&info, stream, config).await?)
            }
        };
        Ok(Dialed { connection, driver })
    }

    async fn find_master(
        &self,
        sentinels: &Mutex<Vec<Address>>,
        name: &str,
    ) -> Result<Address, RedisError> {
        let candidates = sentinels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut last = RedisError::outage("there is no sentinel");
        for sentinel in candidates {
            let asked = timeout(SENTINEL_DEADLINE, self.ask_sentinel(&sentinel, name)).await;
            match asked {
                Ok(Ok(Some(master))) => {
                    let mut sentinels = sentinels.lock().unwrap_or_else(PoisonError::into_inner);
                    sentinels.sort_by_key(|known| *known != sentinel);
                    return Ok(master);
                }
                Ok(Ok(None)) => last = RedisError::outage("the sentinels do not know the master"),
                Ok(Err(failure)) => last = failure.into_error(),
                Err(_) => last = RedisError::outage("no sentinel answered in time"),
            }
        }
        Err(last)
    }

    async fn ask_sentinel(
        &self,
        sentinel: &Address,
        name: &str,
    ) -> Result<Option<Address>, Failure> {
        let mut dialed = self.open(sentinel, &self.sentinel_login, 0).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(name);
        let master: Option<(String, u16)> = command.query_async(&mut dialed.connection).await?;
        Ok(master.map(|(host, port)| Address { host, port }))
    }
}

/// Whether the server can be used: it has loaded its data, wants no other password, and is the master if it is
/// to be.
async fn check(connection: &mut MultiplexedConnection, is_master: bool) -> Result<(), Failure> {
    match redis::cmd("PING")
        .query_async::<redis::Value>(connection)
        .await
        .map_err(Failure::from)
    {
        Ok(_) => {}
        // A user without the right to ask is answered all the same.
        Err(Failure::Error { error, .. }) if error.kind() == RedisErrorKind::Denied => {}
        Err(failure) => return Err(failure),
    }
    if is_master {
        let role = redis::cmd("ROLE")
            .query_async::<redis::Value>(connection)
            .await;
        let is_replica = match role {
            Ok(redis::Value::Array(parts)) => !matches!(
                parts.first(),
                Some(redis::Value::BulkString(role)) if role == b"master"
            ),
            _ => false,
        };
        if is_replica {
            return Err(Failure::lasting(RedisError::outage(
                "the server that the sentinels name is not the master yet",
            )));
        }
    }
    Ok(())
}

/// Whether a connection still answers. What it answers does not matter.
pub(crate) async fn answers(connection: &mut MultiplexedConnection) -> bool {
    let ping = redis::cmd("PING");
    let answer = ping.query_async::<redis::Value>(connection);
    match timeout(CONNECT_DEADLINE, answer).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => !error.is_io_error() && error.kind() != redis::ErrorKind::Parse,
        Err(_) => false,
    }
}

fn spawned<D>((connection, driver): (MultiplexedConnection, D)) -> (MultiplexedConnection, Driver)
where
    D: Future<Output = ()> + Send + 'static,
{
    (connection, Driver(tokio::spawn(driver)))
}

async fn handshake(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Failure> {
    let tls_error = |detail: String| Failure::Error {
        error: RedisError::new(RedisErrorKind::Tls, detail),
        reconnect: true,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| tls_error("no certificate can name this host".to_owned()))?;
    TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
        .map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => tls_error(inner.to_string()),
            _ => error.into(),
        })
}

struct Tls(Option<Arc<ClientConfig>>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Tls" } else { "Plain" })
    }
}
