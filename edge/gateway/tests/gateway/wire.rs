//! One end of a connection, as blunt as a test needs it: sends any bytes, reads messages by the rules of RFC 9112 with
//! a reader that shares no code with the gateway's, and knows how a connection ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A wait that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// How a connection went on after what was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer sends no more.
    Closed,
    /// The connection is gone.
    Reset,
}

/// A request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// All header lines, names as they came.
    pub(crate) headers: Vec<(String, String)>,
    /// The content, without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether its end was seen.
    pub(crate) whole: bool,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap()
    }

    /// The one value of this header; panics if there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// The same connection, for another thread that only writes.
    pub(crate) fn writer(&self) -> Self {
        Self::new(self.stream.try_clone().unwrap())
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to a peer that may have closed.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// One more read; false at the end.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 65_536];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(read) => {
                self.read.extend_from_slice(&piece[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing came; so far {self}"),
            Err(_) => false,
        }
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        self.try_take(bytes).unwrap_or_else(|| panic!("ended before {bytes} bytes had come: {self}"))
    }

    pub(crate) fn try_take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            if !self.fill() {
                return None;
            }
        }
        Some(self.read.drain(..bytes).collect())
    }

    /// Bytes up to and with `mark`; None if the connection ends first.
    pub(crate) fn take_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.read[searched..].windows(mark.len()).position(|piece| piece == mark) {
                return Some(self.read.drain(..searched + at + mark.len()).collect());
            }
            searched = (self.read.len() + 1).saturating_sub(mark.len());
            if !self.fill() {
                return None;
            }
        }
    }

    /// A head; None if the connection ends first.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = self.take_until(b"\r\n\r\n")?;
        let text = String::from_utf8(head).unwrap();
        let (start, lines) = text.split_once("\r\n").unwrap();
        let headers = fields(lines);
        Some(Message { start: start.to_owned(), headers, ..Message::default() })
    }

    /// A request with its body; None if the connection ends before its head is whole.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        self.body(&mut message, false);
        Some(message)
    }

    /// The next answer, be it interim or final, to a request that was not HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Message {
        self.try_answer("GET").unwrap_or_else(|| panic!("the connection ended without an answer: {self}"))
    }

    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Message {
        self.try_answer(method).unwrap_or_else(|| panic!("the connection ended without an answer: {self}"))
    }

    pub(crate) fn try_answer(&mut self, method: &str) -> Option<Message> {
        let mut message = self.head()?;
        let status = message.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            message.whole = true;
        } else {
            self.body(&mut message, true);
        }
        Some(message)
    }

    fn body(&mut self, message: &mut Message, may_end_by_close: bool) {
        if let Some(coding) = message.header("Transfer-Encoding") {
            assert_eq!(coding, "chunked");
            message.whole = self.chunks(message).is_some();
        } else if let Some(length) = message.header("Content-Length") {
            let length = length.parse().unwrap();
            let body = self.try_take(length);
            message.whole = body.is_some();
            message.body = body.unwrap_or_else(|| std::mem::take(&mut self.read));
        } else if may_end_by_close {
            let (body, end) = self.rest();
            message.body = body;
            message.whole = end == End::Closed;
        } else {
            message.whole = true;
        }
    }

    fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let line = String::from_utf8(self.take_until(b"\r\n")?).unwrap();
            let digits = line.trim_end().split(';').next().unwrap();
            let size = usize::from_str_radix(digits, 16).unwrap();
            if size == 0 {
                break;
            }
            message.body.extend(self.try_take(size)?);
            assert_eq!(self.try_take(2)?, b"\r\n");
        }
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") && lines != "\r\n" {
            lines.push_str(&String::from_utf8(self.take_until(b"\r\n")?).unwrap());
        }
        message.trailers = fields(&lines);
        Some(())
    }

    /// Everything until the end, and which end it was.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        let mut piece = vec![0; 65_536];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return (std::mem::take(&mut self.read), End::Closed),
                Ok(read) => self.read.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the connection does not end; so far {self}")
                }
                Err(_) => return (std::mem::take(&mut self.read), End::Reset),
            }
        }
    }

    /// Nothing more comes but the end.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let (rest, _) = self.rest();
        assert!(rest.is_empty(), "more came: {}", rest.escape_ascii());
    }

    /// Sends a request without a body and reads its answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.send(get(path));
        self.answer()
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.read[..self.read.len().min(500)];
        write!(f, "{} bytes: {}", self.read.len(), shown.escape_ascii())
    }
}

fn fields(lines: &str) -> Vec<(String, String)> {
    let pairs = lines.split("\r\n").filter(|line| !line.is_empty());
    pairs
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        })
        .collect()
}

/// A connection whose small segments make for small buffers in the kernels.
pub(crate) fn narrow(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    TcpStream::from(socket)
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n")
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: app\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// 200 with this body.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Bytes that differ everywhere, so that a piece lost, doubled or moved is seen.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut pattern = Vec::with_capacity(bytes + 8);
    while pattern.len() < bytes {
        pattern.extend_from_slice(&next().to_le_bytes());
    }
    pattern.truncate(bytes);
    pattern
}

/// The body in chunks of these sizes, in turn.
pub(crate) fn chunked(body: &[u8], sizes: &[usize], trailers: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 8);
    let mut rest = body;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}
