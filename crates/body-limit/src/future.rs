use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use proactions_edge::{RenderRejection, RequestId};

use crate::service::refusal;

pin_project! {
    /// The future of [`BodyLimit`](crate::BodyLimit).
    #[derive(Debug)]
    pub struct ResponseFuture<F, B, R> {
        #[pin]
        state: State<F, B, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F, B, R> {
        Counted { #[pin] future: F, count: Option<Count<R>> },
        Passed { #[pin] future: F },
        Refused { response: Option<Response<B>> },
    }
}

/// What it takes to answer when a body turns out to be too large.
#[derive(Debug)]
pub(crate) struct Count<R> {
    pub(crate) exceeded: Arc<AtomicBool>,
    pub(crate) http1: bool,
    pub(crate) renderer: R,
    pub(crate) request_id: Option<RequestId>,
}

impl<F, B, R> ResponseFuture<F, B, R> {
    pub(crate) const fn counted(future: F, count: Count<R>) -> Self {
        Self {
            state: State::Counted {
                future,
                count: Some(count),
            },
        }
    }

    pub(crate) const fn passed(future: F) -> Self {
        Self {
            state: State::Passed { future },
        }
    }

    pub(crate) const fn refused(response: Response<B>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<F, B, E, R> Future for ResponseFuture<F, B, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    R: RenderRejection<B>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Counted { future, count } => {
                // Passed on where it is: taken out and put back, an answer is copied twice.
                let polled = future.poll(cx);
                if polled.is_ready()
                    && let Some(count) = count.take()
                    && count.exceeded.load(Relaxed)
                {
                    let refused = refusal(count.http1);
                    let response =
                        refused.into_response(&count.renderer, count.request_id.as_ref());
                    return Poll::Ready(Ok(response));
                }
                polled
            }
            StateProj::Passed { future } => future.poll(cx),
            // Polled again after its end, a future may do anything but harm.
            StateProj::Refused { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
        }
    }
}
