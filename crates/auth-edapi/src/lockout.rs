use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use proactions_edge::{ExposeSecret as _, TtlMap};

use crate::{Credentials, UserId};

/// Counts failed logins and those under way, by address and by user, and says when there were too many.
///
/// An attempt counts before anybody is asked: a guesser who sends all guesses at once gets no further than one who
/// sends them in turn. Equal credentials that are checked at the same time are one attempt.
///
/// IPv6 addresses count by their /56, which is what one customer is commonly given. All tables are bounded.
#[derive(Debug)]
pub(crate) struct LockOut {
    by_address: TtlMap<IpAddr, Tally>,
    by_user: TtlMap<UserId, Tally>,
    /// Which credentials were good from where. They are no guesses, so what others do there, or under the same
    /// name, does not lock them out. From elsewhere they count like any: a guesser who is locked out must not
    /// find out that a guess is what its user has just logged in with.
    good: TtlMap<(IpAddr, Fingerprint), ()>,
    fingerprints: RandomState,
}

/// What one address, or one user, has tried in a window.
#[derive(Debug, Default)]
struct Tally {
    failures: u32,
    /// At most as many as may be tried. An attempt that nobody holds any more has ended.
    under_way: Vec<Weak<Attempt>>,
}

/// A keyed hash of a credential. Should two ever be the same, they are counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u64);

#[derive(Debug)]
struct Attempt {
    fingerprint: Fingerprint,
    has_failed: AtomicBool,
}

/// Leave to have credentials checked. Dropped, it is given back; [`LockOut::fail`] uses it up.
#[derive(Debug)]
pub(crate) struct Leave {
    by_address: Option<(IpAddr, Arc<Attempt>)>,
    by_user: Option<(UserId, Arc<Attempt>)>,
    fingerprint: Fingerprint,
    was_good: bool,
}

impl LockOut {
    /// Failures in one window after which no more are let try.
    pub(crate) const MAX_FAILURES: usize = 10;
    pub(crate) const WINDOW: Duration = Duration::from_secs(60);
    /// How long to wait when there are too many under way: most are answered by then.
    const WHILE_UNDER_WAY: Duration = Duration::from_secs(1);
    /// How long a credential that was good is no guess.
    const GOOD_FOR: Duration = Duration::from_secs(3600);
    const CAPACITY: usize = 50_000;

    pub(crate) fn new() -> Self {
        Self {
            by_address: TtlMap::new(Self::CAPACITY).keeping(Tally::is_half_full),
            by_user: TtlMap::new(Self::CAPACITY).keeping(Tally::is_half_full),
            good: TtlMap::new(Self::CAPACITY),
            fingerprints: RandomState::new(),
        }
    }

    /// Asks leave to have `credentials` from `address` checked.
    ///
    /// # Errors
    /// How long to wait, when there were too many.
    pub(crate) fn enter(
        &self,
        address: Option<IpAddr>,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<Leave, Duration> {
        let fingerprint = self.fingerprint(credentials);
        let address = address.map(network);
        let was_good = address.is_some_and(|ip| self.good.get(&(ip, fingerprint), now).is_some());
        let mut leave = Leave {
            by_address: None,
            by_user: None,
            fingerprint,
            was_good,
        };
        if was_good {
            return Ok(leave);
        }
        if let Some(ip) = address {
            let attempt = reserve(&self.by_address, &ip, fingerprint, now)?;
            leave.by_address = Some((ip, attempt));
        }
        // Only now: an address that has to wait must not fill the table with names that it makes up.
        if let Some(user) = credentials.user() {
            let attempt = reserve(&self.by_user, user, fingerprint, now)?;
            leave.by_user = Some((user.clone(), attempt));
        }
        Ok(leave)
    }

    /// The credentials were good: from here they are no guess any more.
    pub(crate) fn pass(&self, leave: &Leave, address: Option<IpAddr>, now: SystemTime) {
        if let Some(ip) = address.filter(|_| !leave.was_good) {
            let key = (network(ip), leave.fingerprint);
            self.good.insert(key, (), now + Self::GOOD_FOR, now);
        }
    }

    /// Counts a failure, and says whether it was the one too many.
    pub(crate) fn fail(
        &self,
        leave: Leave,
        address: Option<IpAddr>,
        user: Option<&UserId>,
        now: SystemTime,
    ) -> bool {
        let attempt = || {
            Arc::new(Attempt {
                fingerprint: leave.fingerprint,
                has_failed: AtomicBool::new(false),
            })
        };
        let (mut by_address, mut by_user) = (leave.by_address, leave.by_user);
        if leave.was_good {
            // It was good once and is no more; the first that finds out counts it.
            by_address = address.map(|ip| (network(ip), attempt()));
            by_user = user.map(|user| (user.clone(), attempt()));
            let known = by_address.as_ref().and_then(|(ip, _)| {
                let key = (*ip, leave.fingerprint);
                self.good.remove(&key, now)
            });
            if known.is_none() {
                return false;
            }
        }
        let address =
            by_address.is_some_and(|(ip, attempt)| count(&self.by_address, ip, &attempt, now));
        let user = by_user.is_some_and(|(user, attempt)| count(&self.by_user, user, &attempt, now));
        address || user
    }

    /// Takes leave back from a request that does not wait for the verdict any more. What comes back is what no other
    /// request holds: somebody has to wait and count it.
    pub(crate) fn give_up(&self, leave: Leave, now: SystemTime) -> Option<Leave> {
        let by_address = leave.by_address.and_then(|(ip, attempt)| {
            let attempt = unless_shared(&self.by_address, &ip, attempt, now)?;
            Some((ip, attempt))
        });
        let by_user = leave.by_user.and_then(|(user, attempt)| {
            let attempt = unless_shared(&self.by_user, &user, attempt, now)?;
            Some((user, attempt))
        });
        (by_address.is_some() || by_user.is_some()).then_some(Leave {
            by_address,
            by_user,
            ..leave
        })
    }

    fn fingerprint(&self, credentials: &Credentials) -> Fingerprint {
        let mut hasher = self.fingerprints.build_hasher();
        match credentials {
            Credentials::Bearer(token) => (0_u8, token.expose()).hash(&mut hasher),
            Credentials::Basic(login) => {
                (1_u8, &login.user, login.password.expose_secret()).hash(&mut hasher);
            }
        }
        Fingerprint(hasher.finish())
    }
}

impl Tally {
    fn is_full(&self) -> bool {
        self.len() >= LockOut::MAX_FAILURES
    }

