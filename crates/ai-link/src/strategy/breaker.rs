//! Fails fast while a provider is down.
//!
//! Closed: calls pass, failures in a row are counted. Open: no call passes until the cool-down is over. Then one
//! call may probe; its outcome closes the breaker or opens it for another cool-down. While there is no outcome, another
//! may probe from time to time, as how long a call takes is up to its client too.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::BreakerConfig;

/// How long others are told to wait while a probe is under way.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// How long after a probe another one may follow that does not know its outcome.
const PROBE_TIME: Duration = Duration::from_secs(10);

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerPolicy {
    /// 0: never.
    failures: u32,
    window: Duration,
    cooldown: Duration,
}

impl BreakerPolicy {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        Self {
            failures: u32::try_from(config.failures.unwrap_or(5)).unwrap_or(u32::MAX),
            window: Duration::from_millis(config.window.unwrap_or(60_000)),
            cooldown: Duration::from_millis(config.cooldown.unwrap_or(10_000)),
        }
    }
}

/// The circuit breakers of a service, by the path of the provider that each belongs to (`main`, `main/1`).
///
/// Their state is not a part of the configuration. Hand those of the service before to the one that takes its
/// place, see [`AiLink::breakers`](crate::AiLink::breakers), so that a new configuration does not call providers
/// that are known to be down. Clones share the state.
#[derive(Clone, Default)]
pub struct Breakers(Arc<Mutex<HashMap<Arc<str>, Arc<Breaker>>>>);

impl Breakers {
    /// Whether a call may be made now; if not, how long until one may.
    pub(crate) fn admit(&self, path: &Arc<str>, policy: BreakerPolicy) -> Result<Permit, Duration> {
        if policy.failures == 0 {
            return Ok(Permit(None));
        }
        let breaker = Arc::clone(locked(&self.0).entry(Arc::clone(path)).or_insert_with(|| {
            Arc::new(Breaker {
                path: Arc::clone(path),
                state: Mutex::default(),
            })
        }));
        breaker.admit(policy)
    }

    /// Whether calls are refused now.
    pub(crate) fn is_open(&self, path: &str) -> bool {
        let breaker = locked(&self.0).get(path).cloned();
        breaker.is_some_and(|breaker| matches!(locked(&breaker.state).phase, Phase::Open { .. }))
    }

    /// Forgets the breakers of providers that are no more.
    pub(crate) fn retain(&self, holds: impl Fn(&str) -> bool) {
        locked(&self.0).retain(|path, _| holds(path));
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = locked(&self.0);
        f.debug_map()
            .entries(
                states
                    .iter()
                    .map(|(path, one)| (path, locked(&one.state).phase)),
            )
            .finish()
    }
}

#[derive(Debug)]
struct Breaker {
    path: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Counts the changes of phase, so that calls from before one do not count after it.
    round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed { failed: u32, since: Option<Instant> },
    Open { until: Instant },
    Probing { until: Instant },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed {
            failed: 0,
            since: None,
        }
    }
}

impl Breaker {
    fn admit(self: Arc<Self>, policy: BreakerPolicy) -> Result<Permit, Duration> {
        let now = Instant::now();
        let probing = Phase::Probing {
            until: now + PROBE_TIME,
        };
        let mut state = locked(&self.state);
        match state.phase {
            Phase::Closed { .. } => {}
            // The round stays, so that the late outcome of a slow provider still counts.
            Phase::Probing { until } if until <= now => state.phase = probing,
            Phase::Probing { .. } => return Err(PROBE_WAIT),
            Phase::Open { until } if until <= now => self.change(&mut state, probing),
            Phase::Open { until } => return Err(until - now),
        }
        let round = state.round;
        drop(state);
        Ok(Permit(Some(Held {
            breaker: self,
            policy,
            round,
        })))
    }

    fn change(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        state.round = state.round.wrapping_add(1);
        let level = match phase {
            Phase::Closed { .. } => 0.0,
            Phase::Probing { .. } => 1.0,
            Phase::Open { .. } => 2.0,
        };
        metrics::gauge!("hub_ailink_breaker_state", "target" => self.path.to_string()).set(level);
    }

    fn succeeded(&self, round: u64) {
        let mut state = locked(&self.state);
        if state.round != round {
            return;
        }
        match state.phase {
            Phase::Closed { failed: 0, .. } | Phase::Open { .. } => {}
            Phase::Closed { .. } => state.phase = Phase::default(),
            Phase::Probing { .. } => {
                self.change(&mut state, Phase::default());
                drop(state);
                tracing::info!(target: "aiLink", target = &*self.path, "provider is back: breaker closed");
            }
        }
    }

