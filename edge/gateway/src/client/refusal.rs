//! Requests that are refused, or sent elsewhere, before any service has seen them: with what status, why, and whether
//! another request may follow on the connection.

use std::rc::Rc;

use everup_core::config::{ListenerRedirect, Redirect};
use everup_core::http::Framing;
use everup_core::http::request::Request;
use everup_core::route;

use crate::local::Local;
use crate::measure::Route;
use crate::snapshot::ListenerTable;
use crate::trail::{Note, Noted};

/// A request that is refused, or sent elsewhere, before any service has seen it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) why: &'static str,
    /// The next request may come; it begins so many bytes after this one. None: nobody can tell where.
    pub(super) next: Option<usize>,
    pub(super) head: bool,
    /// What was asked for, as far as it is known.
    pub(super) asked: Option<Box<Noted>>,
    /// Where the client is sent, and by which route.
    pub(super) location: Option<String>,
    pub(super) route: Option<Rc<Route>>,
    /// How long the request's head was, as far as it is known.
    pub(super) head_bytes: usize,
}

impl Refusal {
    pub(super) const fn fatal(status: u16, why: &'static str) -> Self {
        Self { status, why, next: None, head: false, asked: None, location: None, route: None, head_bytes: 0 }
    }
}

/// What no route takes is sent to https, or not found.
pub(super) fn no_route(
    local: &Local,
    request: &Request<'_, '_>,
    listener: Option<&ListenerTable>,
) -> Refusal {
    let redirect = listener.and_then(|listener| listener.redirect);
    let location = redirect.zip(request.host).map(|(ListenerRedirect::Https, host)| {
        let target = if request.target == "*" { "/" } else { request.target };
        format!("https://{}{target}", route::without_port(host))
    });
    match location {
        Some(_) => Refusal { location, ..unserved(local, request, 308, "") },
        None => unserved(local, request, 404, "no route leads from here to a service"),
    }
}

/// What a request asked for that is refused: only the access log wants to know.
pub(super) fn noted(local: &Local, request: &Request<'_, '_>) -> Option<Box<Noted>> {
    let log = local.log();
    let log = log.as_ref()?;
    let (method, target) = (request.method.as_bytes(), request.target.as_bytes());
    let host = request.host.unwrap_or_default().as_bytes();
    Some(Box::new(Note::new(method, target, host, log.query).keep()))
}

/// A request that no service gets. If it has no body, the next one may follow it.
fn unserved(local: &Local, request: &Request<'_, '_>, status: u16, why: &'static str) -> Refusal {
    let next = (request.framing == Framing::Empty && request.keep_alive).then_some(request.head_bytes);
    Refusal {
        status,
        why,
        next,
        head: request.method == "HEAD",
        asked: noted(local, request),
        location: None,
        route: None,
        head_bytes: request.head_bytes,
    }
}

pub(super) fn redirected(local: &Local, redirect: &Redirect, request: &Request<'_, '_>) -> Refusal {
    match route::location(redirect, request) {
        Some(location) => {
            Refusal { location: Some(location), ..unserved(local, request, redirect.status, "") }
        }
        None => unserved(local, request, 400, "the redirect needs a Host"),
    }
}

/// A head that is over the limit: the status says which part of it.
pub(super) fn too_large(bytes: &[u8]) -> Refusal {
    if memchr::memchr(b'\n', bytes).is_some() {
        Refusal::fatal(431, "the request's head is too large")
    } else {
        Refusal::fatal(414, "the request's target is too long")
    }
}

pub(super) fn explain(malformed: everup_core::http::Malformed) -> &'static str {
    use everup_core::http::Malformed;
    match malformed {
        Malformed::Syntax => "the head is not valid HTTP/1 syntax",
        Malformed::LineEnding => "a line of the head does not end with CR LF",
        Malformed::Version => "the version is not HTTP/1.0 or HTTP/1.1",
        Malformed::TooManyHeaders => "there are too many header lines",
        Malformed::Target => "the request target is not valid",
        Malformed::Connect => "CONNECT is not served here",
        Malformed::Host => "Host is missing, given twice or not valid",
        Malformed::ContentLength => "Content-Length is given twice or is not a number",
        Malformed::TransferEncoding => {
            "Transfer-Encoding is not exactly `chunked`, or stands in an HTTP/1.0 request"
        }
        Malformed::BothLengths => "both Content-Length and Transfer-Encoding are given",
        Malformed::Status => "the status code is not valid",
        Malformed::Chunk => "the chunked coding is broken",
    }
}
