//! One line of the access log, written by hand: plain appends into a buffer that has room, no formatter and no
//! intermediate text.

use std::time::Duration;

use everup_core::calendar::second_text;

use crate::tale::{Phases, Verdict};
use crate::trail::Note;

/// What a line tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// Since 1970, UTC: when the request's head was whole.
    pub(crate) time: Duration,
    /// Empty: it has none.
    pub(crate) id: &'a str,
    pub(crate) client: &'a str,
    /// The version of TLS that the client speaks with us.
    pub(crate) tls: Option<&'static str>,
    pub(crate) note: Note<'a>,
    pub(crate) listener: usize,
    pub(crate) route: Option<usize>,
    pub(crate) service: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
    pub(crate) generation: u64,
    pub(crate) attempts: u32,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) phases: Phases,
    pub(crate) verdict: Verdict,
}

/// The second that was written last, so that a busy thread works the date out once a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    second: u64,
    text: [u8; 19],
}

impl Default for Second {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00" }
    }
}

/// Appends the line.
pub(super) fn write(out: &mut Vec<u8>, second: &mut Second, entry: &Entry<'_>) {
    let Entry { time, id, client, tls, note, listener, route, service, instance, .. } = *entry;
    out.extend_from_slice(b"{\"time\":\"");
    write_time(out, second, time);
    out.extend_from_slice(b"\",\"id\":");
    text_or_null(out, id.as_bytes());
    out.extend_from_slice(b",\"client\":");
    text_or_null(out, client.as_bytes());
    out.extend_from_slice(b",\"tls\":");
    text_or_null(out, tls.unwrap_or_default().as_bytes());
    out.extend_from_slice(b",\"method\":");
    text_or_null(out, note.method());
    out.extend_from_slice(b",\"host\":");
    text_or_null(out, note.host());
    out.extend_from_slice(b",\"path\":");
    text_or_null(out, note.target());
    number(out, b",\"listener\":", listener as u64 + 1);
    match route {
        Some(route) => number(out, b",\"route\":", route as u64 + 1),
        None => out.extend_from_slice(b",\"route\":null"),
    }
    out.extend_from_slice(b",\"service\":");
    text_or_null(out, service.unwrap_or_default().as_bytes());
    out.extend_from_slice(b",\"instance\":");
    text_or_null(out, instance.unwrap_or_default().as_bytes());
    write_outcome(out, entry);
    out.extend_from_slice(b"}\n");
}

fn write_outcome(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let Entry { generation, attempts, status, bytes_in, bytes_out, phases, verdict, .. } = *entry;
    number(out, b",\"table\":", generation);
    number(out, b",\"attempts\":", u64::from(attempts));
    number(out, b",\"status\":", u64::from(status));
    number(out, b",\"bytes_in\":", bytes_in);
    number(out, b",\"bytes_out\":", bytes_out);
    milliseconds(out, b",\"ms\":", phases.total());
    milliseconds(out, b",\"parked_ms\":", phases.parked);
    milliseconds(out, b",\"queued_ms\":", phases.queued);
    milliseconds(out, b",\"tried_ms\":", phases.tried);
    milliseconds(out, b",\"connect_ms\":", phases.connect);
    milliseconds(out, b",\"first_byte_ms\":", phases.first_byte);
    milliseconds(out, b",\"last_byte_ms\":", phases.last_byte);
    out.extend_from_slice(b",\"verdict\":\"");
    out.extend_from_slice(verdict.word().as_bytes());
    out.push(b'"');
}

/// RFC 3339, UTC, with milliseconds.
fn write_time(out: &mut Vec<u8>, kept: &mut Second, time: Duration) {
    let second = time.as_secs();
    if kept.second != second {
        *kept = Second { second, text: second_text(second) };
    }
    out.extend_from_slice(&kept.text);
    let ms = time.subsec_millis();
    out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
}

fn digit(value: u32) -> u8 {
    b'0' + (value % 10) as u8
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    digits(out, value);
}

fn digits(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0u8; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = digit((value % 10) as u32);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// With three places, for much happens within one.
fn milliseconds(out: &mut Vec<u8>, key: &[u8], duration: Duration) {
    out.extend_from_slice(key);
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    digits(out, micros / 1000);
    let part = (micros % 1000) as u32;
    if part > 0 {
        out.extend_from_slice(&[b'.', digit(part / 100), digit(part / 10), digit(part)]);
    }
}

/// A JSON string; `null` for nothing.
fn text_or_null(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            // What is no UTF-8 cannot stand in JSON (RFC 8259 section 8.1).
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// RFC 8259 section 7: quotation mark, backslash and control characters are escaped; DEL too, for terminals.
fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                let hex = |half: u8| b"0123456789abcdef"[usize::from(half)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
}

#[cfg(test)]
mod tests;
