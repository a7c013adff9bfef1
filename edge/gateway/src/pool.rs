//! Idle connections to one instance, of one thread. The one used last goes out first, so that the others grow old and
//! are closed, and what goes out is likely to be warm.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::stream::Stream;

/// Idle connections kept per instance and thread.
const IDLE_CONNECTIONS: usize = 1024;

/// An idle connection older than this is closed. Below the 5 s after which common application servers (Node, gunicorn
/// with threads, uvicorn) close theirs, so that we mostly close first.
const IDLE_TIME: Duration = Duration::from_secs(4);

/// A request that must not be sent twice takes no connection that was idle for longer: the instance may be closing it
/// at this moment, and then nobody knows whether it read the request.
const FRESH_TIME: Duration = Duration::from_millis(1000);

/// What a request needs of a connection that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Any: the request may be sent again if the connection proves dead.
    Any,
    /// One that was used a moment ago and is open as far as the kernel knows.
    Fresh,
}

/// The idle connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    closed: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Duration,
}

impl Pool {
    /// A usable connection, if there is one.
    pub(crate) fn take(&self, now: Duration, reuse: Reuse) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut stream, since }) = idle.pop() {
            let usable = match reuse {
                Reuse::Any => stream.is_quiet(),
                Reuse::Fresh if now.saturating_sub(since) > FRESH_TIME => {
                    // Those below are older still; they stay for others.
                    idle.push(Idle { stream, since });
                    return None;
                }
                Reuse::Fresh => stream.is_quiet() && stream.is_quiet_now(),
            };
            if usable {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection on which an exchange has ended cleanly.
    pub(crate) fn give(&self, now: Duration, stream: Stream) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_CONNECTIONS && !self.closed.get() {
            idle.push(Idle { stream, since: now });
        }
    }

    /// Closes what is old or was closed by the instance.
    pub(crate) fn prune(&self, now: Duration) {
        let fine = |idle: &mut Idle| now.saturating_sub(idle.since) < IDLE_TIME && idle.stream.is_quiet();
        self.idle.borrow_mut().retain_mut(fine);
    }

    /// Says whether the instance gets requests. If not, all are closed, and those that come back will be.
    pub(crate) fn set_open(&self, open: bool) {
        self.closed.set(!open);
        if !open {
            self.idle.borrow_mut().clear();
        }
    }
}
