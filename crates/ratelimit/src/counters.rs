use std::fmt;
use std::pin::Pin;
use std::time::SystemTime;

use proactions_edge::TtlMap;

use crate::fixed_window::{self, Quota, Window};
use crate::key::CounterKey;

/// Where requests are counted.
///
/// [`MemoryCounters`] counts within one process. A store that several processes share answers with
/// [`Counting::Pending`], sets its own deadline and reports its own faults; what a request then gets is
/// the policy's `onStoreError`.
pub trait CounterStore: fmt::Debug + Send + Sync + 'static {
    /// Counts one request in one atomic step, and gives the window that it was counted in, as
    /// [`fixed_window::step`] does.
    fn hit(&self, key: &CounterKey, quota: Quota, now: SystemTime) -> Counting;

    /// Takes one request out of the window that ends at `ends_at`, unless that window is over. It must not
    /// block: a remote store does it in the background.
    fn refund(&self, key: &CounterKey, ends_at: SystemTime, now: SystemTime);
}

/// An answer of a [`CounterStore`], at hand or on its way.
#[non_exhaustive]
pub enum Counting {
    /// The answer.
    Ready(Result<Window, CounterOutage>),
    /// The answer will come.
    Pending(Pin<Box<dyn Future<Output = Result<Window, CounterOutage>> + Send>>),
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending(..)"),
        }
    }
}

/// The store could not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterOutage;

impl CounterOutage {
    /// An outage.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl fmt::Display for CounterOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the counter store is out of reach")
    }
}

impl std::error::Error for CounterOutage {}

/// Counters in the memory of this process.
///
/// There is a hard cap on their number. When it is reached, counters whose window is over go first, then the
/// oldest; clients that have used up their quota are dropped last, so that a flood of other addresses does
/// not set them free.
#[derive(Debug)]
pub struct MemoryCounters(TtlMap<CounterKey, Counter>);

#[derive(Debug)]
struct Counter {
    hits: u64,
    max: u32,
}

impl MemoryCounters {
    /// How many counters [`Self::new`] keeps at most.
    pub const CAPACITY: usize = 100_000;

    /// Counters for at most [`Self::CAPACITY`] clients and rules. Full, they take about 25 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// Counters for at most `capacity` clients and rules, at least 1.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let used_up = |counter: &Counter| counter.hits >= u64::from(counter.max);
        Self(TtlMap::new(capacity).keeping(used_up))
    }

    /// Counts one request.
    #[must_use]
    pub fn count(&self, key: &CounterKey, quota: Quota, now: SystemTime) -> Window {
        let unused = || {
            let ends_at = fixed_window::step(None, quota, now).ends_at;
            let max = quota.max();
            (Counter { hits: 0, max }, ends_at)
        };
        self.0.upsert(*key, now, unused, |counter, ends_at| {
            let counted = Window::new(counter.hits, *ends_at);
            let window = fixed_window::step(Some(counted), quota, now);
            counter.hits = window.hits;
            counter.max = quota.max();
            *ends_at = window.ends_at;
            window
        })
    }

    /// How many counters there are, those included whose window is over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no counter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for MemoryCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl CounterStore for MemoryCounters {
    fn hit(&self, key: &CounterKey, quota: Quota, now: SystemTime) -> Counting {
        Counting::Ready(Ok(self.count(key, quota, now)))
    }

    fn refund(&self, key: &CounterKey, ends_at: SystemTime, now: SystemTime) {
        self.0.update(key, now, |counter, counted_until| {
            // A later window ends later; one that a clock set back has shortened ends earlier.
            if *counted_until <= ends_at {
                counter.hits = counter.hits.saturating_sub(1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::key::{AddressKey, Subject};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn quota(max: u32) -> Quota {
        Quota::new(max, Duration::from_secs(10)).unwrap()
    }

    fn key(host: u128) -> CounterKey {
        let ip = IpAddr::from(Ipv6Addr::from(host << 72));
        CounterKey::new(0, Subject::Address(AddressKey::new(ip, Some(56))))
    }

    #[test]
    fn a_refund_belongs_to_its_window() {
        let counters = MemoryCounters::new();
        let hit = |now| counters.count(&key(1), quota(9), at(now));
        let first = hit(0);
        hit(1);
        counters.refund(&key(1), first.ends_at, at(2));
        assert_eq!(hit(3).hits, 2);
        // The window is over, and the next one has begun.
        assert_eq!(hit(10).hits, 1);
        counters.refund(&key(1), first.ends_at, at(11));
        assert_eq!(hit(12).hits, 2);
    }

    #[test]
    fn refunds_do_not_go_below_zero() {
        let counters = MemoryCounters::new();
        let window = counters.count(&key(1), quota(9), at(0));
        for _ in 0..5 {
            counters.refund(&key(1), window.ends_at, at(1));
        }
        counters.refund(&key(2), window.ends_at, at(1));
        assert_eq!(counters.count(&key(1), quota(9), at(2)).hits, 1);
        assert_eq!(counters.len(), 1);
    }

    #[test]
    fn a_flood_of_addresses_neither_fills_the_memory_nor_frees_who_is_limited() {
        let counters = MemoryCounters::with_capacity(1000);
        for _ in 0..3 {
            let _ = counters.count(&key(0), quota(3), at(0));
        }
        for host in 1..200_000 {
            let _ = counters.count(&key(host), quota(3), at(1));
        }
        assert!(counters.len() <= 1008, "{}", counters.len());
        assert_eq!(counters.count(&key(0), quota(3), at(2)).hits, 4);
    }

    #[test]
    fn a_quota_that_was_lowered_holds_for_windows_under_way() {
        let counters = MemoryCounters::new();
        for _ in 0..5 {
            let _ = counters.count(&key(0), quota(9), at(0));
        }
        let shorter = Quota::new(2, Duration::from_secs(1)).unwrap();
        let window = counters.count(&key(0), shorter, at(0));
        assert_eq!(window, Window::new(6, at(1)));
    }

    proptest! {
        #[test]
        fn it_counts_as_the_pure_function_does_whatever_the_clock_does(
            times in prop::collection::vec(0_u64..60, 1..200)
        ) {
            let counters = MemoryCounters::new();
            let mut model = None;
            for now in times {
                let window = counters.count(&key(0), quota(3), at(now));
                model = Some(fixed_window::step(model, quota(3), at(now)));
                prop_assert_eq!(Some(window), model);
            }
        }

        #[test]
        fn refunds_never_make_room_for_more_than_max_that_stay(
            max in 1_u32..4,
            steps in prop::collection::vec((any::<bool>(), 0_u64..12, any::<prop::sample::Index>()), 1..200),
        ) {
            let counters = MemoryCounters::new();
            let mut now = 0;
            // Those that passed and were not taken back, by the end of their window.
            let mut staying: Vec<SystemTime> = Vec::new();
            for (hit, pass, pick) in steps {
                if hit {
                    let window = counters.count(&key(0), quota(max), at(now));
                    if window.hits <= u64::from(max) {
                        staying.push(window.ends_at);
                    }
                    let in_window = staying.iter().filter(|ends_at| **ends_at == window.ends_at);
                    prop_assert!(in_window.count() <= max as usize);
                } else if !staying.is_empty() {
                    now += pass / 4;
                    let ends_at = staying.swap_remove(pick.index(staying.len()));
                    counters.refund(&key(0), ends_at, at(now));
                }
            }
        }
    }
}
