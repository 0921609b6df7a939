use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use pin_project_lite::pin_project;
use proactions_edge::{Peer, Scheme};
use tokio::net::TcpStream;
use tower::ServiceExt as _;
use tower::util::Oneshot;

use super::activity::{Activity, InFlight, Watched};
use super::body::InFlightBody;
use super::{Limits, Stack};

/// Runs one connection to its end, or to the first deadline that it misses.
pub(super) async fn serve<S: Stack>(
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    stack: S,
    watcher: Watcher,
) {
    super::prepare(&stream);
    // hyper looks at the first bytes to tell HTTP/1 from HTTP/2, and has no deadline for that.
    match tokio::time::timeout(limits.first_byte, stream.peek(&mut [0; 1])).await {
        Ok(Ok(1..)) => {}
        Ok(_) => return,
        Err(_) => return cut("first_byte"),
    }
    let activity = Activity::new(limits);
    let service = OnConnection {
        stack,
        peer: Peer::new(peer, Scheme::Http),
        activity: Arc::clone(&activity),
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let http = protocol(&limits);
    let mut connection = pin!(watcher.watch(http.serve_connection(io, service).into_owned()));
    let mut check = tokio::time::interval(activity.check_interval());
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(ip = %peer.ip(), error = %error, "connection ended with an error");
                }
                return;
            }
            _ = check.tick() => {
                if let Some(overdue) = activity.overdue() {
                    return cut(overdue.as_str());
                }
            }
        }
    }
}

fn cut(deadline: &'static str) {
    metrics::counter!("hub_connections_timed_out_total", "deadline" => deadline).increment(1);
}

fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // The watchdog keeps this deadline, for it also knows what is not a head.
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_bytes)
        .half_close(false)
        .pipeline_flush(true);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_max_streams)
        .max_header_list_size(limits.h2_max_header_list_bytes)
        .max_pending_accept_reset_streams(limits.h2_max_pending_resets)
        .max_local_error_reset_streams(limits.h2_max_local_resets)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.head);
    http
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
        let in_flight = self
            .activity
            .request_began(request.version() == Version::HTTP_2);
        request.extensions_mut().insert(self.peer);
        Answering {
            future: self.stack.clone().oneshot(request),
            in_flight: Some(in_flight),
        }
    }
}

pin_project! {
    struct Answering<F> {
        #[pin]
        future: F,
        in_flight: Option<InFlight>,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<InFlightBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.future.poll(cx));
        let in_flight = this.in_flight.take();
        Poll::Ready(Ok(response.map(|body| InFlightBody::new(body, in_flight))))
    }
}
