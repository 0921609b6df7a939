use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proactions_edge::{Principal, SecretDigest, TtlMap};

/// What EDAPI last said about each credential. Bounded; a flood of bad credentials does not push good ones out.
#[derive(Debug)]
pub(super) struct Cache(TtlMap<SecretDigest, Known>);

/// How long answers count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long a yes counts.
    pub(super) revalidate_after: Duration,
    /// How much longer it lets open sessions go on while EDAPI is unavailable.
    pub(super) stale_if_error: Duration,
}

/// A yes.
#[derive(Debug)]
pub(super) struct Yes {
    pub(super) principal: Principal,
    /// When EDAPI was asked. The answer may have been true then and not any more when it came.
    pub(super) at: SystemTime,
    /// What a session keeps.
    pub(super) proof: Option<Arc<str>>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Yes(Arc<Yes>),
    /// A no, and when EDAPI was asked.
    No(SystemTime),
    Unavailable,
}

/// What is known about one credential.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The last yes. One that a no came after only keeps a flood from pushing that no out.
    yes: Option<Arc<Yes>>,
    /// When EDAPI was asked and said no, unless a yes came after it.
    no: Option<SystemTime>,
    last: Last,
    at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Yes,
    No,
    Unavailable,
}

impl Terms {
    /// How long a no counts: what was just made valid must soon be let in.
    const NO: Duration = Duration::from_secs(1);
    /// How long nobody is asked about a credential after it could not be told.
    const PAUSE: Duration = Duration::from_millis(500);
    /// The same for an open session, which goes on without waiting.
    const SESSION_PAUSE: Duration = Duration::from_secs(5);
    /// How long a failed call is remembered.
    const FAILURE: Duration = Duration::from_secs(60);

    /// Whether a yes of that time still counts.
    pub(super) fn is_fresh(&self, yes_at: SystemTime, now: SystemTime) -> bool {
        age(yes_at, now) < self.revalidate_after
    }

    /// Whether a session with a yes of that time goes on while EDAPI is unavailable.
    pub(super) fn may_go_on(&self, yes_at: SystemTime, now: SystemTime) -> bool {
        age(yes_at, now) < self.revalidate_after + self.stale_if_error
    }
}

impl Cache {
    const CAPACITY: usize = 50_000;

    pub(super) fn new() -> Self {
        Self(TtlMap::new(Self::CAPACITY).keeping(|known: &Known| known.yes.is_some()))
    }

    pub(super) fn get(&self, key: &SecretDigest, now: SystemTime) -> Option<Known> {
        self.0.get(key, now)
    }

    /// What need not be asked again.
    pub(super) fn fresh(
        &self,
        key: &SecretDigest,
        terms: &Terms,
        now: SystemTime,
    ) -> Option<Outcome> {
        self.get(key, now)?.fresh(terms, now)
    }

