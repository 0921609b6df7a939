use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::wire::Fault;

/// Whether EDAPI answers, and what the operator is told about it.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told_at: Option<SystemTime>,
    held_back: u64,
    /// Failed calls in a row.
    failures: u32,
    failed_at: Option<SystemTime>,
}

impl Pulse {
    /// One odd answer does not mean that EDAPI is down: somebody may have presented an odd credential.
    const FAILURES: u32 = 3;
    /// When nobody has asked for this long, it may well be up again.
    const MEMORY: Duration = Duration::from_secs(30);
    const TELL_EVERY: Duration = Duration::from_secs(60);

    pub(super) fn answered(&self) {
        let was_down = {
            let mut state = self.lock();
            std::mem::take(&mut state.failures) >= Self::FAILURES
        };
        if was_down {
            tracing::info!(
                target: "security",
                event = "edapi_available",
                "EDAPI answers again"
            );
        }
    }

    /// Notes a failure, and says so at once the first time, then once a minute.
    pub(super) fn failed(&self, fault: &Fault, now: SystemTime) {
        let Some(held_back) = self.count(1, now) else {
            return;
        };
        let (status, cause) = match fault {
            Fault::Status(status) => (Some(status.as_u16()), None),
            Fault::Unreachable(cause) => (None, cause.as_deref()),
            _ => (None, None),
        };
        tracing::warn!(
            target: "security",
            event = "edapi_unavailable",
            reason = fault.as_str(),
            status,
            cause,
            heldBack = held_back,
            "EDAPI did not say whether a credential is good"
        );
    }

    /// A call that carried no credential failed, so it is not the credential's fault.
    pub(super) fn is_unreachable(&self, fault: &Fault, now: SystemTime) {
        self.lock().failures = Self::FAILURES;
        self.failed(fault, now);
    }

    pub(super) fn is_down(&self, now: SystemTime) -> bool {
        let state = self.lock();
        let recent = state
            .failed_at
            .is_some_and(|at| now.duration_since(at).unwrap_or_default() < Self::MEMORY);
        recent && state.failures >= Self::FAILURES
    }

    /// Counts failures; when it is time to tell, says how many were not told.
    fn count(&self, failures: u32, now: SystemTime) -> Option<u64> {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(failures);
        state.failed_at = Some(now);
        let due = state.told_at.is_none_or(|at| {
            // A clock that was set back must not silence it.
            now.duration_since(at)
                .map_or(true, |ago| ago >= Self::TELL_EVERY)
        });
        if !due {
            state.held_back += 1;
            return None;
        }
        state.told_at = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_failure_is_told_at_once_and_then_once_a_minute() {
        let pulse = Pulse::default();
        let told: Vec<_> = [0, 1, 59, 60, 61, 200]
            .into_iter()
            .map(|second| pulse.count(1, at(second)))
            .collect();
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
        // The clock was set back.
        assert_eq!(pulse.count(1, at(10)), Some(0));
    }

    #[test]
    fn it_is_down_after_three_failures_in_a_row_and_not_for_ever() {
        let pulse = Pulse::default();
        for (second, down) in [(0, false), (1, false), (2, true)] {
            pulse.failed(&Fault::TimedOut, at(second));
            assert_eq!(pulse.is_down(at(second)), down, "{second}");
        }
        assert!(pulse.is_down(at(31)) && !pulse.is_down(at(32)));
        pulse.answered();
        pulse.failed(&Fault::TimedOut, at(40));
        assert!(!pulse.is_down(at(40)));
        pulse.is_unreachable(&Fault::TimedOut, at(41));
        assert!(pulse.is_down(at(41)));
    }
}
