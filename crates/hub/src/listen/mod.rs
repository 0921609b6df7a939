//! The listener: everything between the kernel's accept queue and the first request.
//!
//! The accept loop never waits for a peer. Each connection is a task of its own that holds a place among the
//! connections, waits for a first byte, and then runs HTTP/1.1 or HTTP/2 under a watchdog, so a slow or silent
//! client costs one task until its deadline.

mod activity;
mod body;
mod connection;
mod framing;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod guard;
mod places;
mod secured;
mod watchdog;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use self::connection::Terms;
pub(crate) use self::framing::Malformed;
pub(crate) use self::places::Places;
pub(crate) use self::secured::TlsSlot;
use self::watchdog::Watchdog;

/// The caps and deadlines of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_address: usize,
    /// From accept to the end of the TLS handshake.
    pub(crate) tls_handshake: Duration,
    /// From accept, or the end of the handshake, to the first byte of a request.
    pub(crate) first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub(crate) head: Duration,
    /// Between an answer and the next request on the same connection.
    pub(crate) idle: Duration,
    /// How long a client may leave bytes of an answer unread.
    pub(crate) write: Duration,
    /// What hyper buffers of a request's head at most; the stack answers smaller excesses itself.
    pub(crate) max_head_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) h2_max_streams: u32,
    pub(crate) h2_max_pending_resets: usize,
    pub(crate) h2_max_local_resets: usize,
    pub(crate) h2_max_header_list_bytes: u32,
}

/// What a listener serves: the finished stack.
pub(crate) trait Stack:
    Service<
        Request<Incoming>,
        Response = Response<Self::ResponseBody>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    type ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + 'static;
}

impl<B, S> Stack for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type ResponseBody = B;
}

/// How many connections the kernel may hold for the accept loop; the system's own maximum may be lower. What does not
/// fit there is half open: the client believes itself connected, and no deadline of ours runs.
const BACKLOG: u32 = 4096;

/// How much of an answer the kernel takes beyond what is on its way to the client. By default that is megabytes, which
/// thousands of clients that read nothing would pin where no limit of ours counts them.
const MAX_UNSENT: u32 = 64 * 1024;

/// A bound socket with its limits.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    limits: Limits,
    places: Places,
    tls: Option<TlsSlot>,
}

impl Listener {
    pub(crate) async fn bind(
        host: &str,
        port: u16,
        limits: Limits,
        tls: Option<TlsSlot>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: open(host, port).await?,
            limits,
            places: Places::new(limits.max_connections, limits.max_connections_per_address),
            tls,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The places of its connections, to see how many are taken.
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }

    /// Accepts until `stop` is cancelled; the connections run on and are told to finish through `graceful`.
    pub(crate) async fn serve<S: Stack>(
        self,
        stack: S,
        graceful: Arc<GracefulShutdown>,
        stop: CancellationToken,
    ) {
        let terms = Terms {
            limits: self.limits,
            tls: self.tls.clone(),
            watchdog: Watchdog::start(&self.limits),
            stack,
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = self.places.take(peer.ip()) else {
                        metrics::counter!("hub_connections_refused_total").increment(1);
                        tracing::warn!(ip = %peer.ip(), "too many connections, this one was closed");
                        continue;
                    };
                    tokio::spawn(connection::serve(
                        stream,
                        peer,
                        terms.clone(),
                        graceful.watcher(),
                        place,
                    ));
                }
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    /// An error of one connection is that connection's; any other (out of file descriptors) would come again
    /// at once, so wait for connections to end.
    async fn back_off(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset
        ) {
            return;
        }
        tracing::error!(error = %error, "cannot accept connections, trying again in a second");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Listens on the first address of `host` that can be listened on.
async fn open(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = None;
    for addr in lookup_host((host, port)).await? {
        let opened = if addr.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .and_then(|socket| {
            // Accepted sockets inherit it.
            SockRef::from(&socket).set_tcp_notsent_lowat(MAX_UNSENT)?;
            // A restart must not wait for the connections of the process before to time out.
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            socket.listen(BACKLOG)
        });
        match opened {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::other("the name has no address")))
}

fn prepare(stream: &TcpStream) {
    // Without this, the last part of an answer waits for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
}
