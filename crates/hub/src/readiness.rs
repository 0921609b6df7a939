//! Whether a load balancer should send requests here.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What `/ready` answers from.
#[derive(Default)]
pub(crate) struct Readiness {
    draining: AtomicBool,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    name: &'static str,
    is_down: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Readiness {
    /// From now on the answer is no: the process is about to stop.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// From now on the answer is no while `is_down` holds. It is asked with each probe, so it must be cheap. A
    /// second one of the same name takes the place of the first.
    pub(crate) fn watch(
        &self,
        name: &'static str,
        is_down: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        let mut watched = self.watched();
        watched.retain(|other| other.name != name);
        watched.push(Watched {
            name,
            is_down: Box::new(is_down),
        });
    }

    /// From now on what has this name does not count.
    pub(crate) fn unwatch(&self, name: &str) {
        self.watched().retain(|other| other.name != name);
    }

    /// The names of what is down; empty when all is well.
    pub(crate) fn down(&self) -> Vec<&'static str> {
        let draining = self.draining.load(Relaxed).then_some("draining");
        let watched = self.watched();
        let down = watched.iter().filter(|watched| (watched.is_down)());
        draining
            .into_iter()
            .chain(down.map(|watched| watched.name))
            .collect()
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("down", &self.down())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_names_what_is_down() {
        let readiness = Readiness::default();
        let down = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&down);
        readiness.watch("redis", || true);
        readiness.watch("redis", move || flag.load(Relaxed));
        assert!(readiness.down().is_empty());
        down.store(true, Relaxed);
        assert_eq!(readiness.down(), ["redis"]);
        readiness.drain();
        assert_eq!(readiness.down(), ["draining", "redis"]);
        readiness.unwatch("redis");
        assert_eq!(readiness.down(), ["draining"]);
    }
}
