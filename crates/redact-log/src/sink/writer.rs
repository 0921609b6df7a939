use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use proactions_edge::Clock;

use crate::line::{Event, LineFormat, Scratch, Value};
use crate::{Level, Redactor};

/// How many bytes may wait for one output. What comes beyond is dropped and counted.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// The writer does not wait for the end of the interval once this much waits.
const FLUSH_SIZE: usize = 64 * 1024;

const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How often outputs are looked after while nothing is written.
const IDLE_INTERVAL: Duration = Duration::from_secs(600);

/// How long a flush or the end of the process waits for an output that is stuck.
const MAX_FLUSH: Duration = Duration::from_secs(5);

/// A write buffer that grew beyond this is not kept.
const MAX_KEPT: usize = 1024 * 1024;

/// Failures are told on standard error this often.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// A place that whole lines are written to.
pub(crate) trait Output: fmt::Debug + Send {
    /// Writes lines, each of them with its line break.
    fn write(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()>;

    /// Does what is due without a write.
    fn idle(&mut self, _now: SystemTime) -> io::Result<()> {
        Ok(())
    }

    /// Ends whatever is still going on.
    fn finish(&mut self) {}
}

/// An output for which the writes of another type are enough.
pub(crate) struct Console<W>(pub(crate) W);

impl<W> fmt::Debug for Console<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console(..)")
    }
}

impl<W: Write + Send> Output for Console<W> {
    fn write(&mut self, lines: &[u8], _now: SystemTime) -> io::Result<()> {
        self.0.write_all(lines)?;
        self.0.flush()
    }
}

/// The queue of some outputs that one thread writes to.
///
/// A producer holds the lock for the copy of its line and never waits for an output. The thread is woken when
/// the first line arrives after it has slept, and once more if much arrives at once; never for each line.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Shared>);

/// Ends the thread of a [`Queue`] when it is dropped.
#[derive(Debug)]
pub(crate) struct QueueGuard {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// The thread sleeps until somebody wakes it.
    asleep: bool,
    /// The thread was told not to wait for the end of the interval.
    urgent: bool,
    stopping: bool,
    ended: bool,
    flushes_asked: u64,
    flushes_done: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
}

