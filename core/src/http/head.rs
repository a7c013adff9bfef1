//! What request heads and answer heads share: the header lines as a view, and the reading of the fields that decide where
//! a message ends.

use super::edit::is_same;
use super::trace::Parent;
use super::{Framing, Malformed};

/// The most header lines a head may have. Browsers send about 20, applications behind several proxies up to 60.
pub const HEADER_COUNT: usize = 100;

/// Room for a head's header lines, to be used again and again: making it costs more than reading a small head.
#[derive(Debug)]
pub struct Storage(pub(super) [Line; HEADER_COUNT]);

impl Storage {
    /// Room for [`HEADER_COUNT`] lines.
    #[expect(clippy::new_without_default, reason = "a default would suggest that this is a value to keep")]
    pub fn new() -> Self {
        Self([Line { name: 0, name_end: 0, value: 0, value_end: 0 }; HEADER_COUNT])
    }
}

/// Where a header line's parts stand in the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) name: usize,
    pub(super) name_end: usize,
    pub(super) value: usize,
    pub(super) value_end: usize,
}

/// Whether a head of which `seen` bytes were looked at before may end in the others: who reads one that comes in pieces
/// asks this first, for parsing it again with each would let a slow sender cost us its square.
pub fn head_may_end(head: &[u8], seen: usize) -> bool {
    // The line before the empty one may be known already.
    let head = &head[seen.saturating_sub(2)..];
    memchr::memchr_iter(b'\n', head).any(|at| matches!(head[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// HTTP/1.0 or HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no keep-alive unless asked for, no chunks.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The header lines of a head.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'h, 'b> {
    pub(super) buffer: &'b [u8],
    pub(super) lines: &'h [Line],
}

impl<'h, 'b> Headers<'h, 'b> {
    /// All lines in order; names as they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'h, 'b> {
        self.lines.iter().map(move |line| {
            let name = str::from_utf8(&self.buffer[line.name..line.name_end]);
            (name.unwrap_or_default(), &self.buffer[line.value..line.value_end])
        })
    }

    /// Where a line begins in the buffer.
    pub(super) fn start(self, index: usize) -> Option<usize> {
        self.lines.get(index).map(|line| line.name)
    }

    /// The first value of the header called `name` (any case).
    pub fn first(self, name: &str) -> Option<&'b [u8]> {
        let is_named =
            |line: &&Line| self.buffer[line.name..line.name_end].eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().find(is_named).map(|line| &self.buffer[line.value..line.value_end])
    }
}

/// What the fields say that concern the connection and the body; gathered in one pass.
#[derive(Debug, Default)]
pub(super) struct Fields<'b> {
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) connection_upgrade: bool,
    /// Connection names a field other than `close`, `keep-alive`, `upgrade` and `te`.
    pub(super) connection_names_others: bool,
    pub(super) hop_by_hop: bool,
    /// Upgrade is there.
    pub(super) upgrade: bool,
    /// An Upgrade line, whichever, names HTTP/2 over cleartext.
    pub(super) upgrade_h2c: bool,
    pub(super) host: Option<&'b [u8]>,
    pub(super) expect_continue: bool,
    pub(super) request_id: Option<&'b [u8]>,
    /// Something is there that [`is_claimed`].
    pub(super) forwarded: bool,
    pub(super) trailer: bool,
    pub(super) trace_parent: Parent,
    /// Tracestate is there.
    pub(super) trace_state: bool,
}

impl<'b> Fields<'b> {
    /// What only all lines together tell.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.content_length.is_some() && self.chunked {
            return Err(Malformed::BothLengths);
        }
        Ok(())
    }

    /// Looks at one line. The length decides first: most lines match none and cost one comparison.
    pub(super) fn take(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Malformed> {
        match name.len() {
            2 if is(name, b"te") => self.hop_by_hop = true,
            4 if is(name, b"host") => return once(&mut self.host, value, Malformed::Host),
            6 if is(name, b"expect") => self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            7 if is(name, b"upgrade") => {
                self.hop_by_hop = true;
                self.upgrade = true;
                self.upgrade_h2c |= tokens(value).any(is_h2c);
            }
            7 if is(name, b"trailer") => self.trailer = true,
            10 if is(name, b"connection") => {
                self.hop_by_hop = true;
                self.take_connection(value);
            }
            10 if is(name, b"tracestate") => self.trace_state = true,
            10 if is(name, b"keep-alive") => self.hop_by_hop = true,
            11 if is(name, b"traceparent") => self.trace_parent = self.trace_parent.and(value),
            12 if is(name, b"x-request-id") => {
                self.forwarded = true;
                self.request_id = Some(value);
            }
            14 if is(name, b"content-length") => {
                let length = decimal(value).ok_or(Malformed::ContentLength)?;
                return once(&mut self.content_length, length, Malformed::ContentLength);
            }
            14 if is(name, b"http2-settings") => self.hop_by_hop = true,
            15 if is(name, b"x-forwarded-for") => self.forwarded = true,
            16 if is(name, b"proxy-connection") => self.hop_by_hop = true,
            16 if is(name, b"x-forwarded-host") => self.forwarded = true,
            17 if is(name, b"x-forwarded-proto") => self.forwarded = true,
            12 | 15..=17 | 21 if name[0] | 0x20 == b'x' && is_claimed(name) => self.forwarded = true,
            17 if is(name, b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
            } else if !token.eq_ignore_ascii_case(b"te") {
                self.connection_names_others = true;
            }
        }
    }

    /// Whether the sender keeps the connection open after this message (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// Content-Length or chunked; None where the head says nothing.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, Malformed> {
        match (self.chunked, self.content_length) {
            (true, _) if version == Version::Http10 => Err(Malformed::TransferEncoding),
            (true, _) => Ok(Some(Framing::Chunked)),
            (false, Some(0)) => Ok(Some(Framing::Empty)),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }
}

/// Whether a token is this one, which is in lower case and has nothing but letters, digits and hyphens. Setting the bit
/// that makes a letter small makes no other byte of a token one of those.
fn is<const N: usize>(token: &[u8], wanted: &[u8; N]) -> bool {
    let differs = |token: &[u8; N]| token.iter().zip(wanted).fold(0, |all, (a, b)| all | ((a | 0x20) ^ b));
    <&[u8; N]>::try_from(token).is_ok_and(|token| differs(token) == 0)
}

/// The comma-separated tokens of a value, trimmed, empty ones left out (RFC 9110 section 5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether a field is one that we set, in any case and with either dash: many applications get `X_Forwarded_For` and
/// `X-Forwarded-For` as one variable (CGI, WSGI), and a client must not say who it is.
pub(super) fn is_claimed(name: &[u8]) -> bool {
    const OURS: [&str; 5] =
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "x-client-cert-subject"];
    OURS.iter().any(|ours| is_same(ours.as_bytes(), name))
}

/// `h2c`, also with a version (`h2c-14`).
fn is_h2c(token: &[u8]) -> bool {
    token.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"))
}

/// Fills a field that may come once.
fn once<T>(field: &mut Option<T>, value: T, twice: Malformed) -> Result<(), Malformed> {
    if field.replace(value).is_some() { Err(twice) } else { Ok(()) }
}

/// Digits only, at most 19 of them: no sign, no blank, no list, no overflow.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
