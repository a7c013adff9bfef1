//! One keep-alive connection of the load: a request out, its answer in, by Content-Length only.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// When the request in flight was to be sent. None: there is none.
    due: Option<Instant>,
    /// What came of the answer's head.
    head: Vec<u8>,
    /// Once the head is complete: whether the status is 200, and how many bytes of the body are to come.
    body: Option<(bool, usize)>,
}

pub(crate) enum Progress {
    /// Nothing more to read now.
    Waiting,
    /// The answer is complete. `good`: it was a 200.
    Answered { good: bool, due: Instant },
    /// The peer closed, or sent what is no answer.
    Broken,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, due: None, head: Vec::new(), body: None })
    }

    /// Sends `request`, which is small enough for an empty socket buffer.
    pub(crate) fn send(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        self.due = Some(due);
        self.head.clear();
        self.body = None;
        (&self.socket).write_all(request)
    }

    /// Reads until the answer is complete or nothing more is there.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Progress {
        loop {
            let read = match (&self.socket).read(buffer) {
                Ok(0) => return Progress::Broken,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
                Err(_) => return Progress::Broken,
            };
            let Some(due) = self.due else { return Progress::Broken };
            match self.take(&buffer[..read]) {
                Ok(Some(good)) => {
                    self.due = None;
                    return Progress::Answered { good, due };
                }
                // A short read has emptied the socket: what comes next is announced.
                Ok(None) if read < buffer.len() => return Progress::Waiting,
                Ok(None) => {}
                Err(NoAnswer) => return Progress::Broken,
            }
        }
    }

    /// Some when the answer is complete: whether it is good.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<bool>, NoAnswer> {
        let Some((good, missing)) = self.body else {
            self.head.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else { return Ok(None) };
            let (good, length) = read_head(&self.head[..end])?;
            let missing = length.checked_sub(self.head.len() - end - 4).ok_or(NoAnswer)?;
            self.body = Some((good, missing));
            return Ok((missing == 0).then_some(good));
        };
        let missing = missing.checked_sub(bytes.len()).ok_or(NoAnswer)?;
        self.body = Some((good, missing));
        Ok((missing == 0).then_some(good))
    }
}

/// What came is not an answer that this client understands.
#[derive(Debug, PartialEq, Eq)]
struct NoAnswer;

/// Whether the status is 200, and the body's length.
fn read_head(head: &[u8]) -> Result<(bool, usize), NoAnswer> {
    let text = std::str::from_utf8(head).map_err(|_| NoAnswer)?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((text.starts_with("HTTP/1.1 200"), length.ok_or(NoAnswer)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_whether_it_is_good_and_how_much_follows() {
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\ncontent-length: 128"), Ok((true, 128)));
        assert_eq!(read_head(b"HTTP/1.1 503 No\r\nContent-Length: 0"), Ok((false, 0)));
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\nX: y"), Err(NoAnswer));
    }
}
