use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::SystemTime;

use http::HeaderValue;
use proactions_edge::Clock;
use serde_json::Value;

use crate::commit::Commit;
use crate::store::{SessionStore, StoreError, StoreErrorKind, StoreFuture, Stored};
use crate::verified::VerifiedCookies;
use crate::{Record, SessionId, SessionPolicy};

/// The session of one request, in the request's extensions.
///
/// A clone is the same session. Nothing is read from the store until somebody asks, and then once, however many
/// handles ask. Changes are kept until [`Session::commit`] is called, or until the answer's head is ready: then
/// [`SessionLayer`](crate::SessionLayer) writes them and adds the cookie. An answer with a status of 500 and above
/// discards what was not committed before, except that a destroyed session is destroyed.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Shared>);

impl Session {
    pub(crate) fn new(
        core: Arc<Core>,
        id: Option<SessionId>,
        presented: bool,
        sendable: bool,
    ) -> Self {
        Self(Arc::new(Shared {
            core,
            presented,
            sendable,
            state: Mutex::new(State {
                id,
                ..State::default()
            }),
        }))
    }

    /// Reads the record, unless this request has done so before.
    ///
    /// A cookie whose record is missing, broken or past its end is no session and no error; its id is never
    /// taken over.
    pub fn load(&self) -> Load {
        Load {
            session: self.clone(),
            step: LoadStep::Waiting,
        }
    }

    /// What the store holds, once [`Session::load`] or [`Session::commit`] is done. Changes that were not
    /// committed do not show.
    #[must_use]
    pub fn record(&self) -> Option<Arc<Record>> {
        let state = self.state();
        state.stored.as_ref().map(|stored| stored.record.clone())
    }

