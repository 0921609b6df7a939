use tower_layer::Layer;

use crate::{TrustProxy, TrustProxyService};

/// Inserts a [`ClientInfo`](crate::ClientInfo) into every request. See the [crate documentation](crate).
#[derive(Clone, Debug)]
#[must_use]
pub struct TrustProxyLayer {
    policy: TrustProxy,
}

impl TrustProxyLayer {
    /// A layer that believes whom `policy` trusts.
    pub const fn new(policy: TrustProxy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for TrustProxyLayer {
    type Service = TrustProxyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TrustProxyService::new(inner, self.policy.clone())
    }
}
