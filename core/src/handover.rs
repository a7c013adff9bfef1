//! What the gateways of two workers say to each other while connections move from the old one to the new one: messages
//! and their bytes. Two versions of everup read this, so it is strict about what would do harm and lenient about the
//! rest: a field that is not known is passed over, a kind of connection that is not known is refused, and stays where
//! it is.
//!
//! ```text
//!  old                                            new
//!   ├── Hello ──────────────────────────────────▶ │   each says which protocols it speaks; the highest that both do
//!   │ ◀────────────────────────────────── Hello ──┤   is spoken, and if there is none, nothing moves
//!   ├── Piece*, Connection 1 (+ descriptors) ───▶ │   from here on 1 belongs to the new one, if that takes it
//!   │ ◀──────────── Answer 1: taken, or refused ──┤   refused, or the line ends without an answer: to the old one
//! ```
//! A datagram is the length of its head (4 bytes, little-endian), the head (JSON) and then bytes that the connection
//! holds: what was read from one peer and not yet written to the other. More than fits comes before in pieces.
//! Descriptors travel beside [`Message::Connection`]. Sockets are not known here.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::InstanceId;
use crate::websocket::Frames;

/// The newest protocol that this version speaks. Raised when a message changes its meaning; new fields that may be
/// missing do not.
pub const HIGHEST: u32 = 1;

/// The oldest one.
pub const LOWEST: u32 = 1;

/// The largest datagram: it fits the default send buffer of a unix socket (208 KiB) three times.
pub const DATAGRAM_BYTES: usize = 64 * 1024;

/// The largest head. Names are the longest part of one.
pub const HEAD_BYTES: usize = 8 * 1024;

/// What one datagram carries of a connection's bytes at most.
pub const PIECE_BYTES: usize = DATAGRAM_BYTES - HEAD_BYTES - LENGTH_BYTES;

/// What a connection may hold to move. A relay holds a full pipe and a full read buffer for each direction at most, which
/// is 2.5 MiB; one that holds more stays where it is.
pub const HELD_BYTES: usize = 4 * 1024 * 1024;

/// The head's length comes first.
const LENGTH_BYTES: usize = 4;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first one of either side.
    Hello(Hello),
    /// Bytes of the connection that comes next.
    Piece,
    /// It does not come after all: the bytes are to be forgotten.
    Forget,
    /// A connection, with its descriptors: see [`Connection::descriptors`].
    Connection(Box<Connection>),
    /// What became of a connection.
    Answer(Answer),
}

/// Which protocols one side speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest.
    pub lowest: u32,
    /// The newest.
    pub highest: u32,
    /// The version of everup, for people.
    #[serde(default)]
    pub version: String,
}

impl Hello {
    /// Of this version.
    pub fn ours(version: &str) -> Self {
        Self { lowest: LOWEST, highest: HIGHEST, version: version.to_owned() }
    }

    /// The protocol that both speak; none: they cannot talk.
    pub fn agree(&self, other: &Self) -> Option<u32> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// A connection of a client, and what it needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Comes back with the answer.
    pub number: u64,
    /// The address of the listener that accepted it, as it is bound.
    pub listener: SocketAddr,
    /// Who connected.
    pub peer: SocketAddr,
    /// The client: the peer, or whom its PROXY header names.
    pub source: SocketAddr,
    /// What the client connected to, if a PROXY header says so.
    #[serde(default)]
    pub destination: Option<SocketAddr>,
    /// What is done with it.
    pub what: What,
}

/// What is done with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// HTTP, between two requests. The bytes it holds are the beginning of what comes next.
    Idle(Idle),
    /// Bytes both ways, from a tcp or tls-passthrough listener.
    Relay(Relay),
    /// The same after an upgrade.
    Tunnel(Relay),
    /// The same after an upgrade to WebSocket.
    Websocket(Relay),
    /// Something that only other versions know.
    #[serde(other)]
    Unknown,
}

/// The kinds that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// See [`What::Idle`].
    Idle,
    /// See [`What::Relay`].
    Relay,
    /// See [`What::Tunnel`].
    Tunnel,
    /// See [`What::Websocket`].
    Websocket,
}

/// An HTTP connection between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// It has sent a request before.
    pub served: bool,
    /// How long it may be idle, in milliseconds: what the service of its last request says.
    pub idle_ms: u64,
}

/// A connection of which the bytes go to an instance, over a second connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Which one.
    pub instance: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the client; of the bytes that are held, these come first.
    pub to_instance: Way,
    /// From the instance.
    pub to_client: Way,
    /// How long it may be quiet still, in milliseconds, if one of its ways has ended.
    #[serde(default)]
    pub left_ms: Option<u64>,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// So many bytes were read and are to be written before any other.
    pub bytes: u32,
    /// The sender's end was seen.
    pub ended: bool,
    /// The receiver was told, or takes no more.
    pub finished: bool,
    /// Of a WebSocket: where the frames are after these bytes.
    #[serde(default)]
    pub frames: Option<Frames>,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its number.
    pub number: u64,
    /// Why it was not taken; its descriptors are closed here then. None: it was.
    pub refused: Option<Refused>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// Nothing is known of this kind, or what is said of it makes no sense.
    Kind,
    /// There is no such listener, or another protocol is spoken there.
    Listener,
    /// There is no such instance at that address.
    Instance,
    /// Its descriptors did not arrive, for there may be no more here, or they are no TCP connections.
    Descriptors,
    /// Something that only other versions know.
    #[serde(other)]
    Other,
}

