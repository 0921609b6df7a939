use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Limits;
use super::activity::Activity;

/// The least exact that a deadline of [`Limits`] is kept. What is shorter is kept within a quarter.
const COARSEST: Duration = Duration::from_millis(250);

const FINEST: Duration = Duration::from_millis(25);

/// Looks at all connections of a listener in turn and wakes those that are past a deadline, and no other: a timer of
/// each connection's own would also make it try again to write to a client that does not read.
#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    watched: Arc<Mutex<Vec<Weak<Activity>>>>,
    turn: Arc<Semaphore>,
}

impl Watchdog {
    /// Watches until the last clone is dropped.
    pub(super) fn start(limits: &Limits) -> Self {
        let watchdog = Self {
            watched: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        };
        tokio::spawn(patrol(
            Arc::downgrade(&watchdog.watched),
            Arc::clone(&watchdog.turn),
            interval(limits),
        ));
        watchdog
    }

    /// Has [`Activity::woken_overdue`] end once this connection has missed a deadline, for as long as it lives.
    pub(super) fn watch(&self, activity: &Arc<Activity>) {
        self.watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(activity));
    }

    /// Gives back what a connection holds, one at a time: the kernel alone needs a quarter of a millisecond for what a
    /// client has left unread, and thousands that came together miss their deadline together. A thread for that would
    /// take whole time slices from those that serve.
    pub(super) async fn release(&self, connection: impl Send + 'static) {
        let turn = self.turn.acquire().await;
        drop(connection);
        // Who came meanwhile goes first.
        tokio::task::yield_now().await;
        drop(turn);
    }
}

fn interval(limits: &Limits) -> Duration {
    let shortest = limits
        .first_byte
        .min(limits.head)
        .min(limits.idle)
        .min(limits.write);
    (shortest / 4).clamp(FINEST, COARSEST)
}

async fn patrol(watched: Weak<Mutex<Vec<Weak<Activity>>>>, turn: Arc<Semaphore>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(watched) = watched.upgrade() else {
            return;
        };
        let overdue = overdue_among(&mut watched.lock().unwrap_or_else(PoisonError::into_inner));
        drop(watched);
        for activity in overdue {
            // Those that were woken before stand in line. All woken at once would hold up who behaves as long as it takes
            // to poll them. A line that does not move must not keep the others' deadlines.
            drop(timeout(every, turn.acquire()).await);
            activity.wake_overdue();
            tokio::task::yield_now().await;
        }
    }
}

/// Forgets connections that have ended.
fn overdue_among(watched: &mut Vec<Weak<Activity>>) -> Vec<Arc<Activity>> {
    let mut overdue = Vec::new();
    watched.retain(|activity| match activity.upgrade() {
        Some(activity) => {
            if activity.overdue().is_some() {
                overdue.push(activity);
            }
            true
        }
        None => false,
    });
    overdue
}

#[cfg(test)]
mod tests {
    use super::super::activity::{Overdue, tests as activity};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_misses_a_deadline_is_woken_and_nobody_else() {
        let limits = activity::limits();
        let watchdog = Watchdog::start(&limits);
        let (place, _places) = activity::place();
        let silent: Vec<_> = (0..100).map(|_| Activity::silent(limits, &place)).collect();
        let busy = Activity::silent(limits, &place);
        let _request = busy.request_began(false);
        silent.iter().for_each(|one| watchdog.watch(one));
        watchdog.watch(&busy);
        let began = tokio::time::Instant::now();
        for one in &silent {
            assert_eq!(one.woken_overdue().await, Overdue::FirstByte);
        }
        let late = began.elapsed().saturating_sub(limits.first_byte);
        assert!(late <= 2 * COARSEST, "{late:?}");
        let asleep = timeout(Duration::from_secs(3600), busy.woken_overdue()).await;
        assert!(asleep.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_forgotten() {
        let watchdog = Watchdog::start(&activity::limits());
        let watched = Arc::downgrade(&watchdog.watched);
        let (place, _places) = activity::place();
        let [stays, ends] = [(); 2].map(|()| Activity::silent(activity::limits(), &place));
        watchdog.watch(&stays);
        watchdog.watch(&ends);
        drop(ends);
        tokio::time::sleep(COARSEST * 2).await;
        assert_eq!(watchdog.watched.lock().unwrap().len(), 1);
        drop(watchdog);
        assert_eq!(watched.strong_count(), 0);
    }

    #[test]
    fn short_deadlines_are_looked_at_more_often() {
        let limits = |first_byte| Limits {
            first_byte: Duration::from_millis(first_byte),
            ..activity::limits()
        };
        for (first_byte, expected) in [(1, 25), (200, 50), (1_000, 250), (60_000, 250)] {
            assert_eq!(
                interval(&limits(first_byte)),
                Duration::from_millis(expected)
            );
        }
    }
}
