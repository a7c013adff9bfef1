//! The PROXY protocol, versions 1 and 2: a header in front of a connection that says who is at its other end, as a
//! balancer before or behind this one tells it. Strict: a header that another reader could read differently is refused.
//!
//! "Section" means a section of the PROXY protocol specification (haproxy.org, `proxy-protocol.txt`). Who may send a
//! header, and how long one may take, is not known here; values of TLVs are checked for their framing and their checksum, and
//! not looked into.

mod checksum;
mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub use v1::V1_BYTES;
pub use v2::{UNIQUE_ID_BYTES, V2_BYTES};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who connected.
    pub source: SocketAddr,
    /// What was connected to.
    pub destination: SocketAddr,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The ends of the connection that is passed on. None: there is none (the sender speaks for itself, LOCAL), or they
    /// are not IP addresses (UNKNOWN): the connection's own ends hold.
    pub ends: Option<Ends>,
    /// How long the header is; what follows is the connection's content.
    pub bytes: usize,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Partial,
    /// A header, and maybe more.
    Whole(Header),
}

/// Why bytes are no header. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin with neither signature.
    #[error("there is no PROXY header")]
    Missing,
    /// The line of version 1 does not end within [`V1_BYTES`], or the header of version 2 is longer than [`V2_BYTES`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// The line of version 1 is not as section 2.1 has it.
    #[error("the PROXY line is not valid")]
    Line,
    /// An address is none, or not of the family that the header names.
    #[error("the PROXY header has an address that is not valid")]
    Address,
    /// A port is none.
    #[error("the PROXY header has a port that is not valid")]
    Port,
    /// The version is not 2, or the command is neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown version or command")]
    Command,
    /// The family or the transport is none that section 2.2 knows.
    #[error("the PROXY header has an unknown address family")]
    Family,
    /// There are fewer bytes than the family's addresses have.
    #[error("the PROXY header is too short for its address family")]
    Length,
    /// The fields after the addresses do not end where the header does.
    #[error("the PROXY header has a broken field")]
    Field,
    /// The checksum does not fit, or is not one.
    #[error("the PROXY header has a wrong checksum")]
    Checksum,
}

/// Reads the header at the start of a connection. The answer to more bytes is the same, once it is not
/// [`Parsed::Partial`]; which it is for at most [`V2_BYTES`] bytes.
///
/// # Errors
/// [`Malformed`]: whoever sent this is not to be served (section 2: "must abort the connection").
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    match bytes.first() {
        None => Ok(Parsed::Partial),
        Some(b'P') => v1::parse(bytes),
        Some(_) => v2::parse(bytes),
    }
}

/// Writes a header of version 1. `ends` None: the connection is the sender's own (UNKNOWN).
pub fn write_v1(out: &mut Vec<u8>, ends: Option<Ends>) {
    v1::write(out, ends.map(Ends::of_one_family));
}

/// What a header of version 2 tells beyond the ends. What is empty is left out, and text beyond 255 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// Names the connection or its request; at most [`UNIQUE_ID_BYTES`].
    pub unique_id: &'a [u8],
    /// The host that the client wants (SNI).
    pub authority: &'a str,
    /// The protocol that was agreed on (ALPN).
    pub protocol: &'a [u8],
    /// The client speaks TLS with the sender.
    pub tls: Option<Tls<'a>>,
}

/// The client's TLS, which ends at the sender.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// The version as OpenSSL calls it, `TLSv1.3`.
    pub version: &'a str,
    /// The certificate that the client has proved to own.
    pub certificate: Option<Shown<'a>>,
}

/// A client's certificate, which was verified.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// It was shown over this connection, not over an earlier one of its session.
    pub in_this_connection: bool,
    /// Its subject's common name.
    pub common_name: &'a str,
}

/// Writes a header of version 2. `ends` None: the connection is the sender's own (LOCAL), of which nothing is told.
pub fn write_v2(out: &mut Vec<u8>, ends: Option<Ends>, fields: Fields<'_>) {
    v2::write(out, ends.map(Ends::of_one_family), fields);
}

impl Ends {
    /// Both as IPv4 if both are that, else both as IPv6: a header has one family.
    fn of_one_family(self) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let six = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        };
        let (source, destination) = (plain(self.source), plain(self.destination));
        match source.is_ipv4() == destination.is_ipv4() {
            true => Self { source, destination },
            false => Self { source: six(source), destination: six(destination) },
        }
    }
}

#[cfg(test)]
mod tests;
