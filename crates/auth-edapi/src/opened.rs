use std::time::{Duration, SystemTime};

use proactions_edge::{SecretDigest, TtlMap};
use proactions_session_store::SessionId;

/// Which session each credential has opened in this process, so that a client that keeps no cookies has one
/// session, not one a request. Bounded.
#[derive(Debug)]
pub(crate) struct OpenedSessions(TtlMap<SecretDigest, Opened>);

#[derive(Clone, Debug)]
enum Opened {
    /// Somebody is storing it right now.
    Pending,
    Open(SessionId),
}

/// What to do for a credential.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Open a session: nobody else will until it is done or given up.
    Open,
    /// Somebody else is opening it; go without.
    Wait,
    /// This one was opened before. It may have ended since.
    GoOnWith(SessionId),
}

impl OpenedSessions {
    const CAPACITY: usize = 10_000;
    /// How long opening may take before another request tries.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// No session lives longer than its policy says; this only bounds how long an id is remembered.
    const MEMORY: Duration = Duration::from_secs(400 * 86_400);

    pub(crate) fn new() -> Self {
        Self(TtlMap::new(Self::CAPACITY))
    }

    /// Whose turn it is to open a session for this credential.
    pub(crate) fn turn(&self, key: SecretDigest, now: SystemTime) -> Turn {
        let mut is_new = false;
        self.0
            .upsert(
                key,
                now,
                || {
                    is_new = true;
                    (Opened::Pending, now + Self::PATIENCE)
                },
                |opened, _| match opened {
                    Opened::Open(id) => Some(id.clone()),
                    Opened::Pending => None,
                },
            )
            .map_or_else(
                || if is_new { Turn::Open } else { Turn::Wait },
                Turn::GoOnWith,
            )
    }

    /// The session that was gone on with has ended: takes the turn to open another, unless somebody has.
    pub(crate) fn replace(&self, key: SecretDigest, ended: &SessionId, now: SystemTime) -> Turn {
        let take = |opened: &mut Opened, ends_at: &mut SystemTime| match opened {
            Opened::Open(id) if id == ended => {
                (*opened, *ends_at) = (Opened::Pending, now + Self::PATIENCE);
                Turn::Open
            }
            _ => Turn::Wait,
        };
        let begin = || (Opened::Open(ended.clone()), now);
        self.0.upsert(key, now, begin, take)
    }

    /// The session is stored.
    pub(crate) fn opened(&self, key: SecretDigest, id: SessionId, now: SystemTime) {
        self.0
            .insert(key, Opened::Open(id), now + Self::MEMORY, now);
    }

    /// The session could not be stored.
    pub(crate) fn forget(&self, key: SecretDigest, now: SystemTime) {
        self.0.remove(&key, now);
    }
}

#[cfg(test)]
mod tests {
    use proactions_edge::DigestKey;

    use super::*;

    #[test]
    fn one_request_opens_and_the_others_go_without_until_it_is_done() {
        let (opened, now) = (OpenedSessions::new(), SystemTime::UNIX_EPOCH);
        let digests = DigestKey::random().unwrap();
        let (a, b) = (digests.digest(b"a"), digests.digest(b"b"));
        assert_eq!(opened.turn(a, now), Turn::Open);
        assert_eq!(opened.turn(a, now), Turn::Wait);
        assert_eq!(opened.turn(b, now), Turn::Open);
        let id = SessionId::random().unwrap();
        opened.opened(a, id.clone(), now);
        assert_eq!(opened.turn(a, now), Turn::GoOnWith(id.clone()));

        // It ended: one opens another.
        assert_eq!(opened.replace(a, &id, now), Turn::Open);
        assert_eq!(opened.replace(a, &id, now), Turn::Wait);
        assert_eq!(opened.turn(a, now), Turn::Wait);
        opened.forget(a, now);
        assert_eq!(opened.turn(a, now), Turn::Open);
        // Whoever opens and never returns holds others back for ten seconds only.
        assert_eq!(opened.turn(a, now + OpenedSessions::PATIENCE), Turn::Open);
    }
}
