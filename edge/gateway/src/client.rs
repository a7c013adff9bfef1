//! A client's connection: one request after another until one side wants no more. Reads and checks heads, finds the
//! service, answers what cannot be passed on; `exchange` does the rest.

use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everup_core::balance::ip_hash;
use everup_core::config::Redirect;
use everup_core::http::body::Body;
use everup_core::http::request::{self, Request};
use everup_core::http::response::Asked;
use everup_core::http::{Framing, Parsed, Storage, Version, forward};
use everup_core::route::{self, Edits, Goes};

use crate::exchange;
use crate::local::{Local, RequestId};
use crate::reply;
use crate::service::Service;
use crate::sticky::{self, Wish};
use crate::stream::Stream;
use crate::watch::{Signal, Watched};

/// How long a connection that is being closed may still send what nobody reads: closing at once would reset it, and
/// the client might never see the answer (RFC 9112 section 9.6). Many clients read nothing before all is sent.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// How long it may be silent meanwhile.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// And how much it may send.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
/// How long an idle client connection is kept before any service is known.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) watch: Watched,
    pub(crate) listener: usize,
    /// The client's address as text.
    pub(crate) address: String,
    pub(crate) hash: u64,
    /// It speaks TLS with us.
    pub(crate) secure: bool,
    /// Read already, but belonging to what comes after the current request.
    pub(crate) carry: Vec<u8>,
    idle: Duration,
    /// It has sent a request before. One that has not is about to, and is not closed for being idle at shutdown.
    served: bool,
}

/// A request, as it will go to an instance.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) service: Rc<Service>,
    /// The head as the instance gets it, and what was read of the body with the head.
    pub(crate) out: Vec<u8>,
    /// The rest of the body.
    pub(crate) body: Body,
    /// How much of the body's content is in `out`.
    pub(crate) body_bytes: u64,
    /// More of the body was read than `out` holds: the request cannot be sent again.
    pub(crate) consumed: bool,
    /// A connection from a pool proved dead: the next attempt takes a new one.
    pub(crate) met_stale: bool,
    pub(crate) asked: Asked,
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) idempotent: bool,
    /// What its route changes.
    pub(crate) edits: Option<Arc<Edits>>,
    /// What it wishes for, for the sake of stickiness.
    pub(crate) wish: Wish,
    /// When its head was whole.
    pub(crate) started: Duration,
    request_id: Range<usize>,
}

impl Incoming {
    pub(crate) fn request_id(&self) -> &str {
        std::str::from_utf8(&self.out[self.request_id.clone()]).unwrap_or_default()
    }
}

/// What happens to the client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    Keep,
    /// Say that nothing more is sent, let the client finish, close.
    Close,
    /// Close at once.
    Gone,
}

/// A request that is refused, or sent elsewhere, before any service has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    why: &'static str,
    /// The next request may come; it begins so many bytes after this one. None: nobody can tell where.
    next: Option<usize>,
    head: bool,
    /// Where the client is sent.
    location: Option<String>,
}

impl Refusal {
    const fn fatal(status: u16, why: &'static str) -> Self {
        Self { status, why, next: None, head: false, location: None }
    }
}

/// What came of waiting for a request.
enum Arrived {
    Request(Incoming),
    Refused(Refusal),
    /// The client has closed, or was idle for too long.
    Closed,
}

/// Serves a connection to its end.
pub(crate) async fn serve(local: Rc<Local>, stream: Stream, listener: usize, peer: IpAddr) {
    let mut client = Client::new(&local, stream, listener, peer);
    loop {
        let after = match client.next_request(&local).await {
            Arrived::Request(incoming) => {
                client.idle = incoming.service.settings.timeout.idle;
                exchange::run(&local, &mut client, incoming).await
            }
            Arrived::Refused(Refusal { status, why, next, head, location }) => {
                let keep = next.is_some() && !local.is_closing();
                match location {
                    Some(location) => client.redirect(&local, status, &location, keep).await,
                    None => client.reply(&local, status, why, "", head, keep).await,
                }
            }
            Arrived::Closed => After::Gone,
        };
        client.served = true;
        match after {
            After::Keep => {}
            After::Close => return client.linger(&local).await,
            After::Gone => return,
        }
    }
}

impl Client {
    pub(crate) fn new(local: &Local, stream: Stream, listener: usize, peer: IpAddr) -> Self {
        let watch = local.watches.enter();
        let peer = peer.to_canonical();
        let (address, hash) = (peer.to_string(), ip_hash::client_hash(peer));
        let secure = false;
        Self {
            stream,
            watch,
            listener,
            address,
            hash,
            secure,
            carry: Vec::new(),
            idle: IDLE_TIME,
            served: false,
        }
    }

    /// Waits for the next request's head.
    async fn next_request(&mut self, local: &Local) -> Arrived {
        let arrived = match self.carry.is_empty() {
            true => self.first_bytes(local).await,
            false => self.take_from_carry(local),
        };
        if let Some(arrived) = arrived {
            return arrived;
        }
        self.rest_of_head(local).await
    }

