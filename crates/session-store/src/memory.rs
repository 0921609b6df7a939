use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use proactions_edge::{Clock, SystemClock, TtlMap};

use crate::id::IdHasher;
use crate::store::{SessionStore, StoreError, StoreErrorKind, StoreFuture, Stored};
use crate::{Record, SessionId};

/// Records in this process's memory: gone when it ends, unseen by other processes.
///
/// It is bounded. When it is full, ended sessions go first, then the oldest, so that new users can always
/// enter. Reading a record shares it; nothing is copied.
pub struct MemoryStore {
    records: TtlMap<SessionId, Arc<Record>, BuildHasherDefault<IdHasher>>,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// How many sessions are kept unless another number is chosen.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// A store of at most `capacity` sessions.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_clock(capacity, Arc::new(SystemClock::new()))
    }

    /// A store of at most `capacity` sessions that end by `clock`.
    #[must_use]
    pub fn with_clock(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            records: TtlMap::with_hasher(capacity, BuildHasherDefault::new()),
            clock,
        }
    }

    /// How many sessions there are, ended ones that were not dropped yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl SessionStore for MemoryStore {
    fn create(&self, id: &SessionId, record: Arc<Record>, ttl: Duration) -> StoreFuture<()> {
        let now = self.clock.now();
        let is_new = self.records.insert_new(id.clone(), record, now + ttl, now);
        StoreFuture::ready(if is_new { Ok(()) } else { Err(CONFLICT) })
    }

    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>> {
        let stored = self
            .records
            .update(id, self.clock.now(), |record, ends_at| {
                Stored::new(record.clone(), *ends_at)
            });
        StoreFuture::ready(Ok(stored))
    }

    fn save(
        &self,
        id: &SessionId,
        record: Arc<Record>,
        seen: Arc<Record>,
        ttl: Duration,
    ) -> StoreFuture<()> {
        let now = self.clock.now();
        let saved = self.records.update(id, now, |stored, ends_at| {
            // A record is replaced, never changed: the same allocation is the same content.
            let unchanged = Arc::ptr_eq(stored, &seen);
            if unchanged {
                *stored = record;
                *ends_at = now + ttl;
            }
            unchanged
        });
        StoreFuture::ready(if saved == Some(true) {
            Ok(())
        } else {
            Err(CONFLICT)
        })
    }

    fn touch(&self, id: &SessionId, ttl: Duration) -> StoreFuture<bool> {
        let now = self.clock.now();
        let touched = self
            .records
            .update(id, now, |_, ends_at| *ends_at = now + ttl);
        StoreFuture::ready(Ok(touched.is_some()))
    }

    fn destroy(&self, id: &SessionId) -> StoreFuture<()> {
        self.records.remove(id, self.clock.now());
        StoreFuture::ready(Ok(()))
    }
}

const CONFLICT: StoreError = StoreError::new(StoreErrorKind::Conflict);
