//! Version 2 (section 2.2): a signature, four bytes, addresses, and fields of type, length and value (TLVs). Reads and
//! writes such headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::crc32c;
use super::{Ends, Header, Malformed, Parsed};

/// The longest header that is read. The largest field in use, a client's certificate, is seldom beyond 2 KiB; what is
/// accepted must be held until it is whole.
pub const V2_BYTES: usize = 4096;

/// The longest value of a field "unique id" (section 2.2.5).
pub const UNIQUE_ID_BYTES: usize = 128;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const TYPE_CHECKSUM: u8 = 0x03;
const TYPE_UNIQUE_ID: u8 = 0x05;

/// What the addresses are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    None,
    Ip4,
    Ip6,
    Unix,
}

impl Family {
    /// Datagrams have addresses like streams: a balancer that took a request over QUIC says so.
    fn new(byte: u8) -> Result<Self, Malformed> {
        match byte {
            0x00 => Ok(Self::None),
            0x11 | 0x12 => Ok(Self::Ip4),
            0x21 | 0x22 => Ok(Self::Ip6),
            0x31 | 0x32 => Ok(Self::Unix),
            _ => Err(Malformed::Family),
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ip4 => 12,
            Self::Ip6 => 36,
            Self::Unix => 216,
        }
    }
}

/// Judges each byte as soon as it is there, so that nothing is waited for that is wrong already.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Malformed::Missing);
    }
    let Some(&command) = bytes.get(12) else { return Ok(Parsed::Partial) };
    if !matches!(command, LOCAL | PROXY) {
        return Err(Malformed::Command);
    }
    let Some(&family) = bytes.get(13) else { return Ok(Parsed::Partial) };
    // A LOCAL header's family and addresses are not looked at: "the receiver must [...] discard the protocol block".
    let family = if command == PROXY { Family::new(family)? } else { Family::None };
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES) else { return Ok(Parsed::Partial) };
    let whole = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if whole > V2_BYTES {
        return Err(Malformed::TooLong);
    }
    let fields = FIXED_BYTES + family.address_bytes();
    if fields > whole {
        return Err(Malformed::Length);
    }
    let Some(header) = bytes.get(..whole) else { return Ok(Parsed::Partial) };
    if command == PROXY {
        judge_fields(header, fields)?;
    }
    Ok(Parsed::Whole(Header { ends: read_ends(family, &header[FIXED_BYTES..]), bytes: whole }))
}

fn read_ends(family: Family, block: &[u8]) -> Option<Ends> {
    let address = |at: usize| -> Option<IpAddr> {
        match family {
            Family::None | Family::Unix => None,
            Family::Ip4 => {
                block[4 * at..].first_chunk::<4>().map(|bytes| Ipv4Addr::from_octets(*bytes).into())
            }
            Family::Ip6 => {
                block[16 * at..].first_chunk::<16>().map(|bytes| Ipv6Addr::from_octets(*bytes).into())
            }
        }
    };
    let ports = family.address_bytes().checked_sub(4)?;
    let port = |at: usize| block[ports + 2 * at..].first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
    let end = |at: usize| Some(SocketAddr::new(address(at)?, port(at)?));
    Some(Ends { source: end(0)?, destination: end(1)? })
}

/// The fields fill the header to its end, and a checksum, if there is one, is right (section 2.2.3: it is computed with
/// zeros in its own place).
fn judge_fields(header: &[u8], begin: usize) -> Result<(), Malformed> {
    let mut at = begin;
    let mut checksum = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(Malformed::Field) };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        if at > header.len() {
            return Err(Malformed::Field);
        }
        if kind == TYPE_CHECKSUM && (at - value != 4 || checksum.replace(value).is_some()) {
            return Err(Malformed::Checksum);
        }
    }
    let Some(value) = checksum else { return Ok(()) };
    let (before, rest) = header.split_at(value);
    let (sum, after) = rest.split_at(4);
    match crc32c([before, &[0; 4], after]).to_be_bytes() == *sum {
        true => Ok(()),
        false => Err(Malformed::Checksum),
    }
}

/// Both ends are of one family.
pub(super) fn write(out: &mut Vec<u8>, ends: Option<Ends>, unique_id: &[u8]) {
    out.extend_from_slice(SIGNATURE);
    let Some(Ends { source, destination }) = ends else {
        return out.extend_from_slice(&[LOCAL, 0x00, 0, 0]);
    };
    let unique_id = if unique_id.len() > UNIQUE_ID_BYTES { &[] } else { unique_id };
    let field = if unique_id.is_empty() { 0 } else { 3 + unique_id.len() };
    let (family, addresses) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    out.extend_from_slice(&[PROXY, family]);
    out.extend_from_slice(&length(addresses + field));
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    for end in [source, destination] {
        out.extend_from_slice(&end.port().to_be_bytes());
    }
    if !unique_id.is_empty() {
        out.push(TYPE_UNIQUE_ID);
        out.extend_from_slice(&length(unique_id.len()));
        out.extend_from_slice(unique_id);
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("addresses and a bounded id are far below 64 KiB").to_be_bytes()
}