    /// Worth keeping: what a flood leaves behind of each name that it makes up has one failure.
    fn is_half_full(&self) -> bool {
        self.len() >= LockOut::MAX_FAILURES / 2
    }

    fn len(&self) -> usize {
        self.failures() + self.under_way.len()
    }

    fn failures(&self) -> usize {
        usize::try_from(self.failures).unwrap_or(usize::MAX)
    }

    /// Drops what is not under way any more.
    fn tidy(&mut self) {
        self.under_way.retain(|attempt| {
            let attempt = attempt.upgrade();
            attempt.is_some_and(|attempt| !attempt.has_failed.load(Ordering::Relaxed))
        });
    }

    fn join(&self, fingerprint: Fingerprint) -> Option<Arc<Attempt>> {
        let mut under_way = self.under_way.iter().filter_map(Weak::upgrade);
        under_way.find(|attempt| attempt.fingerprint == fingerprint)
    }
}

fn reserve<K: std::hash::Hash + Eq + Clone>(
    tallies: &TtlMap<K, Tally>,
    key: &K,
    fingerprint: Fingerprint,
    now: SystemTime,
) -> Result<Arc<Attempt>, Duration> {
    let begin = || (Tally::default(), now + LockOut::WINDOW);
    tallies.upsert(key.clone(), now, begin, |tally, ends_at| {
        if tally.failures() >= LockOut::MAX_FAILURES {
            return Err(ends_at.duration_since(now).unwrap_or_default());
        }
        tally.tidy();
        if let Some(attempt) = tally.join(fingerprint) {
            return Ok(attempt);
        }
        if tally.is_full() {
            return Err(LockOut::WHILE_UNDER_WAY);
        }
        let attempt = Arc::new(Attempt {
            fingerprint,
            has_failed: AtomicBool::new(false),
        });
        tally.under_way.push(Arc::downgrade(&attempt));
        Ok(attempt)
    })
}

/// The attempt, if no other request shares it. Two that give it up at the same moment do so in turn, under the lock that
/// joining it takes as well; else each might leave it to the other.
fn unless_shared<K: std::hash::Hash + Eq + Clone>(
    tallies: &TtlMap<K, Tally>,
    key: &K,
    attempt: Arc<Attempt>,
    now: SystemTime,
) -> Option<Arc<Attempt>> {
    let begin = || (Tally::default(), now + LockOut::WINDOW);
    tallies.upsert(key.clone(), now, begin, |_, _| {
        (Arc::strong_count(&attempt) == 1).then_some(attempt)
    })
}

/// The first of the requests that share an attempt counts it, and does so under the lock that a new one needs.
fn count<K: std::hash::Hash + Eq>(
    tallies: &TtlMap<K, Tally>,
    key: K,
    attempt: &Attempt,
    now: SystemTime,
) -> bool {
    let begin = || (Tally::default(), now + LockOut::WINDOW);
    tallies.upsert(key, now, begin, |tally, ends_at| {
        if attempt.has_failed.swap(true, Ordering::Relaxed) {
            return false;
        }
        if tally.failures == 0 {
            *ends_at = now + LockOut::WINDOW;
        }
        tally.failures = tally.failures.saturating_add(1);
        tally.tidy();
        tally.failures() == LockOut::MAX_FAILURES
    })
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

    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    use super::*;
    use crate::Presented;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn bearer(token: &str) -> Credentials {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        match Credentials::from_headers(&headers) {
            Presented::Credentials(credentials) => credentials,
            other => panic!("{other:?}"),
        }
    }

    fn login(user: &str, password: &str) -> Credentials {
        Credentials::Basic(crate::BasicLogin {
            user: user.to_owned(),
            password: password.to_owned().into(),
            canonical: UserId::new(user).unwrap(),
        })
    }

    impl LockOut {
        fn wait(
            &self,
            address: Option<IpAddr>,
            credentials: &Credentials,
            now: SystemTime,
        ) -> Option<Duration> {
            self.enter(address, credentials, now).err()
        }

        fn attempt_fails(
            &self,
            address: Option<IpAddr>,
            credentials: &Credentials,
            now: SystemTime,
        ) -> bool {
            let leave = self.enter(address, credentials, now).unwrap();
            self.fail(leave, address, credentials.user(), now)
        }
    }

    #[test]
    fn the_eleventh_attempt_from_one_address_waits_for_the_minute_to_end() {
        let lock_out = LockOut::new();
        for second in 0..10 {
            let one_too_many =
                lock_out.attempt_fails(ip("192.0.2.1"), &bearer("wrong"), at(second));
            assert_eq!(one_too_many, second == 9);
        }
        let wait = |address, now| lock_out.wait(ip(address), &bearer("other"), at(now));
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
            let login = login(names[usize::from(n) % names.len()], "wrong");
            lock_out.attempt_fails(ip(&format!("192.0.2.{n}")), &login, at(0));
        }
        let wait = |user| lock_out.wait(ip("198.51.100.1"), &login(user, "x"), at(1));
        assert_eq!(wait("bob"), Some(Duration::from_secs(59)));
        assert_eq!(wait("eve"), None);
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let lock_out = LockOut::new();
        for n in 0..10 {
            let address = ip(&format!("2001:db8:0:{n:x}::{n}"));
            lock_out.attempt_fails(address, &bearer("wrong"), at(0));
        }
        let wait = |address| lock_out.wait(ip(address), &bearer("other"), at(1));
        assert!(wait("2001:db8:0:ff::1").is_some());
        assert!(wait("2001:db8:0:100::1").is_none());
    }

