use std::borrow::Borrow;
use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A concurrent map that forgets: every entry has a time at which it ends, and there is a hard cap.
///
/// When it is full it drops what has ended, then the oldest, so that a flood of new keys can neither fill the
/// memory nor lock new keys out. With [`TtlMap::keeping`], entries that a caller must not be able to push
/// out by inventing others (a client over its limit) are dropped last.
///
/// The caller passes the time in, so one reading of the clock serves a whole request.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use proactions_edge::TtlMap;
///
/// let map = TtlMap::new(1000);
/// let now = SystemTime::UNIX_EPOCH;
/// map.insert("key", 7, now + Duration::from_secs(60), now);
/// assert_eq!(map.get("key", now), Some(7));
/// assert_eq!(map.get("key", now + Duration::from_secs(60)), None);
/// ```
pub struct TtlMap<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    shard_capacity: usize,
    keep: fn(&V) -> bool,
}

impl<K, V> TtlMap<K, V>
where
    K: Hash + Eq + Clone,
{
    const SHARDS: usize = 16;
    /// How many kept entries are passed over before the oldest is dropped all the same.
    const MAX_PASSED_OVER: usize = 64;

    /// A map of at most `capacity` entries (rounded up to a multiple of 16 above 256, at least 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        // A small map is not worth sharding: a skewed hash would make its cap too small.
        let shards = if capacity <= 256 { 1 } else { Self::SHARDS };
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: RandomState::new(),
            shard_capacity: capacity.div_ceil(shards),
            keep: |_| false,
        }
    }

    /// Entries for which `keep` holds are dropped only when there is hardly anything else to drop.
    #[must_use]
    pub fn keeping(mut self, keep: fn(&V) -> bool) -> Self {
        self.keep = keep;
        self
    }

    /// A copy of the value, unless it has ended.
    pub fn get<Q>(&self, key: &Q, now: SystemTime) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let shard = self.shard(key);
        let slot = shard.slots.get(key)?;
        (slot.ends_at > now).then(|| slot.value.clone())
    }

    /// Sets the value and its end, and returns the value that was there and had not ended.
    pub fn insert(&self, key: K, value: V, ends_at: SystemTime, now: SystemTime) -> Option<V> {
        let mut shard = self.shard(&key);
        let old = shard.remove(&key).filter(|slot| slot.ends_at > now);
        shard.add(key, value, ends_at, now, self.shard_capacity, self.keep);
        old.map(|slot| slot.value)
    }

    /// Sets the value unless there is one that has not ended; says whether it did.
    pub fn insert_new(&self, key: K, value: V, ends_at: SystemTime, now: SystemTime) -> bool {
        let mut shard = self.shard(&key);
        if shard.slots.get(&key).is_some_and(|slot| slot.ends_at > now) {
            return false;
        }
        shard.remove(&key);
        shard.add(key, value, ends_at, now, self.shard_capacity, self.keep);
        true
    }

    /// Works on the value and its end in place, under the lock. A missing or ended entry is first made with
    /// `make`, which gives the value and its end.
    pub fn upsert<R>(
        &self,
        key: K,
        now: SystemTime,
        make: impl FnOnce() -> (V, SystemTime),
        work: impl FnOnce(&mut V, &mut SystemTime) -> R,
    ) -> R {
        let mut shard = self.shard(&key);
        if let Some(slot) = shard.slots.get_mut(&key).filter(|slot| slot.ends_at > now) {
            return work(&mut slot.value, &mut slot.ends_at);
        }
        shard.remove(&key);
        let (mut value, mut ends_at) = make();
        let result = work(&mut value, &mut ends_at);
        shard.add(key, value, ends_at, now, self.shard_capacity, self.keep);
        result
    }

    /// Works on an entry that is there and has not ended.
    pub fn update<Q, R>(
        &self,
        key: &Q,
        now: SystemTime,
        work: impl FnOnce(&mut V, &mut SystemTime) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut shard = self.shard(key);
        let slot = shard.slots.get_mut(key).filter(|slot| slot.ends_at > now)?;
        Some(work(&mut slot.value, &mut slot.ends_at))
    }

    /// Removes an entry and returns its value unless it has ended.
    pub fn remove<Q>(&self, key: &Q, now: SystemTime) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let slot = self.shard(key).remove(key)?;
        (slot.ends_at > now).then_some(slot.value)
    }

    /// How many entries there are, ended ones that were not dropped yet included.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).slots.len())
            .sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, Shard<K, V>> {
        let hash = self.hasher.hash_one(key);
        // The map inside uses the low and the top bits; the shard is picked by others.
        let index = usize::try_from(hash >> 32).unwrap_or_default() % self.shards.len();
        #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
        lock(&self.shards[index])
    }
}

impl<K, V> fmt::Debug for TtlMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TtlMap")
            .field("capacity", &(self.shard_capacity * self.shards.len()))
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another thread cannot leave a shard half changed in a way that matters here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Slot<V> {
    value: V,
    ends_at: SystemTime,
    turn: u64,
}

/// `order` holds every slot's key with its turn, oldest first; a pair whose turn is not the slot's is stale.
struct Shard<K, V> {
    slots: HashMap<K, Slot<V>>,
    order: VecDeque<(K, u64)>,
    next_turn: u64,
}

impl<K: Hash + Eq + Clone, V> Shard<K, V> {
    fn new() -> Self {
        Self {
            slots: HashMap::new(),
            order: VecDeque::new(),
            next_turn: 0,
        }
    }

