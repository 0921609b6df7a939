//! One line for each exchange.

mod body;
mod future;
mod record;
mod service;
#[cfg(test)]
mod tests;

pub use body::AccessLogBody;
pub use future::AccessLogFuture;
pub use service::{AccessLogLayer, AccessLogService};
