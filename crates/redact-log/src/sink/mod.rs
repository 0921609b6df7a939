//! Where lines go: queues in memory, and one thread a queue that writes them.

mod rolling;
mod writer;

pub(crate) use rolling::{FilePolicy, RollingFile};
pub(crate) use writer::{Console, Output, Queue, QueueGuard};
