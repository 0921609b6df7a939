use tower_layer::Layer;

use crate::{Cors, CorsPolicy};

/// Puts a [`CorsPolicy`] around a service. See the [crate documentation](crate).
#[derive(Clone, Debug)]
#[must_use]
pub struct CorsLayer {
    policy: CorsPolicy,
}

impl CorsLayer {
    /// A layer with this policy.
    pub const fn new(policy: CorsPolicy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Cors::new(inner, self.policy.clone())
    }
}
