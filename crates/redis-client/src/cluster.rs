use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::dial::Dialer;
use crate::error::{Failure, RedisError, RedisErrorKind};
use crate::health::Health;
use crate::link::{Link, Request};
use crate::settings::RedisSettings;
use crate::url::Address;

/// The servers of a cluster, and who of them holds which keys.
///
/// Who holds what is asked for when the first command comes, and again when a server says that it holds a key
/// no more or cannot be reached. A command is sent to another server only if the first one said that it did not
/// run it.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    settings: RedisSettings,
    health: Arc<Health>,
    links: Mutex<HashMap<Address, Arc<Link>>>,
    slots: watch::Sender<SlotTable>,
    refresh: Mutex<Option<Instant>>,
    is_refreshing: AtomicBool,
}

/// Ranges of slots and who holds them, in their order.
type SlotTable = Arc<[(u16, u16, Address)]>;

const SLOTS: u16 = 16384;
/// How often a command is redirected before it is given up.
const MAX_REDIRECTS: usize = 4;
/// How much time lies between two questions who holds what.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

impl Cluster {
    pub(crate) fn new(settings: RedisSettings, health: Arc<Health>) -> Self {
        let (slots, _) = watch::channel(SlotTable::default());
        Self(Arc::new(Inner {
            settings,
            health,
            links: Mutex::default(),
            slots,
            refresh: Mutex::default(),
            is_refreshing: AtomicBool::new(false),
        }))
    }

    /// Starts connecting.
    pub(crate) fn start(&self) {
        self.refresh();
    }

    /// Sends a command to the server that holds `key`.
    pub(crate) async fn send(
        &self,
        key: &[u8],
        command: &redis::Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let slot = slot_of(key);
        let mut redirect: Option<(Address, bool)> = None;
        let mut redirects = 0;
        loop {
            let (address, asking) = match redirect.take() {
                Some(redirect) => redirect,
                None => (self.holder(slot, deadline).await?, false),
            };
            let link = self.link(&address);
            let request = if asking {
                Request::Asking(command)
            } else {
                Request::Command(command)
            };
            let failure = match link.send(request, deadline).await {
                Err(failure) if redirects < MAX_REDIRECTS => failure,
                done => return done,
            };
            redirects += 1;
            let (text, asking) = match &failure {
                Failure::Moved { address, .. } => {
                    self.refresh();
                    (address, false)
                }
                Failure::Ask { address } => (address, true),
                Failure::Error { error, .. } if error.kind() == RedisErrorKind::Outage => {
                    // Another server may have taken over.
                    self.refresh();
                    return Err(failure);
                }
                _ => return Err(failure),
            };
            // A server that does not know its own name leaves the host empty: it means itself.
            let text = match text.strip_prefix(':') {
                Some(port) => format!("{}:{port}", bracketed(&address.host)),
                None => text.clone(),
            };
            match Address::parse(&text, 6379) {
                Some(address) => redirect = Some((address, asking)),
                None => return Err(failure),
            }
        }
    }

    /// Asks every server that is known to be needed whether it is there.
    pub(crate) async fn ping(&self, deadline: Instant) -> Result<(), Failure> {
        let _ = self.holder(0, deadline).await?;
        let table = Arc::clone(&self.0.slots.borrow());
        let command = redis::cmd("PING");
        for address in holders(&table) {
            let link = self.link(&address);
            link.send(Request::Command(&command), deadline).await?;
        }
        Ok(())
    }

    async fn holder(&self, slot: u16, deadline: Instant) -> Result<Address, Failure> {
        let outage = |detail| Failure::lasting(RedisError::outage(detail));
        let mut table = self.0.slots.subscribe();
        if table.borrow().is_empty() {
            self.refresh();
            // While it is known that no server answers, nobody waits for one.
            if self.all_down() {
                return Err(outage("no server of the cluster answers"));
            }
            let known = table.wait_for(|table| !table.is_empty());
            match timeout_at(deadline, known).await {
                Ok(Ok(_)) => {}
                _ => return Err(outage("no server of the cluster answers")),
            }
        }
        let holder = holder_of(&table.borrow(), slot);
        holder.ok_or_else(|| {
            self.refresh();
            outage("no server of the cluster holds the key")
        })
    }

    fn all_down(&self) -> bool {
        let links = self.links();
        !links.is_empty() && links.values().all(|link| link.is_down())
    }

    fn link(&self, address: &Address) -> Arc<Link> {
        let mut links = self.links();
        let link = links.entry(address.clone()).or_insert_with(|| {
            let dialer = Dialer::server(&self.0.settings, address.clone());
            Arc::new(Link::new(dialer, Arc::clone(&self.0.health)))
        });
        Arc::clone(link)
    }