/// Why bytes are no message. Whose fault that is nobody can tell: the line is ended.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// More or fewer bytes than there may be, or than are announced.
    #[error("a message is cut off or too long")]
    Length,
    /// The head is no JSON, or says nothing that is known.
    #[error("a message's head is not understood: {0}")]
    Head(#[source] serde_json::Error),
    /// A connection holds more than [`HELD_BYTES`], or other than it says.
    #[error("a connection holds other bytes than it says")]
    Held,
}

impl Connection {
    /// How many descriptors come with it: the client's, then the instance's.
    pub fn descriptors(&self) -> usize {
        match &self.what {
            What::Idle(_) => 1,
            What::Relay(_) | What::Tunnel(_) | What::Websocket(_) => 2,
            What::Unknown => 0,
        }
    }

    /// Whether it can hold so many bytes, and makes sense otherwise.
    fn can_hold(&self, held: usize) -> bool {
        match &self.what {
            What::Idle(_) | What::Unknown => true,
            What::Relay(relay) | What::Tunnel(relay) => relay.bytes() == held as u64,
            What::Websocket(relay) => {
                let ways = [relay.to_instance, relay.to_client];
                relay.bytes() == held as u64 && ways.iter().all(|way| way.frames.is_some())
            }
        }
    }
}

impl What {
    /// None: unknown.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Idle(_) => Some(Kind::Idle),
            Self::Relay(_) => Some(Kind::Relay),
            Self::Tunnel(_) => Some(Kind::Tunnel),
            Self::Websocket(_) => Some(Kind::Websocket),
            Self::Unknown => None,
        }
    }
}

impl Relay {
    fn bytes(&self) -> u64 {
        u64::from(self.to_instance.bytes) + u64::from(self.to_client.bytes)
    }
}

/// Replaces `out` by the datagram of a message with these bytes.
///
/// # Errors
/// [`Malformed::Length`]: it is too large, and the peer would not take it.
pub fn write(out: &mut Vec<u8>, message: &Message, bytes: &[u8]) -> Result<(), Malformed> {
    out.clear();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    serde_json::to_writer(&mut *out, message).map_err(Malformed::Head)?;
    let length = out.len() - LENGTH_BYTES;
    if length > HEAD_BYTES || bytes.len() > PIECE_BYTES {
        return Err(Malformed::Length);
    }
    let length = u32::try_from(length).map_err(|_| Malformed::Length)?;
    out[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// The message of a datagram, and the bytes with it.
///
/// # Errors
/// [`Malformed`].
pub fn read(datagram: &[u8]) -> Result<(Message, &[u8]), Malformed> {
    let (length, rest) = datagram.split_first_chunk::<LENGTH_BYTES>().ok_or(Malformed::Length)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Malformed::Length)?;
    if length > HEAD_BYTES || datagram.len() > DATAGRAM_BYTES {
        return Err(Malformed::Length);
    }
    let (head, bytes) = rest.split_at_checked(length).ok_or(Malformed::Length)?;
    Ok((serde_json::from_slice(head).map_err(Malformed::Head)?, bytes))
}

/// Puts together what came in pieces.
#[derive(Debug, Default)]
pub struct Assembly {
    held: Vec<u8>,
}

/// What a side is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// See [`Message::Hello`].
    Hello(Hello),
    /// A connection and the bytes that it holds.
    Connection(Box<Connection>, Vec<u8>),
    /// See [`Message::Answer`].
    Answer(Answer),
}

impl Assembly {
    /// Takes the next datagram; what it completes.
    ///
    /// # Errors
    /// [`Malformed`]: nothing that comes after it can be relied on.
    pub fn handle(&mut self, datagram: &[u8]) -> Result<Option<Told>, Malformed> {
        let (message, bytes) = read(datagram)?;
        match message {
            Message::Piece => {
                self.hold(bytes)?;
                Ok(None)
            }
            Message::Forget => {
                self.held.clear();
                Ok(None)
            }
            Message::Connection(connection) => {
                self.hold(bytes)?;
                let held = std::mem::take(&mut self.held);
                if !connection.can_hold(held.len()) {
                    return Err(Malformed::Held);
                }
                Ok(Some(Told::Connection(connection, held)))
            }
            Message::Hello(_) | Message::Answer(_) if !self.held.is_empty() || !bytes.is_empty() => {
                Err(Malformed::Held)
            }
            Message::Hello(hello) => Ok(Some(Told::Hello(hello))),
            Message::Answer(answer) => Ok(Some(Told::Answer(answer))),
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.held.len() + bytes.len() > HELD_BYTES {
            return Err(Malformed::Held);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