    fn remove<Q>(&mut self, key: &Q) -> Option<Slot<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let slot = self.slots.remove(key);
        if self.order.len() > 2 * self.slots.len() + 32 {
            let slots = &self.slots;
            self.order.retain(|(key, turn)| {
                slots
                    .get(key.borrow())
                    .is_some_and(|slot| slot.turn == *turn)
            });
        }
        slot
    }

    fn add(
        &mut self,
        key: K,
        value: V,
        ends_at: SystemTime,
        now: SystemTime,
        capacity: usize,
        keep: fn(&V) -> bool,
    ) {
        self.drop_ended(now);
        while self.slots.len() >= capacity {
            self.drop_oldest(now, keep);
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.order.push_back((key.clone(), turn));
        let slot = Slot {
            value,
            ends_at,
            turn,
        };
        self.slots.insert(key, slot);
    }

    /// Drops up to two ended entries, so that the map empties as fast as it fills.
    fn drop_ended(&mut self, now: SystemTime) {
        for _ in 0..2 {
            let Some((key, turn)) = self.order.front() else {
                return;
            };
            match self.slots.get(key) {
                Some(slot) if slot.turn == *turn && slot.ends_at > now => return,
                Some(slot) if slot.turn == *turn => {
                    self.slots.remove(key);
                }
                _ => {}
            }
            self.order.pop_front();
        }
    }

    fn drop_oldest(&mut self, now: SystemTime, keep: fn(&V) -> bool) {
        let mut passed_over = 0;
        while let Some((key, turn)) = self.order.pop_front() {
            let Some(slot) = self.slots.get(&key).filter(|slot| slot.turn == turn) else {
                continue;
            };
            if slot.ends_at > now
                && keep(&slot.value)
                && passed_over < TtlMap::<K, V>::MAX_PASSED_OVER
            {
                passed_over += 1;
                self.order.push_back((key, turn));
                continue;
            }
            self.slots.remove(&key);
            return;
        }
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_entry_ends_at_its_time() {
        let map = TtlMap::new(10);
        map.insert("a", 1, at(10), at(0));
        assert_eq!(map.get("a", at(9)), Some(1));
        assert_eq!(map.get("a", at(10)), None);
        assert!(map.insert_new("a", 2, at(20), at(10)));
        assert!(!map.insert_new("a", 3, at(30), at(11)));
        assert_eq!(map.remove("a", at(12)), Some(2));
        assert_eq!(map.remove("a", at(12)), None);
    }

    #[test]
    fn upsert_restarts_an_ended_entry() {
        let map = TtlMap::new(10);
        let count = |now| {
            map.upsert(
                "k",
                at(now),
                || (0, at(now + 5)),
                |n, _| {
                    *n += 1;
                    *n
                },
            )
        };
        assert_eq!((count(0), count(4), count(5), count(6)), (1, 2, 1, 2));
        assert_eq!(
            map.update("k", at(9), |n, ends| (*n, *ends)),
            Some((2, at(10)))
        );
        assert_eq!(map.update("k", at(10), |n, _| *n), None);
    }

    #[test]
    fn the_oldest_goes_first_when_full() {
        let map = TtlMap::new(3);
        for key in 0..5 {
            map.insert(key, key, at(100), at(0));
        }
        assert_eq!(map.len(), 3);
        assert_eq!((map.get(&1, at(0)), map.get(&2, at(0))), (None, Some(2)));
    }

    #[test]
    fn kept_entries_outlive_a_flood() {
        let map = TtlMap::new(100).keeping(|over_limit: &bool| *over_limit);
        map.insert(0, true, at(100), at(0));
        for key in 1..100_000 {
            map.insert(key, false, at(100), at(0));
        }
        assert_eq!(map.get(&0, at(1)), Some(true));
        assert!(map.len() <= 100);
    }

    #[test]
    fn a_map_of_nothing_but_kept_entries_still_takes_new_ones() {
        let map = TtlMap::new(10).keeping(|_: &()| true);
        for key in 0..1000 {
            map.insert(key, (), at(100), at(0));
        }
        assert_eq!(map.len(), 10);
        assert!(map.get(&999, at(0)).is_some());
    }

    #[test]
    fn removing_and_adding_for_ever_does_not_grow() {
        let map = TtlMap::new(1000);
        for round in 0..100_000_u64 {
            map.insert(round % 7, round, at(1_000_000), at(0));
            map.remove(&(round % 7), at(0));
        }
        let order: usize = map.shards.iter().map(|shard| lock(shard).order.len()).sum();
        assert!(order < 1000, "{order}");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_map_below_the_cap(
            steps in prop::collection::vec((0_u8..8, 0_u8..4, 0_u64..20, 0_u64..3), 1..200)
        ) {
            let map = TtlMap::new(64);
            let mut model: HashMap<u8, (u64, u64)> = HashMap::new();
            let mut now = 0;
            for (key, action, ttl, pass) in steps {
                now += pass;
                let live = model.get(&key).filter(|(_, ends)| *ends > now).copied();
                match action {
                    0 => {
                        prop_assert_eq!(map.insert(key, ttl, at(now + ttl), at(now)), live.map(|l| l.0));
                        model.insert(key, (ttl, now + ttl));
                    }
                    1 => {
                        prop_assert_eq!(map.insert_new(key, ttl, at(now + ttl), at(now)), live.is_none());
                        if live.is_none() {
                            model.insert(key, (ttl, now + ttl));
                        }
                    }
                    2 => {
                        prop_assert_eq!(map.remove(&key, at(now)), live.map(|l| l.0));
                        model.remove(&key);
                    }
                    _ => prop_assert_eq!(map.get(&key, at(now)), live.map(|l| l.0)),
                }
            }
        }
    }
}
