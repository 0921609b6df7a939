//! The limit on open files, which bounds connections before any limit of ours does.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open beside connections: logs, certificates, the run time's own.
const OTHERS: u64 = 64;

/// Raises the process's limit on open files as far as it may go, and returns it; `None` is no limit.
///
/// The usual soft limit of 1,024 is there for programs that use `select`, and is no choice of an operator.
pub(crate) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// How many connections `limit` has room for, if that is fewer than `wanted`.
pub(crate) fn room_for(limit: Option<u64>, wanted: usize) -> Option<u64> {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let room = limit?.saturating_sub(OTHERS);
    (room < wanted).then_some(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_room_for_so_many_connections() {
        for (limit, wanted, room) in [
            (None, usize::MAX, None),
            (Some(10_064), 10_000, None),
            (Some(10_063), 10_000, Some(9_999)),
            (Some(1_024), 10_000, Some(960)),
            (Some(10), 1, Some(0)),
        ] {
            assert_eq!(room_for(limit, wanted), room, "{limit:?}");
        }
    }

    #[test]
    fn raising_never_lowers() {
        let before = getrlimit(Resource::Nofile);
        let raised = raise_limit();
        assert_eq!(raised, getrlimit(Resource::Nofile).current);
        assert!(raised.unwrap_or(u64::MAX) >= before.current.unwrap_or(u64::MAX));
    }
}
