use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::dial::{Dialed, Dialer, answers};
use crate::error::{Failure, RedisError};
use crate::health::{Health, Server};

/// One connection to one server, kept up by a task of its own.
///
/// The task starts when the link is first used and ends when the link is dropped. While it cannot connect, it
/// tries again and again, and whoever wants to send something is refused at once: no request waits for a server
/// that is known to be down.
pub(crate) struct Link {
    dialer: Arc<Dialer>,
    health: Arc<Health>,
    state: Mutex<Option<watch::Receiver<State>>>,
}

#[derive(Clone)]
enum State {
    /// The first attempt is under way, or the first one after the server closed the connection.
    Connecting,
    Up(Live),
    Down(RedisError),
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    fault: Arc<Fault>,
}

/// Where a request says that its connection is of no use any more.
#[derive(Default)]
struct Fault {
    error: Mutex<Option<RedisError>>,
    reported: Notify,
}

impl Fault {
    fn report(&self, error: &RedisError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.clone());
        self.reported.notify_one();
    }

    async fn reported(&self) -> RedisError {
        self.reported.notified().await;
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.take().unwrap_or_else(late)
    }
}

/// What is sent in one go.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    /// A command for a server that does not hold the key for good yet.
    Asking(&'a Cmd),
}

/// How long to wait before the next attempt to connect: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How often a connection is tried while nothing else may tell that it is dead.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A command that had at least this long and got no answer casts doubt on the connection.
const FAIR_CHANCE: Duration = Duration::from_millis(200);

impl Link {
    pub(crate) fn new(dialer: Dialer, health: Arc<Health>) -> Self {
        Self {
            dialer: Arc::new(dialer),
            health,
            state: Mutex::new(None),
        }
    }

    /// Starts connecting, if that was not done before.
    pub(crate) fn start(&self) {
        let _ = self.watch();
    }

    /// Whether the last thing known is that the server cannot be used.
    pub(crate) fn is_down(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .as_ref()
            .is_some_and(|state| matches!(*state.borrow(), State::Down(_)))
    }

    /// Sends a request and waits for its answer, until `deadline` at most. It is never sent twice.
    pub(crate) async fn send(
        &self,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let mut state = self.watch()?;
        let settled = state.wait_for(|state| !matches!(state, State::Connecting));
        let live = match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Up(live) => live.clone(),
                State::Down(error) => return Err(Failure::lasting(error.clone())),
                State::Connecting => return Err(Failure::lasting(late())),
            },
            Ok(Err(_)) => return Err(Failure::lasting(RedisError::outage("it is shutting down"))),
            Err(_) => return Err(Failure::lasting(late())),
        };
        let Live {
            mut connection,
            fault,
        } = live;
        let sent = Instant::now();
        match timeout_at(deadline, request.send(&mut connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failure = Failure::from(error);
                if let Failure::Error {
                    error,
                    reconnect: true,
                } = &failure
                {
                    fault.report(error);
                }
                Err(failure)
            }
            Err(_) => {
                if sent.elapsed() >= FAIR_CHANCE {
                    fault.report(&late());
                }
                Err(Failure::lasting(late()))
            }
        }
    }

    fn watch(&self) -> Result<watch::Receiver<State>, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The task is gone when the run time that it was started on is.
        if let Some(state) = state.as_ref().filter(|state| state.has_changed().is_ok()) {
            return Ok(state.clone());
        }
        let run_time = Handle::try_current().map_err(|_| {
            Failure::lasting(RedisError::outage("it was called outside of a run time"))
        })?;
        let (sender, receiver) = watch::channel(State::Connecting);
        run_time.spawn(keep_up(
            Arc::clone(&self.dialer),
            Arc::clone(&self.health),
            sender,
        ));
        *state = Some(receiver.clone());
        Ok(receiver)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("server", self.dialer.name())
            .finish_non_exhaustive()
    }
}

impl Request<'_> {
    async fn send(self, connection: &mut MultiplexedConnection) -> redis::RedisResult<Value> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Asking(command) => {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("ASKING").ignore().add_command(command.clone());
                let mut answers: Vec<Value> = pipeline.query_async(connection).await?;
                Ok(answers.pop().unwrap_or(Value::Nil))
            }
        }
    }
}

async fn keep_up(dialer: Arc<Dialer>, health: Arc<Health>, state: watch::Sender<State>) {
    let server = Server::new(health, dialer.name().clone());
    tokio::select! {
        // Nobody can use the connection any more.
        () = state.closed() => {}
        () = connect_for_ever(&dialer, &server, &state) => {}
    }
}

async fn connect_for_ever(dialer: &Dialer, server: &Server, state: &watch::Sender<State>) {
    let (first, most) = BACKOFF;
    let mut backoff = first;
    loop {
        let error = match dialer.dial().await {
            Ok(dialed) => {
                let since = Instant::now();
                server.up();
                let lost = until_lost(dialed, server, state).await;
                let was_good = since.elapsed() >= HEARTBEAT;
                if was_good {
                    backoff = first;
                }
                match lost {
                    // Most likely it was idle for too long, or the server restarts: callers wait for it.
                    None if was_good => {
                        state.send_replace(State::Connecting);
                        continue;
                    }
                    None => RedisError::outage("it closed the connection"),
                    Some(error) => error,
                }
            }
            Err(error) => error,
        };
        server.down(&error);
        state.send_replace(State::Down(error));
        sleep(backoff).await;
        backoff = (backoff * 2).min(most);
    }
}

/// Offers the connection until it is lost, and returns why; `None` if the server closed it.
async fn until_lost(
    dialed: Dialed,
    server: &Server,
    state: &watch::Sender<State>,
) -> Option<RedisError> {
    let Dialed {
        mut connection,
        mut driver,
    } = dialed;
    let fault = Arc::new(Fault::default());
    state.send_replace(State::Up(Live {
        connection: connection.clone(),
        fault: Arc::clone(&fault),
    }));
    let heartbeat = async {
        loop {
            sleep(HEARTBEAT).await;
            if !answers(&mut connection).await {
                return;
            }
            server.steady();
        }
    };
    tokio::select! {
        () = &mut driver => None,
        error = fault.reported() => Some(error),
        () = heartbeat => Some(late()),
    }
}

fn late() -> RedisError {
    RedisError::outage("it did not answer in time")
}

#[cfg(test)]
mod tests {
    use proactions_edge::SecretString;

    use super::*;
    use crate::settings::{RedisSettings, RedisTls};
    use crate::url::Address;

    #[tokio::test(start_paused = true)]
    async fn a_server_is_forgotten_by_whoever_speaks_of_it_last() {
        let url = SecretString::from("redis://127.0.0.1:1");
        let settings = RedisSettings::new([&url], &RedisTls::default()).unwrap();
        let health = Arc::new(Health::default());
        let address = |port| {
            let host = "127.0.0.1".to_owned();
            Address { host, port }
        };
        let dialer = Dialer::server(&settings, address(1));
        let link = Link::new(dialer, Arc::clone(&health));
        // As a command under way does, which outlives the link in the table of a cluster.
        let mut state = link.watch().map_err(|_| ()).unwrap();
        drop(link);
        for _ in 0..2 {
            state.changed().await.unwrap();
            assert!(matches!(*state.borrow_and_update(), State::Down(_)));
        }
        drop(state);
        let other = Server::new(Arc::clone(&health), address(2));
        other.up();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(health.is_up());
    }
}
