use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use proactions_edge::TtlMap;

use crate::UserId;

/// Counts failed logins, by address and by user, and says when there were too many.
///
/// IPv6 addresses count by their /56, which is what one customer is commonly given. Both tables are bounded.
#[derive(Debug)]
pub(crate) struct LockOut {
    by_address: TtlMap<IpAddr, u32>,
    by_user: TtlMap<UserId, u32>,
}

impl LockOut {
    /// Failures in one window after which no more are let try.
    pub(crate) const MAX_FAILURES: u32 = 10;
    pub(crate) const WINDOW: Duration = Duration::from_secs(60);
    const CAPACITY: usize = 50_000;

    pub(crate) fn new() -> Self {
        let over = |failures: &u32| *failures >= Self::MAX_FAILURES;
        Self {
            by_address: TtlMap::new(Self::CAPACITY).keeping(over),
            by_user: TtlMap::new(Self::CAPACITY).keeping(over),
        }
    }

    /// How long a login from here, or of this user, has to wait.
    pub(crate) fn wait(
        &self,
        address: Option<IpAddr>,
        user: Option<&UserId>,
        now: SystemTime,
    ) -> Option<Duration> {
        let left = |failures: &mut u32, ends_at: &mut SystemTime| {
            let over = *failures >= Self::MAX_FAILURES;
            over.then(|| ends_at.duration_since(now).unwrap_or_default())
        };
        let address = address.and_then(|ip| self.by_address.update(&network(ip), now, left));
        let user = user.and_then(|user| self.by_user.update(user, now, left));
        address.flatten().max(user.flatten())
    }

    /// Counts a failure, and says whether it was the one too many.
    pub(crate) fn fail(
        &self,
        address: Option<IpAddr>,
        user: Option<&UserId>,
        now: SystemTime,
    ) -> bool {
        let begin = || (0, now + Self::WINDOW);
        let count = |failures: &mut u32, _: &mut SystemTime| {
            *failures = failures.saturating_add(1);
            *failures == Self::MAX_FAILURES
        };
        let address =
            address.is_some_and(|ip| self.by_address.upsert(network(ip), now, begin, count));
        let user = user.is_some_and(|user| self.by_user.upsert(user.clone(), now, begin, count));
        address || user
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 72)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_eleventh_attempt_from_one_address_waits_for_the_minute_to_end() {
        let lock_out = LockOut::new();
        for second in 0..10 {
            assert_eq!(lock_out.wait(ip("192.0.2.1"), None, at(second)), None);
            assert_eq!(
                lock_out.fail(ip("192.0.2.1"), None, at(second)),
                second == 9
            );
        }
        let wait = |address, now| lock_out.wait(ip(address), None, at(now));
        assert_eq!(wait("192.0.2.1", 10), Some(Duration::from_secs(50)));
        assert_eq!(wait("::ffff:192.0.2.1", 10), Some(Duration::from_secs(50)));
        assert_eq!(wait("192.0.2.2", 10), None);
        assert_eq!(wait("192.0.2.1", 60), None);
    }

    #[test]
    fn one_user_is_counted_over_all_addresses_and_spellings() {
        let lock_out = LockOut::new();
        let names = ["Bob", "bob ", "\u{ff42}ob", "BOB", "bob"];
        for n in 0..10_u8 {
            let user = UserId::new(names[usize::from(n) % names.len()]);
            lock_out.fail(ip(&format!("192.0.2.{n}")), user.as_ref(), at(0));
        }
        let bob = UserId::new("bob");
        assert!(
            lock_out
                .wait(ip("198.51.100.1"), bob.as_ref(), at(1))
                .is_some()
        );
        assert!(
            lock_out
                .wait(ip("198.51.100.1"), UserId::new("eve").as_ref(), at(1))
                .is_none()
        );
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let lock_out = LockOut::new();
        for n in 0..10 {
            lock_out.fail(ip(&format!("2001:db8:0:{n:x}::{n}")), None, at(0));
        }
        assert!(lock_out.wait(ip("2001:db8:0:ff::1"), None, at(1)).is_some());
        assert!(
            lock_out
                .wait(ip("2001:db8:0:100::1"), None, at(1))
                .is_none()
        );
    }

    #[test]
    fn a_flood_of_addresses_frees_nobody() {
        let lock_out = LockOut::new();
        for _ in 0..10 {
            lock_out.fail(ip("192.0.2.1"), None, at(0));
        }
        for n in 0..200_000_u32 {
            lock_out.fail(Some(IpAddr::from(n.to_be_bytes())), None, at(0));
        }
        assert!(lock_out.wait(ip("192.0.2.1"), None, at(1)).is_some());
        assert!(lock_out.by_address.len() <= LockOut::CAPACITY + 16);
    }
}
