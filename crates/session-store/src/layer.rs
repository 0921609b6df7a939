use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proactions_edge::{Clock, SystemClock};
use tower_layer::Layer;

use crate::session::Core;
use crate::verified::VerifiedCookies;
use crate::{SessionPolicy, SessionService, SessionStore};

/// Puts a [`Session`](crate::Session) into every request and writes it back; see the [crate's docs](crate).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct SessionLayer {
    core: Arc<Core>,
}

impl SessionLayer {
    /// Sessions under `policy`, kept in `store`.
    pub fn new(policy: SessionPolicy, store: Arc<dyn SessionStore>) -> Self {
        Self::with_clock(policy, store, Arc::new(SystemClock::new()))
    }

    /// Sessions that begin and end by `clock`.
    pub fn with_clock(
        policy: SessionPolicy,
        store: Arc<dyn SessionStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            core: Arc::new(Core {
                policy,
                store,
                clock,
                verified: VerifiedCookies::new(),
                told: AtomicBool::new(false),
            }),
        }
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> Arc<Core> {
        self.core.clone()
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService {
            inner,
            core: self.core.clone(),
        }
    }
}
