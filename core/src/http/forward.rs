//! Writing the head that goes on: the lines that need no change are taken over as they came, in runs; hop-by-hop
//! fields are left out (RFC 9110 section 7.6.1) and ours are added.

use super::head::tokens;
use super::request::Request;
use super::response::Response;
use super::{Headers, Version};

/// Fields that a Connection header must not make us drop: leaving one out would change what the request means or
/// whom the instance believes to talk to.
const PROTECTED: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "cookie", "authorization", "content-type"];

/// What we tell the instance about the client.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's address as text.
    pub client: &'a str,
    /// `http` or `https`, as the client spoke to us.
    pub scheme: &'a str,
    /// The request's id: the client's own or a new one.
    pub request_id: &'a str,
    /// The Host for an HTTP/1.0 request that names none.
    pub fallback_host: &'a str,
    /// The subject of the certificate that the client has proved to own.
    pub certificate_subject: Option<&'a str>,
}

/// Appends the request's head as the instance gets it to `out`. The body's framing is unchanged.
///
/// X-Forwarded-For is appended to what the client sent (the instance trusts the last entry); X-Forwarded-Proto and
/// -Host and X-Client-Cert-Subject are replaced, for a client could otherwise claim any.
pub fn request(out: &mut Vec<u8>, request: &Request<'_, '_>, buffer: &[u8], origin: Origin<'_>) {
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let plain = !request.hop_by_hop && !request.forwarded && request.untouched_target;
    let mut forwarded_for: Option<&[u8]> = None;
    if plain {
        if let Some(start) = request.headers.iter().next().map(|(name, _)| offset(buffer, name.as_bytes())) {
            out.extend_from_slice(&buffer[start..request.head_bytes - 2]);
        }
    } else {
        copy_kept(out, request.headers, buffer, request.head_bytes, |name, value| {
            if name.eq_ignore_ascii_case("x-forwarded-for") {
                // Several lines are one list (RFC 9110 section 5.3); the lines before the last stay as they are.
                if let Some(last) = forwarded_for.replace(value) {
                    return Keep::Rewritten(last);
                }
                return Keep::Drop;
            }
            keep_in_request(request, name)
        });
    }
    if request.headers.first("host").is_none() {
        line(out, "Host", &[request.host.unwrap_or(origin.fallback_host).as_bytes()]);
    }
    if request.upgrade {
        let protocol = request.headers.first("upgrade").unwrap_or_default();
        line(out, "Connection", &[b"Upgrade"]);
        line(out, "Upgrade", &[protocol]);
    }
    match forwarded_for {
        Some(before) => line(out, "X-Forwarded-For", &[before, b", ", origin.client.as_bytes()]),
        None => line(out, "X-Forwarded-For", &[origin.client.as_bytes()]),
    }
    line(out, "X-Forwarded-Proto", &[origin.scheme.as_bytes()]);
    if let Some(host) = request.host {
        line(out, "X-Forwarded-Host", &[host.as_bytes()]);
    }
    if let Some(subject) = origin.certificate_subject {
        line(out, "X-Client-Cert-Subject", &[subject.as_bytes()]);
    }
    line(out, "X-Request-Id", &[origin.request_id.as_bytes()]);
    out.extend_from_slice(b"\r\n");
}

/// What an answer's head needs on its way to the client.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The client's version: HTTP/1.0 gets no chunks.
    pub client: Version,
    /// The connection ends after this answer.
    pub close: bool,
    /// HTTP/1.0 asked to keep the connection; tell it so.
    pub confirm_keep_alive: bool,
    /// A Set-Cookie value of ours.
    pub set_cookie: Option<&'a str>,
    /// A Strict-Transport-Security value of ours, for answers that have none.
    pub hsts: Option<&'a str>,
}

/// Whether the head can go to the client byte for byte.
pub fn response_is_untouched(response: &Response<'_, '_>, answer: Answer<'_>) -> bool {
    !response.hop_by_hop
        && !answer.close
        && !answer.confirm_keep_alive
        && answer.set_cookie.is_none()
        && answer.hsts.is_none()
        && response.version == Version::Http11
        && answer.client == Version::Http11
}