    #[test]
    fn attempts_under_way_count_and_are_given_back() {
        let lock_out = LockOut::new();
        let enter = |n: u32| lock_out.enter(ip("192.0.2.1"), &login("bob", &n.to_string()), at(0));
        let mut under_way: Vec<_> = (0..10).map(|n| enter(n).unwrap()).collect();
        for n in 10..400 {
            assert_eq!(enter(n).unwrap_err(), Duration::from_secs(1));
        }
        // From elsewhere it is still the same user, and here it is still the same address.
        let wait = |address, user| lock_out.wait(ip(address), &login(user, "x"), at(0));
        assert_eq!(wait("192.0.2.2", "bob"), Some(Duration::from_secs(1)));
        assert_eq!(wait("192.0.2.1", "eve"), Some(Duration::from_secs(1)));
        assert_eq!(wait("192.0.2.2", "eve"), None);
        drop(under_way.pop());
        under_way.push(enter(10).unwrap());
        for (n, leave) in under_way.into_iter().enumerate() {
            let bob = UserId::new("bob");
            let one_too_many = lock_out.fail(leave, ip("192.0.2.1"), bob.as_ref(), at(1));
            assert_eq!(one_too_many, n == 9);
        }
        assert_eq!(enter(11).unwrap_err(), Duration::from_secs(61));
    }

    #[test]
    fn equal_credentials_at_the_same_time_are_one_attempt() {
        let lock_out = LockOut::new();
        let wrong = login("bob", "wrong");
        let enter = || lock_out.enter(ip("192.0.2.1"), &wrong, at(0)).unwrap();
        let leaves: Vec<_> = (0..500).map(|_| enter()).collect();
        for leave in leaves {
            assert!(!lock_out.fail(leave, ip("192.0.2.1"), wrong.user(), at(0)));
        }
        // One after the other they are as many as there are.
        for n in 1..10 {
            assert_eq!(
                lock_out.attempt_fails(ip("192.0.2.1"), &wrong, at(0)),
                n == 9
            );
        }
    }

