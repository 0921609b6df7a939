//! Calls services that are always ready.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tower::ServiceExt as _;
use tower::util::Oneshot;
use tower_service::Service;

/// Calls `service` now if it is ready, as the whole stack always is; else once it is.
///
/// `tower::util::Oneshot` keeps the service and the request until it is polled, and then puts the call's future into
/// their place: three copies of what is the largest of a request's values.
pub(crate) fn call<S, R>(mut service: S, request: R) -> Call<S, R>
where
    S: Service<R, Error = Infallible>,
{
    match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => Call::Begun {
            future: service.call(request),
        },
        // It is asked again, with a waker that is heard.
        Poll::Pending => Call::Waiting {
            call: service.oneshot(request),
        },
    }
}

pin_project! {
    #[project = CallProjection]
    pub(crate) enum Call<S, R>
    where
        S: Service<R>,
    {
        Begun { #[pin] future: S::Future },
        Waiting { #[pin] call: Oneshot<S, R> },
    }
}

impl<S, R> Future for Call<S, R>
where
    S: Service<R>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CallProjection::Begun { future } => future.poll(cx),
            CallProjection::Waiting { call } => call.poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::*;

    /// Ready after it was asked so many times.
    struct Warming(u32);

    impl Service<u32> for Warming {
        type Response = u32;
        type Error = Infallible;
        type Future = Ready<Result<u32, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            match self.0.checked_sub(1) {
                None => Poll::Ready(Ok(())),
                Some(left) => {
                    self.0 = left;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }

        fn call(&mut self, request: u32) -> Self::Future {
            assert_eq!(self.0, 0, "called before it was ready");
            ready(Ok(request + 1))
        }
    }

    #[tokio::test]
    async fn a_service_is_called_once_it_is_ready() {
        for asked in 0..4 {
            let call = call(Warming(asked), 1);
            assert_eq!(matches!(call, Call::Begun { .. }), asked == 0);
            assert_eq!(call.await, Ok(2));
        }
    }
}
