use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hashbrown::HashTable;

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
///
/// The default hasher is keyed, for keys that a peer chooses.
pub struct TtlMap<K, V, S = RandomState> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: S,
    shard_capacity: usize,
    keep: fn(&V) -> bool,
}

impl<K, V> TtlMap<K, V>
where
    K: Hash + Eq,
{
    /// A map of at most `capacity` entries (rounded up to a multiple of 16 above 256, at least 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_hasher(capacity, RandomState::new())
    }
}

impl<K, V, S> TtlMap<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    const SHARDS: usize = 16;
    /// How many kept entries are passed over before the oldest is dropped all the same.
    const MAX_PASSED_OVER: usize = 64;

    /// As [`TtlMap::new`], with another hasher. One without a key is for keys that no peer can choose.
    #[must_use]
    pub fn with_hasher(capacity: usize, hasher: S) -> Self {
        let capacity = capacity.max(1);
        // A small map is not worth sharding: a skewed hash would make its cap too small.
        let shards = if capacity <= 256 { 1 } else { Self::SHARDS };
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            hasher,
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
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let slot = shard.find(hash, key)?;
        (slot.ends_at > now).then(|| slot.value.clone())
    }

    /// Sets the value and its end, and returns the value that was there and had not ended.
    pub fn insert(&self, key: K, value: V, ends_at: SystemTime, now: SystemTime) -> Option<V> {
        let hash = self.hash(&key);
        let mut shard = self.shard(hash);
        let old = shard.remove(hash, &key).filter(|slot| slot.ends_at > now);
        self.add(&mut shard, hash, key, value, ends_at, now);
        old.map(|slot| slot.value)
    }

    /// Sets the value unless there is one that has not ended; says whether it did.
    pub fn insert_new(&self, key: K, value: V, ends_at: SystemTime, now: SystemTime) -> bool {
        let hash = self.hash(&key);
        let mut shard = self.shard(hash);
        if shard
            .find(hash, &key)
            .is_some_and(|slot| slot.ends_at > now)
        {
            return false;
        }
        shard.remove(hash, &key);
        self.add(&mut shard, hash, key, value, ends_at, now);
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
        let hash = self.hash(&key);
        let mut shard = self.shard(hash);
        if let Some(slot) = shard.find_mut(hash, &key).filter(|slot| slot.ends_at > now) {
            return work(&mut slot.value, &mut slot.ends_at);
        }
        shard.remove(hash, &key);
        let (mut value, mut ends_at) = make();
        let result = work(&mut value, &mut ends_at);
        self.add(&mut shard, hash, key, value, ends_at, now);
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
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = shard
            .find_mut(hash, key)
            .filter(|slot| slot.ends_at > now)?;
        Some(work(&mut slot.value, &mut slot.ends_at))
    }

    /// Removes an entry and returns its value unless it has ended.
    pub fn remove<Q>(&self, key: &Q, now: SystemTime) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let slot = self.shard(hash).remove(hash, key)?;
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

    /// A request's key is hashed once: the same bits pick the shard and the place in its table.
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, V>> {
        // The table inside uses the low and the top bits; the shard is picked by others.
        let index = usize::try_from(hash >> 32).unwrap_or_default() % self.shards.len();
        #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
        lock(&self.shards[index])
    }

    fn add(
        &self,
        shard: &mut Shard<K, V>,
        hash: u64,
        key: K,
        value: V,
        ends_at: SystemTime,
        now: SystemTime,
    ) {
        shard.drop_ended(now);
        while shard.slots.len() >= self.shard_capacity {
            shard.drop_oldest(now, Self::MAX_PASSED_OVER, self.keep);
        }
        shard.push(hash, key, value, ends_at);
    }
}

impl<K, V, S> fmt::Debug for TtlMap<K, V, S> {
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

struct Slot<K, V> {
    key: K,
    value: V,
    ends_at: SystemTime,
    hash: u64,
    turn: u64,
}

/// `order` holds the hash and the turn of every slot, oldest first; a pair that no slot has is stale. No two
/// slots have the same turn.
struct Shard<K, V> {
    slots: HashTable<Slot<K, V>>,
    order: VecDeque<(u64, u64)>,
    next_turn: u64,
}

impl<K: Hash + Eq, V> Shard<K, V> {
    const fn new() -> Self {
        Self {
            slots: HashTable::new(),
            order: VecDeque::new(),
            next_turn: 0,
        }
    }

    fn find<Q>(&self, hash: u64, key: &Q) -> Option<&Slot<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.slots.find(hash, |slot| slot.key.borrow() == key)
    }

    fn find_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut Slot<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.slots.find_mut(hash, |slot| slot.key.borrow() == key)
    }

    fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<Slot<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let slot = self
            .slots
            .find_entry(hash, |slot| slot.key.borrow() == key)
            .map(|entry| entry.remove().0)
            .ok();
        if self.order.len() > 2 * self.slots.len() + 32 {
            let slots = &self.slots;
            self.order
                .retain(|(hash, turn)| slots.find(*hash, |slot| slot.turn == *turn).is_some());
        }
        slot
    }

    fn push(&mut self, hash: u64, key: K, value: V, ends_at: SystemTime) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.order.push_back((hash, turn));
        let slot = Slot {
            key,
            value,
            ends_at,
            hash,
            turn,
        };
        self.slots.insert_unique(hash, slot, |slot| slot.hash);
    }

    /// Drops up to two ended entries, so that the map empties as fast as it fills.
    fn drop_ended(&mut self, now: SystemTime) {
        for _ in 0..2 {
            let Some(&(hash, turn)) = self.order.front() else {
                return;
            };
            if let Ok(entry) = self.slots.find_entry(hash, |slot| slot.turn == turn) {
                if entry.get().ends_at > now {
                    return;
                }
                entry.remove();
            }
            self.order.pop_front();
        }
    }

    /// Drops the oldest entry; up to `most` that are to be kept are passed over.
    fn drop_oldest(&mut self, now: SystemTime, most: usize, keep: fn(&V) -> bool) {
        let mut passed_over = 0;
        while let Some((hash, turn)) = self.order.pop_front() {
            let Ok(entry) = self.slots.find_entry(hash, |slot| slot.turn == turn) else {
                continue;
            };
            let slot = entry.get();
            if slot.ends_at > now && keep(&slot.value) && passed_over < most {
                passed_over += 1;
                self.order.push_back((hash, turn));
                continue;
            }
            entry.remove();
            return;
        }
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
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
