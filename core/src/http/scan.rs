//! Finding the parts of a head in the receive buffer: one pass, byte for byte by the grammar of RFC 9112, and nothing that the
//! grammar calls obsolete or lets a reader repair. Lines end with CR LF and only so (section 2.2 lets a reader accept LF alone;
//! two readers that differ in this can be played against each other). What the parts mean is read elsewhere.
//!
//! Nothing here is copied, and every function says `None` where the bytes so far are fine and end too early.

use super::head::{Fields, Line, Storage};
use super::{Malformed, Version};

/// What was found, or that there is more to come.
pub(super) type Found<T> = Result<Option<T>, Malformed>;

/// The parts of a request line; `end` is where the next line begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b str,
    pub(super) target: &'b str,
    pub(super) version: Version,
    pub(super) end: usize,
}

/// The parts of a status line; `end` is where the next line begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) end: usize,
}

/// The request line, after empty lines that may stand before it (RFC 9112 section 2.2).
pub(super) fn request_line(buffer: &[u8]) -> Found<RequestLine<'_>> {
    let mut line = buffer;
    while let [b'\r' | b'\n', ..] = line {
        let Some(next) = after_line(line)? else { return Ok(None) };
        line = next;
    }
    let Some(method) = until_space(line, &TOKEN)? else { return Ok(None) };
    let rest = &line[method + 1..];
    let Some(target) = until_space(rest, &TARGET)? else { return Ok(None) };
    let Ok(text) = str::from_utf8(&line[..method + 1 + target]) else { return Err(Malformed::Target) };
    let rest = &rest[target + 1..];
    let Some(version) = version(rest)? else { return Ok(None) };
    let Some(next) = after_line(&rest[VERSION_BYTES..])? else { return Ok(None) };
    let (method, target) = (&text[..method], &text[method + 1..]);
    Ok(Some(RequestLine { method, target, version, end: buffer.len() - next.len() }))
}

/// The status line. The reason phrase may be missing, with the space before it or without.
pub(super) fn status_line(buffer: &[u8]) -> Found<StatusLine> {
    let Some(version) = version(buffer)? else { return Ok(None) };
    let mut status = 0;
    for (at, &byte) in buffer[VERSION_BYTES..].iter().take(STATUS_BYTES).enumerate() {
        match (at, byte) {
            (0, b' ') => {}
            (0, _) => return Err(Malformed::Version),
            (_, b'0'..=b'9') => status = status * 10 + u16::from(byte - b'0'),
            _ => return Err(Malformed::Status),
        }
    }
    let mut rest = buffer.get(VERSION_BYTES + STATUS_BYTES..).unwrap_or_default();
    if let [b' ', reason @ ..] = rest {
        let Some(length) = text_length(reason) else { return Ok(None) };
        rest = &reason[length..];
    }
    let next =
        after_line(rest).map_err(|bad| if bad == Malformed::Syntax { Malformed::Status } else { bad })?;
    Ok(next.map(|next| StatusLine { version, status, end: buffer.len() - next.len() }))
}

/// The header lines from `at` on, each noted in `storage` and shown to `fields`; how many there are, and where the body
/// begins.
pub(super) fn header_lines<'b>(
    buffer: &'b [u8],
    at: usize,
    storage: &mut Storage,
    fields: &mut Fields<'b>,
) -> Found<(usize, usize)> {
    let (mut rest, mut count) = (&buffer[at..], 0);
    loop {
        let length = token_length(rest);
        match rest.get(length) {
            Some(b':') if length > 0 => {}
            Some(b'\r' | b'\n') if length == 0 => {
                return Ok(after_line(rest)?.map(|body| (count, buffer.len() - body.len())));
            }
            // A blank before the colon, an empty name, or a folded line.
            Some(_) => return Err(Malformed::Syntax),
            None => return Ok(None),
        }
        let Some(line) = storage.0.get_mut(count) else { return Err(Malformed::TooManyHeaders) };
        let (name, after) = (&rest[..length], &rest[length + 1..]);
        let text = without_blanks(after);
        let Some(end) = text_length(text) else { return Ok(None) };
        let (value, after) = text.split_at(end);
        let Some(next) = after_line(after)? else { return Ok(None) };
        let (value, start) = (trim_end(value), buffer.len() - rest.len());
        fields.take(name, value)?;
        let value_start = buffer.len() - text.len();
        *line = Line {
            name: start,
            name_end: start + length,
            value: value_start,
            value_end: value_start + value.len(),
        };
        (rest, count) = (next, count + 1);
    }
}

