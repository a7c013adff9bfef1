//! How many descriptors the worker may have open, and how many connections that allows.
//!
//! Only the worker's own limit is raised. Instances are the keeper's children and keep the one that everup was started
//! with: programs that use select(2) are broken by descriptors above 1023.

use everup_core::config::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A client's connection and the one to an instance.
const PER_CONNECTION: u64 = 2;

/// What is open beside connections: sockets, logs, probes, idle connections to instances.
const RESERVE: u64 = 256;

/// Raises the limit as far as it goes without rights.
pub(crate) fn raise() {
    let Rlimit { current: _, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// As many of the allowed connections as there are descriptors for: above that, new ones wait in the accept queue, while
/// those that were accepted can still reach an instance.
pub(crate) fn connections(limits: &Limits) -> usize {
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    limits.connections.min(possible(current))
}

/// Tells the operator when there are fewer descriptors than connections are allowed.
pub(crate) fn tell(limits: &Limits) {
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    let possible = possible(current);
    if possible < limits.connections {
        tracing::info!(
            "takes {possible} connections at once, fewer than limits.connections: {} files may be open (ulimit -Hn)",
            current.unwrap_or(u64::MAX)
        );
    }
}

fn possible(limit: Option<u64>) -> usize {
    let connections = limit.map(|limit| (limit.saturating_sub(RESERVE) / PER_CONNECTION).max(1));
    connections.and_then(|connections| usize::try_from(connections).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[test]
    fn connections_leave_room_for_everything_else() {
        assert_eq!(possible(Some(20_256)), 10_000);
        assert_eq!(possible(Some(100)), 1);
        assert_eq!(possible(None), usize::MAX);
    }
}
