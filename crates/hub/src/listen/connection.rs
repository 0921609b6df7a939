use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use pin_project_lite::pin_project;
use proactions_edge::{InnerWaker, Peer, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::ServiceExt as _;
use tower::util::Oneshot;

use super::activity::{Abandon, Activity, InFlight, Watched};
use super::body::InFlightBody;
use super::guard::Guarded;
use super::places::Place;
use super::secured::{self, TlsSlot};
use super::watchdog::Watchdog;
use super::{Limits, Stack};

/// How often a connection that wakes itself is polled before other connections get their turn.
const MAX_TURNS: usize = 4;

/// What all connections of a listener have in common.
#[derive(Clone)]
pub(super) struct Terms<S> {
    pub(super) limits: Limits,
    pub(super) tls: Option<TlsSlot>,
    pub(super) watchdog: Watchdog,
    pub(super) stack: S,
}

/// Runs one connection to its end, or to the first deadline that it misses.
pub(super) async fn serve<S: Stack>(
    stream: TcpStream,
    peer: SocketAddr,
    terms: Terms<S>,
    watcher: Watcher,
    place: Place,
) {
    super::prepare(&stream);
    let Terms {
        limits,
        tls,
        watchdog,
        stack,
    } = terms;
    let on = |scheme, activity| OnConnection {
        stack,
        peer: Peer::new(peer, scheme),
        activity,
    };
    if let Some(tls) = tls {
        // Boxed, for it is large, and gone once the handshake is done.
        let handshake = Box::pin(secured::handshake(stream, peer, &tls, limits.tls_handshake));
        let Some(secured) = handshake.await else {
            return;
        };
        let (stream, protocol) = (secured.stream, secured.protocol);
        let on = on(Scheme::Https, Activity::silent(limits, &place));
        return run(stream, protocol, limits, on, watcher, watchdog, place).await;
    }
    // hyper looks at the first bytes to tell HTTP/1 from HTTP/2, and has no deadline for that.
    match tokio::time::timeout(limits.first_byte, stream.peek(&mut [0; 1])).await {
        Ok(Ok(1..)) => {}
        Ok(_) => return,
        Err(_) => return cut("first_byte"),
    }
    let on = on(Scheme::Http, Activity::new(limits, &place));
    let protocol = Protocol::Either;
    run(stream, protocol, limits, on, watcher, watchdog, place).await;
}

async fn run<S: Stack>(
    stream: impl AsyncRead + AsyncWrite + Abandon + Unpin + Send + 'static,
    protocol: Protocol,
    limits: Limits,
    on: OnConnection<S>,
    watcher: Watcher,
    watchdog: Watchdog,
    place: Place,
) {
    let peer = on.peer;
    let activity = Arc::clone(&on.activity);
    watchdog.watch(&activity);
    let io = TokioIo::new(Guarded::new(
        Watched::new(stream, Arc::clone(&activity), place),
        protocol,
        limits.max_head_bytes,
        limits.max_headers,
        Arc::clone(activity.verdicts()),
    ));
    let http = speak(protocol, &limits);
    let connection = watcher.watch(http.serve_connection_with_upgrades(io, on).into_owned());
    let mut connection = Box::pin(connection);
    // Who answers reads the request's body, and so wakes the connection while it polls him.
    let waker = InnerWaker::new();
    let ended = tokio::select! {
        biased;
        ended = poll_fn(|cx| waker.poll(cx, MAX_TURNS, |cx| connection.as_mut().poll(cx))) => ended,
        overdue = activity.woken_overdue() => {
            cut(overdue.as_str());
            return watchdog.release(connection).await;
        }
    };
    let ip = peer.addr.ip();
    if let Some(malformed) = activity.verdicts().broken() {
        tracing::warn!(
            target: "security",
            event = "malformed_request",
            reason = malformed.as_str(),
            ip = %ip,
            "a connection was closed because what came on it is not well-formed",
        );
    } else if let Err(error) = ended {
        tracing::debug!(ip = %ip, error = %error, "connection ended with an error");
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The first bytes tell.
    Either,
    Http1,
    Http2,
}

pub(super) fn cut(deadline: &'static str) {
    metrics::counter!("hub_connections_timed_out_total", "deadline" => deadline).increment(1);
}

fn speak(protocol: Protocol, limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // The watchdog keeps this deadline, for it also knows what is not a head.
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_bytes)
        // An answer 101 must be out before the bytes behind its request are another protocol's, so answers to
        // pipelined requests are flushed one by one.
        .pipeline_flush(false)
        .half_close(false);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_max_streams)
        .max_header_list_size(limits.h2_max_header_list_bytes)
        .max_pending_accept_reset_streams(limits.h2_max_pending_resets)
        .max_local_error_reset_streams(limits.h2_max_local_resets)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.head);
    match protocol {
        Protocol::Either => http,
        Protocol::Http1 => http.http1_only(),
        Protocol::Http2 => http.http2_only(),
    }
}

