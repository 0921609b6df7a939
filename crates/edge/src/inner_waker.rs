use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

/// The waker of a part of a task that may wake itself while it is polled.
///
/// A scheduler takes a task that is woken while it runs for one that gives way: it comes after all others, and another
/// thread is woken to help with the queue, which costs two calls of the system and finds nothing to do. Two parts of
/// one task that speak to each other, as a connection and what answers on it do, wake it so with every message. A part
/// that is polled through this is polled again at once instead.
///
/// ```
/// use std::task::{Context, Poll, Waker};
/// use proactions_edge::InnerWaker;
///
/// let inner = InnerWaker::new();
/// let mut polls = 0;
/// let result = inner.poll(&Context::from_waker(Waker::noop()), 3, |cx| {
///     polls += 1;
///     if polls == 2 {
///         return Poll::Ready("done");
///     }
///     cx.waker().wake_by_ref();
///     Poll::Pending
/// });
/// assert_eq!(result, Poll::Ready("done"));
/// ```
pub struct InnerWaker {
    gate: Arc<Gate>,
    waker: Waker,
}

/// Wake-ups while the part is being polled are noted, as whoever polls looks for itself; others go to the task that
/// polled last.
#[derive(Default)]
struct Gate {
    task: AtomicWaker,
    polling: AtomicBool,
    woken: AtomicBool,
}

impl InnerWaker {
    /// A waker for one part of one task at a time.
    #[must_use]
    pub fn new() -> Self {
        let gate = Arc::new(Gate::default());
        Self {
            waker: Waker::from(Arc::clone(&gate)),
            gate,
        }
    }

    /// Polls `work` until it is done or has not woken itself, but at most so many times, and once at least: then others get
    /// their turn.
    pub fn poll<T>(
        &self,
        cx: &Context<'_>,
        most: usize,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let gate = &*self.gate;
        gate.task.register(cx.waker());
        gate.polling.store(true, SeqCst);
        let mut inner = Context::from_waker(&self.waker);
        let mut result = Poll::Pending;
        for _ in 0..most.max(1) {
            // A wake-up until here is answered by the poll that follows. The swap also reads it, so that the poll sees
            // what was done before it on another thread.
            gate.woken.swap(false, SeqCst);
            result = work(&mut inner);
            if result.is_ready() || !gate.woken.load(SeqCst) {
                break;
            }
        }
        gate.polling.store(false, SeqCst);
        if result.is_pending() && gate.woken.load(SeqCst) {
            cx.waker().wake_by_ref();
        }
        result
    }

    /// Forgets that the part was woken: for work that goes on to look at everything that can have woken it.
    pub fn forget(&self) {
        self.gate.woken.swap(false, SeqCst);
    }

    /// Lets go of the task that polled last.
    pub fn release(&self) {
        self.gate.task.take();
    }
}

impl Default for InnerWaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InnerWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InnerWaker").finish_non_exhaustive()
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn task() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    /// Polls something that wakes itself so many times, and is never done; says how often it was polled.
    fn polls(inner: &InnerWaker, waker: &Waker, wakes: usize) -> usize {
        let mut polls = 0;
        let result = inner.poll(&Context::from_waker(waker), 8, |cx| {
            polls += 1;
            if polls <= wakes {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(result.is_pending());
        polls
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        let (wakes, waker) = task();
        assert_eq!(polls(&InnerWaker::new(), &waker, 2), 3);
        assert_eq!(wakes.0.load(SeqCst), 0);
    }

    #[test]
    fn what_wakes_itself_without_end_gives_way() {
        let (wakes, waker) = task();
        let inner = InnerWaker::new();
        assert_eq!(polls(&inner, &waker, usize::MAX), 8);
        assert_eq!(wakes.0.load(SeqCst), 1);
        // Once answered, it wakes nobody again.
        assert_eq!(polls(&inner, &waker, 0), 1);
        assert_eq!(wakes.0.load(SeqCst), 1);
    }

    #[test]
    fn what_is_woken_from_outside_wakes_the_task_that_polled_last() {
        let (first, waker) = task();
        let inner = InnerWaker::new();
        let mut kept = None;
        let mut poll = |waker: &Waker| {
            inner.poll(&Context::from_waker(waker), 8, |cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            })
        };
        assert!(poll(&waker).is_pending());
        let (last, waker) = task();
        assert!(poll(&waker).is_pending());
        kept.unwrap().wake();
        assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
        drop(waker);
        inner.release();
        assert_eq!(Arc::strong_count(&last), 1);
    }

    #[test]
    fn what_is_forgotten_wakes_nobody() {
        let (wakes, waker) = task();
        let inner = InnerWaker::new();
        let mut polls = 0;
        let result = inner.poll(&Context::from_waker(&waker), 8, |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            inner.forget();
            Poll::<()>::Pending
        });
        assert_eq!((result, polls), (Poll::Pending, 1));
        assert_eq!(wakes.0.load(SeqCst), 0);
    }
}
