//! Counts answers by the class of their status, and refusals by their reason.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use metrics::Counter;
use pin_project_lite::pin_project;
use proactions_edge::Rejection;
use tower_layer::Layer;
use tower_service::Service;

/// Handles that are looked up once: a request costs an addition.
#[derive(Clone)]
pub(crate) struct RequestMetricsLayer(Arc<[Counter; 5]>);

impl RequestMetricsLayer {
    pub(crate) fn new() -> Self {
        Self(Arc::new(["1xx", "2xx", "3xx", "4xx", "5xx"].map(
            |class| metrics::counter!("hub_requests_total", "class" => class),
        )))
    }

    fn count<B>(&self, response: &Response<B>) {
        let class = usize::from(response.status().as_u16() / 100);
        if let Some(counter) = class.checked_sub(1).and_then(|class| self.0.get(class)) {
            counter.increment(1);
        }
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            let reason = rejection.kind().as_str();
            metrics::counter!("hub_rejections_total", "reason" => reason).increment(1);
        }
    }
}

impl fmt::Debug for RequestMetricsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestMetricsLayer(..)")
    }
}

impl<S> Layer<S> for RequestMetricsLayer {
    type Service = RequestMetrics<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestMetrics {
            inner,
            layer: self.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics<S> {
    inner: S,
    layer: RequestMetricsLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestMetrics<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        Counted {
            future: self.inner.call(request),
            layer: self.layer.clone(),
        }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Counted<F> {
        #[pin]
        future: F,
        layer: RequestMetricsLayer,
    }
}

impl<F, B, E> Future for Counted<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        if let Poll::Ready(Ok(response)) = &polled {
            this.layer.count(response);
        }
        polled
    }
}
