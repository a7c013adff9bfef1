//! A WebSocket client of the plainest kind (RFC 6455): the opening handshake with the RFC's own sample key, small text
//! frames, close. Enough to see that a tunnel carries bytes both ways.

use std::net::SocketAddr;

use crate::client::Connection;

/// RFC 6455 section 1.3: this key is answered by [`ACCEPT`].
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Section 5.3: any mask will do for a peer that is trusted.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// An open WebSocket.
pub struct WebSocket {
    connection: Connection,
    instance: String,
}

impl WebSocket {
    /// Opens one.
    ///
    /// # Panics
    /// When the handshake is not answered as the RFC demands.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str) -> Self {
        let mut connection = Connection::open(address);
        connection.send(format!(
            "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        ));
        let answer = connection.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT), "{answer:?}");
        let instance = answer.instance().to_owned();
        Self { connection, instance }
    }

    /// Who is at the other end.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Sends a text message of at most 125 bytes.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        self.frame(0x1, text.as_bytes());
    }

    /// The next message as opcode and content.
    #[track_caller]
    pub fn hear(&mut self) -> (u8, Vec<u8>) {
        let head = self.connection.bytes(2);
        assert!(head[1] < 126, "only small unmasked frames are expected, not {head:?}");
        (head[0] & 0x0f, self.connection.bytes(usize::from(head[1])))
    }

    /// Says something and hears it back.
    #[track_caller]
    pub fn echoes(&mut self, text: &str) -> bool {
        self.say(text);
        self.hear() == (0x1, text.as_bytes().to_vec())
    }

    /// Closes in order: sends a close frame, hears one, and the connection ends.
    #[track_caller]
    pub fn close(mut self) -> bool {
        self.frame(0x8, &1000_u16.to_be_bytes());
        self.hear().0 == 0x8 && self.connection.is_closed()
    }

    /// Answers a close frame that was heard, and sees the connection end in order.
    #[track_caller]
    pub fn answer_close(mut self, code: &[u8]) -> bool {
        self.frame(0x8, code);
        self.connection.is_closed()
    }

    /// Whether the other side closes now, in order or not.
    #[track_caller]
    pub fn is_closed_by_peer(&mut self) -> bool {
        self.connection.is_closed() || self.hear().0 == 0x8
    }

    fn frame(&mut self, opcode: u8, content: &[u8]) {
        let length = u8::try_from(content.len()).ok().filter(|length| *length < 126);
        let length = length.expect("only small frames are sent");
        let mut bytes = vec![0x80 | opcode, 0x80 | length];
        bytes.extend_from_slice(&MASK);
        bytes.extend(content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.connection.send(bytes);
    }
}
