//! How long a client may take to send a request's body.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use proactions_edge::{JsonRejection, Rejection, RejectionKind, RequestId};
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

/// The deadlines of a request's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyDeadlines {
    /// Between two parts of the body, while somebody waits for one.
    pub(crate) frame: Duration,
    /// From the first look at the body to its end.
    pub(crate) whole: Duration,
}

/// Fails a body that misses its deadline, and answers 408 if nothing was answered by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyDeadlineLayer(pub(crate) BodyDeadlines);

impl<S> Layer<S> for BodyDeadlineLayer {
    type Service = BodyDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyDeadline {
            inner,
            deadlines: self.0,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct BodyDeadline<S> {
    inner: S,
    deadlines: BodyDeadlines,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for BodyDeadline<S>
where
    S: Service<Request<TimedBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let overdue = (!request.body().is_end_stream()).then(|| Late {
            overdue: Arc::new(AtomicBool::new(false)),
            request_id: request.extensions().get::<RequestId>().cloned(),
            http1: request.version() < Version::HTTP_2,
        });
        let flag = overdue.as_ref().map(|late| Arc::clone(&late.overdue));
        let request = request.map(|body| TimedBody {
            body,
            deadlines: self.deadlines,
            whole: None,
            timer: None,
            overdue: flag,
        });
        Answering {
            future: self.inner.call(request),
            late: overdue,
        }
    }
}

#[derive(Debug)]
struct Late {
    overdue: Arc<AtomicBool>,
    request_id: Option<RequestId>,
    http1: bool,
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Answering<F> {
        #[pin]
        future: F,
        late: Option<Late>,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.future.poll(cx));
        match this.late.take() {
            Some(late) if late.overdue.load(Relaxed) => {
                let mut refused = Rejection::new(RejectionKind::RequestTimeout);
                if late.http1 {
                    refused = refused.with_header(CONNECTION, HeaderValue::from_static("close"));
                }
                Poll::Ready(Ok(
                    refused.into_response(&JsonRejection, late.request_id.as_ref())
                ))
            }
            _ => Poll::Ready(answered),
        }
    }
}

pin_project! {
    /// A body that fails with [`BodyOverdue`] when its sender is too slow.
    #[derive(Debug)]
    pub(crate) struct TimedBody<B> {
        #[pin]
        body: B,
        deadlines: BodyDeadlines,
        whole: Option<Instant>,
        // A body that is there at once needs no timer, and most are.
        timer: Option<Pin<Box<Sleep>>>,
        overdue: Option<Arc<AtomicBool>>,
    }
}

/// The client did not send its body in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyOverdue;

impl fmt::Display for BodyOverdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body did not arrive in time")
    }
}

impl Error for BodyOverdue {}

impl<B> Body for TimedBody<B>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            *this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this.timer.get_or_insert_with(|| {
            let now = Instant::now();
            let whole = *this.whole.get_or_insert(now + this.deadlines.whole);
            Box::pin(tokio::time::sleep_until(
                whole.min(now + this.deadlines.frame),
            ))
        });
        ready!(timer.as_mut().poll(cx));
        if let Some(overdue) = this.overdue {
            overdue.store(true, Relaxed);
        }
        Poll::Ready(Some(Err(Box::new(BodyOverdue))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const DEADLINES: BodyDeadlines = BodyDeadlines {
        frame: Duration::from_secs(10),
        whole: Duration::from_secs(25),
    };

    /// The status for a body of `frames` parts, one each `gap`.
    async fn status(frames: u32, gap: Duration) -> u16 {
        let parts = futures_util::stream::unfold(0, move |sent| async move {
            if sent == frames {
                return None;
            }
            tokio::time::sleep(gap).await;
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))),
                sent + 1,
            ))
        });
        let service = BodyDeadlineLayer(DEADLINES).layer(service_fn(|request: Request<_>| async {
            let body: TimedBody<_> = request.into_body();
            let status = if body.collect().await.is_ok() {
                200
            } else {
                400
            };
            let response = Response::builder()
                .status(status)
                .body(Full::<Bytes>::default());
            Ok::<_, Infallible>(response.unwrap())
        }));
        let request = Request::new(Box::pin(StreamBody::new(parts)));
        service.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_parts_and_slow_wholes_are_408() {
        let seconds = Duration::from_secs;
        assert_eq!(status(2, seconds(9)).await, 200);
        assert_eq!(status(1, seconds(11)).await, 408);
        assert_eq!(status(3, seconds(9)).await, 408);
        assert_eq!(status(24, seconds(1)).await, 200);
        assert_eq!(status(26, seconds(1)).await, 408);
    }
}
