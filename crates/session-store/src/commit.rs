use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use crate::session::{Change, CookieDue, Core, Loaded, Scope, Session};
use crate::store::{StoreError, StoreErrorKind, Stored};
use crate::{Record, SessionId};

/// Writing of a session's changes, made by [`Session::commit`].
///
/// There is a box only if something has to be written: a request that only reads its session pays nothing.
#[must_use = "nothing is written until it is awaited"]
pub struct Commit(Option<Work>);

type Work = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

impl Commit {
    pub(crate) fn new(session: &Session, scope: Scope) -> Self {
        Self(
            session
                .is_due(scope)
                .then(|| Box::pin(write(session.clone(), scope)) as Work),
        )
    }

    pub(crate) const fn is_due(&self) -> bool {
        self.0.is_some()
    }
}

impl Future for Commit {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(work) => work.as_mut().poll(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("due", &self.is_due())
            .finish_non_exhaustive()
    }
}

/// How often a record that others keep changing is merged again. Each time somebody has got through.
const MAX_MERGES: usize = 256;
/// How often another id is drawn. One is enough unless the random source is broken.
const MAX_IDS: usize = 3;

/// Keeps others out while it lives.
struct Gate(Session);

impl Gate {
    async fn enter(session: &Session) -> Self {
        poll_fn(|cx| session.state().poll_enter(cx)).await;
        Self(session.clone())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.release();
    }
}

async fn write(session: Session, scope: Scope) -> Result<(), StoreError> {
    let _gate = Gate::enter(&session).await;
    let core = &*session.0.core;

    let unread = {
        let state = session.state();
        let wanted = state.rotate || !state.changes.is_empty();
        match (&state.loaded, &state.id) {
            (Loaded::Failed(error), _) if wanted => return Err(error.clone()),
            (Loaded::No, Some(id)) if wanted => Some((id.clone(), state.epoch)),
            _ => None,
        }
    };
    let just_read = unread.is_some();
    if let Some((id, epoch)) = unread {
        let answer = core.store.load(&id).await;
        if let Err(error) = &answer
            && error.kind() != StoreErrorKind::Corrupt
        {
            let error = error.clone();
            session.settle(answer, epoch);
            return Err(error);
        }
        session.settle(answer, epoch);
    }

    let (id, stored, changes, rotate, epoch) = {
        let mut state = session.state();
        (
            state.id.clone(),
            state.stored.clone(),
            std::mem::take(&mut state.changes),
            std::mem::take(&mut state.rotate),
            state.epoch,
        )
    };
    let now = core.clock.now();
    let outcome = match (id, stored) {
        _ if scope == Scope::Removals => Outcome::Same,
        (Some(_), Some(_)) if rotate && !session.can_be_sent() => Outcome::Gone,
        (Some(id), Some(stored)) if rotate => {
            // What this request read earlier may have been changed since, or ended, and must not come back.
            let newest = if just_read {
                Some(stored)
            } else {
                core.store.load(&id).await?
            };
            match newest {
                Some(newest) => {
                    let mut record = (*newest.record).clone();
                    apply(&mut record, &changes, now);
                    Outcome::Moved(Box::new(core.create(record, now).await?), Some(id))
                }
                None => Outcome::Gone,
            }
        }
        (Some(id), Some(stored)) => core.update(id, stored, &changes, now).await?,
        _ if changes.iter().any(|(_, value)| value.is_some()) && session.can_be_sent() => {
            let lifetime = core.policy.lifetime(now, now);
            let mut record = Record::new(core.policy.cookie(), now, lifetime);
            apply(&mut record, &changes, now);
            Outcome::Moved(Box::new(core.create(record, now).await?), None)
        }
        _ => Outcome::Same,
    };

    let doomed = {
        let mut state = session.state();
        // A handle may have left the session meanwhile; what it wants now counts.
        let same = state.epoch == epoch;
        match outcome {
            Outcome::Updated(stored) if same => {
                state.stored = Some(stored);
                state.cookie = CookieDue::Set;
            }
            Outcome::Moved(new, old) if same => {
                let (id, stored) = *new;
                state.doomed.extend(old);
                state.id = Some(id);
                state.stored = Some(stored);
                state.loaded = Loaded::Yes;
                state.cookie = CookieDue::Set;
            }
            Outcome::Moved(new, old) => {
                state.doomed.push(new.0);
                state.doomed.extend(old);
            }
            Outcome::Gone if same => {
                state.leave();
                state.cookie = CookieDue::Remove;
            }
            Outcome::Same | Outcome::Updated(_) | Outcome::Gone => {}
        }
        state.doomed.clone()
    };
    let mut removed = Ok(());
    for id in doomed {
        match core.store.destroy(&id).await {
            Ok(()) => session.state().doomed.retain(|doomed| *doomed != id),
            // It stays doomed, for another commit, and does not keep the others.
            Err(error) => removed = removed.and(Err(error)),
        }
    }
    removed
}