/// Appends the answer's head as the client gets it to `out`.
pub fn response(out: &mut Vec<u8>, response: &Response<'_, '_>, buffer: &[u8], answer: Answer<'_>) {
    let switching = response.status == 101;
    // We answer as HTTP/1.1 whatever the instance speaks (RFC 9110 section 6.2); the reason phrase stays.
    let line_end = memchr::memchr(b'\n', buffer).map_or(response.head_bytes, |at| at + 1);
    out.extend_from_slice(b"HTTP/1.1");
    out.extend_from_slice(&buffer[b"HTTP/1.1".len()..line_end]);
    copy_kept(out, response.headers, buffer, response.head_bytes, |name, _| {
        let keep = if switching && name.eq_ignore_ascii_case("upgrade") {
            true
        } else if answer.client == Version::Http10 && name.eq_ignore_ascii_case("transfer-encoding") {
            false
        } else {
            !(is_hop_by_hop(name) || response.connection_names_others && is_named(response.headers, name))
        };
        if keep { Keep::Untouched } else { Keep::Drop }
    });
    if switching {
        line(out, "Connection", &[b"Upgrade"]);
    } else if answer.close {
        line(out, "Connection", &[b"close"]);
    } else if answer.confirm_keep_alive {
        line(out, "Connection", &[b"keep-alive"]);
    }
    if let Some(cookie) = answer.set_cookie {
        line(out, "Set-Cookie", &[cookie.as_bytes()]);
    }
    if let Some(hsts) = answer.hsts
        && response.headers.first("strict-transport-security").is_none()
    {
        line(out, "Strict-Transport-Security", &[hsts.as_bytes()]);
    }
    out.extend_from_slice(b"\r\n");
}

/// What happens to a header line.
enum Keep<'b> {
    Untouched,
    Drop,
    /// Written again with this value (used to put an earlier X-Forwarded-For line back).
    Rewritten(&'b [u8]),
}

/// Copies the lines that `decide` keeps, neighbours together.
fn copy_kept<'b>(
    out: &mut Vec<u8>,
    headers: Headers<'_, 'b>,
    buffer: &[u8],
    head_bytes: usize,
    mut decide: impl FnMut(&'b str, &'b [u8]) -> Keep<'b>,
) {
    let starts = |index: usize| {
        headers.0.get(index).map_or(head_bytes - 2, |header| offset(buffer, header.name.as_bytes()))
    };
    let mut run: Option<usize> = None;
    for (index, (name, value)) in headers.iter().enumerate() {
        let keep = decide(name, value);
        if !matches!(keep, Keep::Untouched) {
            if let Some(start) = run.take() {
                out.extend_from_slice(&buffer[start..starts(index)]);
            }
            if let Keep::Rewritten(value) = keep {
                line(out, name, &[value]);
            }
        } else if run.is_none() {
            run = Some(starts(index));
        }
    }
    if let Some(start) = run {
        out.extend_from_slice(&buffer[start..head_bytes - 2]);
    }
}

fn keep_in_request<'b>(request: &Request<'_, '_>, name: &str) -> Keep<'b> {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    // An absolute-form target names the host; its Host line equals it and stays (RFC 9112 section 3.2.2).
    let ours = is("x-forwarded-proto")
        || is("x-forwarded-host")
        || is("x-request-id")
        || names_certificate(name.as_bytes());
    let named = request.connection_names_others && is_named(request.headers, name);
    if ours || is_hop_by_hop(name) || named { Keep::Drop } else { Keep::Untouched }
}

/// X-Client-Cert-Subject, also as servers with CGI-like variables read it: to them `_` and `-` are the same.
pub(super) fn names_certificate(name: &[u8]) -> bool {
    let wanted = b"x-client-cert-subject";
    let same =
        |(byte, wanted): (&u8, &u8)| byte.eq_ignore_ascii_case(wanted) || (*byte == b'_' && *wanted == b'-');
    name.len() == wanted.len() && name.iter().zip(wanted).all(same)
}

fn is_hop_by_hop(name: &str) -> bool {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings"),
        16 => is("proxy-connection"),
        _ => false,
    }
}

/// Whether a Connection header names this field as concerning the connection only.
fn is_named(headers: Headers<'_, '_>, name: &str) -> bool {
    let protected = PROTECTED.iter().any(|field| field.eq_ignore_ascii_case(name));
    !protected
        && headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case("connection"))
            .any(|(_, value)| tokens(value).any(|token| token.eq_ignore_ascii_case(name.as_bytes())))
}

/// Where `part`, a slice of `buffer`, begins in it.
fn offset(buffer: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - buffer.as_ptr().addr()
}

fn line(out: &mut Vec<u8>, name: &str, value: &[&[u8]]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    for piece in value {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}
