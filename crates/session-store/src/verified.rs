use std::fmt;
use std::hash::Hasher as _;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashTable;

use crate::id::IdHasher;
use crate::{KeyRing, SessionId};

/// Cookie values whose signature was found good under one key ring, with the ids that they carry.
///
/// A browser sends the same bytes with every request, and checking them costs two SHA-256 blocks for each secret:
/// 9,700 instructions without SHA instructions, where a look-up costs 500. What holds:
///
/// - It knows good values only, by all of their bytes: a value that differs in one byte is checked anew.
/// - It belongs to one key ring. A new policy begins with an empty one, so a secret that was taken out of
///   the list takes its cookies along.
/// - It says that a signature is good, never that a session exists: the store says that.
/// - It is bounded. Whoever has one good cookie can spell it in many ways and push the others out; those are
///   checked again, as if it was not there.
/// - Values are looked up by their end and compared as a whole, in constant time. Only other spellings of one's own
///   cookie can be made to collide, whatever the hash, and no more than [`Self::GENERATION`] of them.
pub(crate) struct VerifiedCookies {
    shards: [Mutex<Generations>; Self::SHARDS],
}

impl VerifiedCookies {
    const SHARDS: usize = 16;
    /// How many values a generation of one shard holds: 16,384 in all.
    const GENERATION: usize = 512;
    /// Longer values are checked each time. An id of 43 characters and its signature take at most 131 bytes.
    const MAX_LEN: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// What [`KeyRing::verify`] says of this value. `keys` is the same ring at every call.
    pub(crate) fn verify(&self, keys: &KeyRing, value: &[u8]) -> Option<SessionId> {
        let end = value.last_chunk::<8>();
        let Some(end) = end.filter(|_| value.len() <= Self::MAX_LEN) else {
            return keys.verify(value);
        };
        // The end of a signature tells good values apart as well as all of it, at a quarter of the price.
        let mut hasher = IdHasher::default();
        hasher.write_u64(u64::from_ne_bytes(*end));
        let hash = hasher.finish();
        // The table inside uses the low and the top bits; the shard is picked by others.
        let index = usize::try_from(hash >> 32).unwrap_or_default() % Self::SHARDS;
        let shard = self.shards.get(index)?;
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = lock().find(hash, value) {
            return Some(id);
        }
        // Not under the lock: a flood of bad values must not hold up the good ones.
        let id = keys.verify(value)?;
        lock().add(Verified {
            hash,
            value: value.into(),
            id: id.clone(),
        });
        Some(id)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap());
        shards
            .map(|shard| shard.recent.len() + shard.older.len())
            .sum()
    }
}

impl fmt::Debug for VerifiedCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedCookies(..)")
    }
}

struct Verified {
    hash: u64,
    value: Box<[u8]>,
    id: SessionId,
}

/// Values that were seen lately, and those seen before them. When the younger generation is full, it becomes the
/// older one, and what nobody asked for since is forgotten.
#[derive(Default)]
struct Generations {
    recent: HashTable<Verified>,
    older: HashTable<Verified>,
}

impl Generations {
    fn find(&mut self, hash: u64, value: &[u8]) -> Option<SessionId> {
        let same = |known: &Verified| matches(&known.value, value);
        if let Some(known) = self.recent.find(hash, same) {
            return Some(known.id.clone());
        }
        let known = self.older.find_entry(hash, same).ok()?.remove().0;
        let id = known.id.clone();
        self.add(known);
        Some(id)
    }

    fn add(&mut self, verified: Verified) {
        let same = |known: &Verified| matches(&known.value, &verified.value);
        if self.recent.find(verified.hash, same).is_some() {
            // Another thread was faster.
            return;
        }
        if self.recent.len() >= VerifiedCookies::GENERATION {
            self.older = std::mem::take(&mut self.recent);
        }
        let hash = verified.hash;
        self.recent
            .insert_unique(hash, verified, |known| known.hash);
    }
}

/// Whether both are the same, in a time that does not depend on where they differ.
fn matches(known: &[u8], value: &[u8]) -> bool {
    let difference = known
        .iter()
        .zip(value)
        .fold(0, |seen, (a, b)| seen | (a ^ b));
    known.len() == value.len() && black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        SessionId::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_tampered_cookie_never_verifies_even_after_the_good_one() {
        let keys = KeyRing::unchecked(["keyboard cat"]);
        let good = keys.sign(&id("abcdefghijklmnopqrstuvwxyz012345"));
        let verified = VerifiedCookies::new();
        for _ in 0..2 {
            assert!(verified.verify(&keys, good.as_bytes()).is_some());
            for at in 0..good.len() {
                let mut bad = good.clone().into_bytes();
                bad[at] ^= 1;
                // Another spelling of the same text is no tampering.
                assert_eq!(verified.verify(&keys, &bad), keys.verify(&bad), "{at}");
                assert_ne!(keys.verify(&bad), verified.verify(&keys, good.as_bytes()));
            }
            for bad in [&good[..good.len() - 1], &format!("{good}="), &good[1..], ""] {
                assert_eq!(verified.verify(&keys, bad.as_bytes()), None, "{bad}");
            }
        }
    }

    #[test]
    fn only_good_values_are_kept() {
        let keys = KeyRing::unchecked(["keyboard cat"]);
        let others = KeyRing::unchecked(["another cat"]);
        let verified = VerifiedCookies::new();
        for n in 0..100 {
            let bad = others.sign(&id(&format!("id-{n}")));
            assert_eq!(verified.verify(&keys, bad.as_bytes()), None);
        }
        assert_eq!(verified.len(), 0);
        let good = keys.sign(&id("a"));
        for _ in 0..3 {
            assert_eq!(verified.verify(&keys, good.as_bytes()), Some(id("a")));
        }
        assert_eq!(verified.len(), 1);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        let keys = KeyRing::unchecked(["keyboard cat"]);
        let verified = VerifiedCookies::new();
        let most = 2 * VerifiedCookies::GENERATION * VerifiedCookies::SHARDS;
        let kept = keys.sign(&id("kept"));
        for n in 0..most + 2_000 {
            let value = keys.sign(&id(&n.to_string()));
            assert!(verified.verify(&keys, value.as_bytes()).is_some());
            assert!(verified.verify(&keys, kept.as_bytes()).is_some());
        }
        assert!(verified.len() <= most, "{}", verified.len());
        // A ring without secrets finds nothing good: the answer comes from memory.
        let nothing = KeyRing::unchecked([]);
        assert_eq!(verified.verify(&nothing, kept.as_bytes()), Some(id("kept")));
        let first = keys.sign(&id("0"));
        assert_eq!(verified.verify(&nothing, first.as_bytes()), None);
    }

    #[test]
    fn long_values_are_checked_and_not_kept() {
        let keys = KeyRing::unchecked(["keyboard cat"]);
        let verified = VerifiedCookies::new();
        let long = keys.sign(&id(&"?".repeat(128)));
        assert!(long.len() > VerifiedCookies::MAX_LEN);
        assert!(verified.verify(&keys, long.as_bytes()).is_some());
        assert_eq!(verified.len(), 0);
    }
}