    #[test]
    fn of_equal_attempts_that_are_given_up_at_once_one_is_left_to_count() {
        const ROUNDS: usize = 20_000;
        let lock_out = LockOut::new();
        let enter = |round: usize| {
            let address = IpAddr::from(u32::try_from(round).unwrap().to_be_bytes());
            let guess = login(&format!("user-{round}"), "wrong");
            lock_out.enter(Some(address), &guess, at(0)).unwrap()
        };
        let leaves = [(); 2].map(|()| (0..ROUNDS).map(enter).collect::<Vec<_>>());
        let arrived = std::sync::atomic::AtomicUsize::new(0);
        let give_up = |leaves: Vec<Leave>| {
            let one_by_one = leaves.into_iter().enumerate().map(|(round, leave)| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                    std::thread::yield_now();
                }
                lock_out.give_up(leave, at(0))
            });
            one_by_one.collect::<Vec<_>>()
        };
        let [one, other] = std::thread::scope(|scope| {
            let threads = leaves.map(|leaves| scope.spawn(|| give_up(leaves)));
            threads.map(|thread| thread.join().unwrap())
        });
        for left in one.iter().zip(&other) {
            let left = || [left.0, left.1].into_iter().flatten();
            assert_eq!(left().filter(|leave| leave.by_address.is_some()).count(), 1);
            assert_eq!(left().filter(|leave| leave.by_user.is_some()).count(), 1);
        }
    }

    #[test]
    fn what_was_good_from_here_is_no_guess() {
        let lock_out = LockOut::new();
        let good = login("bob", "right");
        let leave = lock_out.enter(ip("192.0.2.1"), &good, at(0)).unwrap();
        lock_out.pass(&leave, ip("192.0.2.1"), at(0));
        drop(leave);
        for n in 0..10 {
            lock_out.attempt_fails(ip("192.0.2.1"), &login("bob", &n.to_string()), at(0));
        }
        let wait = |address, login: &Credentials| lock_out.wait(ip(address), login, at(1));
        assert_eq!(wait("192.0.2.1", &good), None);
        assert!(wait("192.0.2.1", &login("bob", "guess")).is_some());
        // A guess that is right must not show from where nobody has logged in with it.
        assert!(wait("192.0.2.2", &good).is_some());
        // Once it fails, it is a guess like any, and one however many requests wait for the verdict.
        let leaves: Vec<_> = (0..20)
            .map(|_| lock_out.enter(ip("192.0.2.1"), &good, at(60)).unwrap())
            .collect();
        for leave in leaves {
            assert!(!lock_out.fail(leave, ip("192.0.2.1"), good.user(), at(60)));
        }
        for n in 1..10 {
            assert_eq!(
                lock_out.attempt_fails(ip("192.0.2.1"), &good, at(60)),
                n == 9
            );
        }
        assert!(lock_out.wait(ip("192.0.2.1"), &good, at(60)).is_some());
    }

    #[test]
    fn a_flood_of_addresses_frees_nobody() {
        let lock_out = LockOut::new();
        let wrong = bearer("wrong");
        for _ in 0..10 {
            lock_out.attempt_fails(ip("192.0.2.1"), &wrong, at(0));
        }
        for n in 0..200_000_u32 {
            lock_out.attempt_fails(Some(IpAddr::from(n.to_be_bytes())), &wrong, at(0));
        }
        assert!(lock_out.wait(ip("192.0.2.1"), &wrong, at(1)).is_some());
        assert!(lock_out.by_address.len() <= LockOut::CAPACITY + 16);
    }

    #[test]
    fn an_address_that_is_locked_out_adds_no_names() {
        let lock_out = LockOut::new();
        for _ in 0..10 {
            lock_out.attempt_fails(ip("192.0.2.1"), &bearer("wrong"), at(0));
        }
        for n in 0..100 {
            let made_up = login(&n.to_string(), "x");
            assert!(lock_out.wait(ip("192.0.2.1"), &made_up, at(0)).is_some());
        }
        assert_eq!(lock_out.by_user.len(), 0);
    }

    #[test]
    fn a_flood_of_names_frees_no_user() {
        let lock_out = LockOut::new();
        let bob = login("bob", "wrong");
        for n in 0..9 {
            assert!(!lock_out.attempt_fails(ip(&format!("192.0.2.{n}")), &bob, at(0)));
        }
        for n in 0..200_000_u32 {
            let made_up = login(&n.to_string(), "x");
            lock_out.attempt_fails(Some(IpAddr::from(n.to_be_bytes())), &made_up, at(0));
        }
        assert!(lock_out.attempt_fails(ip("198.51.100.1"), &bob, at(1)));
        assert!(lock_out.by_user.len() <= LockOut::CAPACITY + 16);
    }
}
