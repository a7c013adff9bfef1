//! HTTP/1.1 as bytes on a blocking stream: heads and bodies, read as they come. It trusts its peer as far as a test
//! can: what it does not understand is an error that the test shows.

use std::io::{self, Read};

/// The largest head that is read, in bytes.
const HEAD_BYTES: usize = 256 * 1024;

/// A start line and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) start: String,
    /// Names in lower case, values trimmed, in order.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    pub(crate) fn length(&self) -> Option<usize> {
        self.header("content-length").and_then(|value| value.parse().ok())
    }
}

/// The first value of a header, by its lower-case name.
pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A stream with what was read ahead of it.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl<S: Read> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// What was read and not yet used.
    pub(crate) fn unused(&self) -> &[u8] {
        &self.buffer
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let read = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// The next head; None at the end of the stream before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = parse(&self.buffer[..end]);
                self.buffer.drain(..end + 4);
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_BYTES {
                return Err(io::Error::other("the head is too long"));
            }
            if self.fill()? == 0 {
                let cut = !self.buffer.is_empty();
                return if cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
    }

    /// Appends exactly `length` bytes to `body`, or as many as come before the failure.
    pub(crate) fn exactly(&mut self, mut length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let here = length.min(self.buffer.len());
            body.extend(self.buffer.drain(..here));
            length -= here;
            if length == 0 {
                return Ok(());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Appends everything up to the end of the stream.
    pub(crate) fn until_end(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            body.append(&mut self.buffer);
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    /// Appends a chunked body; returns its trailers.
    pub(crate) fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<Vec<(String, String)>> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| io::Error::other(format!("chunk size `{line}`")))?;
            if size == 0 {
                break;
            }
            self.exactly(size, body)?;
            if !self.line()?.is_empty() {
                return Err(io::Error::other("a chunk does not end where it should"));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => trailers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Ok(trailers),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Head {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let named = lines.filter_map(|line| line.split_once(':'));
    let headers = named.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Head { start, headers: headers.collect() }
}