    /// Waits between two requests; a head that comes in one piece, as nearly all do, is read where it lies.
    async fn first_bytes(&mut self, local: &Local) -> Option<Arrived> {
        if local.is_closing() && self.served {
            return Some(Arrived::Closed);
        }
        self.watch.set_deadline(Some(local.coarse_now() + self.idle));
        self.watch.set_idle(self.served);
        let read = self.read(local).await;
        self.watch.set_idle(false);
        let Ok(read @ 1..) = read else { return Some(Arrived::Closed) };
        let scratch = local.buffers.scratch();
        let bytes = &scratch[..read];
        match self.take_head(local, bytes) {
            Ok(Some((incoming, used))) => {
                self.carry.extend_from_slice(&bytes[used..]);
                Some(Arrived::Request(incoming))
            }
            Ok(None) => {
                self.carry = local.buffers.take();
                self.carry.extend_from_slice(bytes);
                None
            }
            Err(refusal) => {
                self.carry.extend_from_slice(refusal.next.map_or(&[], |next| &bytes[next..]));
                Some(Arrived::Refused(refusal))
            }
        }
    }

    /// Collects a head that comes in pieces, within `limits.head_time`.
    async fn rest_of_head(&mut self, local: &Local) -> Arrived {
        self.watch.set_deadline(Some(local.now() + local.limits.head_time));
        loop {
            if self.carry.len() > local.limits.head_bytes {
                return Arrived::Refused(too_large(&self.carry));
            }
            match self.read(local).await {
                Ok(read @ 1..) => self.carry.extend_from_slice(&local.buffers.scratch()[..read]),
                Ok(0) | Err(Signal::Closing | Signal::JudgedDown) => return Arrived::Closed,
                Err(Signal::Deadline) => {
                    return Arrived::Refused(Refusal::fatal(408, "the head took too long"));
                }
            }
            if let Some(arrived) = self.take_from_carry(local) {
                return arrived;
            }
        }
    }

    /// A head at the start of what was carried over.
    fn take_from_carry(&mut self, local: &Local) -> Option<Arrived> {
        // Parsing again with every byte would let a slow sender cost us its square.
        if !has_blank_line(&self.carry) {
            return None;
        }
        let mut carry = std::mem::take(&mut self.carry);
        let arrived = match self.take_head(local, &carry) {
            Ok(Some((incoming, used))) => {
                carry.drain(..used);
                Some(Arrived::Request(incoming))
            }
            Ok(None) => None,
            Err(refusal) => {
                carry.drain(..refusal.next.unwrap_or(carry.len()));
                Some(Arrived::Refused(refusal))
            }
        };
        if carry.is_empty() {
            local.buffers.give(carry)
        } else {
            self.carry = carry
        }
        arrived
    }

    /// Reads into the scratch buffer; 0 is the end, however it came.
    async fn read(&mut self, local: &Local) -> Result<usize, Signal> {
        let Self { stream, watch, .. } = self;
        let read = watch.wait(|cx| stream.poll_read(cx, &mut local.buffers.scratch())).await?;
        Ok(read.unwrap_or(0))
    }

    /// Makes a request out of the bytes, and says how many of them it used; None if the head is not whole.
    fn take_head(&self, local: &Local, bytes: &[u8]) -> Result<Option<(Incoming, usize)>, Refusal> {
        let mut storage = Storage::new();
        let request = match request::parse(bytes, &mut storage) {
            Ok(Parsed::Whole(request)) => request,
            Ok(Parsed::Partial) if bytes.len() > local.limits.head_bytes => return Err(too_large(bytes)),
            Ok(Parsed::Partial) => return Ok(None),
            Err(malformed) => {
                return Err(Refusal::fatal(request::status_for(malformed), explain(malformed)));
            }
        };
        if request.head_bytes > local.limits.head_bytes {
            return Err(too_large(bytes));
        }
        self.admit(local, &request, bytes).map(Some)
    }

