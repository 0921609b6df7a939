use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::AccessLogBody;
use super::body::Pending;

pin_project! {
    /// The future of [`super::AccessLogService`]. If it is dropped before the answer's head is there, the line
    /// says so with status 499.
    #[derive(Debug)]
    pub struct AccessLogFuture<F> {
        #[pin]
        inner: F,
        pending: Option<Pending>,
    }
}

impl<F> AccessLogFuture<F> {
    pub(super) const fn new(inner: F, pending: Option<Pending>) -> Self {
        Self { inner, pending }
    }
}

impl<F, B, E> Future for AccessLogFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<AccessLogBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let mut pending = this.pending.take();
        match result {
            Ok(response) => {
                if let Some(pending) = &mut pending {
                    pending.answered(&response);
                }
                Poll::Ready(Ok(response.map(|body| AccessLogBody::new(body, pending))))
            }
            Err(error) => {
                if let Some(pending) = &mut pending {
                    pending.failed();
                }
                Poll::Ready(Err(error))
            }
        }
    }
}
