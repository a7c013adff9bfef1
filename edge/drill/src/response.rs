//! Reads one HTTP/1.1 answer from a stream: head, then a body framed by Content-Length, by chunks or by the end of
//! the connection. Small and strict: what it cannot understand is [`Broken::Garbled`], never a guess. It interprets
//! nothing beyond the framing.

use std::io::ErrorKind;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest head in bytes: far above any real one, so that an endless one ends.
const HEAD_BYTES: usize = 64 * 1024;
/// The largest body in bytes that is kept for the caller; the rest of a longer one is read and dropped.
const KEPT_BODY_BYTES: usize = 64 * 1024;
/// The longest line of chunked framing in bytes.
const LINE_BYTES: usize = 4 * 1024;
/// The largest body in bytes that is read at all.
const BODY_BYTES: u64 = 4 << 30;
/// How many 1xx answers may precede the real one.
const INTERIM_ANSWERS: usize = 8;

/// One whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// The first 64 KiB of the body.
    pub body: Vec<u8>,
    /// The whole body's length in bytes.
    pub body_length: u64,
    /// Whether the connection can carry another request.
    pub keeps_alive: bool,
}

impl Answer {
    /// The first value of the header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why no whole answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer closed before the first byte of an answer.
    ClosedBeforeAnswer,
    /// The peer closed in the middle of an answer.
    Cut,
    /// The connection was reset.
    Reset,
    /// What came is no HTTP/1.1 answer, or breaks a limit.
    Garbled,
}

/// Reads one answer. `head_only` for answers to HEAD.
///
/// # Errors
/// [`Broken`]; the stream is of no further use then.
pub async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S, head_only: bool) -> Result<Answer, Broken> {
    let mut reader = Reader { stream, buffer: Vec::with_capacity(1024), at: 0, any: false };
    for _ in 0..INTERIM_ANSWERS {
        let mut answer = parse_head(&reader.head().await?)?;
        if (100..200).contains(&answer.status) && answer.status != 101 {
            continue;
        }
        reader.body(&mut answer, head_only).await?;
        // Bytes nobody asked for: the next answer on this connection would be taken for another request's.
        answer.keeps_alive &= reader.at == reader.buffer.len();
        return Ok(answer);
    }
    Err(Broken::Garbled)
}

struct Reader<'a, S> {
    stream: &'a mut S,
    buffer: Vec<u8>,
    /// What lies before it in the buffer was used.
    at: usize,
    /// Whether any byte came.
    any: bool,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    /// Reads more into the buffer; Ok(false) at the end of the stream.
    async fn fill(&mut self) -> Result<bool, Broken> {
        self.buffer.drain(..self.at);
        self.at = 0;
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) => {
                self.any |= read > 0;
                Ok(read > 0)
            }
            // TLS says so of an end without a farewell; framing by the end of the connection needs that one.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.ended()),
            Err(_) => Err(Broken::Reset),
        }
    }

    fn ended(&self) -> Broken {
        if self.any { Broken::Cut } else { Broken::ClosedBeforeAnswer }
    }

    async fn head(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(end) = self.buffer[self.at..].windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.buffer[self.at..self.at + end].to_vec();
                self.at += end + 4;
                return Ok(head);
            }
            if self.buffer.len() - self.at > HEAD_BYTES {
                return Err(Broken::Garbled);
            }
            if !self.fill().await? {
                return Err(self.ended());
            }
        }
    }

    async fn body(&mut self, answer: &mut Answer, head_only: bool) -> Result<(), Broken> {
        if head_only || matches!(answer.status, 101 | 204 | 304) {
            return Ok(());
        }
        let length = answer.header("content-length").map(str::parse::<u64>);
        if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks(answer).await;
        }
        match length {
            Some(Ok(length)) => self.piece(answer, length).await,
            Some(Err(_)) => Err(Broken::Garbled),
            None => self.until_close(answer).await,
        }
    }

    /// Takes exactly `length` bytes of body.
    async fn piece(&mut self, answer: &mut Answer, mut length: u64) -> Result<(), Broken> {
        if answer.body_length.saturating_add(length) > BODY_BYTES {
            return Err(Broken::Garbled);
        }
        while length > 0 {
            if self.at == self.buffer.len() && !self.fill().await? {
                return Err(Broken::Cut);
            }
            length -= self.take(answer, length);
        }
        Ok(())
    }

    /// Moves at most `most` bytes from the buffer into the answer; returns how many.
    fn take(&mut self, answer: &mut Answer, most: u64) -> u64 {
        let here = &self.buffer[self.at..];
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(here.len());
        let kept = count.min(KEPT_BODY_BYTES.saturating_sub(answer.body.len()));
        answer.body.extend_from_slice(&here[..kept]);
        self.at += count;
        answer.body_length += count as u64;
        count as u64
    }

    async fn until_close(&mut self, answer: &mut Answer) -> Result<(), Broken> {
        answer.keeps_alive = false;
        loop {
            self.take(answer, u64::MAX);
            if answer.body_length > BODY_BYTES {
                return Err(Broken::Garbled);
            }
            if !self.fill().await? {
                return Ok(());
            }
        }
    }

    async fn chunks(&mut self, answer: &mut Answer) -> Result<(), Broken> {
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim_end();
            let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = if hex { u64::from_str_radix(digits, 16).ok() } else { None };
            match size.ok_or(Broken::Garbled)? {
                0 => break,
                size => self.piece(answer, size).await?,
            }
            if !self.line().await?.is_empty() {
                return Err(Broken::Garbled);
            }
        }
        let mut trailers = 0;
        loop {
            let line = self.line().await?;
            trailers += line.len();
            match line.is_empty() {
                true => return Ok(()),
                false if trailers > HEAD_BYTES => return Err(Broken::Garbled),
                false => {}
            }
        }
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer[self.at..].windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[self.at..self.at + end]).into_owned();
                self.at += end + 2;
                return Ok(line);
            }
            if self.buffer.len() - self.at > LINE_BYTES {
                return Err(Broken::Garbled);
            }
            if !self.fill().await? {
                return Err(Broken::Cut);
            }
        }
    }
}

