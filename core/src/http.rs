//! HTTP/1.1 on the wire (RFC 9110, RFC 9112): bytes in, heads and body pieces out, and back.
//!
//! Strict by construction: a message whose end two readers could see in two places is refused, never repaired and
//! passed on. Nothing here copies a head: [`request::Request`] and [`response::Response`] are views into the
//! receive buffer, and [`forward`] writes what goes on, taking over untouched header lines as they are.
//! Reading and writing sockets, timeouts and routing live elsewhere.

pub mod body;
pub mod chunked;
pub mod cookie;
pub mod edit;
pub mod forward;
mod head;
pub mod request;
pub mod response;
mod scan;
mod trace;

pub use head::{HEADER_COUNT, Headers, Storage, Version, head_may_end};

/// What a parser says of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The head is whole.
    Whole(T),
    /// More bytes are needed.
    Partial,
}

/// How long a message's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the connection closes (answers only).
    UntilClose,
}

/// Why a message is refused. All are the sender's fault; none is worth a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head is not HTTP/1 syntax: a NUL or control character, whitespace around a name, a folded line.
    #[error("the head is not valid HTTP/1 syntax")]
    Syntax,
    /// A line that ends with LF alone, or a CR that no LF follows.
    #[error("a line of the head does not end with CR LF")]
    LineEnding,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// More than [`HEADER_COUNT`] header lines.
    #[error("there are more than {HEADER_COUNT} header lines")]
    TooManyHeaders,
    /// The request target is not one of the forms of RFC 9112 section 3.2.
    #[error("the request target is not valid")]
    Target,
    /// CONNECT: everup is not a forward proxy.
    #[error("CONNECT is not served here")]
    Connect,
    /// Host missing (HTTP/1.1), given twice, not a host, or another one than the target names.
    #[error("the Host header is missing, given twice or not valid")]
    Host,
    /// Content-Length given twice, as a list, or not a plain number.
    #[error("Content-Length is given twice or is not a number")]
    ContentLength,
    /// Transfer-Encoding that is not exactly one `chunked`, or in an HTTP/1.0 message.
    #[error("Transfer-Encoding is not exactly `chunked`, or stands in an HTTP/1.0 message")]
    TransferEncoding,
    /// Both Content-Length and Transfer-Encoding.
    #[error("both Content-Length and Transfer-Encoding are given")]
    BothLengths,
    /// The status code is not 100 to 599, or 101 where no upgrade was asked for.
    #[error("the status code is not valid here")]
    Status,
    /// The chunked coding is broken.
    #[error("the chunked coding is broken")]
    Chunk,
}

#[cfg(test)]
mod tests;