const VERSION_BYTES: usize = b"HTTP/1.1".len();
const STATUS_BYTES: usize = b" 200".len();

/// `HTTP/1.0` or `HTTP/1.1`: names of versions have one spelling (RFC 9112 section 2.3).
fn version(bytes: &[u8]) -> Found<Version> {
    match bytes.first_chunk() {
        Some(b"HTTP/1.1") => Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0") => Ok(Some(Version::Http10)),
        Some(_) => Err(Malformed::Version),
        None if b"HTTP/1.".starts_with(bytes) || bytes.starts_with(b"HTTP/1.") => Ok(None),
        None => Err(Malformed::Version),
    }
}

/// How many bytes there are before the first space: at least one, and all of this kind.
fn until_space(bytes: &[u8], kind: &[bool; 256]) -> Found<usize> {
    match bytes.iter().position(|&byte| !kind[usize::from(byte)]) {
        Some(length @ 1..) if bytes[length] == b' ' => Ok(Some(length)),
        Some(_) => Err(Malformed::Syntax),
        None => Ok(None),
    }
}

/// What follows the end of a line, which stands at the start.
fn after_line(bytes: &[u8]) -> Found<&[u8]> {
    match bytes {
        [b'\r', b'\n', next @ ..] => Ok(Some(next)),
        [] | [b'\r'] => Ok(None),
        [b'\n', ..] => Err(Malformed::LineEnding),
        _ => Err(Malformed::Syntax),
    }
}

/// How many bytes of a token there are.
fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !TOKEN[usize::from(byte)]).unwrap_or(bytes.len())
}

/// How many bytes there are that can stand in a header's value or a reason phrase, which consist of visible characters,
/// spaces, tabs and bytes above ASCII (RFC 9110 section 5.5). None: nothing else follows yet.
fn text_length(bytes: &[u8]) -> Option<usize> {
    // Eight bytes at a time: `bad` has the top bit of a byte set for one below a space or for DEL. Above the first such
    // byte it may be wrong, which does not matter (Warren, "Hacker's Delight", section 6-1).
    let mut rest = bytes;
    while let Some((eight, next)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let deleted = word ^ (ONES * 0x7f);
        let below = word.wrapping_sub(ONES * 0x20) & !word;
        let bad = (below | deleted.wrapping_sub(ONES) & !deleted) & (ONES * 0x80);
        if bad == 0 {
            rest = next;
            continue;
        }
        let first = bad.trailing_zeros() as usize / 8;
        if eight[first] != b'\t' {
            return Some(bytes.len() - rest.len() + first);
        }
        rest = &rest[first + 1..];
    }
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let more = rest.iter().position(|&byte| !is_text(byte))?;
    Some(bytes.len() - rest.len() + more)
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The bytes after optional whitespace (RFC 9110 section 5.6.3). One space is usual.
fn without_blanks(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    match bytes.first() {
        Some(b' ' | b'\t') => &bytes[bytes.iter().take_while(|byte| is_blank(byte)).count()..],
        _ => bytes,
    }
}

/// The bytes before optional whitespace. None is usual.
fn trim_end(value: &[u8]) -> &[u8] {
    match value.last() {
        Some(b' ' | b'\t') => {
            &value[..value.len() - value.iter().rev().take_while(|byte| is_blank(byte)).count()]
        }
        _ => value,
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What a token consists of (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

/// What may stand in a target before it is looked at: everything but controls and the space.
const TARGET: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = false;
        byte += 1;
    }
    table[0x7f] = false;
    table
};

/// Letters, digits and `others`.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut other = 0;
    while other < others.len() {
        table[others[other] as usize] = true;
        other += 1;
    }
    table
}