    fn failed(&self, round: u64, policy: BreakerPolicy) {
        let now = Instant::now();
        let mut state = locked(&self.state);
        if state.round != round {
            return;
        }
        let open = Phase::Open {
            until: now + policy.cooldown,
        };
        match state.phase {
            Phase::Open { .. } => {}
            // Expected while a provider is down; the first opening was told.
            Phase::Probing { .. } => self.change(&mut state, open),
            Phase::Closed { failed, since } => {
                let since = since.filter(|since| now - *since <= policy.window);
                let failed = since.map_or(1, |_| failed.saturating_add(1));
                if failed < policy.failures {
                    let since = since.or(Some(now));
                    state.phase = Phase::Closed { failed, since };
                    return;
                }
                self.change(&mut state, open);
                drop(state);
                tracing::warn!(
                    target: "aiLink",
                    target = &*self.path,
                    failures = failed,
                    "provider is down: breaker opened"
                );
            }
        }
    }

    /// The call ended without saying anything about the provider.
    fn unjudged(&self, round: u64) {
        let mut state = locked(&self.state);
        if state.round == round && matches!(state.phase, Phase::Probing { .. }) {
            let until = Instant::now();
            self.change(&mut state, Phase::Open { until });
        }
    }
}

/// Leave for one call. Dropped without a verdict it counts neither way, and the next call may probe.
#[derive(Debug)]
#[must_use = "the outcome of the call has to be told"]
pub(crate) struct Permit(Option<Held>);

#[derive(Debug)]
struct Held {
    breaker: Arc<Breaker>,
    policy: BreakerPolicy,
    round: u64,
}

impl Permit {
    pub(crate) fn succeeded(mut self) {
        if let Some(held) = self.0.take() {
            held.breaker.succeeded(held.round);
        }
    }

    pub(crate) fn failed(mut self) {
        if let Some(held) = self.0.take() {
            held.breaker.failed(held.round, held.policy);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.breaker.unjudged(held.round);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds the lock can leave it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
        window: Duration::from_secs(60),
        cooldown: Duration::from_secs(10),
    };

    struct One(Breakers, Arc<str>);

    impl One {
        fn new() -> Self {
            Self(Breakers::default(), Arc::from("main/1"))
        }

        fn admit(&self) -> Result<Permit, Duration> {
            self.0.admit(&self.1, POLICY)
        }

        fn fail(&self, times: usize) {
            for _ in 0..times {
                self.admit().unwrap().failed();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_after_a_probe() {
        let one = One::new();
        one.fail(2);
        one.admit().unwrap().succeeded();
        one.fail(2);
        drop(one.admit().unwrap());
        assert!(!one.0.is_open("main/1"));
        one.fail(1);
        assert!(one.0.is_open("main/1"));
        assert_eq!(one.admit().unwrap_err(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(one.admit().unwrap_err(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;

        let probe = one.admit().unwrap();
        assert_eq!(one.admit().unwrap_err(), PROBE_WAIT, "one probe at a time");
        probe.failed();
        assert_eq!(one.admit().unwrap_err(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(one.admit().unwrap());
        let probe = one.admit().expect("the probe before said nothing");
        probe.succeeded();
        one.fail(2);
        assert!(one.admit().is_ok(), "the count began anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_outcome_keeps_nobody_out_for_long() {
        let one = One::new();
        one.fail(3);
        tokio::time::advance(Duration::from_secs(10)).await;
        let held = one.admit().unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(one.admit().unwrap_err(), PROBE_WAIT);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = one.admit().expect("another probe");
        assert_eq!(one.admit().unwrap_err(), PROBE_WAIT);
        held.succeeded();
        assert!(one.admit().is_ok(), "a late outcome counts");
        second.failed();
        assert!(one.admit().is_ok(), "the second is from before the change");
    }

    #[tokio::test(start_paused = true)]
    async fn old_failures_and_old_calls_do_not_count() {
        let one = One::new();
        one.fail(2);
        tokio::time::advance(Duration::from_secs(61)).await;
        one.fail(2);
        let [first, second, third] = [(); 3].map(|()| one.admit().unwrap());
        one.fail(1);
        assert!(one.admit().is_err());
        first.succeeded();
        let still = one.admit();
        assert!(
            still.is_err(),
            "a call from before the opening closes nothing"
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        let probe = one.admit().unwrap();
        second.failed();
        drop(third);
        assert!(one.admit().is_err());
        probe.succeeded();
        assert!(one.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_switched_off_and_is_kept_by_path() {
        let one = One::new();
        let off = BreakerPolicy {
            failures: 0,
            ..POLICY
        };
        for _ in 0..10 {
            one.0.admit(&one.1, off).unwrap().failed();
        }
        one.fail(3);
        assert!(one.0.admit(&Arc::from("main/0"), POLICY).is_ok());
        let kept = one.0.clone();
        kept.retain(|path| path == "main/1");
        assert!(kept.admit(&one.1, POLICY).is_err());
        assert!(format!("{kept:?}").contains("main/1"));
        kept.retain(|path| path == "main/0");
        assert!(kept.admit(&one.1, POLICY).is_ok());
    }
}
