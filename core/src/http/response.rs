//! Reading an answer's head. An answer whose end is not certain is refused: it would poison the connection it came on.

use super::head::Fields;
use super::scan::{self, StatusLine};
use super::{Framing, Headers, Malformed, Parsed, Storage, Version};

/// An answer's head, as a view into the receive buffer.
#[derive(Debug)]
pub struct Response<'h, 'b> {
    /// 100 to 599.
    pub status: u16,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// How long the body is, with regard to the request's method.
    pub framing: Framing,
    /// Whether the instance keeps the connection open after this answer.
    pub keep_alive: bool,
    /// All header lines.
    pub headers: Headers<'h, 'b>,
    /// Where the body begins in the buffer.
    pub head_bytes: usize,
    pub(super) hop_by_hop: bool,
    pub(super) connection_names_others: bool,
}

/// What the request was, as far as it decides how its answer reads.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The method was HEAD.
    pub head: bool,
    /// An upgrade was asked for, so 101 may come.
    pub upgrade: bool,
}

/// Reads an answer's head from the start of `buffer`. The caller bounds the size of what it collects.
///
/// # Errors
/// [`Malformed`]: the instance's fault; answer 502 and close the connection to it.
pub fn parse<'h, 'b>(
    buffer: &'b [u8],
    storage: &'h mut Storage,
    asked: Asked,
) -> Result<Parsed<Response<'h, 'b>>, Malformed> {
    // Servers skip empty lines in front, clients do not (RFC 9112 section 2.2): such an answer has lost its place.
    if matches!(buffer.first(), Some(b'\r' | b'\n')) {
        return Err(Malformed::Syntax);
    }
    let Some(StatusLine { version, status, end }) = scan::status_line(buffer)? else {
        return Ok(Parsed::Partial);
    };
    let mut fields = Fields::default();
    let Some((count, head_bytes)) = scan::header_lines(buffer, end, storage, &mut fields)? else {
        return Ok(Parsed::Partial);
    };
    fields.check()?;
    if !(100..600).contains(&status) || (status == 101 && !asked.upgrade) {
        return Err(Malformed::Status);
    }
    let said = fields.framing(version)?;
    // RFC 9112 section 6.3: these have no body whatever their fields say.
    let bodiless = asked.head || status < 200 || status == 204 || status == 304;
    let framing = if bodiless { Framing::Empty } else { said.unwrap_or(Framing::UntilClose) };
    // 204 must not announce a body (RFC 9110 section 8.6); whoever does may also send one.
    let announces_nothing = status == 204 && said.is_some_and(|said| said != Framing::Empty);
    Ok(Parsed::Whole(Response {
        status,
        version,
        framing,
        keep_alive: fields.keeps_alive(version) && framing != Framing::UntilClose && !announces_nothing,
        headers: Headers { buffer, lines: &storage.0[..count] },
        head_bytes,
        hop_by_hop: fields.hop_by_hop,
        connection_names_others: fields.connection_names_others,
    }))
}
