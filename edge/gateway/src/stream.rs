//! A connection as the data plane uses it: non-blocking reads and writes that say "not now" instead of waiting, and a
//! way to see whether an idle peer has gone. TLS stands behind the same methods (`tls/session.rs`); a connection without it
//! pays one test of a pointer.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, Waker, ready};

use socket2::{SockRef, TcpKeepalive};

use crate::engine::{Engine, Socket};
use crate::tls::Session;
use crate::unacknowledged::unacknowledged;

/// A quiet tunnel or relay whose peer has vanished is noticed after about this, times three and a bit: the kernel
/// asks, no traffic of the application's is needed.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(30);

/// One TCP connection.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: Socket,
    tls: Option<Box<Session>>,
}

impl Stream {
    /// A connection that a listener accepted.
    pub(crate) fn accepted(tcp: Socket) -> Self {
        set_options(&tcp);
        Self { tcp, tls: None }
    }

    /// Connects to `address`; the caller bounds the time.
    pub(crate) async fn connect(engine: &Engine, address: SocketAddr) -> io::Result<Self> {
        let tcp = Socket::connect(engine.reactor(), address).await?;
        set_options(&tcp);
        Ok(Self { tcp, tls: None })
    }

    /// From here on, what comes and goes is TLS.
    pub(crate) fn secure(&mut self, session: Session) {
        self.tls = Some(Box::new(session));
    }

    /// Ready when both sides may talk.
    pub(crate) fn poll_handshake(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(tls) => tls.poll_handshake(&self.tcp, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The session, if this is a TLS connection.
    pub(crate) fn tls(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// The address that the peer connected to.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.tcp).local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Reads what is there. `Ok(0)`: the peer sends no more.
    pub(crate) fn poll_read(&mut self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            Some(tls) => tls.poll_read(&self.tcp, cx, into),
            None => self.tcp.poll_read(cx, into),
        }
    }

    /// Writes as much as is taken. What was taken may be on its way still (see [`Self::is_flushed`]).
    pub(crate) fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            Some(tls) => tls.poll_write(&self.tcp, cx, &[IoSlice::new(bytes)]),
            None => self.tcp.poll_write(cx, bytes, &[]),
        }
    }

    /// Writes as much of both, one after the other, as is taken right now: maybe nothing.
    pub(crate) fn try_write(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        // The waker is not needed: who wants to wait polls again, and readiness is kept by the engine till then.
        let cx = &Context::from_waker(Waker::noop());
        let written = match &mut self.tls {
            Some(tls) => tls.poll_write(&self.tcp, cx, &[IoSlice::new(first), IoSlice::new(second)]),
            None => match self.tcp.try_write(first, second) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                written => Poll::Ready(written),
            },
        };
        match written {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(0),
        }
    }

    /// Whether all that was written is on its way. If not, it goes when the kernel takes more, or when the connection is
    /// read or written again.
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_flushed()) && self.tcp.unsent() == 0
    }

    /// What was written goes to the kernel now, as much as it takes, and not at the end of the turn.
    pub(crate) fn send_now(&self) {
        self.tcp.send_now();
    }

    /// Ready when the kernel has everything that was written.
    pub(crate) fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            ready!(tls.poll_flush(&self.tcp, cx))?;
        }
        self.tcp.poll_flush(cx)
    }

    /// How many bytes the kernel has taken so far.
    pub(crate) fn passed(&self) -> u64 {
        self.tcp.passed()
    }

    /// Whether bytes that were written are lost.
    pub(crate) fn has_failed(&self) -> bool {
        self.tcp.has_failed()
    }

    /// Whether another process could go on with it: nothing has gone wrong that only this one knows.
    pub(crate) fn may_move(&self) -> bool {
        self.is_plain() && self.tcp.is_sound()
    }

    /// Takes what was received and not read: it comes before all that is read from now on.
    pub(crate) fn take_received(&self, into: &mut Vec<u8>) {
        self.tcp.take_received(into);
    }

    /// Takes what was written and the kernel would not have: it comes before all that is written from now on.
    pub(crate) fn take_unsent(&self) -> Vec<u8> {
        self.tcp.take_unsent()
    }

    /// From now on it is not touched here until [`Self::thaw`]; a descriptor for whoever goes on.
    pub(crate) fn freeze(&self) -> io::Result<OwnedFd> {
        self.tcp.freeze()
    }

    /// Nobody else has taken it: it goes on here.
    pub(crate) fn thaw(&self) {
        self.tcp.thaw();
    }

    /// Whether bytes may pass through the kernel without our seeing them.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether that can begin now.
    pub(crate) fn may_splice(&self) -> bool {
        self.is_plain() && self.tcp.may_splice()
    }

    /// Does something that reads the socket, when it can be read.
    pub(crate) fn poll_readable<T>(
        &self,
        cx: &Context<'_>,
        read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.tcp.poll_readable(cx, read)
    }

    /// Does something that writes to the socket, when it can be written to.
    pub(crate) fn poll_writable<T>(
        &self,
        cx: &Context<'_>,
        write: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.tcp.poll_writable(cx, write)
    }

    /// Ready when the connection is broken: it was reset, or its peer has vanished. That the peer only sends no more is no
    /// such thing, it may well wait for an answer.
    pub(crate) async fn broken(&self) {
        self.tcp.broken().await;
    }

    /// What the peer has not acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> io::Result<u64> {
        let held = self.tls.as_ref().map_or(0, |tls| tls.held());
        unacknowledged(self.tcp.as_fd()).map(|bytes| bytes + self.tcp.unsent() + held as u64)
    }

    /// Tells the peer that we send no more.
    pub(crate) fn finish_writing(&mut self) {
        match &mut self.tls {
            Some(tls) => tls.finish_writing(&self.tcp, &Context::from_waker(Waker::noop())),
            None => self.tcp.finish_writing(),
        }
    }

    /// What was sent so far may not be all: within TLS nobody will be told that this is the end.
    pub(crate) fn break_off(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.break_off();
        }
    }

    /// Closing will be a reset: what was sent so far is not all.
    pub(crate) fn reset_on_close(&mut self) {
        self.break_off();
        // The peer may be gone already; nobody is misled then.
        let _ = SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Whether an idle connection has nothing to read, not even its end, as far as the kernel has told. Costs no system
    /// call, but for one after a read that took all there was room for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.tls.as_mut().is_none_or(|tls| tls.is_quiet()) && self.tcp.is_quiet()
    }

    /// The same, asked of the kernel: for requests that must not be sent into a closed connection.
    pub(crate) fn is_quiet_now(&self) -> bool {
        self.tcp.is_quiet_now()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A goodbye would push out what is given up, and tell the peer of it.
        if let Some(tls) = self.tls.as_mut().filter(|_| !self.tcp.may_be_given_up()) {
            tls.on_drop(&self.tcp, &Context::from_waker(Waker::noop()));
            self.tcp.send_now();
        }
    }
}

/// Answers are small and must not wait for an acknowledgement; peers that vanish must be noticed. A socket that
/// refuses an option still carries bytes.
fn set_options(tcp: &Socket) {
    let socket = SockRef::from(tcp);
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
}
