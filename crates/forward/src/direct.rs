//! Calls over HTTP/1.1 connections that no task of their own drives.
//!
//! hyper splits a connection into a handle and a future that somebody has to poll. Usually that is a task, and every
//! piece of an answer then wakes two tasks, one after the other, and is written by itself. Here whoever waits for the
//! answer polls the connection: one task is woken, and what one read brought is there as a whole.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Parts};
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use proactions_edge::InnerWaker;
use tokio::task::unconstrained;
use tokio::time::Instant;
use tower_service::Service;

use crate::client::READ_AHEAD;
use crate::{Body, BoxError};

/// How often a connection and what waits for it are polled in turn before other tasks get their turn.
const MAX_TURNS: usize = 16;

/// How many idle connections are kept to all authorities together: a redirect may name any.
const MAX_IDLE: usize = 1024;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum DirectError {
    Connect(BoxError),
    Exchange(hyper::Error),
}

/// A client for plain HTTP/1.1. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Direct<C> {
    connector: C,
    shelf: Arc<Shelf>,
}

impl<C> Direct<C>
where
    C: Service<Uri, Error = BoxError> + Clone,
    C::Response: Read + Write + Connection + Send + Unpin + 'static,
{
    /// A client that keeps at most so many idle connections to one authority, each for so long.
    pub(crate) fn new(connector: C, max_idle: usize, idle_timeout: Duration) -> Self {
        Self {
            connector,
            shelf: Arc::new(Shelf {
                idle: Mutex::default(),
                max_idle,
                idle_timeout,
            }),
        }
    }

    /// Sends a request whose body is there as a whole. On a kept connection that turns out to be at its end before a
    /// byte was sent, it is sent on another one.
    pub(crate) async fn exchange(
        self,
        mut request: Request<Body>,
    ) -> Result<Response<Driven>, DirectError> {
        let url = std::mem::take(request.uri_mut());
        let Some(authority) = url.authority() else {
            return Err(DirectError::Connect("a URL without a host".into()));
        };
        loop {
            let (mut link, kept) = match self.shelf.take(authority).await {
                Some(link) => (link, true),
                // Boxed, for it is large and seldom needed.
                None => (Box::pin(self.connect(&url, authority)).await?, false),
            };
            if !request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, link.host.clone());
            }
            *request.uri_mut() = if link.absolute_form {
                url.clone()
            } else {
                origin_form(&url)
            };
            let mut call = pin!(link.sender.try_send_request(request));
            let answer = poll_fn(|cx| link.poll_with(cx, |cx| call.as_mut().poll(cx))).await;
            match answer {
                Ok(answer) => {
                    return Ok(answer.map(|body| Driven {
                        body,
                        link: Some(link),
                    }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if kept => request = unsent,
                    _ => return Err(DirectError::Exchange(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self, url: &Uri, authority: &Authority) -> Result<Box<Link>, DirectError> {
        let host = host(authority).map_err(|error| DirectError::Connect(error.into()))?;
        let mut connector = self.connector.clone();
        let ready = poll_fn(|cx| connector.poll_ready(cx)).await;
        ready.map_err(DirectError::Connect)?;
        let stream = connector
            .call(url.clone())
            .await
            .map_err(DirectError::Connect)?;
        let absolute_form = stream.connected().is_proxied();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_AHEAD)
            .handshake(stream)
            .await
            .map_err(DirectError::Exchange)?;
        Ok(Box::new(Link {
            sender,
            connection: Some(Box::pin(connection)),
            waker: InnerWaker::new(),
            absolute_form,
            host,
            authority: authority.clone(),
            shelf: Arc::downgrade(&self.shelf),
        }))
    }
}

fn host(authority: &Authority) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    match authority.port_u16() {
        Some(80) | None => HeaderValue::from_str(authority.host()),
        Some(port) => HeaderValue::from_str(&format!("{}:{port}", authority.host())),
    }
}

fn origin_form(url: &Uri) -> Uri {
    let mut parts = Parts::default();
    parts.path_and_query = url.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}

/// A connection with everything that it takes to use it.
struct Link {
    sender: SendRequest<Body>,
    /// None once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    waker: InnerWaker,
    absolute_form: bool,
    host: HeaderValue,
    authority: Authority,
    /// Where it is kept while nobody needs it.
    shelf: Weak<Shelf>,
}

impl Link {
    /// Polls `work` and the connection in turn until `work` is done or neither has moved the other.
    fn poll_with<T>(
        &mut self,
        cx: &Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Self {
            connection, waker, ..
        } = self;
        waker.poll(cx, MAX_TURNS, |cx| {
            let result = work(cx);
            if result.is_pending()
                && let Some(running) = connection
            {
                // The poll of the connection answers what woke it until here.
                waker.forget();
                if running.as_mut().poll(cx).is_ready() {
                    *connection = None;
                    cx.waker().wake_by_ref();
                }
            }
            result
        })
    }

    /// Whether another request can be sent.
    fn is_usable(&mut self, cx: &Context<'_>) -> bool {
        // What the upstream has sent or closed meanwhile shows when the connection is polled.
        let _ = self.poll_with(cx, |_| Poll::<()>::Pending);
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// How often idle connections are looked at within the time that they may be idle.
const SWEEPS: u32 = 5;

/// Idle connections, by authority as it is spelled: an [`Authority`] is hashed byte by byte, to fold its case.
struct Shelf {
    idle: Mutex<Idle>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Default)]
struct Idle {
    links: HashMap<Box<str>, Vec<(Box<Link>, Instant)>>,
    /// Whether a task is there that takes out what is of no more use.
    swept: bool,
}

impl Shelf {
    fn locked(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, if it can still be used.
    async fn take(&self, authority: &Authority) -> Option<Box<Link>> {
        loop {
            let (mut link, since) = self.locked().links.get_mut(authority.as_str())?.pop()?;
            if since.elapsed() < self.idle_timeout
                && poll_fn(|cx| Poll::Ready(link.is_usable(cx))).await
            {
                return Some(link);
            }
        }
    }

    fn put(self: &Arc<Self>, link: Box<Link>) {
        // Whoever used it last has nothing more to do with it.
        link.waker.release();
        let mut idle = self.locked();
        if idle.links.values().map(Vec::len).sum::<usize>() < MAX_IDLE {
            let authority = link.authority.as_str();
            let links = match idle.links.get_mut(authority) {
                Some(links) => links,
                None => idle.links.entry(authority.into()).or_default(),
            };
            if links.len() < self.max_idle {
                links.push((link, Instant::now()));
            }
        }
        if !idle.swept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            idle.swept = true;
            let every = self.idle_timeout / SWEEPS;
            // With a budget, connections beyond it would not be read.
            runtime.spawn(unconstrained(sweep(Arc::downgrade(self), every)));
        }
    }

    /// Closes what has been idle for too long or was closed by the upstream; says whether anything is left.
    fn sweep(&self) -> bool {
        let cx = Context::from_waker(Waker::noop());
        let mut idle = self.locked();
        for links in idle.links.values_mut() {
            links.retain_mut(|(link, since)| {
                since.elapsed() < self.idle_timeout && link.is_usable(&cx)
            });
        }
        idle.links.retain(|_, links| !links.is_empty());
        idle.swept = !idle.links.is_empty();
        idle.swept
    }
}

async fn sweep(shelf: Weak<Shelf>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(shelf) = shelf.upgrade() else {
            return;
        };
        if !shelf.sweep() {
            return;
        }
    }
}

/// An answer's body. Reading it drives its connection, which is kept for the next request when the body has ended, and
/// closed when it is dropped before.
pub(crate) struct Driven {
    body: Incoming,
    /// None where a task drives the connection, and at the end of the body.
    link: Option<Box<Link>>,
}

impl Driven {
    /// Keeps the connection, if it can be used again.
    fn give_back(&mut self, cx: &Context<'_>) {
        if let Some(mut link) = self.link.take()
            && link.is_usable(cx)
            && let Some(shelf) = link.shelf.upgrade()
        {
            shelf.put(link);
        }
    }
}

impl From<Incoming> for Driven {
    fn from(body: Incoming) -> Self {
        Self { body, link: None }
    }
}

impl HttpBody for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(link) = &mut this.link else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        let body = &mut this.body;
        let frame = link.poll_with(cx, |cx| Pin::new(&mut *body).poll_frame(cx));
        if matches!(frame, Poll::Ready(None)) {
            this.give_back(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // A server does not ask again once it has all the bytes that it was promised.
        if self.body.is_end_stream() {
            self.give_back(&Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    use hyper_util::rt::TokioIo;
    use tokio::io::DuplexStream;

    use super::*;

    /// A connection to an authority, and its other end.
    async fn link(shelf: &Arc<Shelf>, authority: &str) -> (Box<Link>, DuplexStream) {
        let (stream, other) = tokio::io::duplex(1024);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let authority = Authority::try_from(authority).unwrap();
        let link = Link {
            sender,
            connection: Some(Box::pin(connection)),
            waker: InnerWaker::new(),
            absolute_form: false,
            host: host(&authority).unwrap(),
            authority,
            shelf: Arc::downgrade(shelf),
        };
        (Box::new(link), other)
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[tokio::test]
    async fn a_wake_up_during_the_work_is_kept_without_a_connection_too() {
        let (mut link, _other) = link(&shelf(), "a.example").await;
        link.connection = None;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = Context::from_waker(&waker);
        let result = link.poll_with(&cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(result.is_pending());
        assert_eq!(wakes.0.load(SeqCst), 1);
        // Once answered, it wakes nobody again.
        assert!(link.poll_with(&cx, |_| Poll::<()>::Pending).is_pending());
        assert_eq!(wakes.0.load(SeqCst), 1);
    }

    fn shelf() -> Arc<Shelf> {
        Arc::new(Shelf {
            idle: Mutex::default(),
            max_idle: 256,
            idle_timeout: Duration::from_secs(50),
        })
    }

    fn kept(shelf: &Shelf) -> usize {
        shelf.locked().links.values().map(Vec::len).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_upstream_closes_is_soon_released() {
        let shelf = shelf();
        let (mut link, other) = link(&shelf, "a.example").await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        assert!(link.is_usable(&Context::from_waker(&waker)));
        shelf.put(link);
        drop(waker);
        assert_eq!(Arc::strong_count(&wakes), 1, "its last user is let go");
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(kept(&shelf), 1);
        drop(other);
        while kept(&shelf) > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() <= Duration::from_secs(21));
    }

    #[tokio::test]
    async fn idle_connections_are_bounded_in_total() {
        let shelf = shelf();
        let mut others = Vec::new();
        for number in 0..=MAX_IDLE {
            let (link, other) = link(&shelf, &format!("a{number}.example")).await;
            others.push(other);
            shelf.put(link);
        }
        assert_eq!(kept(&shelf), MAX_IDLE);
    }
}
