use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proactions_edge::SecretDigest;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cache::Outcome;

/// The calls under way, so that equal ones are one. Bounded.
///
/// A call runs in a task of its own: whoever asked first may go away without taking it from the others, and the
/// answer is remembered even if nobody waits any more. It lives as long as a call's deadline allows.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<SecretDigest, Landing>>);

type Landing = watch::Receiver<Option<Outcome>>;

/// A place in a call under way, or its outcome where there is one already.
#[derive(Debug)]
pub(super) struct Ticket(Held);

#[derive(Debug)]
enum Held {
    Outcome(Outcome),
    Landing(Landing),
}

impl Flights {
    /// How many different credentials may be waiting for EDAPI.
    const CAPACITY: usize = 10_000;

    /// Joins the call for `key`, or starts it. `known` is looked at in between, under the lock, so that a call
    /// that has just ended is not made again; `call` has to make its outcome known there before it ends.
    ///
    /// `None` when too many calls are under way.
    pub(super) fn board<F>(
        self: &Arc<Self>,
        key: SecretDigest,
        known: impl FnOnce() -> Option<Outcome>,
        call: impl FnOnce() -> F,
    ) -> Option<Ticket>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut flights = self.lock();
        if let Some(landing) = flights.get(&key) {
            return Some(Ticket(Held::Landing(landing.clone())));
        }
        if let Some(outcome) = known() {
            return Some(Ticket::landed(outcome));
        }
        if flights.len() >= Self::CAPACITY {
            return None;
        }
        let runtime = Handle::try_current().ok()?;
        let (sender, landing) = watch::channel(None);
        flights.insert(key, landing.clone());
        drop(flights);
        let (call, flight) = (call(), Flight(self.clone(), key));
        runtime.spawn(async move {
            let outcome = call.await;
            drop(flight);
            sender.send_replace(Some(outcome));
        });
        Some(Ticket(Held::Landing(landing)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SecretDigest, Landing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Takes the call off the list when it ends, however it ends.
struct Flight(Arc<Flights>, SecretDigest);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Ticket {
    pub(super) const fn landed(outcome: Outcome) -> Self {
        Self(Held::Outcome(outcome))
    }

    /// Waits for the outcome.
    pub(super) async fn outcome(self) -> Outcome {
        let mut landing = match self.0 {
            Held::Outcome(outcome) => return outcome,
            Held::Landing(landing) => landing,
        };
        let landed = landing.wait_for(Option::is_some).await;
        // A call that panicked, or that the end of the process cut off, has found nothing out.
        landed
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or(Outcome::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::SystemTime;

    use proactions_edge::DigestKey;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_call_outlives_whoever_started_it() {
        let flights = Arc::new(Flights::default());
        let key = DigestKey::random().unwrap().digest(b"x");
        let calls = Arc::new(AtomicUsize::new(0));
        let (go, gate) = oneshot::channel::<()>();
        let mut gate = Some(gate);
        let mut board = || {
            let (calls, gate) = (calls.clone(), gate.take());
            flights.board(
                key,
                || None,
                || async move {
                    calls.fetch_add(1, Ordering::Relaxed);
                    gate.unwrap().await.unwrap();
                    Outcome::No(SystemTime::UNIX_EPOCH)
                },
            )
        };
        let first = board().unwrap();
        let second = board().unwrap();
        drop(first);
        assert_eq!(flights.len(), 1);
        go.send(()).unwrap();
        assert!(matches!(second.outcome().await, Outcome::No(_)));
        assert_eq!((flights.len(), calls.load(Ordering::Relaxed)), (0, 1));
    }

    #[tokio::test]
    async fn a_call_that_panics_is_unavailable_and_leaves_no_trace() {
        let flights = Arc::new(Flights::default());
        let key = DigestKey::random().unwrap().digest(b"x");
        let ticket = flights.board(key, || None, || async { panic!("a bug") });
        let outcome = ticket.unwrap().outcome().await;
        assert!(matches!(outcome, Outcome::Unavailable));
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn without_a_run_time_nothing_is_started() {
        let flights = Arc::new(Flights::default());
        let key = DigestKey::random().unwrap().digest(b"x");
        assert!(
            flights
                .board(
                    key,
                    || None,
                    || async { Outcome::No(SystemTime::UNIX_EPOCH) }
                )
                .is_none()
        );
        assert_eq!(flights.len(), 0);
    }
}
