//! Reading a request head. What comes out is unambiguous: one host, one target, one length, or it is refused.

use super::head::Fields;
use super::scan::{self, RequestLine};
use super::trace::Parent;
use super::{Framing, Headers, Malformed, Parsed, Storage, Version};

/// A request head, as a view into the receive buffer.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// `GET` and so on: a token, case as sent.
    pub method: &'b str,
    /// The origin-form target (`/path?query`) or `*`; an absolute-form target is reduced to it.
    pub target: &'b str,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// The host from Host or the absolute-form target, with its port if it was given; None only in HTTP/1.0.
    pub host: Option<&'b str>,
    /// How long the body is; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client keeps the connection open after this exchange.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The client asks to switch protocols (RFC 9110 section 7.8) and the protocol is not HTTP/2 over cleartext,
    /// which would carry requests past every check.
    pub upgrade: bool,
    /// The client's own X-Request-Id, if it is one that can be taken over: 1 to 128 visible characters.
    pub request_id: Option<&'b str>,
    /// All header lines.
    pub headers: Headers<'h, 'b>,
    /// Where the body begins in the buffer.
    pub head_bytes: usize,
    pub(super) hop_by_hop: bool,
    pub(super) connection_names_others: bool,
    pub(super) forwarded: bool,
    pub(super) untouched_target: bool,
    pub(super) trace_parent: Parent,
    pub(super) trace_state: bool,
}

impl Request<'_, '_> {
    /// Whether sending this request twice is the same as sending it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
    }

    /// Whether it belongs to a trace: it has one valid `traceparent` (W3C Trace Context).
    pub fn is_traced(&self) -> bool {
        self.trace_parent == Parent::Valid
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        let end = self.target.bytes().position(|byte| byte == b'?').unwrap_or(self.target.len());
        &self.target[..end]
    }
}

/// Reads a request head from the start of `buffer`. The caller bounds the size of what it collects.
///
/// # Errors
/// [`Malformed`]: answer 400 (or what [`status_for`] says) and close, for the position of the next request is unknown.
pub fn parse<'h, 'b>(
    buffer: &'b [u8],
    storage: &'h mut Storage,
) -> Result<Parsed<Request<'h, 'b>>, Malformed> {
    let Some(RequestLine { method, target, version, end }) = scan::request_line(buffer)? else {
        return Ok(Parsed::Partial);
    };
    let mut fields = Fields::default();
    let Some((count, head_bytes)) = scan::header_lines(buffer, end, storage, &mut fields)? else {
        return Ok(Parsed::Partial);
    };
    fields.check()?;
    let (host, origin_form) = host_and_target(method, target, version, &fields)?;
    let framing = fields.framing(version)?.unwrap_or(Framing::Empty);
    Ok(Parsed::Whole(Request {
        method,
        target: origin_form,
        version,
        host,
        framing,
        keep_alive: fields.keeps_alive(version),
        expect_continue: fields.expect_continue && version == Version::Http11 && framing != Framing::Empty,
        upgrade: asks_for_upgrade(&fields, version),
        request_id: fields.request_id.and_then(usable_request_id),
        headers: Headers { buffer, lines: &storage.0[..count] },
        head_bytes,
        hop_by_hop: fields.hop_by_hop,
        connection_names_others: fields.connection_names_others,
        forwarded: fields.forwarded,
        trace_parent: fields.trace_parent,
        trace_state: fields.trace_state,
        untouched_target: origin_form.len() == target.len(),
    }))
}

/// The status to refuse a malformed request with.
pub fn status_for(malformed: Malformed) -> u16 {
    match malformed {
        Malformed::Version => 505,
        Malformed::TooManyHeaders => 431,
        Malformed::Connect => 405,
        Malformed::Syntax
        | Malformed::LineEnding
        | Malformed::Target
        | Malformed::Host
        | Malformed::ContentLength
        | Malformed::TransferEncoding
        | Malformed::BothLengths
        | Malformed::Status
        | Malformed::Chunk => 400,
    }
}

/// The host that counts and the target in origin-form (RFC 9112 section 3.2).
fn host_and_target<'b>(
    method: &str,
    target: &'b str,
    version: Version,
    fields: &Fields<'b>,
) -> Result<(Option<&'b str>, &'b str), Malformed> {
    if method == "CONNECT" {
        return Err(Malformed::Connect);
    }
    let host = match fields.host {
        Some(value) => Some(valid_host(value).ok_or(Malformed::Host)?),
        None if version == Version::Http10 => None,
        None => return Err(Malformed::Host),
    };
    if !target.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#') {
        return Err(Malformed::Target);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((host, target));
    }
    let (authority, origin_form) = absolute_form(target).ok_or(Malformed::Target)?;
    match host {
        Some(host) if !host.eq_ignore_ascii_case(authority) => Err(Malformed::Host),
        Some(_) | None => Ok((Some(authority), origin_form)),
    }
}

/// `http://host/path` as host and `/path`.
fn absolute_form(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    valid_host(authority.as_bytes())?;
    match path.as_bytes().first() {
        Some(b'/') => Some((authority, path)),
        None => Some((authority, "/")),
        // `http://host?query` has no origin-form that is a slice of it; nobody sends it.
        Some(_) => None,
    }
}

/// uri-host [ ":" port ] (RFC 9110 section 7.2) without the rarities that only confuse: no user, no percent coding.
fn valid_host(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    if (1..=255).contains(&value.len()) && value.iter().all(|&byte| NAME_BYTES[usize::from(byte)]) {
        return Some(text);
    }
    let colon = value.iter().position(|&byte| byte == b':');
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            inside.parse::<std::net::Ipv6Addr>().ok()?;
            (inside, after.strip_prefix(':').or_else(|| after.is_empty().then_some("0"))?)
        }
        None => colon.map_or((text, "0"), |at| (&text[..at], &text[at + 1..])),
    };
    let valid = |byte: u8| NAME_BYTES[usize::from(byte)] || (byte == b':' && text.starts_with('['));
    let name_is_valid = (1..=255).contains(&name.len()) && name.bytes().all(valid);
    let port_is_valid =
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (name_is_valid && port_is_valid).then_some(text)
}

/// What a host name may consist of: unreserved characters and sub-delims (RFC 3986 section 3.2.2).
const NAME_BYTES: [bool; 256] = {
    let mut valid = [false; 256];
    let others = b"-._~!$&'()*+;=";
    let mut byte = 0;
    while byte < 256 {
        valid[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut other = 0;
    while other < others.len() {
        valid[others[other] as usize] = true;
        other += 1;
    }
    valid
};

fn asks_for_upgrade(fields: &Fields<'_>, version: Version) -> bool {
    fields.upgrade && fields.connection_upgrade && version == Version::Http11 && !fields.upgrade_h2c
}

fn usable_request_id(value: &[u8]) -> Option<&str> {
    let usable = (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    usable.then(|| std::str::from_utf8(value).ok()).flatten()
}
