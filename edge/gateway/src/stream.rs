//! A connection as the data plane uses it: non-blocking reads and writes that say "not now" instead of waiting, and a
//! way to see whether an idle peer has gone. TLS stands behind the same methods (`tls/session.rs`); a connection without it
//! pays one test of a pointer.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustix::net::RecvFlags;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::queued::queued;
use crate::tls::Session;

/// A quiet tunnel or relay whose peer has vanished is noticed after about this, times three and a bit: the kernel
/// asks, no traffic of the application's is needed.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(30);

/// One TCP connection.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<Session>>,
}

impl Stream {
    /// A connection that a listener accepted.
    pub(crate) fn accepted(tcp: TcpStream) -> Self {
        set_options(&tcp);
        Self { tcp, tls: None }
    }

    /// Connects to `address`; the caller bounds the time.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let tcp = socket.connect(address).await?;
        set_options(&tcp);
        Ok(Self { tcp, tls: None })
    }

    /// From here on, what comes and goes is TLS.
    pub(crate) fn secure(&mut self, session: Session) {
        self.tls = Some(Box::new(session));
    }

    /// Ready when both sides may talk.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(tls) => tls.poll_handshake(&mut self.tcp, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The session, if this is a TLS connection.
    pub(crate) fn tls(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// The address that the peer connected to.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Reads what is there. `Ok(0)`: the peer sends no more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_read(&mut self.tcp, cx, into);
        }
        let mut buffer = ReadBuf::new(into);
        match Pin::new(&mut self.tcp).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes as much as the kernel takes; with TLS, what was taken may be on its way still (see [`Self::is_flushed`]).
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_write(&mut self.tcp, cx, &[IoSlice::new(bytes)]);
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    /// Writes as much of both, one after the other, as the kernel takes right now: maybe nothing.
    pub(crate) fn try_write(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        // The waker is not needed: who wants to wait polls again, and readiness is kept by the runtime till then.
        let cx = &mut Context::from_waker(Waker::noop());
        let written = if let Some(tls) = &mut self.tls {
            tls.poll_write(&mut self.tcp, cx, &[IoSlice::new(first), IoSlice::new(second)])
        } else if second.is_empty() {
            Pin::new(&mut self.tcp).poll_write(cx, first)
        } else {
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            Pin::new(&mut self.tcp).poll_write_vectored(cx, &slices)
        };
        match written {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(0),
        }
    }

    /// Whether the kernel has everything that was written. If not, it goes when the connection is read or written again.
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_flushed())
    }

    /// Ready when the kernel has everything that was written.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(tls) => tls.poll_flush(&mut self.tcp, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Whether bytes may pass through the kernel without our seeing them.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Does something that reads the socket, when it can be read.
    pub(crate) fn poll_readable<T>(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_io(Interest::READABLE, || read(self.tcp.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Does something that writes to the socket, when it can be written to.
    pub(crate) fn poll_writable<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_io(Interest::WRITABLE, || write(self.tcp.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Ready when the connection is broken: it was reset, or its peer has vanished. That the peer only sends no more is no
    /// such thing, it may well wait for an answer.
    pub(crate) async fn broken(&self) {
        loop {
            match self.tcp.ready(Interest::ERROR).await {
                Ok(ready) if ready.is_error() => return,
                Ok(_) => {}
                // The runtime ends, and this with it.
                Err(_) => return,
            }
        }
    }

    /// What the peer has not acknowledged yet.
    pub(crate) fn queued(&self) -> io::Result<u64> {
        queued(self.tcp.as_fd())
    }

    /// Tells the peer that we send no more.
    pub(crate) fn finish_writing(&mut self) {
        if let Some(tls) = &mut self.tls {
            return tls.finish_writing(&mut self.tcp, &mut Context::from_waker(Waker::noop()));
        }
        // The peer may be gone already, which is what is wanted.
        let _ = SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write);
    }

    /// Closing will be a reset: what was sent so far is not all.
    pub(crate) fn reset_on_close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.break_off();
        }
        // The peer may be gone already; nobody is misled then.
        let _ = SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Whether an idle connection has nothing to read, not even its end, as far as the runtime has been told. Costs no
    /// system call.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let tls_is_quiet = self.tls.as_mut().is_none_or(|tls| tls.is_quiet());
        tls_is_quiet && self.tcp.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// The same, asked of the kernel: for requests that must not be sent into a closed connection.
    pub(crate) fn is_quiet_now(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.tcp, &mut byte, flags) {
            Ok(_) => false,
            Err(error) => error == rustix::io::Errno::AGAIN,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.on_drop(&mut self.tcp, &mut Context::from_waker(Waker::noop()));
        }
    }
}

/// Answers are small and must not wait for an acknowledgement; peers that vanish must be noticed. A socket that
/// refuses an option still carries bytes.
fn set_options(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}