enum Outcome {
    /// Nothing was written.
    Same,
    /// The record was written or touched.
    Updated(Stored),
    /// There is a record under a new id; the old one has to go.
    Moved(Box<(SessionId, Stored)>, Option<SessionId>),
    /// Somebody else ended the session.
    Gone,
}

impl Core {
    /// Stores a record under an id of its own.
    async fn create(
        &self,
        mut record: Record,
        now: SystemTime,
    ) -> Result<(SessionId, Stored), StoreError> {
        let ttl = self
            .policy
            .lifetime(record.created_at().unwrap_or(now), now);
        record.set_expires(now + ttl.min(self.policy.cookie().max_age()));
        let record = Arc::new(record);
        for _ in 0..MAX_IDS {
            let id = SessionId::random()
                .map_err(|error| StoreError::new(StoreErrorKind::Outage).with_source(error))?;
            match self.store.create(&id, record.clone(), ttl).await {
                Ok(()) => return Ok((id, Stored::new(record, now + ttl))),
                Err(error) if error.kind() == StoreErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::new(StoreErrorKind::Conflict))
    }

    /// Writes the changes over the newest record, or touches it when there are none.
    async fn update(
        &self,
        id: SessionId,
        mut seen: Stored,
        changes: &[Change],
        now: SystemTime,
    ) -> Result<Outcome, StoreError> {
        for _ in 0..MAX_MERGES {
            let mut record = (*seen.record).clone();
            let changed = apply(&mut record, changes, now);
            let created = record.created_at().unwrap_or(now);
            let ttl = self.policy.lifetime(created, now);
            if ttl.is_zero() {
                return Ok(Outcome::Gone);
            }
            if !changed {
                if !self.policy.touch_is_due(created, seen.expires_at, now) {
                    return Ok(Outcome::Same);
                }
                return Ok(if self.store.touch(&id, ttl).await? {
                    Outcome::Updated(Stored::new(seen.record, now + ttl))
                } else {
                    Outcome::Gone
                });
            }
            record.set_expires(now + ttl.min(self.policy.cookie().max_age()));
            let record = Arc::new(record);
            match self.store.save(&id, record.clone(), seen.record, ttl).await {
                Ok(()) => return Ok(Outcome::Updated(Stored::new(record, now + ttl))),
                Err(error) if error.kind() == StoreErrorKind::Conflict => {
                    match self.store.load(&id).await? {
                        Some(newer) => seen = newer,
                        None => return Ok(Outcome::Gone),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::new(StoreErrorKind::Conflict))
    }
}

/// Makes the changes and says whether there were any.
fn apply(record: &mut Record, changes: &[Change], now: SystemTime) -> bool {
    let mut changed = false;
    for (key, value) in changes {
        if record.get(key) != value.as_ref() {
            record.set(key, value.clone());
            changed = true;
        }
    }
    if record.created_at().is_none() {
        record.set_created_at(now);
        changed = true;
    }
    changed
}