    /// The session's id, once it is known that the store holds it.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        let state = self.state();
        state.id.clone().filter(|_| state.stored.is_some())
    }

    /// When the session ends if it is not used again, once it is known.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        let state = self.state();
        state.stored.as_ref().map(|stored| stored.expires_at)
    }

    /// Reads a member, changes of this request included.
    ///
    /// # Errors
    /// [`StoreErrorKind::Outage`] when the store cannot be reached. Whatever the session decides must then be
    /// refused (503).
    pub async fn get(&self, key: &str) -> Result<Option<Value>, StoreError> {
        self.load().await?;
        let state = self.state();
        let changed = state.changes.iter().rev().find(|(name, _)| name == key);
        Ok(match changed {
            Some((_, value)) => value.clone(),
            None => state
                .stored
                .as_ref()
                .and_then(|stored| stored.record.get(key))
                .cloned(),
        })
    }

    /// Sets a member. A session that does not exist yet comes into being when this is committed.
    ///
    /// # Errors
    /// When `key` is one of [`Record::RESERVED`].
    pub fn insert(
        &self,
        key: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<(), ReservedKey> {
        self.change(key.into(), Some(value.into()))
    }

    /// Removes a member.
    ///
    /// # Errors
    /// When `key` is one of [`Record::RESERVED`].
    pub fn remove(&self, key: impl Into<String>) -> Result<(), ReservedKey> {
        self.change(key.into(), None)
    }

    /// Gives the session a new id and keeps its content: for every change of what the session may do.
    ///
    /// The record is stored under the new id before the old one is removed. What another request does to the old one
    /// between these two steps is lost, its end included, as if it came after them.
    pub fn rotate(&self) {
        self.state().rotate = true;
    }

    /// Ends the session that came with the request and begins an empty one: for a login.
    ///
    /// The new one is stored, under an id of its own, when something was inserted; then the old one is removed.
    pub fn regenerate(&self) {
        let mut state = self.state();
        state.leave();
        state.loaded = Loaded::Yes;
    }

    /// Ends the session, and has the browser forget its cookie once the store has.
    pub fn destroy(&self) {
        let mut state = self.state();
        state.leave();
        state.loaded = Loaded::Yes;
        state.cookie = CookieDue::Remove;
    }

    /// Ends the session that came with the request and goes on with `id`, which the caller remembers from an
    /// earlier request of the same user. Load it to see whether it still exists.
    ///
    /// Never pass an id that came from a client: that would be session fixation.
    pub fn adopt(&self, id: SessionId) {
        let mut state = self.state();
        if state.id.as_ref() != Some(&id) {
            state.leave();
        }
        state.id = Some(id);
        state.loaded = Loaded::No;
    }

    /// Sends the cookie with the answer, although it did not change.
    pub fn send_cookie(&self) {
        self.state().cookie = CookieDue::Set;
    }

    /// Whether a cookie would reach the client. A secure cookie does not when the request was not made over
    /// HTTPS; a session that nobody can come back to is not stored. The first time, a warning says so.
    #[must_use]
    pub fn can_be_sent(&self) -> bool {
        if !self.0.sendable && !self.0.core.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "No session is made: its cookie is secure, and the request was not judged HTTPS. \
                 Behind a proxy, that proxy must be trusted and set X-Forwarded-Proto"
            );
        }
        self.0.sendable
    }

    /// Writes the changes now, rather than when the answer's head is ready.
    ///
    /// Changes of parallel requests to other members are kept; of two that set the same member the later wins.
    pub fn commit(&self) -> Commit {
        Commit::new(self, Scope::All)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a commit has anything to do.
    pub(crate) fn is_due(&self, scope: Scope) -> bool {
        let mut state = self.state();
        if scope == Scope::Removals {
            state.changes.clear();
            state.rotate = false;
        }
        if !state.changes.is_empty() || !state.doomed.is_empty() || state.rotate {
            return true;
        }
        let core = &self.0.core;
        scope == Scope::All
            && state.stored.as_ref().is_some_and(|stored| {
                stored.record.created_at().is_none_or(|created| {
                    core.policy.has_idle_timeout()
                        && core
                            .policy
                            .touch_is_due(created, stored.expires_at, core.clock.now())
                })
            })
    }

    /// The `Set-Cookie` that the answer needs, if it needs one.
    pub(crate) fn take_cookie(&self) -> Option<HeaderValue> {
        let mut state = self.state();
        let due = std::mem::take(&mut state.cookie);
        if due == CookieDue::No || !self.0.sendable {
            return None;
        }
        let policy = &self.0.core.policy;
        match (due, &state.id, &state.stored) {
            (CookieDue::Set, Some(id), Some(stored)) => {
                let now = self.0.core.clock.now();
                let left = stored.expires_at.duration_since(now).ok()?;
                let lifetime = left.min(policy.cookie().max_age());
                policy.cookie().set(&policy.keys().sign(id), now, lifetime)
            }
            // While the store holds the session, nobody else can name it to have it ended.
            (CookieDue::Remove, _, None) if self.0.presented && state.doomed.is_empty() => {
                policy.cookie().remove()
            }
            _ => None,
        }
    }

    /// Takes in what the store answered, unless the session has moved on since it was asked.
    pub(crate) fn settle(&self, answer: Result<Option<Stored>, StoreError>, epoch: u32) {
        let mut state = self.state();
        if state.epoch != epoch {
            return;
        }
        state.loaded = Loaded::Yes;
        match answer {
            Ok(Some(stored)) => {
                let now = self.0.core.clock.now();
                let created = stored.record.created_at().unwrap_or(now);
                if self.0.core.policy.lifetime(created, now).is_zero() {
                    state.leave();
                    state.cookie = CookieDue::Remove;
                } else {
                    state.stored = Some(stored);
                }
            }
            Ok(None) => state.id = None,
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                tracing::warn!(
                    target: "security",
                    event = "session_record_corrupt",
                    session = ?state.id,
                    "A stored session cannot be read and does not count"
                );
                state.id = None;
            }
            Err(error) => state.loaded = Loaded::Failed(error),
        }
    }

    /// Lets the next one in that waits to read or write.
    pub(crate) fn release(&self) {
        let wakers = {
            let mut state = self.state();
            state.busy = false;
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    fn change(&self, key: String, value: Option<Value>) -> Result<(), ReservedKey> {
        if Record::RESERVED.contains(&key.as_str()) {
            return Err(ReservedKey);
        }
        self.state().changes.push((key, value));
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.state().id)
            .finish_non_exhaustive()
    }
}

