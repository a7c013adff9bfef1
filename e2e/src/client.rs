//! A client that sends exactly what it is told, one byte string at a time, and reads what comes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::PATIENCE;
use crate::wire::{Wire, find};

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// What followed a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Who answered.
    pub fn instance(&self) -> &str {
        self.header("x-instance").unwrap_or("nobody")
    }
}

/// A connection whose bytes the test chooses.
pub struct Connection {
    wire: Wire<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero can be set");
        stream.set_nodelay(true).expect("a connected stream takes options");
        Self { wire: Wire::new(stream) }
    }

    /// The same connection once more, to send on one thread while another receives.
    ///
    /// # Panics
    /// When the process has no descriptor left.
    pub fn split(&self) -> Self {
        Self { wire: Wire::new(self.wire.stream.try_clone().expect("a descriptor is free")) }
    }

    /// This side's address.
    pub fn local(&self) -> SocketAddr {
        self.wire.stream.local_addr().expect("a connected stream has an address")
    }

    /// Sends these bytes, all of them.
    ///
    /// # Panics
    /// When the peer does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends these bytes, if the peer takes them.
    ///
    /// # Errors
    /// The system's.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    /// No more bytes will be sent.
    pub fn finish_sending(&mut self) {
        // Told already by the peer's reset: the same to us.
        drop(self.wire.stream.shutdown(Shutdown::Write));
    }

    /// The next answer.
    ///
    /// # Panics
    /// When no whole answer comes.
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        self.try_answer().unwrap_or_else(|error| panic!("no whole answer: {error}"))
    }

    /// The next answer to a request; 1xx answers count, except 101 they are without body.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed first, else the system's.
    pub fn try_answer(&mut self) -> io::Result<Response> {
        self.answer_to("GET")
    }

    /// The next answer to a request with this method (an answer to HEAD has no body).
    ///
    /// # Errors
    /// As [`Connection::try_answer`].
    pub fn answer_to(&mut self, method: &str) -> io::Result<Response> {
        let head = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in `{}`", head.start)))?;
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
        } else if head.is_chunked() {
            trailers = self.wire.chunks(&mut body)?;
        } else if let Some(length) = head.length() {
            self.wire.exactly(length, &mut body)?;
        } else {
            self.wire.until_end(&mut body)?;
        }
        Ok(Response { status, headers: head.headers, body, trailers })
    }

    /// Exactly so many raw bytes.
    ///
    /// # Panics
    /// When fewer come.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = self.wire.exactly(count, &mut bytes);
        read.unwrap_or_else(|error| panic!("{count} bytes were expected, {} came: {error}", bytes.len()));
        bytes
    }

    /// Waits until the peer closed or reset; true if it sent nothing before that.
    ///
    /// # Panics
    /// When it does neither in time.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        if !self.wire.unused().is_empty() {
            return false;
        }
        let mut byte = [0];
        match self.wire.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the peer neither closed nor answered")
            }
            Err(_) => true,
        }
    }
}

/// GET `path` on a connection of its own.
///
/// # Panics
/// When no whole answer comes.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path, &[], "")
}

/// One request on a connection of its own. `Host: shop.example` unless among the headers.
///
/// # Panics
/// When no whole answer comes.
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Response {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += "Host: shop.example\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = body.as_ref();
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut connection = Connection::open(address);
    connection.send([head.as_bytes(), b"\r\n", body].concat());
    connection.answer_to(method).unwrap_or_else(|error| panic!("{method} {path}: no whole answer: {error}"))
}
