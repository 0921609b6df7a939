//! An outbound HTTP proxy.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

/// How long a request's head may be, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How an [`OutboundProxy`] treats a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboundMode {
    /// Closes the connection instead of answering.
    Die,
    /// Passes everything on.
    Pass,
    /// Answers with this status.
    Refuse(u16),
}

/// An HTTP proxy on a port of `127.0.0.1`: tunnels with `CONNECT`, and requests with a whole URL. Names that end in
/// `.test` are this machine. It keeps the heads of what it is asked, and is stopped, with all that passes through it,
/// when it is dropped. [`TlsFront`](crate::TlsFront) makes it one that is spoken to over TLS.
pub struct OutboundProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    heads: Mutex<Vec<String>>,
    mode: Mutex<OutboundMode>,
    /// Whatever passes ends when this changes.
    cuts: watch::Sender<u32>,
    credentials: Option<String>,
}

impl OutboundProxy {
    /// A proxy for everybody.
    #[must_use]
    pub fn start() -> Self {
        Self::run(None)
    }

    /// A proxy for those who show this user (`name:password`); others get 407.
    #[must_use]
    pub fn for_user(user: &str) -> Self {
        let encoded = base64::engine::general_purpose::STANDARD.encode(user);
        Self::run(Some(format!("Basic {encoded}")))
    }

    fn run(credentials: Option<String>) -> Self {
        let listener = TcpListener::bind(crate::ANY_PORT).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        let addr = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            heads: Mutex::default(),
            mode: Mutex::new(OutboundMode::Pass),
            cuts: watch::Sender::new(0),
            credentials,
        });
        let (stop, mut stopped) = oneshot::channel::<()>();
        let seen = Arc::clone(&shared);
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
                let shared = Arc::clone(&seen);
                tokio::spawn(async move { shared.serve(stream).await });
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a run time");
        let thread = std::thread::Builder::new()
            .name("outbound-proxy".to_owned())
            .spawn(move || runtime.block_on(accept))
            .expect("a thread");
        Self {
            addr,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How requests that are yet to come are treated.
    pub fn set(&self, mode: OutboundMode) {
        *self.mode() = mode;
    }

    /// Ends everything that passes through it now.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The heads of the requests so far, as they came.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        let heads = self.shared.heads.lock();
        heads.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mode(&self) -> std::sync::MutexGuard<'_, OutboundMode> {
        let mode = self.shared.mode.lock();
        mode.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Whatever goes wrong is the client's to find out.
    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        let mut cuts = self.cuts.subscribe();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_HEAD {
                return None;
            }
            head.push(client.read_u8().await.ok()?);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let heads = self.heads.lock();
        heads
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.clone());
        let mode = *self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("proxy-authorization")
                .then(|| value.trim().to_owned())
        };
        let refusal = match mode {
            OutboundMode::Die => return None,
            OutboundMode::Refuse(status) => Some(status),
            OutboundMode::Pass => {
                let known =
                    self.credentials.is_none() || text.lines().find_map(shown) == self.credentials;
                (!known).then_some(407)
            }
        };
        if let Some(status) = refusal {
            let answer = format!(
                "HTTP/1.1 {status} Refused\r\nproxy-authenticate: Basic realm=\"proxy\"\r\n\
                 content-length: 0\r\nconnection: close\r\n\r\n"
            );
            return client.write_all(answer.as_bytes()).await.ok();
        }
        let mut words = text.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let authority = match target.strip_prefix("http://") {
            Some(rest) => rest.split(['/', '?']).next()?,
            None => target,
        };
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let host = if host.ends_with(".test") {
            "127.0.0.1"
        } else {
            host
        };
        let mut upstream = TcpStream::connect(format!("{host}:{port}")).await.ok()?;
        if method == "CONNECT" {
            let answer = b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n";
            client.write_all(answer).await.ok()?;
        } else {
            upstream.write_all(&head).await.ok()?;
        }
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut upstream) => {}
            _ = cuts.changed() => {}
        }
        Some(())
    }
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundProxy")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Drop for OutboundProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
