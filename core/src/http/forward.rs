//! Writing the head that goes on: the lines that need no change are taken over as they came, in runs; hop-by-hop
//! fields are left out (RFC 9110 section 7.6.1) and ours are added.

use std::ops::Range;

use super::cookie::{self, Left};
use super::edit::HeadEdits;
use super::head::{is_claimed, tokens};
use super::request::Request;
use super::response::Response;
use super::trace::Parent;
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
    /// A new `traceparent`, in place of what the client sent.
    pub trace_parent: Option<&'a str>,
    /// The subject of the certificate that the client has proved to own.
    pub certificate_subject: Option<&'a str>,
}

/// Appends the request's head as the instance gets it to `out`. The body's framing is unchanged.
///
/// X-Forwarded-For is appended to what the client sent (the instance trusts the last entry); X-Forwarded-Proto and
/// -Host and X-Client-Cert-Subject are replaced, for a client could otherwise claim any.
pub fn request(out: &mut Vec<u8>, request: &Request<'_, '_>, buffer: &[u8], origin: Origin<'_>) {
    changed_request(out, request, buffer, origin, Changes::default());
}

/// What is done to a request beyond what every request needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    /// The target instead of the request's: visible ASCII.
    pub target: Option<&'a str>,
    /// A cookie of ours that the instance does not get to see, nor one of the same name with `__Host-` before it.
    pub without_cookie: Option<&'a str>,
    /// Edits of the header lines; X-Forwarded-* and X-Request-Id are ours after them.
    pub edits: Option<&'a HeadEdits>,
}

/// Where some parts of a head that was written stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The method.
    pub method: Range<usize>,
    /// The target, as the instance gets it.
    pub target: Range<usize>,
    /// The host that the client named; empty: none.
    pub host: Range<usize>,
    /// The request's id.
    pub request_id: Range<usize>,
}

/// The same as [`request`], with `changes`; tells where in `out` some of it stands.
pub fn changed_request(
    out: &mut Vec<u8>,
    request: &Request<'_, '_>,
    buffer: &[u8],
    origin: Origin<'_>,
    changes: Changes<'_>,
) -> Written {
    let Changes { target, without_cookie, edits } = changes;
    let target = target.unwrap_or(request.target);
    let method = append(out, request.method);
    out.push(b' ');
    let target = append(out, target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let plain = !request.hop_by_hop && !request.forwarded && request.untouched_target;
    let sends_trace = request.trace_parent != Parent::Absent || request.trace_state;
    let drops_trace = origin.trace_parent.is_some() && sends_trace;
    let plain = plain && !drops_trace && without_cookie.is_none() && edits.is_none();
    let mut forwarded_for: Option<&[u8]> = None;
    if plain {
        if let Some(start) = request.headers.start(0) {
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
            if drops_trace && is_trace(name) {
                return Keep::Drop;
            }
            if edits.is_some_and(|edits| edits.leave_out(name.as_bytes())) {
                return Keep::Drop;
            }
            match (without_cookie, keep_in_request(request, name)) {
                (Some(ours), Keep::Untouched) if name.eq_ignore_ascii_case("cookie") => {
                    other_cookies(value, ours)
                }
                (_, keep) => keep,
            }
        });
    }
    if let Some(edits) = edits {
        out.extend_from_slice(edits.lines());
    }
    if request.headers.first("host").is_none() {
        line(out, "Host", &[request.host.unwrap_or(origin.fallback_host).as_bytes()]);
    }
    if request.upgrade {
        let protocol = request.headers.first("upgrade").unwrap_or_default();
        line(out, "Connection", &[b"Upgrade"]);
        line(out, "Upgrade", &[protocol]);
    }
    let (host, request_id) = add_ours(out, request, origin, forwarded_for);
    out.extend_from_slice(b"\r\n");
    Written { method, target, host, request_id }
}

/// The lines that tell of the client and name the request; where the host and the id stand.
fn add_ours(
    out: &mut Vec<u8>,
    request: &Request<'_, '_>,
    origin: Origin<'_>,
    forwarded_for: Option<&[u8]>,
) -> (Range<usize>, Range<usize>) {
    match forwarded_for {
        Some(before) => line(out, "X-Forwarded-For", &[before, b", ", origin.client.as_bytes()]),
        None => line(out, "X-Forwarded-For", &[origin.client.as_bytes()]),
    }
    line(out, "X-Forwarded-Proto", &[origin.scheme.as_bytes()]);
    let mut host = 0..0;
    if let Some(named) = request.host {
        line(out, "X-Forwarded-Host", &[named.as_bytes()]);
        host = before_line_end(out, named);
    }
    if let Some(subject) = origin.certificate_subject {
        line(out, "X-Client-Cert-Subject", &[subject.as_bytes()]);
    }
    if let Some(parent) = origin.trace_parent {
        line(out, "traceparent", &[parent.as_bytes()]);
    }
    line(out, "X-Request-Id", &[origin.request_id.as_bytes()]);
    (host, before_line_end(out, origin.request_id))
}