    fn links(&self) -> MutexGuard<'_, HashMap<Address, Arc<Link>>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again who holds what, in the background, unless that was done just now.
    fn refresh(&self) {
        let Ok(run_time) = tokio::runtime::Handle::try_current() else {
            return;
        };
        {
            let mut last = self
                .0
                .refresh
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let recent = last.is_some_and(|last| last.elapsed() < REFRESH_INTERVAL);
            if recent || self.0.is_refreshing.swap(true, Ordering::AcqRel) {
                return;
            }
            *last = Some(Instant::now());
        }
        let cluster = self.clone();
        run_time.spawn(async move {
            let done = Refreshing(&cluster.0.is_refreshing);
            cluster.ask_around().await;
            drop(done);
        });
    }

    async fn ask_around(&self) {
        let table = Arc::clone(&self.0.slots.borrow());
        let mut candidates = holders(&table);
        for seed in &self.0.settings.addresses {
            if !candidates.contains(seed) {
                candidates.push(seed.clone());
            }
        }
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        for address in candidates {
            let link = self.link(&address);
            let deadline = Instant::now() + self.0.settings.deadline;
            match link.send(Request::Command(&command), deadline).await {
                Ok(answer) => {
                    let table = read_slots(&answer, &address);
                    if !table.is_empty() {
                        self.forget_others(&table);
                        self.0.slots.send_replace(table.into());
                        return;
                    }
                }
                Err(failure) => {
                    let error = failure.into_error();
                    if matches!(
                        error.kind(),
                        RedisErrorKind::Protocol | RedisErrorKind::Denied
                    ) {
                        self.0.health.command_failed(&error);
                    }
                }
            }
        }
    }

    /// Drops the connections to servers that hold nothing.
    fn forget_others(&self, table: &[(u16, u16, Address)]) {
        let holders = holders(table);
        self.links().retain(|address, _| holders.contains(address));
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

struct Refreshing<'a>(&'a AtomicBool);

impl Drop for Refreshing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn holders(table: &[(u16, u16, Address)]) -> Vec<Address> {
    let mut holders: Vec<Address> = Vec::new();
    for (_, _, address) in table {
        if !holders.contains(address) {
            holders.push(address.clone());
        }
    }
    holders
}

fn holder_of(table: &[(u16, u16, Address)], slot: u16) -> Option<Address> {
    let after = table.partition_point(|(first, ..)| *first <= slot);
    let (_, last, address) = table.get(after.checked_sub(1)?)?;
    (slot <= *last).then(|| address.clone())
}

/// Reads the answer to `CLUSTER SLOTS`. What cannot be read is left out.
fn read_slots(answer: &Value, asked: &Address) -> Vec<(u16, u16, Address)> {
    let Value::Array(ranges) = answer else {
        return Vec::new();
    };
    let mut table: Vec<_> = ranges
        .iter()
        .filter_map(|range| {
            let Value::Array(range) = range else {
                return None;
            };
            let [first, last, Value::Array(master), ..] = range.as_slice() else {
                return None;
            };
            let [host, port, ..] = master.as_slice() else {
                return None;
            };
            let host = match host {
                Value::BulkString(host) if !host.is_empty() => {
                    std::str::from_utf8(host).ok()?.to_owned()
                }
                _ => asked.host.clone(),
            };
            let port = number(port)?;
            Some((number(first)?, number(last)?, Address { host, port }))
        })
        .collect();
    table.sort_by_key(|(first, ..)| *first);
    table
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// The slot of a key: CRC-16 (XMODEM) of the key, or of the part in its first pair of braces if that is not
/// empty.
fn slot_of(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|b| *b == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    let crc = tagged.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The answers of CLUSTER KEYSLOT.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12739),
            ("foo", 12182),
            ("{user1000}.following", slot_of(b"user1000")),
            ("foo{}{bar}", slot_of(b"foo{}{bar}")),
            ("foo{{bar}}zap", slot_of(b"{bar")),
            ("foo{bar}{zap}", slot_of(b"bar")),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
    }

    #[test]
    fn the_table_is_read() {
        let text = |text: &str| Value::BulkString(text.into());
        let range = |first, last, host: Value, port| {
            let master = Value::Array(vec![host, Value::Int(port), text("id")]);
            let replica = Value::Array(vec![text("r"), Value::Int(1)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
        };
        let asked = Address::parse("asked:1", 1).unwrap();
        let answer = Value::Array(vec![
            range(100, 200, text("b"), 2),
            range(0, 50, text(""), 7),
            range(51, 99, Value::Nil, 8),
            range(300, 99_999, text("c"), 3),
            Value::Int(5),
        ]);
        let table = read_slots(&answer, &asked);
        let holder = |slot| holder_of(&table, slot).map(|address| address.to_string());
        assert_eq!(holder(0).as_deref(), Some("asked:7"));
        assert_eq!(holder(50).as_deref(), Some("asked:7"));
        assert_eq!(holder(51).as_deref(), Some("asked:8"));
        assert_eq!(holder(100).as_deref(), Some("b:2"));
        assert_eq!(holder(200).as_deref(), Some("b:2"));
        assert_eq!(holder(201), None);
        assert_eq!(holders(&table).len(), 3);
        assert!(read_slots(&Value::Nil, &asked).is_empty());
    }
}
