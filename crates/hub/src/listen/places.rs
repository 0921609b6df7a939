use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Places for connections: so many in total, so many for one address.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    busy: Arc<AtomicUsize>,
    total: usize,
    per_address: usize,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    pub(crate) fn new(total: usize, per_address: usize) -> Self {
        Self {
            taken: Arc::default(),
            busy: Arc::default(),
            total,
            per_address,
        }
    }

    /// A place for a connection from `ip`, until it is dropped.
    pub(crate) fn take(&self, ip: IpAddr) -> Option<Place> {
        let key = network(ip);
        let mut taken = self.lock();
        let of_address = taken.by_address.get(&key).copied().unwrap_or(0);
        if taken.total >= self.total || of_address >= self.per_address {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(key, of_address + 1);
        metrics::gauge!("hub_connections_open").increment(1.0);
        Some(Place {
            places: self.clone(),
            key,
        })
    }

    pub(crate) fn taken(&self) -> usize {
        self.lock().total
    }

    /// How many connections have a request under way, or have become a tunnel.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of one IPv6 /64 belong to one host.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    key: IpAddr,
}

impl Place {
    /// The count of busy connections, for the one that has this place to keep.
    pub(super) fn busy(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.places.busy)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total = taken.total.saturating_sub(1);
        metrics::gauge!("hub_connections_open").decrement(1.0);
        if let Some(count) = taken.by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_capped_in_total_and_by_address_and_given_back() {
        let places = Places::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(ip("1.2.3.4")).unwrap();
        let _second = places.take(ip("::ffff:1.2.3.4")).unwrap();
        assert!(places.take(ip("1.2.3.4")).is_none());
        let _third = places.take(ip("2001:db8::1")).unwrap();
        assert!(places.take(ip("9.9.9.9")).is_none());
        drop(first);
        let _again = places.take(ip("2001:db8::2")).unwrap();
        assert!(places.take(ip("2001:db8::3")).is_none());
        assert_eq!(places.taken(), 3);
        assert_eq!(places.lock().by_address.len(), 2);
    }
}
