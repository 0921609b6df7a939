use proactions_edge::JsonRejection;
use tower_layer::Layer;

use crate::{BodyLimit, BodyLimitPolicy};

/// Puts a [`BodyLimitPolicy`] around a service. See the [crate documentation](crate).
#[derive(Clone, Debug)]
#[must_use]
pub struct BodyLimitLayer<R = JsonRejection> {
    policy: BodyLimitPolicy,
    renderer: R,
}

impl BodyLimitLayer {
    /// A layer with this policy, whose refusals are JSON.
    pub const fn new(policy: BodyLimitPolicy) -> Self {
        Self {
            policy,
            renderer: JsonRejection,
        }
    }
}

impl<R> BodyLimitLayer<R> {
    /// Refusals are rendered by `renderer`.
    pub fn rendering<T>(self, renderer: T) -> BodyLimitLayer<T> {
        BodyLimitLayer {
            policy: self.policy,
            renderer,
        }
    }
}

impl<S, R: Clone> Layer<S> for BodyLimitLayer<R> {
    type Service = BodyLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyLimit::new(inner, self.policy, self.renderer.clone())
    }
}
