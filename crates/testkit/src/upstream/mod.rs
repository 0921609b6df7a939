//! An HTTP server in the test's own process.

mod log;
mod reply;
mod serve;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use self::log::{Connection, Received};
pub use self::reply::{Gate, Reply, Step};

use self::log::Log;
use self::serve::{Protocols, Server};
use self::wire::Wire;

/// How long [`Upstream::until`] waits before it calls the test failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a port of `127.0.0.1` that the system picks. It is stopped, with all its connections, when this is
/// dropped.
pub struct Upstream {
    addr: SocketAddr,
    log: Arc<Log>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// A server that gives the same reply to every request.
    #[must_use]
    pub fn start(reply: Reply) -> Self {
        Self::builder().serve(move |_| reply.clone())
    }

    /// A server that picks its reply by the request.
    #[must_use]
    pub fn serve(respond: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::builder().serve(respond)
    }

    /// A server that reads one request head from each connection, does `steps` on the bare socket, and closes it.
    #[must_use]
    pub fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::builder().raw(steps)
    }

    /// A server that answers with bytes that are not HTTP.
    #[must_use]
    pub fn nonsense() -> Self {
        Self::raw([Step::send(
            &b"\x16\x03\x01 SSH-2.0-nonsense \x00\xff\r\n\r\nmore of it\r\n"[..],
        )])
    }

    /// A server whose answer's head never ends: one header line after the other.
    #[must_use]
    pub fn endless_headers() -> Self {
        Self::raw([
            Step::send("HTTP/1.1 200 OK\r\n"),
            Step::Repeat(Bytes::from_static(b"x-more: and more\r\n")),
        ])
    }

    /// A server that declares `declared` bytes and sends `body`, on the bare socket, then closes.
    #[must_use]
    pub fn wrong_length(declared: u64, body: &'static str) -> Self {
        let reply = Reply::new(200)
            .with_header("content-type", "text/plain")
            .declaring(declared);
        let mut head = serve::head("HTTP/1.1 200 OK", &reply.headers);
        head.extend_from_slice(b"\r\n");
        Self::raw([Step::send(head), Step::send(body)])
    }

    /// Settings beyond the usual.
    pub fn builder() -> UpstreamBuilder {
        UpstreamBuilder::default()
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT` followed by `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The requests whose heads have come, in that order.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.log.read().requests.clone()
    }

    /// The last request; panics if there was none.
    #[must_use]
    pub fn last_request(&self) -> Received {
        self.log
            .read()
            .requests
            .last()
            .cloned()
            .expect("the upstream got no request")
    }

    /// How many requests have come.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.log.read().requests.len()
    }

    /// The connections that were accepted, in that order.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.log.read().connections.clone()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let entries = self.log.read();
        entries.connections.iter().filter(|c| c.open).count()
    }

    /// Waits until `holds`; panics with `what` if that takes more than ten seconds of real time.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.log.changes.subscribe();
        // The clock of the test may be paused, this run time's never is. The timer must be made over there.
        let patience = async { tokio::time::sleep(PATIENCE).await };
        let mut patience = self.runtime.spawn(patience);
        while !holds(self) {
            tokio::select! {
                changed = changes.changed() => changed.expect("the log outlives the wait"),
                _ = &mut patience => panic!("waited in vain for {what}"),
            }
        }
        patience.abort();
    }

    /// Waits until the heads of `count` requests have come.
    pub async fn until_requests(&self, count: usize) {
        self.until("requests", |upstream| upstream.request_count() >= count)
            .await;
    }

    /// Waits until the client has left request number `index` (from 0) before its answer had been sent whole.
    pub async fn until_abandoned(&self, index: usize) {
        self.until("the client to leave", |upstream| {
            let entries = upstream.log.read();
            entries
                .requests
                .get(index)
                .is_some_and(|request| request.abandoned)
        })
        .await;
    }

    /// Waits until exactly `count` connections are open.
    pub async fn until_connections(&self, count: usize) {
        self.until("the number of connections", |upstream| {
            upstream.open_connections() == count
        })
        .await;
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How an [`Upstream`] is to be.
#[derive(Debug)]
#[must_use]
pub struct UpstreamBuilder {
    addr: SocketAddr,
    protocols: Protocols,
    before_body: bool,
    record_limit: usize,
}

impl Default for UpstreamBuilder {
    fn default() -> Self {
        Self {
            addr: crate::ANY_PORT,
            protocols: Protocols::Both,
            before_body: false,
            record_limit: 8 << 20,
        }
    }
}

impl UpstreamBuilder {
    /// Listens there: for a server that comes back where another one was.
    pub const fn at(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// Speaks HTTP/1.1 only. Else it speaks HTTP/2 too, to clients that know beforehand (no TLS, no upgrade).
    pub const fn http1_only(mut self) -> Self {
        self.protocols = Protocols::Http1;
        self
    }

    /// Speaks HTTP/2 only.
    pub const fn http2_only(mut self) -> Self {
        self.protocols = Protocols::Http2;
        self
    }

    /// Picks the reply as soon as the head is there. Unless the reply echoes the body, that is left unread.
    pub const fn answer_before_body(mut self) -> Self {
        self.before_body = true;
        self
    }

    /// Keeps at most this much of each body and of each connection's bytes; 8 MiB unless set.
    pub const fn recording_at_most(mut self, bytes: usize) -> Self {
        self.record_limit = bytes;
        self
    }

    /// Starts a server that gives the same reply to every request.
    #[must_use]
    pub fn start(self, reply: Reply) -> Upstream {
        self.serve(move |_| reply.clone())
    }

    /// Starts a server that picks its reply by the request.
    #[must_use]
    pub fn serve(self, respond: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Upstream {
        let (protocols, before_body) = (self.protocols, self.before_body);
        let respond = Arc::new(respond);
        self.run(move |log, wire, connection, reset| {
            let server = Server {
                log,
                respond: Arc::clone(&respond) as serve::Respond,
                protocols,
                before_body,
            };
            server.connection(wire, connection, reset)
        })
    }

    /// Starts a server that reads one request head from each connection, does `steps` on the bare socket, and
    /// closes it.
    #[must_use]
    pub fn raw(self, steps: impl IntoIterator<Item = Step>) -> Upstream {
        let steps: Vec<_> = steps.into_iter().collect();
        self.run(move |_, wire, _, reset| {
            let steps = steps.clone();
            async move { serve::raw_connection(wire, steps, &reset).await }
        })
    }

    fn run<F>(
        self,
        mut serve: impl FnMut(Arc<Log>, Wire, usize, Arc<AtomicBool>) -> F + Send + 'static,
    ) -> Upstream
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(self.addr).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        let addr = listener.local_addr().expect("a bound address");
        let log = Log::new(self.record_limit);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a run time");
        let handle = runtime.handle().clone();
        let (stop, mut stopped) = oneshot::channel::<()>();
        let seen = Arc::clone(&log);
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let stream = tokio::select! {
                    _ = &mut stopped => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => continue,
                    },
                };
                let _ = stream.set_nodelay(true);
                let connection = seen.accepted();
                let reset = Arc::new(AtomicBool::new(false));
                let wire = Wire::new(stream, Arc::clone(&seen), connection, Arc::clone(&reset));
                tokio::spawn(serve(Arc::clone(&seen), wire, connection, reset));
            }
        };
        let thread = std::thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || runtime.block_on(accept))
            .expect("a thread");
        Upstream {
            addr,
            log,
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}