/// Reading of a session's record, made by [`Session::load`].
#[must_use = "nothing is read until it is awaited"]
#[derive(Debug)]
pub struct Load {
    session: Session,
    step: LoadStep,
}

#[derive(Debug)]
enum LoadStep {
    Waiting,
    Asking {
        answer: StoreFuture<Option<Stored>>,
        epoch: u32,
    },
}

impl Future for Load {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &mut this.step {
                LoadStep::Waiting => {
                    let mut state = this.session.state();
                    match &state.loaded {
                        Loaded::Yes => return Poll::Ready(Ok(())),
                        Loaded::Failed(error) => return Poll::Ready(Err(error.clone())),
                        Loaded::No => {}
                    }
                    let Some(id) = state.id.clone() else {
                        state.loaded = Loaded::Yes;
                        return Poll::Ready(Ok(()));
                    };
                    ready!(state.poll_enter(cx));
                    let epoch = state.epoch;
                    drop(state);
                    this.step = LoadStep::Asking {
                        answer: this.session.0.core.store.load(&id),
                        epoch,
                    };
                }
                LoadStep::Asking { answer, epoch } => {
                    let answer = ready!(Pin::new(answer).poll(cx));
                    this.session.settle(answer, *epoch);
                    this.step = LoadStep::Waiting;
                    this.session.release();
                }
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if matches!(self.step, LoadStep::Asking { .. }) {
            self.session.release();
        }
    }
}

/// The member names `cookie` and `hub` belong to the record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReservedKey;

impl fmt::Display for ReservedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the members {:?} cannot be set", Record::RESERVED)
    }
}

impl std::error::Error for ReservedKey {}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) policy: SessionPolicy,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Of the policy's secrets; it must not outlive them.
    pub(crate) verified: VerifiedCookies,
    /// Whether the warning about unsendable cookies was given.
    pub(crate) told: AtomicBool,
}

pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    /// Whether the request had a cookie of the session's name, good or bad.
    presented: bool,
    pub(crate) sendable: bool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Somebody reads or writes; the others wait, so that a record is read once and writes do not overlap.
    busy: bool,
    wakers: Vec<Waker>,
    /// Counts how often the session became another one, so that a late answer is not taken for it.
    pub(crate) epoch: u32,
    pub(crate) loaded: Loaded,
    pub(crate) id: Option<SessionId>,
    pub(crate) stored: Option<Stored>,
    pub(crate) changes: Vec<Change>,
    pub(crate) rotate: bool,
    /// Sessions to remove, after the new one is stored.
    pub(crate) doomed: Vec<SessionId>,
    pub(crate) cookie: CookieDue,
}

/// A member's name and its new value; `None` removes it.
pub(crate) type Change = (String, Option<Value>);

impl State {
    /// Leaves the present session, which will be removed.
    pub(crate) fn leave(&mut self) {
        self.doomed.extend(self.id.take());
        self.stored = None;
        self.changes.clear();
        self.rotate = false;
        self.epoch = self.epoch.wrapping_add(1);
    }

    pub(crate) fn poll_enter(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.busy {
            if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                self.wakers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        self.busy = true;
        Poll::Ready(())
    }
}

#[derive(Default)]
pub(crate) enum Loaded {
    #[default]
    No,
    Yes,
    Failed(StoreError),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CookieDue {
    #[default]
    No,
    Set,
    Remove,
}

/// What a commit writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// After a failed request: what was asked to end ends, nothing else happens.
    Removals,
}
