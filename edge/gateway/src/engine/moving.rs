//! A connection that changes hands: nothing of it may lie in this process that the next one does not get, and from the
//! moment at which it is offered nobody here may read from it or write to it.
//!
//! Nothing is ever under way in io_uring between two turns (`batch.rs`), so what can lie here are bytes that were received
//! ahead and bytes that were written and not taken by the kernel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use super::entry::{Entry, FROZEN, READABLE, SHARED, WRITABLE};
use super::reactor::Reactor;
use super::socket::Socket;

impl Socket {
    /// A connection that another process had.
    ///
    /// # Errors
    /// The kernel refuses to watch it.
    pub(crate) fn adopted(reactor: &Rc<Reactor>, fd: OwnedFd, sends_when_dropped: bool) -> io::Result<Self> {
        Self::new(reactor, fd, READABLE | WRITABLE, sends_when_dropped)
    }

    /// Nothing has gone wrong that is known only here.
    pub(crate) fn is_sound(&self) -> bool {
        !self.has_failed() && self.entry.read_failure.get() == 0
    }

    /// Takes what was received and not read: it comes before all that is read from now on.
    pub(crate) fn take_received(&self, into: &mut Vec<u8>) {
        let mut piece = [0; 4096];
        while let Some(taken) = self.reactor.receives.take(&self.entry, &mut piece) {
            into.extend_from_slice(&piece[..taken]);
        }
    }

    /// Takes what was written and the kernel would not have: it comes before all that is written from now on.
    pub(crate) fn take_unsent(&self) -> Vec<u8> {
        self.reactor.sends.push(&self.entry);
        self.entry.unsent.take()
    }

    /// From now on nothing is read or written here until [`Self::thaw`]; a descriptor for whoever goes on. What was received
    /// or written must have been taken.
    ///
    /// # Errors
    /// The kernel has no descriptors left; then all is as before.
    pub(crate) fn freeze(&self) -> io::Result<OwnedFd> {
        debug_assert!(!self.holds_input() && self.entry.is_flushed(), "what lies here would be lost");
        let fd = self.entry.as_fd().try_clone_to_owned()?;
        self.entry.set(FROZEN | SHARED);
        Ok(fd)
    }

    /// Nobody else has taken it: it goes on here.
    pub(crate) fn thaw(&self) {
        self.entry.unset(FROZEN);
    }
}

impl Reactor {
    /// The socket is given up. If it was offered to another process it may live on there, and would still be watched here.
    pub(super) fn leave_moved(&self, entry: &Entry) {
        match entry.is(SHARED) {
            true => self.leave_shared(entry),
            false => self.leave(entry),
        }
    }
}
