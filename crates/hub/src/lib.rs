//! ProActions Hub: the layers of this workspace, composed into one server.
//!
//! The program `proactions-hub` is [`main`]. To run a hub inside another program, or a test, build a [`Hub`] from the
//! policies of a checked configuration:
//!
//! ```
//! use proactions_config::Loader;
//! use proactions_hub::Hub;
//! use proactions_redact_log::Logging;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let text = "hub: {port: 0}\ntargets: [{id: echo, provider: echo}]";
//! let loaded = Loader::from_text("hub.yaml", text).load()?;
//! let (logging, _guard) = Logging::start(loaded.policies.logging.clone())?;
//!
//! let hub = Hub::build(&loaded.policies, &logging).await?;
//! println!("listening on {}", hub.local_addrs().public);
//! let outcome = hub.run(async { /* ends when the hub is to stop */ }, std::future::pending()).await;
//! assert_eq!(outcome.cut, 0);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })
//! # }
//! ```
//!
//! Policy lives in the layers' crates; this one holds the command line, the listeners, the order of the layers, the
//! routes and the shutdown.

mod body_deadline;
mod cli;
mod compose;
mod head_limit;
mod listen;
mod metrics;
mod panic_guard;
mod pipeline;
mod program;
mod quickstart;
mod readiness;
mod routes;
mod shutdown;
mod tls;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use proactions_ai_link::AiLink;
use proactions_config::{ListenAddress, Policies};
use proactions_edge::ConfigError;
use proactions_forward::HttpClient;
use proactions_redact_log::Logging;
use tokio_util::sync::CancellationToken;

pub use crate::program::main;

use crate::listen::{Limits, Listener};
use crate::pipeline::Pipeline;
use crate::readiness::Readiness;

/// A hub whose ports are open and whose stack is built. It accepts once it [runs](Hub::run).
#[derive(Debug)]
pub struct Hub {
    public: Listener,
    metrics: Option<Listener>,
    addrs: LocalAddrs,
    pipeline: Pipeline,
    readiness: Arc<Readiness>,
    pre_stop_delay: Duration,
    shutdown_timeout: Duration,
}

/// Where a hub listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalAddrs {
    /// The public listener.
    pub public: SocketAddr,
    /// The listener for metrics, if there is one.
    pub metrics: Option<SocketAddr>,
}

/// How a hub stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// How many connections were cut at the end of the grace period, with requests under way.
    pub cut: usize,
}

/// Why a hub could not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A policy does not fit the others.
    Config(ConfigError),
    /// The operating system has no random bytes to give.
    Random,
    /// There is no TLS for outgoing requests.
    Tls(rustls::Error),
    /// This version cannot serve what is configured.
    Unavailable(&'static str),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Config(error) => error.fmt(f),
            Self::Random => f.write_str("the operating system has no random bytes to give"),
            Self::Tls(error) => write!(f, "no TLS for outgoing requests: {error}"),
            Self::Unavailable(what) => write!(f, "{what} is not available yet in this version"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } => Some(source),
            Self::Config(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Random | Self::Unavailable(_) => None,
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl Hub {
    /// Builds the stack and opens the ports.
    ///
    /// # Errors
    /// When a port cannot be opened, or there is no TLS for outgoing requests.
    pub async fn build(policies: &Policies, logging: &Logging) -> Result<Self, StartError> {
        let readiness = Arc::new(Readiness::default());
        let client = HttpClient::new(
            &policies.http_client,
            tls::client_config().map_err(StartError::Tls)?,
        );
        let ai_link = AiLink::new(policies.targets.clone(), client)
            .log_prompt(logging.policy().prompt_logged())
            .log_response(logging.policy().response_logged());
        let pipeline = compose::pipeline(policies, logging, &readiness, ai_link)?;

        let limits = limits(policies);
        let public = bind(&policies.public, limits).await?;
        let metrics = match &policies.metrics {
            None => None,
            Some(address) => Some(bind(address, limits).await?),
        };
        let addrs = LocalAddrs {
            public: local_addr(&public)?,
            metrics: metrics.as_ref().map(local_addr).transpose()?,
        };
        Ok(Self {
            public,
            metrics,
            addrs,
            pipeline,
            readiness,
            pre_stop_delay: policies.pre_stop_delay,
            shutdown_timeout: policies.shutdown_timeout,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addrs(&self) -> LocalAddrs {
        self.addrs
    }

    /// Serves until `stop` ends, then drains: `/ready` says no, the delay for load balancers passes, the ports close,
    /// and what is under way gets the grace period. When `at_once` ends, draining ends with it.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        at_once: impl Future<Output = ()>,
    ) -> Drained {
        let places = self.public.places();
        let graceful = Arc::new(GracefulShutdown::new());
        let closing = CancellationToken::new();
        let mut listeners = tokio::task::JoinSet::new();
        let serve = |listener: Listener, stack: Pipeline| {
            listener.serve(stack, Arc::clone(&graceful), closing.clone())
        };
        listeners.spawn(serve(self.public, self.pipeline));
        if let Some(listener) = self.metrics {
            let stack = metrics::stack(metrics::recorder());
            listeners.spawn(listener.serve(stack, Arc::clone(&graceful), closing.clone()));
        }

        stop.await;
        self.readiness.drain();
        tracing::info!("draining");
        let drained = async {
            tokio::time::sleep(self.pre_stop_delay).await;
            closing.cancel();
            while listeners.join_next().await.is_some() {}
            finish(graceful, self.shutdown_timeout).await
        };
        let finished = tokio::select! {
            finished = drained => finished,
            () = at_once => false,
        };
        let cut = if finished { 0 } else { places.taken() };
        tracing::info!(cut, "stopped");
        Drained { cut }
    }
}

/// Waits for the connections to end; says whether they did.
async fn finish(graceful: Arc<GracefulShutdown>, grace: Duration) -> bool {
    // The listeners have ended, and with them the other owners.
    let Some(graceful) = Arc::into_inner(graceful) else {
        return false;
    };
    tokio::time::timeout(grace, graceful.shutdown())
        .await
        .is_ok()
}

async fn bind(address: &ListenAddress, limits: Limits) -> Result<Listener, StartError> {
    let ListenAddress { host, port, .. } = address;
    Listener::bind(host, *port, limits)
        .await
        .map_err(|source| StartError::Bind {
            address: format!("{host}:{port}"),
            source,
        })
}

fn local_addr(listener: &Listener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Bind {
        address: String::new(),
        source,
    })
}

fn limits(policies: &Policies) -> Limits {
    let listener = &policies.listener;
    Limits {
        max_connections: listener.max_connections,
        max_connections_per_address: listener.max_connections_per_address,
        first_byte: listener.first_byte_timeout,
        head: listener.header_timeout,
        idle: listener.idle_timeout,
        write: listener.write_timeout,
        // Beyond the limits that the stack answers itself; hyper wants room for 8 KiB at least.
        max_head_bytes: 2 * (listener.max_header_bytes + listener.max_uri_bytes) + 8192,
        max_headers: 2 * listener.max_headers,
        h2_max_streams: listener.h2_max_streams,
        h2_max_pending_resets: listener.h2_max_pending_resets,
        h2_max_local_resets: listener.h2_max_local_resets,
        h2_max_header_list_bytes: listener.h2_max_header_list_bytes,
    }
}
