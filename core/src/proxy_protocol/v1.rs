//! Version 1 (section 2.1): `PROXY TCP4 192.0.2.1 203.0.113.7 56324 443` and CR LF. Reads and writes such lines.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ends, Header, Malformed, Parsed};

/// The longest line with its CR LF, by section 2.1.
pub const V1_BYTES: usize = 107;

const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Malformed::Missing);
    }
    let window = &bytes[..bytes.len().min(V1_BYTES)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < V1_BYTES { Ok(Parsed::Partial) } else { Err(Malformed::TooLong) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(Malformed::Line)?;
    let line = line.strip_prefix(SIGNATURE).and_then(|line| str::from_utf8(line).ok());
    let line = line.filter(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let ends = parse_ends(line.ok_or(Malformed::Line)?)?;
    Ok(Parsed::Whole(Header { ends, bytes: end + 1 }))
}

fn parse_ends(line: &str) -> Result<Option<Ends>, Malformed> {
    let mut words = line.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next() {
        Some("TCP4") => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        // "The receiver must ignore anything presented before the CRLF is found."
        Some("UNKNOWN") => return Ok(None),
        _ => return Err(Malformed::Line),
    };
    let mut word = || words.next().ok_or(Malformed::Line);
    let (source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed::Line);
    }
    let end = |ip: &str, number: &str| {
        let ip = address(ip).ok_or(Malformed::Address)?;
        Ok(SocketAddr::new(ip, port(number).ok_or(Malformed::Port)?))
    };
    Ok(Some(Ends { source: end(source, source_port)?, destination: end(destination, destination_port)? }))
}

/// Digits without a sign or a leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Both ends are of one family.
pub(super) fn write(out: &mut Vec<u8>, ends: Option<Ends>) {
    let Some(Ends { source, destination }) = ends else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        .expect("a vector takes what is written to it");
}
