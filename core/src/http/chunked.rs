//! The chunked transfer coding (RFC 9112 section 7.1), scanned as it passes through: where it ends, and that every
//! byte of it is beyond doubt. Chunks are passed on as they came, so nothing is decoded unless the reader asks.
//!
//! ```text
//!            digits            LF, size > 0         all data
//!   Size ──────────► Size ──► SizeLf ────────► Data ────────► DataCr ──► DataLf ──► Size
//!     └─ ";" ► Extension ─CR──┘ │ LF, size = 0
//!                               ▼                 CR             LF
//!                          TrailerStart ──────────────► EndLf ─────────► Done
//!                            ▲    └ name ► TrailerName ─ ":" ► TrailerValue ─ CR ► TrailerLf ─┐
//!                            └──────────────────────────────────────────────────────────────┘
//! ```

use std::sync::Arc;

use super::Malformed;
use super::edit::HeadEdits;

/// Hexadecimal digits of a chunk's size: 15 are 2^60 - 1 bytes, and leading zeros come to an end.
const SIZE_DIGITS: u8 = 15;
/// Bytes of one chunk's extensions. Nobody uses them; some attacks do (endless extensions cost a reader CPU and the
/// sender nothing).
const EXTENSION_BYTES: u16 = 256;
/// Bytes of the trailer section in all.
const TRAILER_BYTES: u16 = 8 * 1024;
/// Bytes of a trailer field's name.
const TRAILER_NAME_BYTES: usize = 64;

/// Fields that decide about framing, routing or trust must not come late (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&str; 9] = [
    "transfer-encoding",
    "content-length",
    "host",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "authorization",
    "x-request-id",
];

/// Scans one chunked body.
#[derive(Clone, Debug)]
pub struct ChunkScanner {
    state: State,
    name: Name,
    trailer_bytes: u16,
    /// What was done to the head that the body belongs to.
    edits: Option<Arc<HeadEdits>>,
}

/// Named for what is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8, value: u64 },
    Extension { bytes: u16, value: u64 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// A trailer field's name so far, in lower case.
#[derive(Clone, Debug)]
struct Name {
    bytes: [u8; TRAILER_NAME_BYTES],
    length: usize,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self::new(None)
    }
}

impl ChunkScanner {
    /// Of a body whose head was edited so. Fields that were set or left out there must not come late either: some
    /// applications take trailers for header fields.
    pub fn new(edits: Option<Arc<HeadEdits>>) -> Self {
        Self {
            state: State::Size { digits: 0, value: 0 },
            name: Name { bytes: [0; TRAILER_NAME_BYTES], length: 0 },
            trailer_bytes: 0,
            edits,
        }
    }

    /// Whether the last byte of the body was scanned.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Scans `bytes` up to the body's end and says how many belong to it; `on_data` gets the data among them.
    ///
    /// # Errors
    /// [`Malformed::Chunk`]: what follows cannot be told apart; close the connection.
    pub fn scan(&mut self, bytes: &[u8], mut on_data: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                on_data(&bytes[at..at + here]);
                at += here;
                let left = left - here as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
            } else {
                self.state = self.step(bytes[at]).ok_or(Malformed::Chunk)?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// The state after `byte`; None if it must not stand here. Never called in `Data` or `Done`.
    fn step(&mut self, byte: u8) -> Option<State> {
        match (self.state, byte) {
            (State::Size { digits, value }, b'\r') if digits > 0 => Some(State::SizeLf { value }),
            (State::Size { digits, value }, b';') if digits > 0 => Some(State::Extension { bytes: 0, value }),
            (State::Size { digits, value }, _) if digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                Some(State::Size { digits: digits + 1, value: value << 4 | u64::from(digit) })
            }
            (State::Extension { value, .. }, b'\r') => Some(State::SizeLf { value }),
            (State::Extension { bytes, value }, b'\t' | b' '..=b'~') if bytes < EXTENSION_BYTES => {
                Some(State::Extension { bytes: bytes + 1, value })
            }
            (State::SizeLf { value: 0 }, b'\n') => Some(State::TrailerStart),
            (State::SizeLf { value }, b'\n') => Some(State::Data { left: value }),
            (State::DataCr, b'\r') => Some(State::DataLf),
            (State::DataLf, b'\n') => Some(State::Size { digits: 0, value: 0 }),
            (State::EndLf, b'\n') => Some(State::Done),
            (State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf, byte) => {
                self.step_trailer(byte)
            }
            (
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeLf { .. }
                | State::Data { .. }
                | State::DataCr
                | State::DataLf
                | State::EndLf
                | State::Done,
                _,
            ) => None,
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Option<State> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES {
            return None;
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Some(State::EndLf),
            (State::TrailerStart, _) => {
                self.name.length = 0;
                self.name.push(byte).then_some(State::TrailerName)
            }
            (State::TrailerName, b':') => self.may_trail().then_some(State::TrailerValue),
            (State::TrailerName, _) => self.name.push(byte).then_some(State::TrailerName),
            (State::TrailerValue, b'\r') => Some(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Some(State::TrailerValue),
            (State::TrailerLf, b'\n') => Some(State::TrailerStart),
            (_, _) => None,
        }
    }

    fn may_trail(&self) -> bool {
        let name = &self.name.bytes[..self.name.length];
        !name.starts_with(b"x-forwarded-")
            && !super::head::is_claimed(name)
            && !NOT_IN_TRAILERS.iter().any(|forbidden| forbidden.as_bytes() == name)
            && !self.edits.as_ref().is_some_and(|edits| edits.leave_out(name))
    }
}

impl Name {
    /// Takes one more byte; false if it is not a token character (RFC 9110 section 5.6.2) or there is no room.
    fn push(&mut self, byte: u8) -> bool {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !is_token || self.length == TRAILER_NAME_BYTES {
            return false;
        }
        self.bytes[self.length] = byte.to_ascii_lowercase();
        self.length += 1;
        true
    }
}