/// Appends `text`; where it stands.
fn append(out: &mut Vec<u8>, text: &str) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    start..out.len()
}

/// Where `value` stands that ends the line that was written last.
fn before_line_end(out: &[u8], value: &str) -> Range<usize> {
    let end = out.len() - b"\r\n".len();
    end - value.len()..end
}

/// The fields of a trace; a state belongs to its parent (W3C Trace Context, section 4.3).
fn is_trace(name: &str) -> bool {
    ["traceparent", "tracestate"].iter().any(|field| name.eq_ignore_ascii_case(field))
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
    edited_response(out, response, buffer, answer, None);
}

/// The same as [`response`], with `edits` of the header lines. A Set-Cookie of ours is added after them.
pub fn edited_response(
    out: &mut Vec<u8>,
    response: &Response<'_, '_>,
    buffer: &[u8],
    answer: Answer<'_>,
    edits: Option<&HeadEdits>,
) {
    let switching = response.status == 101;
    // We answer as HTTP/1.1 whatever the instance speaks (RFC 9110 section 6.2); the reason phrase stays.
    let line_end = memchr::memchr(b'\n', buffer).map_or(response.head_bytes, |at| at + 1);
    out.extend_from_slice(b"HTTP/1.1");
    out.extend_from_slice(&buffer[b"HTTP/1.1".len()..line_end]);
    copy_kept(out, response.headers, buffer, response.head_bytes, |name, _| {
        let keep = if switching && name.eq_ignore_ascii_case("upgrade") {
            true
        } else if answer.client == Version::Http10 && name.eq_ignore_ascii_case("transfer-encoding")
            || edits.is_some_and(|edits| edits.leave_out(name.as_bytes()))
        {
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
    if let Some(edits) = edits {
        out.extend_from_slice(edits.lines());
    }
    if let Some(cookie) = answer.set_cookie {
        line(out, "Set-Cookie", &[cookie.as_bytes()]);
    }
    if let Some(hsts) = answer.hsts
        && !has_hsts(response, edits)
    {
        line(out, HSTS, &[hsts.as_bytes()]);
    }
    out.extend_from_slice(b"\r\n");
}

const HSTS: &str = "Strict-Transport-Security";

/// Whether the instance or the route has its say about https already.
fn has_hsts(response: &Response<'_, '_>, edits: Option<&HeadEdits>) -> bool {
    let writes = edits.is_some_and(|edits| edits.writes(HSTS));
    let leaves_out = edits.is_some_and(|edits| edits.leave_out(HSTS.as_bytes()));
    writes || response.headers.first(HSTS).is_some() && !leaves_out
}

/// What happens to a header line.
enum Keep<'b> {
    Untouched,
    Drop,
    /// Written again with this value (used to put an earlier X-Forwarded-For line back).
    Rewritten(&'b [u8]),
    /// Written again with what is left of its value.
    Reduced(Vec<u8>),
}

/// Copies the lines that `decide` keeps, neighbours together.
fn copy_kept<'b>(
    out: &mut Vec<u8>,
    headers: Headers<'_, 'b>,
    buffer: &[u8],
    head_bytes: usize,
    mut decide: impl FnMut(&'b str, &'b [u8]) -> Keep<'b>,
) {
    let starts = |index: usize| headers.start(index).unwrap_or(head_bytes - 2);
    let mut run: Option<usize> = None;
    for (index, (name, value)) in headers.iter().enumerate() {
        let keep = decide(name, value);
        if !matches!(keep, Keep::Untouched) {
            if let Some(start) = run.take() {
                out.extend_from_slice(&buffer[start..starts(index)]);
            }
            match keep {
                Keep::Rewritten(value) => line(out, name, &[value]),
                Keep::Reduced(value) => line(out, name, &[&value]),
                Keep::Untouched | Keep::Drop => {}
            }
        } else if run.is_none() {
            run = Some(starts(index));
        }
    }
    if let Some(start) = run {
        out.extend_from_slice(&buffer[start..head_bytes - 2]);
    }
}

/// A Cookie line without the cookies called `ours`.
fn other_cookies<'b>(value: &'b [u8], ours: &str) -> Keep<'b> {
    let is_ours =
        |name: &[u8]| name.strip_prefix(cookie::HOST_PREFIX.as_bytes()).unwrap_or(name) == ours.as_bytes();
    match cookie::without(value, is_ours) {
        Left::All => Keep::Untouched,
        Left::Some(others) => Keep::Reduced(others),
        Left::Nothing => Keep::Drop,
    }
}

fn keep_in_request<'b>(request: &Request<'_, '_>, name: &str) -> Keep<'b> {
    // An absolute-form target names the host; its Host line equals it and stays (RFC 9112 section 3.2.2).
    let ours = is_claimed(name.as_bytes());
    let named = request.connection_names_others && is_named(request.headers, name);
    if ours || is_hop_by_hop(name) || named { Keep::Drop } else { Keep::Untouched }
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

/// In line, so that the lengths of names are known where they are written.
#[inline(always)]
fn line(out: &mut Vec<u8>, name: &str, value: &[&[u8]]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    for piece in value {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}
