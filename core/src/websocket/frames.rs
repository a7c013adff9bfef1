//! Where frames begin and end in one direction of a WebSocket (RFC 6455 section 5.2).
//!
//! ```text
//!            1 byte                1 byte                 0, 2 or 8 bytes             0 or 4 bytes, payload
//!  Between ── FIN, opcode ──▶ Length ── MASK, length ──▶ Extended{missing} ── length ──▶ Inside{left} ── left = 0 ──▶ Between
//! ```
//! Nothing is refused: reserved bits, unknown opcodes and lengths in a longer form than needed are followed as they stand.
//! Bytes that are no WebSocket at all make it believe anything, which is why whoever asks must be able to live without an
//! answer.

use serde::{Deserialize, Serialize};

/// FIN (section 5.2).
const FIN: u8 = 0x80;
/// MASK (section 5.2).
const MASKED: u8 = 0x80;
/// Opcodes from here on are control frames, which may stand between the frames of a message (section 5.4).
const CONTROL: u8 = 0x8;
/// Section 5.5.1.
const CLOSE: u8 = 0x8;
/// The key before masked payload.
const KEY_BYTES: u64 = 4;

/// Where one direction may stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Nowhere.
    #[default]
    Never,
    /// Between two messages, when nothing more is there to be carried.
    WhenQuiet,
    /// Between two messages.
    AtMessage,
    /// Between two frames.
    AtFrame,
    /// Where a Close begins.
    AtClose,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Next {
    /// The first byte of a frame.
    #[default]
    Between,
    /// The byte with the length.
    Length,
    /// The longer form of the length, of which so many bytes are missing.
    Extended { missing: u8, so_far: u64, masked: bool },
    /// So many bytes of the frame.
    Inside { left: u64 },
}

/// Follows one direction, from the first byte after the opening handshake on. Another process can go on where this one
/// was: it is written down as it is, and read only where it makes sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Noted")]
pub struct Frames {
    next: Next,
    /// The message of the last data frame goes on in another frame.
    unfinished: bool,
    closed: bool,
}

impl Frames {
    /// Follows `bytes`.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.take_frame(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// Follows `bytes` up to the end of the frame that they begin with or continue; how many of them that were. All, if
    /// the frame does not end in them.
    pub fn take_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            match self.next {
                Next::Between => {
                    self.begin(byte);
                    at += 1;
                }
                Next::Length => {
                    let masked = byte & MASKED != 0;
                    self.next = match byte & !MASKED {
                        126 => Next::Extended { missing: 2, so_far: 0, masked },
                        127 => Next::Extended { missing: 8, so_far: 0, masked },
                        length => payload(u64::from(length), masked),
                    };
                    at += 1;
                }
                Next::Extended { missing, so_far, masked } => {
                    let so_far = so_far << 8 | u64::from(byte);
                    self.next = match missing - 1 {
                        0 => payload(so_far, masked),
                        missing => Next::Extended { missing, so_far, masked },
                    };
                    at += 1;
                }
                Next::Inside { left } => {
                    // More than fits a usize is more than there is.
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.next = inside(left - taken as u64);
                    at += taken;
                }
            }
            if self.is_between_frames() {
                break;
            }
        }
        at
    }

    /// Follows `bytes`; how many of them come before the first place where `stop` lets them stop, if there is one.
    pub fn take_to(&mut self, bytes: &[u8], stop: Stop) -> Option<usize> {
        let mut at = 0;
        loop {
            let begins_close = || bytes.get(at).is_some_and(|byte| opcode(*byte) == CLOSE);
            let is_close = stop == Stop::AtClose && self.is_between_frames() && begins_close();
            if is_close || self.may_stop(stop, false) {
                self.take(&bytes[at..]);
                return Some(at);
            }
            if at == bytes.len() {
                return None;
            }
            at += self.take_frame(&bytes[at..]);
        }
    }

    /// Whether `stop` lets the direction stop here; `quiet`: nothing more is there to be carried. After a Close it never does,
    /// for nothing may be put in there.
    pub fn may_stop(&self, stop: Stop, quiet: bool) -> bool {
        let may = match stop {
            Stop::Never | Stop::AtClose => false,
            Stop::WhenQuiet => quiet && self.is_between_messages(),
            Stop::AtMessage => self.is_between_messages(),
            Stop::AtFrame => self.is_between_frames(),
        };
        may && !self.closed
    }

    /// The next byte begins a frame: a control frame may be put in here.
    pub fn is_between_frames(&self) -> bool {
        self.next == Next::Between
    }

    /// The next byte begins a message: none is cut in two if it is never sent.
    pub fn is_between_messages(&self) -> bool {
        self.is_between_frames() && !self.unfinished
    }

    /// A Close frame has begun: no other frame may follow it (section 5.5.1).
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    fn begin(&mut self, byte: u8) {
        if opcode(byte) < CONTROL {
            self.unfinished = byte & FIN == 0;
        }
        self.closed |= opcode(byte) == CLOSE;
        self.next = Next::Length;
    }
}

/// [`Frames`] as others have written them.
#[derive(Deserialize)]
struct Noted {
    next: Next,
    unfinished: bool,
    closed: bool,
}

impl TryFrom<Noted> for Frames {
    type Error = &'static str;

    fn try_from(Noted { next, unfinished, closed }: Noted) -> Result<Self, Self::Error> {
        let is_possible = match next {
            Next::Between | Next::Length => true,
            Next::Extended { missing, .. } => (1..=8).contains(&missing),
            Next::Inside { left } => left > 0,
        };
        let frames = Self { next, unfinished, closed };
        if is_possible { Ok(frames) } else { Err("no frame of a WebSocket is in this state") }
    }
}

fn opcode(byte: u8) -> u8 {
    byte & 0x0f
}

fn payload(length: u64, masked: bool) -> Next {
    // The highest bit of a length is 0 in every honest frame; with a key behind it, a dishonest one would overflow.
    inside(length.saturating_add(if masked { KEY_BYTES } else { 0 }))
}

fn inside(left: u64) -> Next {
    if left == 0 { Next::Between } else { Next::Inside { left } }
}

#[cfg(test)]
mod tests;
