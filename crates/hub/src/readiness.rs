//! Whether a load balancer should send requests here.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What `/ready` answers from.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    draining: AtomicBool,
}

impl Readiness {
    /// From now on the answer is no: the process is about to stop.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// The names of what is down; empty when all is well.
    pub(crate) fn down(&self) -> Vec<&'static str> {
        let draining = self.draining.load(Relaxed);
        draining.then_some("draining").into_iter().collect()
    }
}
