use std::net::IpAddr;
use std::task::{Context, Poll};

use http::{Request, Response};
use proactions_edge::{JsonRejection, Rejection, RejectionKind, RenderRejection, RequestId};
use tower_service::Service;

use crate::counters::Counting;
use crate::future::{Deferred, Deferring, Passing, ResponseFuture, Waiting};
use crate::limit::client_ip;
use crate::policy::{Place, RateLimitPolicy};
use crate::tally::{Hit, Tally};

/// The service that [`RateLimitLayer`](crate::RateLimitLayer) makes. See the [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct RateLimit<S, R = JsonRejection> {
    inner: S,
    gate: Gate<R>,
}

impl<S, R> RateLimit<S, R> {
    pub(crate) const fn new(inner: S, policy: RateLimitPolicy, place: Place, renderer: R) -> Self {
        Self {
            inner,
            gate: Gate {
                policy,
                place,
                renderer,
            },
        }
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimit<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: RenderRejection<ResBody> + Clone,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S, R, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.gate.ask(&request) {
            Verdict::Unlimited => ResponseFuture::unlimited(self.inner.call(request)),
            Verdict::Pass(tally) => {
                let passing = self.gate.passing(&request, tally);
                ResponseFuture::passing(self.inner.call(request), passing)
            }
            Verdict::Refused(response) => ResponseFuture::refused(response),
            Verdict::Pending(deferring) => {
                // The clone may not be ready; the service that was polled is the one to call.
                // https://docs.rs/tower-service/latest/tower_service/trait.Service.html#be-careful-when-cloning-inner-services
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::deferred(Deferred::new(
                    ready,
                    self.gate.clone(),
                    request,
                    deferring,
                ))
            }
        }
    }
}

/// What becomes of a request.
pub(crate) enum Verdict<B> {
    /// No limit covers it.
    Unlimited,
    Pass(Tally),
    Refused(Response<B>),
    /// The store has not answered yet.
    Pending(Deferring),
}

/// The policy at its place in the stack.
#[derive(Clone, Debug)]
pub(crate) struct Gate<R> {
    pub(crate) policy: RateLimitPolicy,
    pub(crate) place: Place,
    renderer: R,
}

impl<R> Gate<R> {
    /// Counts a request and decides on it.
    fn ask<ReqBody, ResBody>(&self, request: &Request<ReqBody>) -> Verdict<ResBody>
    where
        R: RenderRejection<ResBody>,
    {
        let policy = &self.policy;
        let limits = policy.limits(self.place);
        if limits.is_empty() {
            return Verdict::Unlimited;
        }
        let ip = client_ip(request);
        if self.place == Place::Address && ip.is_some_and(|ip| policy.denies(ip)) {
            return Verdict::Refused(self.deny(request, ip));
        }
        if policy.passes_unlimited(request, ip) {
            return Verdict::Unlimited;
        }
        let now = policy.now();
        let mut tally = Tally::default();
        let mut waiting = Vec::new();
        for (index, limit) in limits.iter().enumerate() {
            if !limit.covers(request.method(), request.uri().path()) {
                continue;
            }
            let key = policy.key(limit, request, ip);
            let hit = Hit { index, key };
            match policy.counter_store().hit(&key, limit.quota, now) {
                Counting::Ready(result) => policy.tally(&mut tally, limit, hit, result, now),
                Counting::Pending(counting) => waiting.push(Waiting { hit, counting }),
            }
        }
        if waiting.is_empty() {
            self.decide(request, tally)
        } else {
            Verdict::Pending(Deferring {
                tally,
                waiting,
                now,
            })
        }
    }

    /// Decides on a request that every limit has counted.
    pub(crate) fn decide<ReqBody, ResBody>(
        &self,
        request: &Request<ReqBody>,
        tally: Tally,
    ) -> Verdict<ResBody>
    where
        R: RenderRejection<ResBody>,
    {
        if tally.refusal().is_some() {
            Verdict::Refused(self.refuse(request, &tally))
        } else if tally.uncounted {
            Verdict::Refused(self.unavailable(request))
        } else if tally.tightest.is_none() {
            Verdict::Unlimited
        } else {
            Verdict::Pass(tally)
        }
    }

    /// What is to be done with the answer to a request that passes.
    pub(crate) fn passing<B>(&self, request: &Request<B>, tally: Tally) -> Passing {
        // An upstream may send such fields as well. Only where a limit further in covers the request have
        // those that are there already been written by this policy.
        let inner_wrote = self.place == Place::Address
            && self
                .policy
                .limits(Place::Caller)
                .iter()
                .any(|limit| limit.covers(request.method(), request.uri().path()));
        Passing {
            policy: self.policy.clone(),
            place: self.place,
            tally,
            inner_wrote,
        }
    }

    fn refuse<ReqBody, ResBody>(
        &self,
        request: &Request<ReqBody>,
        tally: &Tally,
    ) -> Response<ResBody>
    where
        R: RenderRejection<ResBody>,
    {
        let policy = &self.policy;
        let request_id = request.extensions().get::<RequestId>();
        let mut rejection = Rejection::new(RejectionKind::RateLimited)
            .with_status(policy.status())
            .with_message(policy.message());
        if let Some(refusal) = tally.refusal() {
            let decision = refusal.told.decision;
            let by = policy
                .limits(self.place)
                .get(refusal.hit.index)
                .map(|limit| limit.by.as_str());
            tracing::warn!(
                target: "security",
                event = "rate_limited",
                ip = client_ip(request).map(tracing::field::display),
                requestId = request_id.map(RequestId::as_str),
                by,
                limit = decision.limit,
                "A request over the rate limit was refused",
            );
            if !policy.headers().is_off() {
                rejection = rejection.with_retry_after(decision.reset_after);
            }
        }
        let mut response = rejection.into_response(&self.renderer, request_id);
        policy.write_headers(response.headers_mut(), self.place, tally, false);
        policy.settle(tally, is_success(&response));
        response
    }

    fn deny<ReqBody, ResBody>(
        &self,
        request: &Request<ReqBody>,
        ip: Option<IpAddr>,
    ) -> Response<ResBody>
    where
        R: RenderRejection<ResBody>,
    {
        let request_id = request.extensions().get::<RequestId>();
        tracing::warn!(
            target: "security",
            event = "denied_address",
            ip = ip.map(tracing::field::display),
            requestId = request_id.map(RequestId::as_str),
            "A request from an address on the deny list was refused",
        );
        Rejection::new(RejectionKind::DeniedAddress).into_response(&self.renderer, request_id)
    }

    fn unavailable<ReqBody, ResBody>(&self, request: &Request<ReqBody>) -> Response<ResBody>
    where
        R: RenderRejection<ResBody>,
    {
        let request_id = request.extensions().get::<RequestId>();
        Rejection::new(RejectionKind::Unavailable)
            .with_retry_after(std::time::Duration::from_secs(1))
            .into_response(&self.renderer, request_id)
    }
}

/// Whether an answer counts as a success: `express-rate-limit` draws the line at 400.
pub(crate) fn is_success<B>(response: &Response<B>) -> bool {
    response.status().as_u16() < 400
}