/// Tells the stack who is at the other end, and the watchdog what is under way.
struct OnConnection<S> {
    stack: S,
    peer: Peer,
    activity: Arc<Activity>,
}

impl<S: Stack> hyper::service::Service<Request<Incoming>> for OnConnection<S> {
    type Response = Response<InFlightBody<S::ResponseBody>>;
    type Error = Infallible;
    type Future = Answering<Oneshot<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let version = request.version();
        let in_flight = self.activity.request_began(version == Version::HTTP_2);
        request.extensions_mut().insert(self.peer);
        if let Some(malformed) = self.activity.verdicts().next() {
            request.extensions_mut().insert(malformed);
        }
        Answering {
            // Not before it is polled: hyper asks in the middle of reading. What is answered here and now would have it look
            // for the end of the body before that can have come, and close the connection.
            future: self.stack.clone().oneshot(request),
            in_flight: Some(in_flight),
            version,
            activity: Arc::clone(&self.activity),
        }
    }
}

pin_project! {
    struct Answering<F> {
        #[pin]
        future: F,
        version: Version,
        activity: Arc<Activity>,
        in_flight: Option<InFlight>,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<InFlightBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.future.poll(cx));
        let in_flight = this.in_flight.take();
        // Who does not read answers gets no more of them: heads are put behind each other without a bound.
        if this.activity.is_blocked() && *this.version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            this.activity.upgraded();
        }
        Poll::Ready(Ok(response.map(|body| InFlightBody::new(body, in_flight))))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::task::{Wake, Waker};

    use http_body_util::{BodyExt as _, Full};
    use hyper_util::server::graceful::GracefulShutdown;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::activity::tests as activity;
    use super::*;

    /// A task's waker that tells wake-ups while the task runs from others.
    struct Noticed {
        task: Waker,
        running: AtomicBool,
        while_running: AtomicUsize,
    }

    impl Wake for Noticed {
        fn wake(self: Arc<Self>) {
            if self.running.load(SeqCst) {
                self.while_running.fetch_add(1, SeqCst);
            }
            self.task.wake_by_ref();
        }
    }

    #[tokio::test]
    async fn a_request_whose_body_is_read_does_not_send_its_connection_to_the_end_of_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let stack = tower::service_fn(|request: Request<Incoming>| async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        });
        let limits = activity::limits();
        let terms = Terms {
            limits,
            tls: None,
            watchdog: Watchdog::start(&limits),
            stack,
        };
        let (place, _places) = activity::place();
        let shutdown = GracefulShutdown::new();
        let mut connection = pin!(serve(stream, peer, terms, shutdown.watcher(), place));
        let mut while_running = 0;
        let served = poll_fn(|cx| {
            let noticed = Arc::new(Noticed {
                task: cx.waker().clone(),
                running: AtomicBool::new(true),
                while_running: AtomicUsize::new(0),
            });
            let waker = Waker::from(Arc::clone(&noticed));
            let polled = connection.as_mut().poll(&mut Context::from_waker(&waker));
            noticed.running.store(false, SeqCst);
            while_running += noticed.while_running.load(SeqCst);
            polled
        });
        let asks = async {
            for _ in 0..100 {
                let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
                client.write_all(request).await.unwrap();
                let mut answer = Vec::new();
                while !answer.ends_with(b"hello") {
                    assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
                }
            }
            drop(client);
        };
        tokio::join!(served, asks);
        // At the beginning and at the end there may be one.
        assert!(while_running <= 2, "{while_running} times for 100 requests");
    }
}
