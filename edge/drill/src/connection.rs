//! One connection of a drill, plain or secured, and how it is made.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::ledger::Loss;
use crate::target::Target;
use crate::{DrillError, Trust};

/// How to connect to one place.
#[derive(Clone)]
pub(crate) struct Dial {
    address: SocketAddr,
    secure: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection.
pub(crate) enum Connection {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Dial {
    /// To where `target` points. `host`: the name to ask for, where it is another one than the URL's.
    pub(crate) fn new(target: &Target, host: Option<&str>, trust: &Trust) -> Result<Self, DrillError> {
        let Some(name) = &target.secure else { return Ok(Self { address: target.address, secure: None }) };
        let name = host.map_or(name.as_str(), without_port).to_owned();
        let server = ServerName::try_from(name.clone()).map_err(|_| DrillError::ServerName(name))?;
        let connector = TlsConnector::from(Arc::clone(&trust.client()?));
        Ok(Self { address: target.address, secure: Some((connector, server)) })
    }

    /// Connects, and shakes hands where that is wanted.
    pub(crate) async fn connect(&self, deadline: Instant) -> Result<Connection, Loss> {
        let stream = match timeout_at(deadline, TcpStream::connect(self.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(Loss::ConnectRefused);
            }
            Ok(Err(_)) => return Err(Loss::ConnectFailed),
            Err(_) => return Err(Loss::ConnectTimeout),
        };
        stream.set_nodelay(true).map_err(|_| Loss::ConnectFailed)?;
        let Some((connector, name)) = &self.secure else { return Ok(Connection::Plain(stream)) };
        match timeout_at(deadline, connector.connect(name.clone(), stream)).await {
            Ok(Ok(stream)) => Ok(Connection::Secure(Box::new(stream))),
            Ok(Err(_)) => Err(Loss::HandshakeFailed),
            Err(_) => Err(Loss::ConnectTimeout),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Connection {
    /// Whether the peer has given no sign of having closed it, as any client would look before it writes. What comes
    /// unasked on an idle connection is such a sign, too: the end of TLS, or nonsense.
    pub(crate) fn is_quiet(&self) -> bool {
        // Asked of the kernel, not of tokio's memory of its last event.
        let (flags, byte) = (RecvFlags::PEEK | RecvFlags::DONTWAIT, &mut [0]);
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream.get_ref().0,
        };
        recv(socket, byte, flags).is_err_and(|error| error == Errno::WOULDBLOCK)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_name() {
        assert_eq!(without_port("shop.example:8443"), "shop.example");
        assert_eq!(without_port("shop.example"), "shop.example");
    }
}
