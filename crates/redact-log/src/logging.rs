use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use proactions_edge::{Clock, SystemClock};

use crate::line::{Event, Scratch};
use crate::policy::Category;
use crate::sink::{Console, Output, Queue, QueueGuard, RollingFile};
use crate::{Level, LoggingPolicy};

/// The running log: hand it to [`crate::AccessLogLayer`] and [`crate::TracingLayer`].
///
/// Lines are formatted by the caller's thread and written by threads of its own, one for the console and one
/// for the files, so that neither holds up a request or the other. Both write at the latest 100 ms after a line
/// came, and wait for more than that only if nothing comes. At most 8 MiB wait for an output; further lines are
/// dropped, counted in the metric `hub_log_lines_dropped_total`, and the loss is logged as soon as the output
/// works again.
#[derive(Clone)]
pub struct Logging(Arc<Inner>);

struct Inner {
    policy: LoggingPolicy,
    clock: Arc<dyn Clock>,
    console: Queue,
    files: Option<Queue>,
    /// The output of each category that is written to a file.
    file_outputs: [Option<usize>; Category::COUNT],
}

/// Keeps the writing threads alive. Dropping it writes what waits, for five seconds at most, and ends them.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard {
    _queues: Vec<QueueGuard>,
}

impl Logging {
    /// Starts the log on standard output and in the files that the policy names.
    ///
    /// A log directory that cannot be written to is no error: it is counted, told on standard error and tried
    /// again.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(policy: LoggingPolicy) -> io::Result<(Self, LogGuard)> {
        Self::start_with(policy, io::stdout(), Arc::new(SystemClock::new()))
    }

    /// Starts the log with something else in place of standard output and the system's clock.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_with(
        policy: LoggingPolicy,
        console: impl Write + Send + 'static,
        clock: Arc<dyn Clock>,
    ) -> io::Result<(Self, LogGuard)> {
        let mut guards = Vec::new();
        let (console, guard) = Queue::start(
            "log-console",
            vec![Box::new(Console(console))],
            policy.format().clone(),
            Arc::clone(&clock),
        )?;
        guards.push(guard);

        let mut outputs: Vec<Box<dyn Output>> = Vec::new();
        let mut file_outputs = [None; Category::COUNT];
        for category in policy.filed() {
            if let Some(output) = file_outputs.get_mut(category as usize) {
                *output = Some(outputs.len());
            }
            outputs.push(Box::new(RollingFile::new(
                policy.files().clone(),
                category.as_str(),
            )));
        }
        let mut files = None;
        if !outputs.is_empty() {
            let (queue, guard) = Queue::start(
                "log-writer",
                outputs,
                policy.format().clone(),
                Arc::clone(&clock),
            )?;
            files = Some(queue);
            guards.push(guard);
        }
        let logging = Self(Arc::new(Inner {
            policy,
            clock,
            console,
            files,
            file_outputs,
        }));
        Ok((logging, LogGuard { _queues: guards }))
    }

    /// What is logged, how and where.
    #[must_use]
    pub fn policy(&self) -> &LoggingPolicy {
        &self.0.policy
    }

    /// Waits until every line so far is written, five seconds at most for each thread; says whether it is.
    pub fn flush(&self) -> bool {
        let console = self.0.console.flush();
        self.0.files.as_ref().is_none_or(Queue::flush) && console
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub(crate) fn is_enabled(&self, category: Category, level: Level) -> bool {
        self.policy()
            .route(category)
            .level
            .is_some_and(|most| level <= most)
    }

    /// Writes an event that [`Self::is_enabled`] lets pass, with this thread's buffers.
    pub(crate) fn write(&self, category: Category, scratch: &mut Scratch, event: &Event<'_>) {
        let policy = self.policy();
        let mut line = std::mem::take(&mut scratch.line);
        let stamp = scratch.stamp(event.at);
        policy
            .format()
            .write(&mut line, stamp, policy.redactor(), event);
        if policy.route(category).console {
            self.0.console.push(0, line.as_bytes());
        }
        let output = self
            .0
            .file_outputs
            .get(category as usize)
            .copied()
            .flatten();
        if let (Some(files), Some(output)) = (&self.0.files, output) {
            files.push(output, line.as_bytes());
        }
        scratch.line = line;
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging")
            .field("policy", &self.0.policy)
            .finish_non_exhaustive()
    }
}
