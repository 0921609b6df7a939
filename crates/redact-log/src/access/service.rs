use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::future::AccessLogFuture;
use super::record::Record;
use super::{AccessLogBody, body};
use crate::Level;
use crate::Logging;
use crate::policy::Category;

/// Writes one line for each exchange when its answer has ended.
///
/// See the documentation of the crate for the fields.
#[derive(Clone, Debug)]
pub struct AccessLogLayer {
    logging: Logging,
    enabled: bool,
}

impl AccessLogLayer {
    /// A layer that writes to `logging`; if that takes no access lines, the layer does nothing.
    #[must_use]
    pub fn new(logging: Logging) -> Self {
        Self {
            enabled: logging.is_enabled(Category::Access, Level::Info),
            logging,
        }
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLogService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`AccessLogLayer`].
#[derive(Clone, Debug)]
pub struct AccessLogService<S> {
    inner: S,
    layer: AccessLogLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AccessLogService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body,
{
    type Response = Response<AccessLogBody<ResBody>>;
    type Error = S::Error;
    type Future = AccessLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let record = self
            .layer
            .enabled
            .then(|| body::Pending::new(Record::begin(self.layer.logging.clone(), &mut request)));
        AccessLogFuture::new(self.inner.call(request), record)
    }
}
