use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use crate::SecureHeadersPolicy;

pin_project! {
    /// The future of [`SecureHeaders`](crate::SecureHeaders).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        policy: SecureHeadersPolicy,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) const fn new(inner: F, policy: SecureHeadersPolicy) -> Self {
        Self { inner, policy }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Changed where it is: taken out and put back, an answer is copied twice.
        let mut polled = this.inner.poll(cx);
        if let Poll::Ready(Ok(response)) = &mut polled {
            this.policy.apply(response.headers_mut());
        }
        polled
    }
}