/// Start line and header fields, without the empty line at their end.
pub(crate) fn parse_head(head: &[u8]) -> Result<Answer, Broken> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let mut words = start.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().filter(|code| code.len() == 3).and_then(|code| code.parse::<u16>().ok());
    let status = status.filter(|code| (100..1000).contains(code)).ok_or(Broken::Garbled)?;
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(Broken::Garbled);
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Broken::Garbled)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let closes =
        headers.iter().any(|(name, value)| name == "connection" && value.eq_ignore_ascii_case("close"));
    let keeps_alive = version == "HTTP/1.1" && !closes && status != 101;
    Ok(Answer { status, headers, body: Vec::new(), body_length: 0, keeps_alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Answer, Broken> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read_answer(&mut &bytes[..], false))
    }

    #[test]
    fn a_body_is_framed_by_length_by_chunks_or_by_the_end() {
        let by_length = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        assert_eq!((by_length.body.as_slice(), by_length.keeps_alive), (&b"hello"[..], true));
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nt: u\r\n\r\n";
        let by_chunks = read(chunks).unwrap();
        assert_eq!((by_chunks.body.as_slice(), by_chunks.keeps_alive), (&b"hello"[..], true));
        let by_end = read(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
        assert_eq!((by_end.body.as_slice(), by_end.keeps_alive), (&b"hello"[..], false));
    }

    #[test]
    fn an_answer_that_ends_early_is_cut_and_none_at_all_is_closed_before_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(read(b""), Err(Broken::ClosedBeforeAnswer));
        for end in 1..whole.len() {
            assert_eq!(read(&whole[..end]), Err(Broken::Cut), "after {end} bytes");
        }
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            Err(Broken::Cut)
        );
    }

    #[test]
    fn nonsense_is_garbled() {
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        ] {
            assert_eq!(read(wrong.as_bytes()), Err(Broken::Garbled), "{wrong:?}");
        }
    }

    #[test]
    fn limits_end_an_endless_head_or_chunk_line() {
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(2 * HEAD_BYTES, b'a');
        assert_eq!(read(&head), Err(Broken::Garbled));
        let mut line = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;".to_vec();
        line.resize(4 * LINE_BYTES, b'a');
        assert_eq!(read(&line), Err(Broken::Garbled));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n"), Err(Broken::Garbled));
    }

    #[test]
    fn a_long_body_is_counted_whole_and_kept_in_part() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec();
        bytes.resize(bytes.len() + 200_000, b'x');
        let answer = read(&bytes).unwrap();
        assert_eq!((answer.body.len(), answer.body_length), (KEPT_BODY_BYTES, 200_000));
    }

    #[test]
    fn interim_answers_are_passed_over_and_bytes_beyond_the_answer_end_the_connection() {
        let answer = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.keeps_alive), (204, true));
        let answer = read(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(!answer.keeps_alive);
    }
}
