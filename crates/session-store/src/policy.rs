use std::time::{Duration, SystemTime};

use crate::{CookiePolicy, KeyRing};

/// How sessions are carried, signed and ended: what a [`SessionLayer`](crate::SessionLayer) runs on.
///
/// A session ends at the absolute timeout whatever happens, and earlier when it was not used for the idle
/// timeout. Without an idle timeout it ends with its cookie.
#[derive(Clone, Debug)]
pub struct SessionPolicy {
    keys: KeyRing,
    cookie: CookiePolicy,
    idle: Option<Duration>,
    absolute: Option<Duration>,
}

impl SessionPolicy {
    /// Sessions without an idle timeout, whose absolute timeout is the cookie's maximal age.
    #[must_use]
    pub const fn new(keys: KeyRing, cookie: CookiePolicy) -> Self {
        Self {
            keys,
            cookie,
            idle: None,
            absolute: None,
        }
    }

    /// Ends a session that was not used for this long. The cookie is renewed while it is used.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = Some(bounded(timeout));
        self
    }

    /// Ends a session this long after it began.
    #[must_use]
    pub fn with_absolute_timeout(mut self, timeout: Duration) -> Self {
        self.absolute = Some(bounded(timeout));
        self
    }

    /// The secrets.
    #[must_use]
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The cookie.
    #[must_use]
    pub const fn cookie(&self) -> &CookiePolicy {
        &self.cookie
    }

    pub(crate) const fn has_idle_timeout(&self) -> bool {
        self.idle.is_some()
    }

    /// How long a session that began at `created` may be left unused from `now` on; zero when it has ended.
    #[must_use]
    pub fn lifetime(&self, created: SystemTime, now: SystemTime) -> Duration {
        let max_age = self.cookie.max_age();
        let absolute = self.absolute.unwrap_or(max_age);
        let (bound, idle) = match self.idle {
            Some(idle) => (absolute, idle),
            None => (absolute.min(max_age), Duration::MAX),
        };
        // A clock that was set back makes a session young, not invalid.
        let age = now.duration_since(created).unwrap_or_default();
        bound.saturating_sub(age).min(idle)
    }

    /// Whether a session that the store holds until `expires_at` is used long enough after its last use to
    /// be told so: a minute, or a tenth of the idle timeout if that is shorter. Also whether the store holds it for
    /// longer than it may be left unused, because it was stored under a longer timeout, or none.
    pub(crate) fn touch_is_due(
        &self,
        created: SystemTime,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> bool {
        let Some(idle) = self.idle else {
            return false;
        };
        let left = expires_at.duration_since(now).unwrap_or_default();
        let lifetime = self.lifetime(created, now);
        let gain = lifetime.saturating_sub(left);
        let excess = left.saturating_sub(lifetime);
        (gain >= TOUCH_INTERVAL.min(idle / 10) && !gain.is_zero()) || excess > TOUCH_INTERVAL
    }
}

const TOUCH_INTERVAL: Duration = Duration::from_secs(60);

fn bounded(timeout: Duration) -> Duration {
    timeout.clamp(Duration::from_secs(1), CookiePolicy::MAX_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn policy(max_age: u64, idle: Option<u64>, absolute: Option<u64>) -> SessionPolicy {
        let cookie = CookiePolicy::default().with_max_age(Duration::from_secs(max_age));
        let mut policy = SessionPolicy::new(KeyRing::unchecked(["k"]), cookie);
        if let Some(idle) = idle {
            policy = policy.with_idle_timeout(Duration::from_secs(idle));
        }
        if let Some(absolute) = absolute {
            policy = policy.with_absolute_timeout(Duration::from_secs(absolute));
        }
        policy
    }

    #[test]
    fn the_nearer_end_counts() {
        for (max_age, idle, absolute, age, left) in [
            (100, None, None, 0, 100),
            (100, None, None, 99, 1),
            (100, None, None, 100, 0),
            (100, None, Some(50), 0, 50),
            (100, None, Some(500), 0, 100),
            (100, Some(10), None, 0, 10),
            (100, Some(10), None, 95, 5),
            (100, Some(10), Some(500), 95, 10),
            (100, Some(10), Some(500), 500, 0),
        ] {
            assert_eq!(
                policy(max_age, idle, absolute).lifetime(at(1000), at(1000 + age)),
                Duration::from_secs(left),
                "{max_age} {idle:?} {absolute:?} {age}"
            );
        }
        let young = policy(100, None, None).lifetime(at(1000), at(10));
        assert_eq!(young, Duration::from_secs(100));
    }

    #[test]
    fn a_touch_is_due_once_a_minute_or_a_tenth_of_the_idle_timeout() {
        for (idle, used_after, due) in [
            (None, 90, false),
            (Some(3600), 0, false),
            (Some(3600), 59, false),
            (Some(3600), 60, true),
            (Some(100), 9, false),
            (Some(100), 10, true),
        ] {
            let policy = policy(86_400, idle, None);
            let expires_at = at(1000) + policy.lifetime(at(1000), at(1000));
            assert_eq!(
                policy.touch_is_due(at(1000), expires_at, at(1000 + used_after)),
                due,
                "{idle:?} {used_after}"
            );
        }
        let shorter = policy(86_400, Some(3600), None);
        for (left, due) in [(3600, false), (3660, false), (3661, true), (86_400, true)] {
            let expires_at = at(1000 + left);
            assert_eq!(
                shorter.touch_is_due(at(1000), expires_at, at(1000)),
                due,
                "{left}"
            );
        }
        // Close to the absolute end there is nothing to gain.
        let policy = policy(1000, Some(900), None);
        assert!(!policy.touch_is_due(at(0), at(1000), at(990)));
    }
}