impl Queue {
    /// Starts the thread that writes to `outputs`.
    pub(crate) fn start(
        name: &str,
        outputs: Vec<Box<dyn Output>>,
        format: LineFormat,
        clock: Arc<dyn Clock>,
    ) -> io::Result<(Self, QueueGuard)> {
        let state = State {
            waiting: outputs.iter().map(|_| Waiting::default()).collect(),
            ..State::default()
        };
        let queue = Self(Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
        }));
        let writer = Writer {
            queue: queue.clone(),
            outputs,
            format,
            clock,
            failures: 0,
            told_at: None,
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.run())?;
        let guard = QueueGuard {
            queue: queue.clone(),
            thread: Some(thread),
        };
        Ok((queue, guard))
    }

    /// Adds a line for the output of this index, or drops and counts it if too much waits already.
    pub(crate) fn push(&self, output: usize, line: &[u8]) {
        let wake = {
            let mut state = self.lock();
            if state.ended {
                return;
            }
            let Some(waiting) = state.waiting.get_mut(output) else {
                return;
            };
            if waiting.lines.len() + line.len() > MAX_WAITING {
                waiting.dropped += 1;
                return;
            }
            waiting.lines.extend_from_slice(line);
            let is_much = waiting.lines.len() >= FLUSH_SIZE;
            let wake = state.asleep || (is_much && !state.urgent);
            state.asleep = false;
            state.urgent |= is_much;
            wake
        };
        if wake {
            self.0.work.notify_one();
        }
    }

    /// Waits until everything that was added before is written, at most five seconds; says whether it is.
    pub(crate) fn flush(&self) -> bool {
        let mut state = self.lock();
        state.flushes_asked += 1;
        let wanted = state.flushes_asked;
        self.0.work.notify_one();
        let (state, _) = self
            .0
            .done
            .wait_timeout_while(state, MAX_FLUSH, |state| {
                state.flushes_done < wanted && !state.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.flushes_done >= wanted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A buffer may end in half a line if a thread was ended in the middle of a copy; nothing worse.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QueueGuard {
    fn drop(&mut self) {
        let shared = &self.queue.0;
        let mut state = self.queue.lock();
        state.stopping = true;
        shared.work.notify_one();
        let (state, _) = shared
            .done
            .wait_timeout_while(state, MAX_FLUSH, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let ended = state.ended;
        drop(state);
        // A thread that is stuck in a write is left to the end of the process.
        if ended && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    queue: Queue,
    outputs: Vec<Box<dyn Output>>,
    format: LineFormat,
    clock: Arc<dyn Clock>,
    failures: u64,
    told_at: Option<SystemTime>,
}

impl Writer {
    fn run(mut self) {
        let mut taken: Vec<Waiting> = self.outputs.iter().map(|_| Waiting::default()).collect();
        loop {
            let (flushes, stopping) = self.take(&mut taken);
            let now = self.clock.now();
            for index in 0..taken.len() {
                if let Some(waiting) = taken.get_mut(index) {
                    let lines = mem::take(&mut waiting.lines);
                    let dropped = mem::take(&mut waiting.dropped);
                    let mut lines = self.write(index, lines, dropped, now);
                    lines.clear();
                    lines.shrink_to(MAX_KEPT);
                    if let Some(waiting) = taken.get_mut(index) {
                        waiting.lines = lines;
                    }
                }
            }
            if stopping {
                for output in &mut self.outputs {
                    output.finish();
                }
            }
            let mut state = self.queue.lock();
            state.flushes_done = flushes;
            state.ended = stopping;
            drop(state);
            self.queue.0.done.notify_all();
            if stopping {
                return;
            }
        }
    }

    /// Waits for lines and swaps them for the empty buffers in `taken`.
    fn take(&self, taken: &mut [Waiting]) -> (u64, bool) {
        let shared = &self.queue.0;
        let is_called = |state: &State| state.stopping || state.flushes_asked > state.flushes_done;
        let has_lines = |state: &State| {
            state
                .waiting
                .iter()
                .any(|waiting| !waiting.lines.is_empty() || waiting.dropped > 0)
        };
        let mut state = self.queue.lock();
        if !has_lines(&state) && !is_called(&state) {
            state.asleep = true;
            (state, _) = shared
                .work
                .wait_timeout_while(state, IDLE_INTERVAL, |state| {
                    state.asleep && !is_called(state)
                })
                .unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
        if has_lines(&state) {
            (state, _) = shared
                .work
                .wait_timeout_while(state, FLUSH_INTERVAL, |state| {
                    !state.urgent && !is_called(state)
                })
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.urgent = false;
        for (waiting, taken) in state.waiting.iter_mut().zip(taken) {
            mem::swap(waiting, taken);
        }
        (state.flushes_asked, state.stopping)
    }

    fn write(&mut self, index: usize, lines: Vec<u8>, dropped: u64, now: SystemTime) -> Vec<u8> {
        let Some(output) = self.outputs.get_mut(index) else {
            return lines;
        };
        let mut result = if lines.is_empty() {
            output.idle(now)
        } else {
            output.write(&lines, now)
        };
        if result.is_err() && !lines.is_empty() {
            let lost = lines.iter().filter(|byte| **byte == b'\n').count();
            count_dropped(u64::try_from(lost).unwrap_or(u64::MAX));
        }
        if dropped > 0 {
            count_dropped(dropped);
            let notice = dropped_notice(&self.format, dropped, now);
            result = result.and_then(|()| output.write(notice.as_bytes(), now));
        }
        if let Err(error) = result {
            self.tell(&error, now);
        }
        lines
    }

    /// Counts a failure and tells of the failures so far on standard error, at most once a minute.
    fn tell(&mut self, error: &io::Error, now: SystemTime) {
        metrics::counter!("hub_log_write_errors_total").increment(1);
        self.failures += 1;
        let is_due = self.told_at.is_none_or(|told_at| {
            now.duration_since(told_at)
                .map_or(true, |passed| passed >= TELL_INTERVAL)
        });
        if is_due {
            let mut text = String::new();
            let _ = write!(
                text,
                "log output failed {} times, last: {error}",
                self.failures
            );
            let _ = writeln!(io::stderr(), "{text}");
            self.told_at = Some(now);
            self.failures = 0;
        }
    }
}

fn count_dropped(lines: u64) {
    metrics::counter!("hub_log_lines_dropped_total").increment(lines);
}

fn dropped_notice(format: &LineFormat, dropped: u64, now: SystemTime) -> String {
    let event = Event {
        at: now,
        level: Level::Warn,
        module: "logging",
        message: Value::Safe("log lines were dropped because an output was too slow"),
        fields: &|put| put("dropped", Value::Count(dropped)),
    };
    let mut line = String::new();
    let mut scratch = Scratch::default();
    format.write(&mut line, scratch.stamp(now), &Redactor::default(), &event);
    line
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proactions_edge::ManualClock;

    use super::*;

    /// Hands over what it is given, after it was allowed to.
    #[derive(Debug)]
    struct Gate {
        go: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Output for Gate {
        fn write(&mut self, lines: &[u8], _now: SystemTime) -> io::Result<()> {
            let _ = self.go.recv();
            let _ = self.written.send(lines.to_vec());
            Ok(())
        }
    }

    fn start(outputs: Vec<Box<dyn Output>>) -> (Queue, QueueGuard) {
        let clock = Arc::new(ManualClock::default());
        Queue::start("test", outputs, LineFormat::Json, clock).unwrap()
    }

    #[test]
    fn a_stuck_output_blocks_nobody_and_the_loss_is_told() {
        let (go, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (queue, guard) = start(vec![Box::new(Gate {
            go: allowed,
            written,
        })]);
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..30 {
            queue.push(0, &line);
        }
        // At most one full buffer is with the output and one waits.
        for _ in 0..30 {
            let _ = go.send(());
        }
        drop(guard);
        drop(go);
        let all: Vec<u8> = lines.try_iter().flatten().collect();
        assert!(all.len() < 17 * 1024 * 1024, "{}", all.len());
        let notice = String::from_utf8_lossy(&all);
        assert!(notice.contains("\"dropped\":"), "no notice");
    }

    #[test]
    fn flush_waits_for_what_was_added_before() {
        let (go, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (queue, _guard) = start(vec![Box::new(Gate {
            go: allowed,
            written,
        })]);
        go.send(()).unwrap();
        queue.push(0, b"a\n");
        queue.push(0, b"b\n");
        assert!(queue.flush());
        assert_eq!(lines.try_iter().flatten().collect::<Vec<u8>>(), b"a\nb\n");
        drop(go);
    }

    #[derive(Debug)]
    struct Full;

    impl Output for Full {
        fn write(&mut self, _lines: &[u8], _now: SystemTime) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_full_disk_does_not_end_the_writer() {
        let (queue, guard) = start(vec![Box::new(Full), Box::new(Console(io::sink()))]);
        for _ in 0..3 {
            queue.push(0, b"a\n");
            queue.push(1, b"a\n");
            assert!(queue.flush());
        }
        drop(guard);
        assert!(!queue.flush(), "nobody writes any more");
    }
}
