//! What a server has seen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A request that an [`Upstream`](crate::Upstream) got.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The number of the connection that it came on, from 0.
    pub connection: usize,
    /// The protocol.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// The request target.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as far as it has come, up to the server's recording limit.
    pub body: Bytes,
    /// How many bytes of the body have come, recorded or not.
    pub body_len: u64,
    /// Whether the body came to its proper end.
    pub body_complete: bool,
    /// Whether the client left before the answer had been sent whole.
    pub abandoned: bool,
}

impl Received {
    /// The value of a header; `None` if it is missing or not ASCII. Of several, the first.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Name and value of every header line, in the order of the names' first appearance.
    #[must_use]
    pub fn header_lines(&self) -> Vec<(String, String)> {
        self.headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect()
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&self.target, |(path, _)| path)
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn describe(&self) -> Value {
        use std::fmt::Write as _;
        let hex = self.body.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        json!({
            "method": self.method.as_str(),
            "target": self.target,
            "version": format!("{:?}", self.version),
            "headers": self.header_lines(),
            "body": std::str::from_utf8(&self.body).ok(),
            "bodyHex": hex,
            "bodyLength": self.body_len,
        })
    }
}

/// A connection that an [`Upstream`](crate::Upstream) accepted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Connection {
    /// Whether it is open still.
    pub open: bool,
    /// What the client sent, byte for byte, up to the server's recording limit.
    pub wire: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) requests: Vec<Received>,
    pub(super) connections: Vec<Connection>,
}

#[derive(Debug)]
pub(super) struct Log {
    entries: Mutex<Entries>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) record_limit: usize,
}

impl Log {
    pub(super) fn new(record_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            changes: watch::Sender::new(0),
            record_limit,
        })
    }

    pub(super) fn read(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        let result = work(&mut self.read());
        self.changes
            .send_modify(|revision| *revision = revision.wrapping_add(1));
        result
    }

    pub(super) fn accepted(&self) -> usize {
        self.change(|entries| {
            entries.connections.push(Connection {
                open: true,
                wire: Vec::new(),
            });
            entries.connections.len() - 1
        })
    }
}

/// Marks a request as abandoned when it is dropped before its answer was finished.
#[derive(Debug)]
pub(super) struct Unanswered {
    log: Arc<Log>,
    request: Option<usize>,
}

impl Unanswered {
    pub(super) fn new(log: Arc<Log>, request: usize) -> Self {
        Self {
            log,
            request: Some(request),
        }
    }

    pub(super) fn finished(&mut self) {
        self.request = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(index) = self.request {
            self.log
                .change(|entries| entries.requests[index].abandoned = true);
        }
    }
}
