//! One TLS session over a connection: the same non-blocking reads and writes as without. It keeps what rustls and the
//! kernel have not taken from each other yet; who waits for a write to be gone asks [`Session::is_flushed`].

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection,
};

use crate::engine::Socket;

/// What is asked of the kernel at a time: one full record and most of the next.
const READ_BYTES: usize = 32 * 1024;

/// The state of a TLS connection.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    /// Read from the kernel, not yet taken by rustls: it holds no more than some plaintext at a time.
    ahead: Vec<u8>,
    /// Of what was written: how much the kernel has not taken, the few bytes that encryption adds aside.
    held: usize,
    /// The peer's end of the connection was seen, be it announced or not.
    ended: bool,
    /// Nothing is to be said at the end any more.
    silent: bool,
    /// The kernel is to be told that we send no more, once all is out.
    finishing: bool,
}

impl Session {
    /// `ahead`: what was read of the connection already.
    pub(super) fn server(config: Arc<ServerConfig>, ahead: Vec<u8>) -> Result<Self, rustls::Error> {
        let connection = ServerConnection::new(config)?.into();
        Ok(Self::new(connection, ahead))
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(ClientConnection::new(config, name)?.into(), Vec::new()))
    }

    fn new(connection: Connection, ahead: Vec<u8>) -> Self {
        Self { connection, ahead, held: 0, ended: false, silent: false, finishing: false }
    }

    /// Gets as far as the peer lets us; ready when both sides may talk.
    pub(crate) fn poll_handshake(&mut self, tcp: &Socket, cx: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(tcp, cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = ready!(self.poll_fill(tcp, cx)) {
                // The peer is told why, if it can be.
                let _ = self.poll_flush(tcp, cx);
                self.silent = true;
                return Poll::Ready(Err(error));
            }
        }
    }

    /// The certificate that the peer has shown and proved to own.
    pub(crate) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates().and_then(<[_]>::first)
    }

    /// The version that was agreed on, `1.2` or `1.3`.
    pub(crate) fn version(&self) -> Option<&'static str> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// The host that a client wants (SNI), or nothing.
    pub(crate) fn wanted_host(&self) -> &str {
        match &self.connection {
            Connection::Server(server) => server.server_name().unwrap_or_default(),
            Connection::Client(_) => "",
        }
    }

    /// The protocol that was agreed on (ALPN), or nothing.
    pub(crate) fn protocol(&self) -> &[u8] {
        self.connection.alpn_protocol().unwrap_or_default()
    }

    /// An earlier session goes on: certificates were shown then.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn poll_read(
        &mut self,
        tcp: &Socket,
        cx: &Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            // Whoever reads may wait for an answer to what is not out yet. That it cannot be written, reading will tell.
            let _ = self.poll_flush(tcp, cx);
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            if let Err(error) = ready!(self.poll_fill(tcp, cx)) {
                let _ = self.poll_flush(tcp, cx);
                self.silent = true;
                return Poll::Ready(Err(error));
            }
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        tcp: &Socket,
        cx: &Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(tcp, cx))?;
        let taken = self.connection.writer().write_vectored(bytes)?;
        self.held += taken;
        // Whether it went is found out by the next call: these bytes are ours now.
        let _ = self.poll_flush(tcp, cx);
        Poll::Ready(Ok(taken))
    }

    /// How much of what was written the kernel does not have.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether the kernel has everything that was written.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.connection.wants_write()
    }

    pub(crate) fn poll_flush(&mut self, tcp: &Socket, cx: &Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Wire { tcp, cx }) {
                Ok(written) => self.held = self.held.saturating_sub(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.held = 0;
        if std::mem::take(&mut self.finishing) {
            // The peer may be gone already, which is what is wanted.
            tcp.finish_writing();
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that we send no more, once all before it is out.
    pub(crate) fn finish_writing(&mut self, tcp: &Socket, cx: &Context<'_>) {
        self.say_goodbye();
        self.finishing = true;
        let _ = self.poll_flush(tcp, cx);
    }

    /// The connection is being dropped: the peer is told if the kernel takes it at once.
    pub(crate) fn on_drop(&mut self, tcp: &Socket, cx: &Context<'_>) {
        if !self.connection.is_handshaking() {
            self.say_goodbye();
            let _ = self.poll_flush(tcp, cx);
        }
    }

    fn say_goodbye(&mut self) {
        if !std::mem::replace(&mut self.silent, true) {
            self.connection.send_close_notify();
        }
    }

    /// What was sent so far is not all: the end must not look like one.
    pub(crate) fn break_off(&mut self) {
        self.silent = true;
    }

    /// Whether there is nothing here that the kernel does not know of.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let waits = |state: rustls::IoState| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed();
        self.ahead.is_empty()
            && !self.ended
            && self.is_flushed()
            && !self.connection.process_new_packets().map_or(true, waits)
    }

    /// Takes in more of what the peer has sent.
    fn poll_fill(&mut self, tcp: &Socket, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            return Poll::Ready(self.feed(&ahead));
        }
        let mut room = [0; READ_BYTES];
        let read = ready!(tcp.poll_read(cx, &mut room))?;
        if read > 0 {
            return Poll::Ready(self.feed(&room[..read]));
        }
        self.ended = true;
        // Now rustls knows too, and its reader tells an announced end from one that was cut.
        self.connection.read_tls(&mut io::empty())?;
        Poll::Ready(self.process().map(drop))
    }

    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.connection.read_tls(&mut bytes) {
                // After its end a peer says nothing that counts.
                Ok(0) => return Ok(()),
                Ok(_) => {
                    self.process()?;
                }
                Err(_) if self.process()?.plaintext_bytes_to_read() > 0 => {
                    self.ahead.extend_from_slice(bytes);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn process(&mut self) -> io::Result<rustls::IoState> {
        self.connection.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}

/// The connection as rustls writes to it; "not now" is `WouldBlock`.
struct Wire<'a, 'w> {
    tcp: &'a Socket,
    cx: &'a Context<'w>,
}

fn now<T>(result: Poll<io::Result<T>>) -> io::Result<T> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

impl Write for Wire<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(self.tcp.poll_write(self.cx, bytes, &[]))
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        // Whoever writes more pieces calls again for the rest.
        let piece = |index: usize| bytes.get(index).map_or(&[][..], |piece| &piece[..]);
        now(self.tcp.poll_write(self.cx, piece(0), piece(1)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
