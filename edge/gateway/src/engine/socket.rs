//! Sockets of a data-plane thread: reads and writes that say "not now" instead of waiting, on top of what the reactor
//! knows. What the bytes mean, and TLS, are for others.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType};

use super::entry::{BROKEN, ENDED, Entry, FROZEN, READABLE, URGENT, WRITABLE};
use super::reactor::Reactor;
use super::sends;

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) entry: Rc<Entry>,
    pub(super) reactor: Rc<Reactor>,
    /// What was written goes out even if the connection is given up in the same turn.
    sends_when_dropped: bool,
}

impl Socket {
    /// Connects to `address`. What is written to the connection and not sent when it is dropped is not sent at all.
    ///
    /// # Errors
    /// The kernel's, and the peer's refusal.
    pub(crate) async fn connect(reactor: &Rc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let connected = rustix::net::connect(&fd, &address);
        let socket = Self::new(reactor, fd, 0, false)?;
        match connected.map_err(io::Error::from) {
            Ok(()) => return Ok(socket),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        poll_fn(|cx| socket.poll_ready(WRITABLE, cx)).await;
        rustix::net::sockopt::socket_error(&socket.entry)??;
        Ok(socket)
    }

    pub(super) fn new(
        reactor: &Rc<Reactor>,
        fd: OwnedFd,
        ready: u8,
        sends_when_dropped: bool,
    ) -> io::Result<Self> {
        let entry = reactor.enter(fd, ready)?;
        Ok(Self { entry, reactor: Rc::clone(reactor), sends_when_dropped })
    }

    /// Reads what is there. `Ok(0)`: the peer sends no more.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let entry = &*self.entry;
        if !self.may_go_on(cx) {
            return Poll::Pending;
        }
        if let Some(read) = self.reactor.receives.take(entry, into) {
            return Poll::Ready(Ok(read));
        }
        if let Some(error) = entry.take_read_failure() {
            return Poll::Ready(Err(error));
        }
        if entry.is(READABLE) {
            match rustix::io::retry_on_intr(|| rustix::net::recv(entry, &mut *into, RecvFlags::DONTWAIT)) {
                Ok((read, _)) => {
                    entry.on_read(read, into.len());
                    return Poll::Ready(Ok(read));
                }
                Err(rustix::io::Errno::AGAIN) => entry.unset(READABLE),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        entry.wants.set(u32::try_from(into.len()).unwrap_or(u32::MAX));
        entry.reader.wait(cx.waker());
        Poll::Pending
    }

    /// Writes as much of both, one after the other, as is taken.
    pub(crate) fn poll_write(
        &self,
        cx: &Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.may_go_on(cx) {
            return Poll::Pending;
        }
        match self.try_write(first, second) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.entry.writer.wait(cx.waker());
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }

    /// Writes as much of both, one after the other, as is taken at once.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is; the connection's own errors, also those of writes before.
    pub(crate) fn try_write(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let entry = &self.entry;
        let nothing = first.is_empty() && second.is_empty();
        if nothing || entry.staged.get() == 0 && !self.reactor.gathers() {
            return self.write_now(first, second);
        }
        if self.may_stage() && self.reactor.sends.stage(entry, first, second) {
            return Ok(first.len() + second.len());
        }
        self.reactor.sends.push(entry);
        self.write_now(first, second)
    }

    fn may_stage(&self) -> bool {
        self.entry.is(WRITABLE) && self.entry.failure.get().is_none() && self.entry.unsent.borrow().is_empty()
    }

    fn write_now(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let entry = &*self.entry;
        if let Some(failure) = entry.failure.get() {
            return Err(failure.into());
        }
        if !entry.is(WRITABLE) || !entry.unsent.borrow().is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = match second {
            [] => sends::send(entry, first),
            _ => send_both(entry, first, second),
        };
        match &written {
            Ok(written) => {
                entry.on_sent(*written);
                if *written < first.len() + second.len() {
                    entry.unset(WRITABLE);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => entry.unset(WRITABLE),
            Err(_) => {}
        }
        written
    }

    /// Does something that reads the descriptor, when it can be read. Nothing must be received here already, see
    /// [`Self::holds_input`].
    pub(crate) fn poll_readable<T>(
        &self,
        cx: &Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        debug_assert!(!self.holds_input(), "what was received already would come too late");
        self.entry.wants.set(0);
        self.poll_io(READABLE, cx, |entry| read(entry.as_fd()))
    }

    /// Does something that writes to the descriptor, when it can be written to and all before it is out.
    pub(crate) fn poll_writable<T>(
        &self,
        cx: &Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.reactor.sends.push(&self.entry);
        if let Some(failure) = self.entry.failure.get() {
            return Poll::Ready(Err(failure.into()));
        }
        self.poll_io(WRITABLE, cx, |entry| write(entry.as_fd()))
    }

    fn poll_io<T>(
        &self,
        state: u8,
        cx: &Context<'_>,
        mut call: impl FnMut(&Entry) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        if !self.may_go_on(cx) {
            return Poll::Pending;
        }
        while self.entry.is(state) {
            match call(&self.entry) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.entry.unset(state),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        let waiter = if state == READABLE { &self.entry.reader } else { &self.entry.writer };
        waiter.wait(cx.waker());
        Poll::Pending
    }

    /// Whether bytes were received that nobody has read yet.
    pub(crate) fn holds_input(&self) -> bool {
        self.entry.holds_input()
    }

    /// Whether the kernel may pass on what comes: nothing was received here already, and nothing urgent, at which it would
    /// stop for good.
    pub(crate) fn may_splice(&self) -> bool {
        !self.holds_input() && !self.entry.is(URGENT)
    }

    /// What was written goes to the kernel now, as much as it takes, and not at the end of the turn.
    pub(crate) fn send_now(&self) {
        self.reactor.sends.push(&self.entry);
    }

    /// Ready when the kernel has everything that was written.
    ///
    /// # Errors
    /// It never will.
    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.send_now();
        if let Some(failure) = self.entry.failure.get() {
            return Poll::Ready(Err(failure.into()));
        }
        if self.entry.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.entry.writer.wait(cx.waker());
        Poll::Pending
    }

    /// How many bytes were written that the kernel would not take yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.entry.unsent.borrow().len() as u64
    }

    /// Waits until the connection is broken: it was reset, or its peer has vanished.
    pub(crate) async fn broken(&self) {
        poll_fn(|cx| {
            if self.entry.is(BROKEN) {
                return Poll::Ready(());
            }
            self.entry.breaking.wait(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// How many bytes the kernel has taken so far.
    pub(crate) fn passed(&self) -> u64 {
        self.entry.passed.get()
    }

    /// Whether bytes that were written are lost.
    pub(crate) fn has_failed(&self) -> bool {
        self.entry.failure.get().is_some()
    }

    /// Whether something was written that is not to be sent if this is dropped now.
    pub(crate) fn may_be_given_up(&self) -> bool {
        !self.sends_when_dropped && !self.entry.is_flushed()
    }

    /// Tells the peer that we send no more, after all that was written.
    pub(crate) fn finish_writing(&self) {
        if self.entry.is(FROZEN) {
            return;
        }
        self.reactor.sends.push(&self.entry);
        match self.entry.is_flushed() {
            true => sends::finish(&self.entry),
            false => self.entry.finishing.set(true),
        }
    }

    /// Whether there is nothing to read, not even the end, as far as the kernel has told. It is asked only when the last
    /// read got all that it had room for.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.holds_input() && !self.entry.is(ENDED) && (!self.entry.is(READABLE) || self.is_empty_now())
    }

    /// The same, asked of the kernel in any case.
    pub(crate) fn is_quiet_now(&self) -> bool {
        !self.holds_input() && self.is_empty_now()
    }

    fn is_empty_now(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.entry, &mut [0u8; 1], flags);
        let empty = peeked.is_err_and(|error| error == rustix::io::Errno::AGAIN);
        if empty {
            self.entry.unset(READABLE);
        }
        empty
    }

    /// False: the task has done its share for this turn, and will be run again in the next one.
    fn may_go_on(&self, cx: &Context<'_>) -> bool {
        self.reactor.poll_spend(cx).is_ready()
    }

    fn poll_ready(&self, state: u8, cx: &Context<'_>) -> Poll<()> {
        if self.entry.is(state) {
            return Poll::Ready(());
        }
        let waiter = if state == READABLE { &self.entry.reader } else { &self.entry.writer };
        waiter.wait(cx.waker());
        Poll::Pending
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        match self.sends_when_dropped {
            true => self.reactor.sends.push(&self.entry),
            false => self.reactor.sends.forget(&self.entry),
        }
        self.reactor.leave_moved(&self.entry);
    }
}

fn send_both(entry: &Entry, first: &[u8], second: &[u8]) -> io::Result<usize> {
    let slices = [IoSlice::new(first), IoSlice::new(second)];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let send = || rustix::net::sendmsg(entry, &slices, &mut SendAncillaryBuffer::default(), flags);
    Ok(rustix::io::retry_on_intr(send)?)
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    entry: Rc<Entry>,
    reactor: Rc<Reactor>,
}

impl Listener {
    pub(super) fn new(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<Self> {
        let entry = reactor.enter(fd, READABLE)?;
        Ok(Self { entry, reactor: Rc::clone(reactor) })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Of accepting; the next try may succeed.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection that is already there; None: there is none. Whoever calls this until then gets all of them.
    pub(crate) fn accept_waiting(&self) -> Option<io::Result<(Socket, SocketAddr)>> {
        match rustix::net::acceptfrom_with(&self.entry, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((fd, peer)) => Some(self.accepted(fd, peer)),
            Err(rustix::io::Errno::AGAIN) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        ready!(self.reactor.poll_spend(cx));
        if self.entry.is(READABLE) {
            match rustix::net::acceptfrom_with(&self.entry, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => return Poll::Ready(self.accepted(fd, peer)),
                Err(rustix::io::Errno::AGAIN) => self.entry.unset(READABLE),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.entry.reader.wait(cx.waker());
        Poll::Pending
    }

    fn accepted(
        &self,
        fd: OwnedFd,
        peer: Option<rustix::net::SocketAddrAny>,
    ) -> io::Result<(Socket, SocketAddr)> {
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        let peer = peer.ok_or(ErrorKind::AddrNotAvailable)?;
        Ok((Socket::new(&self.reactor, fd, READABLE | WRITABLE, true)?, peer))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reactor.leave_shared(&self.entry);
    }
}