    /// Finds the service and writes what its instance will get.
    fn admit(
        &self,
        local: &Local,
        request: &Request<'_, '_>,
        bytes: &[u8],
    ) -> Result<(Incoming, usize), Refusal> {
        let table = local.table();
        let routes = table.snapshot.listeners.get(self.listener).map(|listener| &listener.routes);
        let (index, edits) = match routes.and_then(|routes| routes.lookup(request)) {
            Some(Goes::To { service, edits }) => (Some(service), edits.map(Arc::clone)),
            Some(Goes::Redirect(redirect)) => return Err(redirected(redirect, request)),
            None => (None, None),
        };
        let found = index.and_then(|index| table.services.get(index));
        let service =
            Rc::clone(found.ok_or_else(|| unserved(request, 404, "no route leads from here to a service"))?);
        let limit = local.limits.body_bytes.unwrap_or(u64::MAX);
        if matches!(request.framing, Framing::Length(length) if length > limit) {
            return Err(Refusal::fatal(413, "the request's body is too large"));
        }
        let mut out = local.buffers.take();
        let request_id = self.write_head(local, &mut out, request, bytes, &service, edits.as_deref());
        let mut body = Body::new(request.framing);
        let rest = &bytes[request.head_bytes..];
        let mut content = 0;
        let taken = body
            .take(rest, |piece| content += piece.len() as u64)
            .map_err(|malformed| Refusal::fatal(400, explain(malformed)))?;
        if content > limit {
            return Err(Refusal::fatal(413, "the request's body is too large"));
        }
        out.extend_from_slice(&rest[..taken]);
        let incoming = Incoming {
            wish: sticky::wish(local, &service, request, self.secure),
            service,
            edits,
            out,
            body,
            body_bytes: content,
            consumed: false,
            met_stale: false,
            asked: Asked { head: request.method == "HEAD", upgrade: request.upgrade },
            version: request.version,
            keep_alive: request.keep_alive,
            idempotent: request.is_idempotent() && !request.upgrade,
            started: local.now(),
            request_id,
        };
        Ok((incoming, request.head_bytes + taken))
    }

    /// Writes the head for the instance; returns where the request id stands in it.
    fn write_head(
        &self,
        local: &Local,
        out: &mut Vec<u8>,
        request: &Request<'_, '_>,
        bytes: &[u8],
        service: &Service,
        edits: Option<&Edits>,
    ) -> Range<usize> {
        let mut room = RequestId::default();
        let request_id = match request.request_id {
            Some(id) => id,
            None => local.new_request_id(&mut room),
        };
        let origin = forward::Origin {
            client: &self.address,
            scheme: "http",
            request_id,
            fallback_host: &service.settings.name,
        };
        let target = edits.and_then(|edits| edits.target(request.target));
        let changes = forward::Changes {
            target: target.as_deref(),
            without_cookie: sticky::hidden_cookie(service),
            edits: edits.and_then(|edits| edits.request.as_ref()),
        };
        forward::changed_request(out, request, bytes, origin, changes);
        // The id is the last line's value, before its CR LF and the empty line.
        let end = out.len() - 4;
        end - request_id.len()..end
    }

    /// Sends an answer of ours.
    pub(crate) async fn reply(
        &mut self,
        local: &Local,
        status: u16,
        why: &str,
        request_id: &str,
        head: bool,
        keep: bool,
    ) -> After {
        let mut out = local.buffers.take();
        reply::write(&mut out, status, why, request_id, head, !keep);
        self.send(local, out, keep).await
    }

    /// Sends the client elsewhere.
    async fn redirect(&mut self, local: &Local, status: u16, location: &str, keep: bool) -> After {
        let mut out = local.buffers.take();
        reply::write_redirect(&mut out, status, location, !keep);
        self.send(local, out, keep).await
    }

    async fn send(&mut self, local: &Local, out: Vec<u8>, keep: bool) -> After {
        self.watch.set_deadline(Some(local.coarse_now() + self.idle));
        let mut at = 0;
        while at < out.len() {
            let Self { stream, watch, .. } = self;
            match watch.wait(|cx| stream.poll_write(cx, &out[at..])).await {
                Ok(Ok(written)) => at += written,
                Ok(Err(_)) | Err(_) => return After::Gone,
            }
        }
        local.buffers.give(out);
        if keep { After::Keep } else { After::Close }
    }

    /// Reads and forgets what the client still sends, for a short while, so that it sees our last answer.
    pub(crate) async fn linger(mut self, local: &Local) {
        self.stream.finish_writing();
        let end = local.coarse_now() + LINGER_TIME;
        let mut left = LINGER_BYTES;
        while left > 0 {
            self.watch.set_deadline(Some(end.min(local.coarse_now() + LINGER_SILENCE)));
            match self.read(local).await {
                Ok(read @ 1..) => left = left.saturating_sub(read),
                Ok(0) | Err(_) => return,
            }
        }
    }
}

/// A request that no service gets. If it has no body, the next one may follow it.
fn unserved(request: &Request<'_, '_>, status: u16, why: &'static str) -> Refusal {
    let next = (request.framing == Framing::Empty && request.keep_alive).then_some(request.head_bytes);
    Refusal { status, why, next, head: request.method == "HEAD", location: None }
}

fn redirected(redirect: &Redirect, request: &Request<'_, '_>) -> Refusal {
    match route::location(redirect, request) {
        Some(location) => Refusal { location: Some(location), ..unserved(request, redirect.status, "") },
        None => unserved(request, 400, "the redirect needs a Host"),
    }
}

/// A head that is over the limit: the status says which part of it.
fn too_large(bytes: &[u8]) -> Refusal {
    if memchr::memchr(b'\n', bytes).is_some() {
        Refusal::fatal(431, "the request's head is too large")
    } else {
        Refusal::fatal(414, "the request's target is too long")
    }
}

/// Whether a head may end somewhere in here.
fn has_blank_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| matches!(bytes[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

fn explain(malformed: everup_core::http::Malformed) -> &'static str {
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
