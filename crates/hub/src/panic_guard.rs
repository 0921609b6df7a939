//! A panic in a handler costs that request alone.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use proactions_edge::{JsonRejection, Rejection, RejectionKind, RequestId};
use tower_layer::Layer;
use tower_service::Service;

/// Answers 500 for a request whose handling panics. The panic hook has logged it by then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PanicGuardLayer;

impl<S> Layer<S> for PanicGuardLayer {
    type Service = PanicGuard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PanicGuard { inner }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PanicGuard<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PanicGuard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let request_id = request.extensions().get::<RequestId>().cloned();
        // The inner service is not used again by the request that made it panic.
        let future = catch_unwind(AssertUnwindSafe(|| self.inner.call(request))).ok();
        Guarded { future, request_id }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Guarded<F> {
        #[pin]
        future: Option<F>,
        request_id: Option<RequestId>,
    }
}

impl<F, B, E> Future for Guarded<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(future) = this.future.as_pin_mut()
            && let Ok(polled) = catch_unwind(AssertUnwindSafe(|| future.poll(cx)))
        {
            return Poll::Ready(ready!(polled));
        }
        metrics::counter!("hub_panics_total").increment(1);
        let refused = Rejection::new(RejectionKind::Internal);
        Poll::Ready(Ok(
            refused.into_response(&JsonRejection, this.request_id.as_ref())
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn answer(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
        assert!(request.uri().path() != "/panic", "as asked");
        Ok(Response::new(Full::from("fine")))
    }

    #[tokio::test]
    async fn a_panic_is_a_500_for_that_request_only() {
        let guarded = PanicGuardLayer.layer(service_fn(answer));
        for (path, status) in [("/panic", 500), ("/", 200), ("/panic", 500)] {
            let request = Request::get(path).body(()).unwrap();
            let response = guarded.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(!body.windows(8).any(|w| w == b"as asked"));
        }
    }
}
