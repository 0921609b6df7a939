use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use http::{Request, Response};
use pin_project_lite::pin_project;
use proactions_edge::RenderRejection;
use tower_service::Service;

use crate::counters::CounterOutage;
use crate::fixed_window::Window;
use crate::policy::{Place, RateLimitPolicy};
use crate::service::{Gate, Verdict, is_success};
use crate::tally::{Hit, Tally};

pin_project! {
    /// The future of [`RateLimit`](crate::RateLimit).
    pub struct ResponseFuture<S, R, ReqBody, ResBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, R, ReqBody, ResBody, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R, ReqBody, ResBody, F> {
        // The inner service answers; the tally is for its answer.
        Inner { #[pin] future: F, passing: Option<Passing> },
        Refused { response: Option<Response<ResBody>> },
        // Boxed, because it is large, rare and has I/O behind it.
        Deferred { deferred: Box<Deferred<S, R, ReqBody>> },
    }
}

impl<S, R, ReqBody, ResBody> ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn unlimited(future: S::Future) -> Self {
        Self {
            state: State::Inner {
                future,
                passing: None,
            },
        }
    }

    pub(crate) fn passing(future: S::Future, passing: Passing) -> Self {
        Self {
            state: State::Inner {
                future,
                passing: Some(passing),
            },
        }
    }

    pub(crate) fn refused(response: Response<ResBody>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }

    pub(crate) fn deferred(deferred: Deferred<S, R, ReqBody>) -> Self {
        Self {
            state: State::Deferred {
                deferred: Box::new(deferred),
            },
        }
    }
}

impl<S, R, ReqBody, ResBody> Future for ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: RenderRejection<ResBody>,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Inner { future, passing } => {
                    // Changed where it is: taken out and put back, an answer is copied twice.
                    let mut polled = future.poll(cx);
                    if let Poll::Ready(result) = &mut polled
                        && let Some(passing) = passing.take()
                    {
                        passing.finish(result);
                    }
                    return polled;
                }
                StateProjection::Refused { response } => match response.take() {
                    Some(response) => return Poll::Ready(Ok(response)),
                    // Polled again after it was done, which a caller must not do.
                    None => return Poll::Pending,
                },
                StateProjection::Deferred { deferred } => match ready!(deferred.poll_verdict(cx)) {
                    Verdict::Refused(response) => return Poll::Ready(Ok(response)),
                    Verdict::Pass(tally) => deferred.go_on(Some(tally)),
                    Verdict::Unlimited | Verdict::Pending(_) => deferred.go_on(None),
                },
            };
            match next {
                Some((future, passing)) => state.set(State::Inner { future, passing }),
                None => return Poll::Pending,
            }
        }
    }
}

impl<S, R, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, R, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// What is to be done with the inner service's answer.
pub(crate) struct Passing {
    pub(crate) policy: RateLimitPolicy,
    pub(crate) place: Place,
    pub(crate) tally: Tally,
    pub(crate) inner_wrote: bool,
}

impl Passing {
    fn finish<B, E>(self, result: &mut Result<Response<B>, E>) {
        let Self {
            policy,
            place,
            tally,
            inner_wrote,
        } = self;
        if policy.refunds() {
            policy.settle(&tally, result.as_ref().is_ok_and(is_success));
        }
        if let Ok(response) = result {
            policy.write_headers(response.headers_mut(), place, &tally, inner_wrote);
        }
    }
}

/// A count that is under way.
pub(crate) struct Waiting {
    pub(crate) hit: Hit,
    pub(crate) counting: Pin<Box<dyn Future<Output = Result<Window, CounterOutage>> + Send>>,
}

/// A decision for which counts are still under way.
pub(crate) struct Deferring {
    pub(crate) tally: Tally,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) now: SystemTime,
}

/// A request that waits for its decision.
pub(crate) struct Deferred<S, R, ReqBody> {
    inner: S,
    gate: Gate<R>,
    request: Option<Request<ReqBody>>,
    deferring: Deferring,
}

impl<S, R, ReqBody> Deferred<S, R, ReqBody> {
    pub(crate) const fn new(
        inner: S,
        gate: Gate<R>,
        request: Request<ReqBody>,
        deferring: Deferring,
    ) -> Self {
        Self {
            inner,
            gate,
            request: Some(request),
            deferring,
        }
    }

    fn poll_verdict<ResBody>(&mut self, cx: &mut Context<'_>) -> Poll<Verdict<ResBody>>
    where
        R: RenderRejection<ResBody>,
    {
        let Deferring {
            tally,
            waiting,
            now,
        } = &mut self.deferring;
        let policy = &self.gate.policy;
        waiting.retain_mut(|Waiting { hit, counting }| {
            let Poll::Ready(result) = counting.as_mut().poll(cx) else {
                return true;
            };
            if let Some(limit) = policy.limits(self.gate.place).get(hit.index) {
                policy.tally(tally, limit, *hit, result, *now);
            }
            false
        });
        if !waiting.is_empty() {
            return Poll::Pending;
        }
        let tally = std::mem::take(tally);
        Poll::Ready(match &self.request {
            Some(request) => self.gate.decide(request, tally),
            None => Verdict::Unlimited,
        })
    }

    /// Calls the inner service. `None` if that was done before.
    fn go_on(&mut self, tally: Option<Tally>) -> Option<(S::Future, Option<Passing>)>
    where
        S: Service<Request<ReqBody>>,
    {
        let request = self.request.take()?;
        let passing = tally.map(|tally| self.gate.passing(&request, tally));
        Some((self.inner.call(request), passing))
    }
}
