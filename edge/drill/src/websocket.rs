//! The client's end of one WebSocket (RFC 6455): the opening handshake, masked frames out, messages in. Extensions are not
//! offered; what breaks the protocol ends it.

use std::io::ErrorKind;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::ledger::Loss;
use crate::response::parse_head;

/// RFC 6455 section 1.3: this key is answered by [`ACCEPT`].
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Section 5.3. What a drill says is no secret and no attack, so that one mask does.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x39, 0x96];
/// The largest head of the answer to the handshake in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// The largest message in bytes that is taken: an application may say more than it was asked.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Section 7.4.1: what a Close without a code means.
const NO_CODE: u16 = 1005;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A whole text or binary message.
    Message(Vec<u8>),
    /// To be answered with the same content.
    Ping(Vec<u8>),
    /// A Close with its code and reason.
    Close(u16, String),
    /// The connection ended, or what came was no WebSocket.
    End,
}

/// Asks for a WebSocket and reads the answer; what came after it is the start of the first frame.
pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    host: &str,
) -> Result<Vec<u8>, Loss> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| Loss::Reset)?;
    stream.flush().await.map_err(|_| Loss::Reset)?;
    let mut bytes = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) if bytes.is_empty() => return Err(Loss::ClosedBeforeAnswer),
            Ok(0) => return Err(Loss::Cut),
            Ok(_) if bytes.len() > HEAD_BYTES => return Err(Loss::Garbled),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Loss::Cut),
            Err(_) => return Err(Loss::Reset),
        }
    };
    let answer = parse_head(&bytes[..end]).map_err(|_| Loss::Garbled)?;
    match answer.header("sec-websocket-accept") {
        Some(ACCEPT) if answer.status == 101 => Ok(bytes.split_off(end + 4)),
        _ if answer.status == 101 => Err(Loss::Garbled),
        _ => Err(Loss::Status(answer.status)),
    }
}

/// A whole frame of at most 64 KiB, masked.
pub(crate) fn frame(opcode: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a drill says little");
    let mut bytes = vec![0x80 | opcode];
    match u8::try_from(length) {
        Ok(short) if short < 126 => bytes.push(0x80 | short),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The reading half.
pub(crate) struct Ear<S> {
    stream: S,
    buffer: Vec<u8>,
    /// The fragments of a message that is not yet whole.
    message: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Ear<S> {
    /// Goes on where the handshake ended.
    pub(crate) fn new(stream: S, buffer: Vec<u8>) -> Self {
        Self { stream, buffer, message: Vec::new() }
    }

    /// The next thing that came. Nothing is lost when the caller waits no longer and asks again.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match self.take_frame() {
                Ok(Some((head, content))) => {
                    if let Some(heard) = self.take_in(head, content) {
                        return heard;
                    }
                }
                Ok(None) => match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return Heard::End,
                    Ok(_) => {}
                },
                Err(Nonsense) => return Heard::End,
            }
        }
    }

    /// The first frame of the buffer, if it is whole: its first byte and its content (section 5.2).
    fn take_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, Nonsense> {
        let [head, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        // No extension was agreed upon, and a server does not mask (sections 5.1 and 5.2).
        if head & 0x70 != 0 || second & 0x80 != 0 {
            return Err(Nonsense);
        }
        let (length, start) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 2),
        };
        if length + self.message.len() as u64 > MESSAGE_BYTES {
            return Err(Nonsense);
        }
        let end = start + usize::try_from(length).map_err(|_| Nonsense)?;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let (head, content) = (*head, self.buffer[start..end].to_vec());
        self.buffer.drain(..end);
        Ok(Some((head, content)))
    }

    /// What a frame means, unless more of a message or nothing at all has come with it.
    fn take_in(&mut self, head: u8, content: Vec<u8>) -> Option<Heard> {
        let last = head & 0x80 != 0;
        match head & 0x0f {
            0x0..=0x2 => {
                self.message.extend(content);
                last.then(|| Heard::Message(std::mem::take(&mut self.message)))
            }
            0x8 => {
                let code = content.first_chunk::<2>().map_or(NO_CODE, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(content.get(2..).unwrap_or_default()).into_owned();
                Some(Heard::Close(code, reason))
            }
            0x9 => Some(Heard::Ping(content)),
            0xa => None,
            _ => Some(Heard::End),
        }
    }
}

/// It breaks the protocol or a limit.
struct Nonsense;

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(bytes: &[u8]) -> Vec<Heard> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut ear = Ear::new(bytes, Vec::new());
        let mut heard = Vec::new();
        while heard.last() != Some(&Heard::End) {
            heard.push(runtime.block_on(ear.next()));
        }
        heard
    }

    #[test]
    fn messages_come_whole_also_in_fragments_with_a_ping_between_them() {
        let bytes = b"\x01\x03Hel\x89\x01!\x80\x02lo\x8a\x00\x82\x7e\x00\x02ab";
        let expected = [
            Heard::Ping(b"!".to_vec()),
            Heard::Message(b"Hello".to_vec()),
            Heard::Message(b"ab".to_vec()),
            Heard::End,
        ];
        assert_eq!(hear(bytes), expected);
    }

    #[test]
    fn a_close_has_a_code_and_a_reason_or_none() {
        let bytes = b"\x88\x0b\x03\xf4retry=500";
        assert_eq!(hear(bytes)[0], Heard::Close(1012, "retry=500".into()));
        assert_eq!(hear(b"\x88\x00")[0], Heard::Close(NO_CODE, String::new()));
    }

    #[test]
    fn what_is_no_websocket_ends_it() {
        for bytes in [
            &b"\xc1\x01a"[..],
            b"\x81\x81aaaaa",
            b"\x83\x00",
            b"\x81\x7f\x00\x00\x00\x00\x01\x00\x00\x00",
            b"\x81",
        ] {
            assert_eq!(hear(bytes), [Heard::End], "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_is_masked() {
        let bytes = frame(0x1, b"ab");
        assert_eq!(bytes, [0x81, 0x82, 0x5a, 0xc3, 0x39, 0x96, b'a' ^ 0x5a, b'b' ^ 0xc3]);
        assert_eq!(frame(0x2, &[0; 300])[..4], [0x82, 0xfe, 1, 44]);
    }
}