    pub(super) fn note(
        &self,
        key: SecretDigest,
        outcome: &Outcome,
        terms: &Terms,
        now: SystemTime,
    ) {
        // As long as a session could go on without another answer.
        let until = |at: SystemTime| at + terms.revalidate_after + terms.stale_if_error;
        let begin = || (Known::nothing(now), now);
        self.0.upsert(key, now, begin, |known, ends_at| {
            known.at = now;
            match outcome {
                Outcome::Yes(yes) => {
                    known.last = Last::Yes;
                    (known.yes, known.no) = (Some(yes.clone()), None);
                    *ends_at = until(yes.at);
                }
                Outcome::No(at) => {
                    known.last = Last::No;
                    known.no = Some(*at);
                    *ends_at = until(now);
                }
                Outcome::Unavailable => {
                    known.last = Last::Unavailable;
                    *ends_at = (*ends_at).max(now + Terms::FAILURE);
                }
            }
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Known {
    const fn nothing(at: SystemTime) -> Self {
        Self {
            yes: None,
            no: None,
            last: Last::Unavailable,
            at,
        }
    }

    /// The last yes, unless a no came after it.
    pub(super) fn yes(&self) -> Option<&Yes> {
        self.yes.as_deref().filter(|_| self.no.is_none())
    }

    fn fresh(&self, terms: &Terms, now: SystemTime) -> Option<Outcome> {
        match (self.last, &self.yes) {
            (Last::Yes, Some(yes)) if terms.is_fresh(yes.at, now) => {
                Some(Outcome::Yes(yes.clone()))
            }
            (Last::No, _) if self.just_refused(now) => self.no.map(Outcome::No),
            (Last::Unavailable, _) if age(self.at, now) < Terms::PAUSE => {
                Some(Outcome::Unavailable)
            }
            _ => None,
        }
    }

    /// Whether EDAPI has said no, and nothing else since, after a yes of that time. Such a yes is over, but EDAPI
    /// may have changed its mind: unless it has [just](Self::just_refused) said so, it has to be asked.
    pub(super) fn is_refused_after(&self, yes_at: SystemTime) -> bool {
        self.no.is_some_and(|no| no >= yes_at)
    }

    /// Whether EDAPI said no a moment ago, so that it need not be asked again yet.
    pub(super) fn just_refused(&self, now: SystemTime) -> bool {
        self.last == Last::No && age(self.at, now) < Terms::NO
    }

    /// Whether the last call about it failed a moment ago, so that a session's need not be tried again yet.
    pub(super) fn just_failed(&self, now: SystemTime) -> bool {
        self.last == Last::Unavailable && age(self.at, now) < Terms::SESSION_PAUSE
    }

    /// Whether the last call about it failed, and not long ago.
    pub(super) fn is_failing(&self, now: SystemTime) -> bool {
        self.last == Last::Unavailable && age(self.at, now) < Terms::FAILURE
    }
}

/// How long ago `then` is. The clocks of several hubs differ a little, so a time just ahead is now; one far ahead
/// is no time at all, and counts as long ago.
fn age(then: SystemTime, now: SystemTime) -> Duration {
    const SKEW: Duration = Duration::from_secs(60);
    match now.duration_since(then) {
        Ok(age) => age,
        Err(ahead) if ahead.duration() <= SKEW => Duration::ZERO,
        Err(_) => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proactions_edge::{AuthMethod, DigestKey};

    use super::*;

    const TERMS: Terms = Terms {
        revalidate_after: Duration::from_secs(300),
        stale_if_error: Duration::from_secs(600),
    };

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_millis(millis)
    }

    fn yes(at: SystemTime) -> Outcome {
        Outcome::Yes(Arc::new(Yes {
            principal: Principal::new("bob", AuthMethod::Edapi),
            at,
            proof: None,
        }))
    }

    fn name(outcome: Option<&Outcome>) -> &'static str {
        match outcome {
            Some(Outcome::Yes(_)) => "yes",
            Some(Outcome::No(_)) => "no",
            Some(Outcome::Unavailable) => "unavailable",
            None => "ask",
        }
    }

    #[test]
    fn each_answer_has_its_time() {
        let key = DigestKey::random().unwrap().digest(b"x");
        for (outcome, times) in [
            (yes(at(0)), [(0, "yes"), (299_999, "yes"), (300_000, "ask")]),
            (Outcome::No(at(0)), [(0, "no"), (999, "no"), (1000, "ask")]),
            (
                Outcome::Unavailable,
                [(0, "unavailable"), (499, "unavailable"), (500, "ask")],
            ),
        ] {
            let cache = Cache::new();
            cache.note(key, &outcome, &TERMS, at(0));
            for (millis, expected) in times {
                let found = cache.fresh(&key, &TERMS, at(millis));
                assert_eq!(name(found.as_ref()), expected, "{outcome:?} {millis}");
            }
        }
    }

    #[test]
    fn a_failure_keeps_the_last_yes_and_a_no_ends_it() {
        let (cache, key) = (Cache::new(), DigestKey::random().unwrap().digest(b"x"));
        cache.note(key, &yes(at(0)), &TERMS, at(0));
        cache.note(key, &Outcome::Unavailable, &TERMS, at(300_000));
        let known = cache.get(&key, at(300_000)).unwrap();
        assert!(
            known.yes().is_some()
                && known.is_failing(at(359_999))
                && !known.is_refused_after(at(0))
        );
        assert!(known.just_failed(at(304_999)) && !known.just_failed(at(305_000)));
        assert!(!known.is_failing(at(360_000)));
        cache.note(key, &Outcome::No(at(300_500)), &TERMS, at(301_000));
        // However often it fails afterwards, and as long as a session could go on.
        for millis in [301_000, 302_000, 303_000, 1_200_999] {
            let known = cache.get(&key, at(millis)).unwrap();
            assert!(known.yes().is_none() && known.is_refused_after(at(300_500)));
            assert!(!known.is_refused_after(at(300_501)));
            cache.note(key, &Outcome::Unavailable, &TERMS, at(millis));
        }
        cache.note(key, &yes(at(1_201_000)), &TERMS, at(1_201_000));
        let known = cache.get(&key, at(1_201_000)).unwrap();
        assert!(known.yes().is_some() && !known.is_refused_after(at(301_000)));
    }

    #[test]
    fn a_time_ahead_does_not_count_for_long() {
        assert!(TERMS.is_fresh(at(60_000), at(0)));
        assert!(!TERMS.is_fresh(at(60_001), at(0)));
        assert!(!TERMS.may_go_on(at(60_001), at(0)));
        assert!(TERMS.may_go_on(at(0), at(899_999)));
        assert!(!TERMS.may_go_on(at(0), at(900_000)));
    }

    #[test]
    fn a_flood_of_bad_credentials_leaves_the_good_ones() {
        let (cache, digests) = (Cache::new(), DigestKey::random().unwrap());
        cache.note(digests.digest(b"good"), &yes(at(0)), &TERMS, at(0));
        let revoked = digests.digest(b"revoked");
        cache.note(revoked, &yes(at(0)), &TERMS, at(0));
        cache.note(revoked, &Outcome::No(at(0)), &TERMS, at(0));
        for n in 0..100_000_u32 {
            cache.note(
                digests.digest(&n.to_be_bytes()),
                &Outcome::No(at(0)),
                &TERMS,
                at(0),
            );
        }
        let known = cache.get(&digests.digest(b"revoked"), at(1)).unwrap();
        assert!(known.is_refused_after(at(0)));
        let found = cache.fresh(&digests.digest(b"good"), &TERMS, at(1));
        assert_eq!(name(found.as_ref()), "yes");
        assert!(cache.len() <= Cache::CAPACITY + 16);
    }
}
