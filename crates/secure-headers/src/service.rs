use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::{ResponseFuture, SecureHeadersPolicy};

/// The service that [`SecureHeadersLayer`](crate::SecureHeadersLayer) makes. See the
/// [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct SecureHeaders<S> {
    inner: S,
    policy: SecureHeadersPolicy,
}

impl<S> SecureHeaders<S> {
    pub(crate) const fn new(inner: S, policy: SecureHeadersPolicy) -> Self {
        Self { inner, policy }
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SecureHeaders<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        ResponseFuture::new(self.inner.call(request), self.policy.clone())
    }
}

#[cfg(test)]
mod tests;
