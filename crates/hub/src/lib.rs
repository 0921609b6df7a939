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

mod at_once;
mod body_deadline;
mod cli;
mod compose;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod head_limit;
mod healthcheck;
mod internal;
mod listen;
mod metrics;
mod open_files;
mod outside;
mod panic_guard;
mod pipeline;
mod program;
mod quickstart;
mod readiness;
mod reload;
mod request_metrics;
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
use proactions_config::{ListenAddress, Policies};
use proactions_edge::ConfigError;
use proactions_redact_log::Logging;
use tokio_util::sync::CancellationToken;

pub use crate::program::main;
pub use crate::reload::ReloadHandle;

use crate::compose::{Kept, Parts};
use crate::listen::{Limits, Listener, Places, TlsSlot};
use crate::pipeline::LivePipeline;
use crate::reload::Live;

/// A hub whose ports are open and whose stack is built. It accepts once it [runs](Hub::run).
#[derive(Debug)]
pub struct Hub {
    public: Listener,
    internal: Option<Listener>,
    metrics: Option<(Listener, metrics::Settings)>,
    addrs: LocalAddrs,
    live: Arc<Live>,
    pre_stop_delay: Duration,
    shutdown_timeout: Duration,
}

/// Where a hub listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalAddrs {
    /// The public listener.
    pub public: SocketAddr,
    /// The internal listener, if there is one.
    pub internal: Option<SocketAddr>,
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
    /// Reads the certificate, builds the stack and opens the ports.
    ///
    /// # Errors
    /// When the certificate cannot be used, a port cannot be opened, or there is no TLS for outgoing requests.
    pub async fn build(policies: &Policies, logging: &Logging) -> Result<Self, StartError> {
        let kept = Kept::new(policies)?;
        let identity = tls::identity(policies)?;
        if let Some(identity) = &identity {
            reload::warn(&identity.warnings);
        }
        let parts = Parts::new(policies, &kept)?;
        kept.adopt(policies, &parts);
        let pipeline = compose::pipeline(policies, logging, &kept, &parts);
        let internal_pipeline = compose::internal(policies, logging, &kept, &parts);
        let slot = identity.map(|identity| TlsSlot::new(identity.config));

        let limits = limits(policies);
        let public = bind(&policies.public, limits, slot.clone()).await?;
        let internal = match &policies.ailink {
            None => None,
            Some(address) => Some(bind(address, limits, None).await?),
        };
        let metrics = match &policies.metrics {
            None => None,
            Some(address) => {
                let listener = bind(address, limits, None).await?;
                let local = local_addr(&listener)?.ip().is_loopback();
                let name = local.then_some(&*address.host);
                Some((listener, metrics::Settings::new(policies, name)))
            }
        };
        let addrs = LocalAddrs {
            public: local_addr(&public)?,
            internal: internal.as_ref().map(local_addr).transpose()?,
            metrics: metrics
                .as_ref()
                .map(|(listener, _)| local_addr(listener))
                .transpose()?,
        };
        Ok(Self {
            public,
            internal,
            metrics,
            addrs,
            live: Arc::new(Live::new(
                LivePipeline::new(pipeline),
                internal_pipeline.map(LivePipeline::new),
                slot.zip(policies.tls.clone()),
                kept,
                logging.clone(),
            )),
            pre_stop_delay: policies.pre_stop_delay,
            shutdown_timeout: policies.shutdown_timeout,
        })
    }

    /// Exchanges the configuration and the certificate while the hub runs.
    #[must_use]
    pub fn reload_handle(&self) -> ReloadHandle {
        ReloadHandle::new(Arc::clone(&self.live))
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
        let internal_places = self.internal.as_ref().map(Listener::places);
        let graceful = Arc::new(GracefulShutdown::new());
        let closing = CancellationToken::new();
        let mut listeners = tokio::task::JoinSet::new();
        let stack = self.live.pipeline();
        listeners.spawn(
            self.public
                .serve(stack, Arc::clone(&graceful), closing.clone()),
        );
        if let Some((listener, stack)) = self.internal.zip(self.live.internal()) {
            listeners.spawn(listener.serve(stack, Arc::clone(&graceful), closing.clone()));
        }
        if let Some((listener, settings)) = self.metrics {
            let stack = metrics::stack(metrics::recorder(), settings);
            listeners.spawn(listener.serve(stack, Arc::clone(&graceful), closing.clone()));
        }

        stop.await;
        self.live.readiness().drain();
        tracing::info!("draining");
        let drained = async {
            tokio::time::sleep(self.pre_stop_delay).await;
            closing.cancel();
            while listeners.join_next().await.is_some() {}
            let end = tokio::time::Instant::now() + self.shutdown_timeout;
            // What has become a WebSocket is no request any more; its place tells that it is open still.
            finish(graceful, self.shutdown_timeout).await && emptied(&places, end).await
        };
        let finished = tokio::select! {
            finished = drained => finished,
            () = at_once => false,
        };
        let busy = || places.busy() + internal_places.map_or(0, |places| places.busy());
        let cut = if finished { 0 } else { busy() };
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

/// Waits until no place is taken; says whether that came before the end of the grace period.
async fn emptied(places: &Places, end: tokio::time::Instant) -> bool {
    while places.taken() > 0 {
        if tokio::time::Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn bind(
    address: &ListenAddress,
    limits: Limits,
    tls: Option<TlsSlot>,
) -> Result<Listener, StartError> {
    let ListenAddress { host, port, .. } = address;
    Listener::bind(host, *port, limits, tls)
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
        tls_handshake: listener.tls_handshake_timeout,
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
