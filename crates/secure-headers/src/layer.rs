use tower_layer::Layer;

use crate::{SecureHeaders, SecureHeadersPolicy};

/// Puts a [`SecureHeadersPolicy`] around a service. See the [crate documentation](crate).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SecureHeadersLayer {
    policy: SecureHeadersPolicy,
}

impl SecureHeadersLayer {
    /// A layer with this policy.
    pub const fn new(policy: SecureHeadersPolicy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for SecureHeadersLayer {
    type Service = SecureHeaders<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SecureHeaders::new(inner, self.policy.clone())
    }
}
