use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use crate::decide::Decision;
use crate::policy::Rules;

pin_project! {
    /// The future of [`Cors`](crate::Cors).
    #[derive(Debug)]
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F, B> {
        Answered { response: Option<Response<B>> },
        Decorated { #[pin] future: F, due: Option<(Arc<Rules>, Decision)> },
        Untouched { #[pin] future: F },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(crate) const fn answered(response: Response<B>) -> Self {
        Self {
            state: State::Answered {
                response: Some(response),
            },
        }
    }

    pub(crate) const fn decorated(future: F, rules: Arc<Rules>, decision: Decision) -> Self {
        Self {
            state: State::Decorated {
                future,
                due: Some((rules, decision)),
            },
        }
    }

    pub(crate) const fn untouched(future: F) -> Self {
        Self {
            state: State::Untouched { future },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            // Polled again after its end, a future may do anything but harm.
            StateProj::Answered { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            StateProj::Decorated { future, due } => {
                // Changed where it is: taken out and put back, an answer is copied twice.
                let mut polled = future.poll(cx);
                if let Poll::Ready(Ok(response)) = &mut polled
                    && let Some((rules, decision)) = due.take()
                {
                    rules.apply(decision, response.headers_mut());
                }
                polled
            }
            StateProj::Untouched { future } => future.poll(cx),
        }
    }
}
