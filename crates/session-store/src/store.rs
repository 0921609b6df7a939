use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use crate::{Record, SessionId};

/// Where records live. Every method is one atomic step.
///
/// A store answers each call within a deadline of its own: an unreachable server is
/// [`StoreErrorKind::Outage`], not a call that hangs.
///
/// The feature `test-util` holds a suite, `conformance`, that shows whether a store behaves as written here.
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Adds a record that ends after `ttl`.
    ///
    /// An id that is in use is [`StoreErrorKind::Conflict`], and what is stored there stays.
    fn create(&self, id: &SessionId, record: Arc<Record>, ttl: Duration) -> StoreFuture<()>;

    /// The record, or `None` when there is none or it has ended.
    ///
    /// Stored bytes that are no record are [`StoreErrorKind::Corrupt`].
    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>>;

    /// Replaces a record and its end, if the store still holds what `seen` shows.
    ///
    /// A record that was changed or removed in between is [`StoreErrorKind::Conflict`], and nothing is
    /// written: neither is another request's change lost, nor does a session come back that was ended.
    ///
    /// A store of bytes compares them: what it holds is [`Record::source`] of `seen` if it was read, else
    /// [`Record::to_json`] if it was written by this process.
    fn save(
        &self,
        id: &SessionId,
        record: Arc<Record>,
        seen: Arc<Record>,
        ttl: Duration,
    ) -> StoreFuture<()>;

    /// Lets a record end after `ttl` from now, and says whether it was there.
    fn touch(&self, id: &SessionId, ttl: Duration) -> StoreFuture<bool>;

    /// Removes a record. A record that is not there is no error.
    fn destroy(&self, id: &SessionId) -> StoreFuture<()>;
}

/// A record as a store holds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// What is stored, shared with everybody who reads it.
    pub record: Arc<Record>,
    /// When the store will drop it.
    pub expires_at: SystemTime,
}

impl Stored {
    /// A record and its end.
    #[must_use]
    pub const fn new(record: Arc<Record>, expires_at: SystemTime) -> Self {
        Self { record, expires_at }
    }
}

/// The answer of a store: there already, or on its way.
///
/// It keeps [`SessionStore`] usable as `dyn` without a box for stores that answer at once.
#[must_use = "nothing happens until it is awaited"]
pub struct StoreFuture<T>(Answer<T>);

enum Answer<T> {
    Ready(Option<Result<T, StoreError>>),
    Boxed(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
}

impl<T> StoreFuture<T> {
    /// An answer that is there.
    pub const fn ready(answer: Result<T, StoreError>) -> Self {
        Self(Answer::Ready(Some(answer)))
    }

    /// An answer that needs I/O.
    pub fn boxed(answer: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self(Answer::Boxed(Box::pin(answer)))
    }
}

// Nothing in it is pinned in place: the boxed future is pinned on the heap.
impl<T> Unpin for StoreFuture<T> {}

impl<T> Future for StoreFuture<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answer::Ready(answer) => match answer.take() {
                Some(answer) => Poll::Ready(answer),
                // Polled again after its end: there is nothing left to give.
                None => Poll::Pending,
            },
            Answer::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFuture(..)")
    }
}

/// A store's failure.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or not in time.
    Outage,
    /// What is stored is no record.
    Corrupt,
    /// The id is taken, or the record is no longer the one that was read.
    Conflict,
}

impl StoreError {
    /// A failure of this kind.
    #[must_use]
    pub const fn new(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Adds the cause. It is logged, so it must show no record and no id.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Outage => "the session store cannot be reached",
            StoreErrorKind::Corrupt => "the session store holds a broken record",
            StoreErrorKind::Conflict => "the session was changed by somebody else",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
