use std::error::Error;
use std::task::{Context, Poll};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use proactions_edge::{Rejection, RejectionKind, RenderRejection, RequestId};
use tower_service::Service;

use crate::future::Count;
use crate::policy::Verdict;
use crate::{BodyLimitPolicy, Limited, ResponseFuture};

/// The service that [`BodyLimitLayer`](crate::BodyLimitLayer) makes. See the [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct BodyLimit<S, R> {
    inner: S,
    policy: BodyLimitPolicy,
    renderer: R,
}

impl<S, R> BodyLimit<S, R> {
    pub(crate) const fn new(inner: S, policy: BodyLimitPolicy, renderer: R) -> Self {
        Self {
            inner,
            policy,
            renderer,
        }
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for BodyLimit<S, R>
where
    S: Service<Request<Limited<ReqBody>>, Response = Response<ResBody>>,
    R: RenderRejection<ResBody> + Clone,
    ReqBody: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let http1 = request.version() < Version::HTTP_2;
        let refused = match self.policy.judge(request.headers()) {
            Verdict::Admitted(limit) => {
                let request = request.map(|body| Limited::new(body, limit));
                let Some(exceeded) = request.body().exceeded() else {
                    return ResponseFuture::passed(self.inner.call(request));
                };
                let count = Count {
                    exceeded,
                    http1,
                    renderer: self.renderer.clone(),
                    request_id: request.extensions().get::<RequestId>().cloned(),
                };
                return ResponseFuture::counted(self.inner.call(request), count);
            }
            Verdict::Ambiguous => closing(Rejection::new(RejectionKind::BadRequest), http1)
                .with_message("Content-Length must be one plain number"),
            Verdict::TooLarge => refusal(http1),
        };
        let request_id = request.extensions().get::<RequestId>();
        ResponseFuture::refused(refused.into_response(&self.renderer, request_id))
    }
}

/// 413, and the connection ends where HTTP/1 would have to read the rest of the body.
pub(crate) fn refusal(http1: bool) -> Rejection {
    closing(Rejection::new(RejectionKind::PayloadTooLarge), http1)
}

fn closing(rejection: Rejection, http1: bool) -> Rejection {
    if http1 {
        rejection.with_header(CONNECTION, HeaderValue::from_static("close"))
    } else {
        rejection
    }
}

#[cfg(test)]
mod tests;
