//! The fixed window: a client's first request opens a window, and the quota holds until that window ends.

use std::time::{Duration, SystemTime};

use proactions_edge::ConfigError;

/// How many requests are allowed in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    max: u32,
    window: Duration,
}

impl Quota {
    /// The longest window: 2³¹ − 1 milliseconds, a little under 25 days.
    pub const MAX_WINDOW: Duration = Duration::from_millis(2_147_483_647);

    /// At most `max` requests in each `window`. A `max` of 0 lets nothing through.
    ///
    /// # Errors
    /// When `window` is shorter than a millisecond or longer than [`Self::MAX_WINDOW`].
    pub fn new(max: u32, window: Duration) -> Result<Self, ConfigError> {
        if window < Duration::from_millis(1) || window > Self::MAX_WINDOW {
            return Err(ConfigError::new(
                "windowMs",
                "expected 1 to 2147483647 milliseconds",
            ));
        }
        Ok(Self { max, window })
    }

    /// How many requests a window allows.
    #[must_use]
    pub const fn max(self) -> u32 {
        self.max
    }

    /// How long a window lasts.
    #[must_use]
    pub const fn window(self) -> Duration {
        self.window
    }
}

/// A window as it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// The requests counted so far, refused ones included.
    pub hits: u64,
    /// When the window ends. The window is over at this very time.
    pub ends_at: SystemTime,
}

impl Window {
    /// A window with `hits` requests that ends at `ends_at`.
    #[must_use]
    pub const fn new(hits: u64, ends_at: SystemTime) -> Self {
        Self { hits, ends_at }
    }
}

/// Counts one request.
///
/// A window that is missing or over is replaced by a fresh one. No window lasts longer than its length from
/// now: when the clock was set back, its end moves with it, and the count stays.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use proactions_ratelimit::{Quota, fixed_window};
///
/// let quota = Quota::new(2, Duration::from_secs(60))?;
/// let start = SystemTime::UNIX_EPOCH;
/// let first = fixed_window::step(None, quota, start);
/// let second = fixed_window::step(Some(first), quota, start + Duration::from_secs(59));
/// assert_eq!((second.hits, second.ends_at), (2, first.ends_at));
/// let third = fixed_window::step(Some(second), quota, start + Duration::from_secs(60));
/// assert_eq!(third.hits, 1);
/// # Ok::<(), proactions_edge::ConfigError>(())
/// ```
#[must_use]
pub fn step(counted: Option<Window>, quota: Quota, now: SystemTime) -> Window {
    let latest = now.checked_add(quota.window).unwrap_or(now);
    match counted.filter(|window| window.ends_at > now) {
        Some(window) => Window {
            hits: window.hits.saturating_add(1),
            ends_at: window.ends_at.min(latest),
        },
        None => Window {
            hits: 1,
            ends_at: latest,
        },
    }
}

/// What a counted request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether the request may pass.
    pub allowed: bool,
    /// How many requests a window allows.
    pub limit: u32,
    /// How many more requests this window allows.
    pub remaining: u32,
    /// How long until the window ends.
    pub reset_after: Duration,
}

impl Decision {
    /// The decision on the request that was the last one counted in `window`.
    #[must_use]
    pub fn of(window: Window, quota: Quota, now: SystemTime) -> Self {
        let limit = u64::from(quota.max);
        let remaining = limit.saturating_sub(window.hits);
        Self {
            allowed: window.hits <= limit,
            limit: quota.max,
            remaining: u32::try_from(remaining).unwrap_or(quota.max),
            reset_after: window.ends_at.duration_since(now).unwrap_or_default(),
        }
    }

    /// Whether this decision says more about what the client may still do than `other`: a refusal before a
    /// pass, then the one with less left, then the one that lasts longer.
    #[must_use]
    pub(crate) fn is_tighter_than(&self, other: &Self) -> bool {
        let rank = |d: &Self| (d.allowed, d.remaining, std::cmp::Reverse(d.reset_after));
        rank(self) < rank(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn quota(max: u32, millis: u64) -> Quota {
        Quota::new(max, Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn windows_have_bounds() {
        for (millis, good) in [
            (0, false),
            (1, true),
            (2_147_483_647, true),
            (2_147_483_648, false),
        ] {
            let made = Quota::new(1, Duration::from_millis(millis));
            assert_eq!(made.is_ok(), good, "{millis}");
        }
    }

    #[test]
    fn hit_number_max_passes_and_the_next_does_not() {
        let quota = quota(2, 1000);
        let mut window = None;
        for (now, allowed, remaining, reset) in [
            (0, true, 1, 1000),
            (400, true, 0, 600),
            (999, false, 0, 1),
            (1000, true, 1, 1000),
            (1001, true, 0, 999),
        ] {
            let stepped = step(window, quota, at(now));
            window = Some(stepped);
            let decision = Decision::of(stepped, quota, at(now));
            assert_eq!(
                decision,
                Decision {
                    allowed,
                    limit: 2,
                    remaining,
                    reset_after: Duration::from_millis(reset)
                },
                "at {now}"
            );
        }
    }

    #[test]
    fn a_maximum_of_zero_refuses_everything() {
        let quota = quota(0, 1000);
        let decision = Decision::of(step(None, quota, at(0)), quota, at(0));
        assert!(!decision.allowed);
        assert_eq!(decision.remaining, 0);
    }

    #[test]
    fn a_clock_set_back_keeps_the_count_and_shortens_the_wait() {
        let quota = quota(1, 1000);
        let first = step(None, quota, at(86_400_000));
        let second = step(Some(first), quota, at(5));
        assert_eq!(second, Window::new(2, at(1005)));
    }

    #[test]
    fn the_tighter_decision_is_the_one_to_show() {
        let decision = |allowed, remaining, secs| Decision {
            allowed,
            limit: 9,
            remaining,
            reset_after: Duration::from_secs(secs),
        };
        for (tighter, other) in [
            (decision(false, 0, 1), decision(true, 0, 99)),
            (decision(true, 1, 1), decision(true, 2, 99)),
            (decision(true, 1, 9), decision(true, 1, 8)),
            (decision(false, 0, 9), decision(false, 0, 8)),
        ] {
            assert!(tighter.is_tighter_than(&other));
            assert!(!other.is_tighter_than(&tighter));
        }
        assert!(!decision(true, 1, 1).is_tighter_than(&decision(true, 1, 1)));
    }

    proptest! {
        #[test]
        fn never_more_than_max_in_a_window_whatever_the_clock_does(
            max in 0_u32..6,
            length in 1_u64..2000,
            times in prop::collection::vec(
                prop_oneof![0_u64..5000, 0_u64..5000, any::<u32>().prop_map(u64::from)], 1..300),
        ) {
            let quota = quota(max, length);
            let (mut window, mut admitted) = (None::<Window>, 0);
            for time in times {
                let now = at(time);
                let opens = window.is_none_or(|w| w.ends_at <= now);
                let stepped = step(window, quota, now);
                let decision = Decision::of(stepped, quota, now);
                admitted = if opens { 0 } else { admitted } + u32::from(decision.allowed);
                prop_assert!(admitted <= max);
                prop_assert!(decision.remaining <= max);
                prop_assert_eq!(decision.remaining, max - admitted);
                prop_assert!(decision.reset_after > Duration::ZERO);
                prop_assert!(decision.reset_after <= quota.window());
                window = Some(stepped);
            }
        }
    }
}
