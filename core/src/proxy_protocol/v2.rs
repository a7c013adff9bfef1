//! Version 2 (section 2.2): a signature, four bytes, addresses, and fields of type, length and value (TLVs). Reads and
//! writes such headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::crc32c;
use super::{Ends, Fields, Header, Malformed, Parsed, Tls};

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

const TYPE_ALPN: u8 = 0x01;
const TYPE_AUTHORITY: u8 = 0x02;
const TYPE_CHECKSUM: u8 = 0x03;
const TYPE_UNIQUE_ID: u8 = 0x05;
const TYPE_SSL: u8 = 0x20;
/// Within a field of [`TYPE_SSL`].
const SUBTYPE_VERSION: u8 = 0x21;
const SUBTYPE_CN: u8 = 0x22;

/// The client speaks TLS with us; it has shown a certificate over this connection; within this session.
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// The longest text that is written into a field; a longer one is left out.
const TEXT_BYTES: usize = 255;

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
pub(super) fn write(out: &mut Vec<u8>, ends: Option<Ends>, fields: Fields<'_>) {
    out.extend_from_slice(SIGNATURE);
    let Some(Ends { source, destination }) = ends else {
        return out.extend_from_slice(&[LOCAL, 0x00, 0, 0]);
    };
    out.extend_from_slice(&[PROXY, if source.is_ipv4() { 0x11 } else { 0x21 }]);
    with_length(out, |out| {
        for end in [source, destination] {
            match end.ip() {
                IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
        }
        for end in [source, destination] {
            out.extend_from_slice(&end.port().to_be_bytes());
        }
        write_fields(out, fields);
    });
}

fn write_fields(out: &mut Vec<u8>, fields: Fields<'_>) {
    let Fields { unique_id, authority, protocol, tls } = fields;
    field(out, TYPE_ALPN, protocol, TEXT_BYTES);
    field(out, TYPE_AUTHORITY, authority.as_bytes(), TEXT_BYTES);
    field(out, TYPE_UNIQUE_ID, unique_id, UNIQUE_ID_BYTES);
    let Some(Tls { version, certificate }) = tls else { return };
    let (client, verify, name) = match certificate {
        None => (CLIENT_SSL, 1_u32, ""),
        Some(shown) => {
            let now = if shown.in_this_connection { CLIENT_CERT_CONN } else { 0 };
            (CLIENT_SSL | CLIENT_CERT_SESS | now, 0, shown.common_name)
        }
    };
    out.push(TYPE_SSL);
    with_length(out, |out| {
        out.push(client);
        // Zero: there is a certificate, and it was verified (section 2.2.6).
        out.extend_from_slice(&verify.to_be_bytes());
        field(out, SUBTYPE_VERSION, version.as_bytes(), TEXT_BYTES);
        field(out, SUBTYPE_CN, name.as_bytes(), TEXT_BYTES);
    });
}

/// An empty value is left out, and one that is longer than `most`.
fn field(out: &mut Vec<u8>, kind: u8, value: &[u8], most: usize) {
    if (1..=most).contains(&value.len()) {
        out.push(kind);
        with_length(out, |out| out.extend_from_slice(value));
    }
}

/// What `write` writes, with its length before it.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out);
    let length =
        u16::try_from(out.len() - at - 2).expect("addresses and a few short fields are far below 64 KiB");
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
