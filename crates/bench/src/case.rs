use std::any::Any;
use std::fmt;
use std::hint::black_box;
use std::pin::pin;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use tower_service::Service;
use tracing::Dispatch;

use crate::bare::{Body, Kind};

/// The function, as valgrind spells it, that holds nothing but the requests of [`Case::run`].
pub const MEASURED: &str = "proactions_bench::case::measured";

/// A service that answers one kind of request in memory.
pub struct Case {
    name: &'static str,
    baseline: &'static str,
    run: Box<dyn Fn(u32)>,
    _kept: Option<Box<dyn Any>>,
}

impl Case {
    /// A case whose requests need no session.
    pub(crate) fn new<S, B>(name: &'static str, kind: Kind, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: fmt::Debug,
        B: http_body::Body + 'static,
    {
        Self::with_cookie(name, kind, "session=none", service)
    }

    /// A case whose requests carry this cookie.
    pub(crate) fn with_cookie<S, B>(
        name: &'static str,
        kind: Kind,
        cookie: &str,
        service: S,
    ) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: fmt::Debug,
        B: http_body::Body + 'static,
    {
        let request = kind.request(cookie);
        let runtime = runtime();
        let run = move |iterations| {
            runtime.block_on(async {
                for _ in 0..iterations {
                    let response = service.clone().oneshot(black_box(request.clone())).await;
                    let response = response.expect("an answer");
                    assert!(response.status().is_success(), "{}", response.status());
                    let (head, body) = response.into_parts();
                    let mut body = pin!(body);
                    while let Some(frame) = body.frame().await {
                        drop(black_box(frame));
                    }
                    drop(black_box(head));
                }
            });
        };
        Self {
            name,
            baseline: kind.baseline(),
            run: Box::new(run),
            _kept: None,
        }
    }

    /// The same case with this subscriber to its tracing events.
    pub(crate) fn with_subscriber(self, subscriber: Dispatch) -> Self {
        let run = self.run;
        Self {
            run: Box::new(move |iterations| {
                tracing::dispatcher::with_default(&subscriber, || run(iterations));
            }),
            ..self
        }
    }

    /// The same case, compared with another one than the bare service on the same request.
    pub(crate) const fn over(mut self, baseline: &'static str) -> Self {
        self.baseline = baseline;
        self
    }

    /// The same case, which keeps this for as long as it lives.
    pub(crate) fn keeping(mut self, kept: impl Any) -> Self {
        self._kept = Some(Box::new(kept));
        self
    }

    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The case of the bare service that it is compared with.
    #[must_use]
    pub const fn baseline(&self) -> &'static str {
        self.baseline
    }

    /// Answers this many requests, not to be measured.
    pub fn warm_up(&self, iterations: u32) {
        (self.run)(iterations);
    }

    /// Answers this many requests, one after the other, within [`MEASURED`].
    pub fn run(&self, iterations: u32) {
        measured(&self.run, iterations);
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("baseline", &self.baseline)
            .finish_non_exhaustive()
    }
}

/// The name of this function is what valgrind is told to count in.
#[inline(never)]
fn measured(run: &dyn Fn(u32), iterations: u32) {
    run(black_box(iterations));
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a run time")
}
