//! What request heads and answer heads share: the header lines as a view, the checks that httparse leaves to us,
//! and the reading of the fields that decide where a message ends.

use std::mem::MaybeUninit;

use httparse::Header;

use super::trace::Parent;
use super::{Framing, Malformed};

/// The most header lines a head may have. Browsers send about 20, applications behind several proxies up to 60; the
/// array for them lies on the stack.
pub const HEADER_COUNT: usize = 100;

/// Room for a parsed head's header lines; make one on the stack before parsing.
pub struct Storage<'b>(pub(super) [MaybeUninit<Header<'b>>; HEADER_COUNT]);

impl Storage<'_> {
    /// Room for [`HEADER_COUNT`] lines; costs nothing.
    #[expect(clippy::new_without_default, reason = "a default would suggest that this is a value to keep")]
    pub fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; HEADER_COUNT])
    }
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
pub struct Headers<'h, 'b>(pub(super) &'h [Header<'b>]);

impl<'h, 'b> Headers<'h, 'b> {
    /// All lines in order; names as they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'b str, &'b [u8])> + 'h {
        self.0.iter().map(|header| (header.name, header.value))
    }

    /// The first value of the header called `name` (any case).
    pub fn first(self, name: &str) -> Option<&'b [u8]> {
        self.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
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
    /// X-Forwarded-For, -Proto, -Host or X-Request-Id is there.
    pub(super) forwarded: bool,
    pub(super) trailer: bool,
    pub(super) trace_parent: Parent,
    /// Tracestate is there.
    pub(super) trace_state: bool,
}

impl<'b> Fields<'b> {
    pub(super) fn gather(headers: &[Header<'b>]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for header in headers {
            fields.take(header)?;
        }
        if fields.content_length.is_some() && fields.chunked {
            return Err(Malformed::BothLengths);
        }
        Ok(fields)
    }

    /// Looks at one line. The length decides first: most lines match none and cost one comparison.
    fn take(&mut self, header: &Header<'b>) -> Result<(), Malformed> {
        let (name, value) = (header.name, header.value);
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            2 if is("TE") => self.hop_by_hop = true,
            4 if is("Host") => return once(&mut self.host, value, Malformed::Host),
            6 if is("Expect") => self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            7 if is("Upgrade") => {
                self.hop_by_hop = true;
                self.upgrade = true;
                self.upgrade_h2c |= tokens(value).any(is_h2c);
            }
            7 if is("Trailer") => self.trailer = true,
            10 if is("Connection") => {
                self.hop_by_hop = true;
                self.take_connection(value);
            }
            10 if is("tracestate") => self.trace_state = true,
            10 if is("Keep-Alive") => self.hop_by_hop = true,
            11 if is("traceparent") => self.trace_parent = self.trace_parent.and(value),
            12 if is("X-Request-Id") => {
                self.forwarded = true;
                self.request_id = Some(value);
            }
            14 if is("Content-Length") => {
                let length = decimal(value).ok_or(Malformed::ContentLength)?;
                return once(&mut self.content_length, length, Malformed::ContentLength);
            }
            14 if is("HTTP2-Settings") => self.hop_by_hop = true,
            15 if is("X-Forwarded-For") => self.forwarded = true,
            16 if is("Proxy-Connection") => self.hop_by_hop = true,
            16 if is("X-Forwarded-Host") => self.forwarded = true,
            17 if is("X-Forwarded-Proto") => self.forwarded = true,
            21 if super::forward::names_certificate(name.as_bytes()) => self.forwarded = true,
            17 if is("Transfer-Encoding") => {
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

/// The comma-separated tokens of a value, trimmed, empty ones left out (RFC 9110 section 5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// `h2c`, also with a version (`h2c-14`).
fn is_h2c(token: &[u8]) -> bool {
    token.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"))
}

/// Every line of a head must end with CR LF (RFC 9112 section 2.2 lets a reader accept LF alone; two readers that
/// differ in this can be played against each other, so we do not). httparse has seen an LF at the end of every line;
/// each line begins where a header's name does, so looking at the byte before that LF is enough.
pub(super) fn lines_end_with_crlf(head: &[u8], headers: &[Header<'_>]) -> bool {
    let begins = |header: &Header<'_>| header.name.as_ptr().addr() - head.as_ptr().addr();
    let ends_with_crlf = |end: usize| head[..end].ends_with(b"\r\n");
    // The last header line ends where the blank line begins, two bytes before the end of the head.
    head.ends_with(b"\r\n")
        && ends_with_crlf(head.len() - 2)
        && headers.iter().all(|header| ends_with_crlf(begins(header)))
        && leading_lines_end_with_crlf(head)
}

/// Empty lines before the request line, which httparse skips (RFC 9112 section 2.2): rare, and the same holds for them.
fn leading_lines_end_with_crlf(head: &[u8]) -> bool {
    let mut rest = head;
    while let Some(next) = rest.strip_prefix(b"\r\n") {
        rest = next;
    }
    !rest.starts_with(b"\n")
}

/// httparse's verdicts in our words.
pub(super) fn malformed(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::TooManyHeaders,
        httparse::Error::Version => Malformed::Version,
        httparse::Error::Status => Malformed::Status,
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Token => Malformed::Syntax,
    }
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
