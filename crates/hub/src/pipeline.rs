//! The finished stack behind one type.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use proactions_forward::Body;
use proactions_redact_log::AccessLogBody;
use tower_service::Service;

use crate::at_once;

/// What the stack answers with.
pub(crate) type PipelineBody = AccessLogBody<Body>;

type Answer = Pin<Box<dyn Future<Output = Result<Response<PipelineBody>, Infallible>> + Send>>;

/// The whole stack, its type erased. That costs one allocation a request, for the future; the layers inside
/// are one nested type and cost none.
#[derive(Clone)]
pub(crate) struct Pipeline(Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>);

impl Pipeline {
    pub(crate) fn new<S>(stack: S) -> Self
    where
        S: Service<
                Request<Incoming>,
                Response = Response<PipelineBody>,
                Error = Infallible,
                Future: Send + 'static,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        Self(Arc::new(move |request| {
            Box::pin(at_once::call(stack.clone(), request))
        }))
    }
}

impl Service<Request<Incoming>> for Pipeline {
    type Response = Response<PipelineBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        (self.0)(request)
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline(..)")
    }
}

/// The stack that serves now: each request goes through the one that is there when it begins.
#[derive(Clone, Debug)]
pub(crate) struct LivePipeline(Arc<ArcSwap<Pipeline>>);

impl LivePipeline {
    pub(crate) fn new(pipeline: Pipeline) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(pipeline)))
    }

    /// Requests that begin from here on go through `pipeline`; those under way finish in the old one.
    pub(crate) fn store(&self, pipeline: Pipeline) {
        self.0.store(Arc::new(pipeline));
    }
}

impl Service<Request<Incoming>> for LivePipeline {
    type Response = Response<PipelineBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        (self.0.load().0)(request)
    }
}
