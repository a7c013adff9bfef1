//! A client's connection: one request after another until one side wants no more. Reads and checks heads, finds the
//! service, answers what cannot be passed on; `exchange` does the rest.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use everup_core::balance::ip_hash;
use everup_core::certificate::{self, Certificate};
use everup_core::handover::Kind;
use everup_core::http::body::Body;
use everup_core::http::request::{self, Request};
use everup_core::http::response::Asked;
use everup_core::http::{Framing, Parsed, Version, forward, head_may_end};
use everup_core::proxy_protocol::{Ends, Fields, Shown, Tls};
use everup_core::route::{Edits, Goes};

use crate::busy::{self, Slot};
use crate::handover::leaving::{Leaving, Left, Turn};
use crate::local::{Local, RequestId, TraceParent};
use crate::measure::Route;
use crate::per_client::{self, Entry};
use crate::proxied;
use crate::reply;
use crate::service::Service;
use crate::snapshot::Stay;
use crate::sticky::{self, Wish};
use crate::stream::Stream;
use crate::tell;
use crate::tls::{self, Session};
use crate::trail::{Note, Noted, Trail};
use crate::turned_away::Reason;
use crate::watch::{Signal, Watched};

/// How long a connection that is being closed may still send what nobody reads: closing at once would reset it, and
/// the client might never see the answer (RFC 9112 section 9.6). Many clients read nothing before all is sent.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// How long it may be silent meanwhile.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// And how much it may send.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
/// How long a client may take to begin its first request. Browsers connect ahead of need, and give up after less.
const IDLE_TIME: Duration = Duration::from_secs(30);

mod departing;
mod refusal;

use self::refusal::{Refusal, explain, no_route, noted, redirected, too_large};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) watch: Watched,
    pub(crate) listener: usize,
    /// Who connected: the client, or a balancer in front of everup.
    pub(crate) peer: SocketAddr,
    /// The client: the peer, or whom its PROXY header names.
    pub(crate) source: SocketAddr,
    /// The client's address as text.
    pub(crate) address: String,
    /// What few connections say of themselves before their first byte; apart, for thousands of others are idle.
    told: Option<Box<Told>>,
    pub(crate) hash: u64,
    /// Counts it for its client as long as it lives.
    _place: Option<per_client::Place>,
    /// Read already, but belonging to what comes after the current request.
    pub(crate) carry: Vec<u8>,
    idle: Duration,
    leaving: Leaving,
    /// It has sent a request before. One that has not is about to, and is not closed for being idle at shutdown.
    served: bool,
}

/// What a connection said of itself before its first byte.
#[derive(Debug, Default)]
struct Told {
    /// What the client connected to, if a PROXY header says so.
    destination: Option<SocketAddr>,
    /// The certificate that the client has shown.
    certificate: Option<Certificate>,
    /// The host that it wants, where its TLS passes through.
    host: Option<String>,
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
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) awaits_continue: bool,
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
    /// What counts for its route.
    pub(crate) route: Option<Rc<Route>>,
    /// How it goes.
    pub(crate) trail: Trail,
    /// Where some of its head stands in `out`.
    written: forward::Written,
    /// The target as the client sent it, if its route has changed it.
    target: Option<String>,
}

impl Incoming {
    pub(crate) fn request_id(&self) -> &str {
        std::str::from_utf8(&self.out[self.written.request_id.clone()]).unwrap_or_default()
    }

    /// What it asked for: read from the head that was written for the instance, which stays until the request is over.
    pub(crate) fn note(&self, query: bool) -> Note<'_> {
        let forward::Written { method, target, host, .. } = &self.written;
        let part = |range: &Range<usize>| &self.out[range.clone()];
        let target = self.target.as_deref().map_or_else(|| part(target), str::as_bytes);
        Note::new(part(method), target, part(host), query)
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

/// What came of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It is served.
    Served,
    /// Its client has too many.
    TooMany,
    /// It is closed without a word.
    Closed,
}

/// Where a connection comes from.
pub(crate) enum Comes {
    /// By a door, maybe one with TLS.
    In(Option<tls::Accepting>),
    /// From another worker, which has let it in.
    Over,
}

/// What came of waiting for a request; the request itself lies where the connection keeps it, for it is large to move.
enum Arrived {
    Request(Slot),
    Refused(Box<Refusal>),
    /// The client has closed, or was idle for too long.
    Closed,
    /// It is this connection's turn to go to another worker.
    Leaves(Box<Turn>),
}

/// What came of waiting for the bytes of a head.
enum Came {
    /// So many, in the scratch buffer; 0 is the end, however it came.
    Bytes(usize),
    /// The connection may leave.
    Turn(Box<Turn>),
}

/// Serves a connection to its end.
///
/// Everything that an idle connection does not need is in a box of its own while it lasts, because thousands are idle.
pub(crate) async fn serve(local: Rc<Local>, mut client: Box<Client>, from: Comes) {
    if let Comes::In(tls) = from {
        match Box::pin(client.enter(&local, tls)).await {
            Entered::Served => {}
            Entered::TooMany => return Box::pin(client.turn_away(&local)).await,
            Entered::Closed => return,
        }
    }
    loop {
        let after = match client.next_request(&local).await {
            Arrived::Request(slot) => {
                client.idle = slot
                    .as_ref()
                    .as_ref()
                    .map_or(IDLE_TIME, |incoming| incoming.service.settings.timeout.idle);
                let (back, after) = busy::carry(&local, client, slot).await;
                client = back;
                after
            }
            Arrived::Refused(refusal) => Box::pin(client.refuse(&local, *refusal)).await,
            Arrived::Closed => After::Gone,
            Arrived::Leaves(turn) => match Box::pin(client.leave(&local, turn)).await {
                Left::Gone => return,
                Left::Stays => continue,
            },
        };
        client.served = true;
        match after {
            After::Keep => {}
            After::Close => return Box::pin(client.linger(&local)).await,
            After::Gone => return Box::pin(client.settle(&local)).await,
        }
    }
}

impl Client {
    pub(crate) fn new(local: &Local, stream: Stream, listener: usize, peer: SocketAddr) -> Self {
        let source = canonical(peer);
        Self {
            stream,
            watch: local.watches.enter(listener),
            listener,
            peer,
            source,
            address: source.ip().to_string(),
            told: None,
            hash: ip_hash::client_hash(source.ip()),
            _place: None,
            carry: Vec::new(),
            idle: IDLE_TIME,
            leaving: Leaving::default(),
            served: false,
        }
    }

    /// The answer to the present request is the connection's last.
    pub(crate) fn is_to_be_last(&self, local: &Local) -> bool {
        local.is_closing()
            || local.stay(self.listener) != Stay::Stays
            || local.hands_over() && (self.is_secure() || self.watch.stays())
    }

    /// No further request is waited for.
    fn is_to_close(&self, local: &Local) -> bool {
        local.is_refusing() || local.stay(self.listener) == Stay::Gone
    }

    /// Whether the client speaks TLS with us.
    pub(crate) fn is_secure(&self) -> bool {
        !self.stream.is_plain()
    }

    /// The version of TLS that the client speaks with us, `1.2` or `1.3`.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        self.stream.tls().and_then(Session::version)
    }

    /// The Strict-Transport-Security that its answers need.
    pub(crate) fn hsts(&self, local: &Local) -> Option<Arc<str>> {
        if !self.is_secure() {
            return None;
        }
        local.table().snapshot.listeners.get(self.listener).and_then(|listener| listener.hsts.clone())
    }

    fn told(&mut self) -> &mut Told {
        self.told.get_or_insert_default()
    }

    /// The certificate that it has shown.
    fn certificate(&self) -> Option<&Certificate> {
        self.told.as_ref()?.certificate.as_ref()
    }

    /// The host that it wants, where its TLS passes through.
    pub(crate) fn passes_to(&mut self, host: Option<String>) {
        self.told().host = host;
    }

    /// Whom the connection is for, by its PROXY header.
    pub(crate) fn set_ends(&mut self, ends: Ends) {
        let Ends { source, destination } = ends;
        self.source = canonical(source);
        self.told().destination = Some(canonical(destination));
        self.address = self.source.ip().to_string();
        self.hash = ip_hash::client_hash(self.source.ip());
    }

    /// What the client connected to.
    pub(crate) fn destination(&self) -> io::Result<SocketAddr> {
        let announced = self.told.as_ref().and_then(|told| told.destination);
        announced.map_or_else(|| self.stream.local_address().map(canonical), Ok)
    }

    /// What comes before the first request: finds out who the client is, and whether it may have another connection;
    /// then TLS, in which it can also be told that it may not.
    pub(crate) async fn enter(&mut self, local: &Local, tls: Option<tls::Accepting>) -> Entered {
        let table = local.table();
        let listener = table.snapshot.listeners.get(self.listener);
        let expected =
            listener.is_some_and(|listener| proxied::is_expected(&listener.accept_proxy, self.peer));
        drop(table);
        if expected && !proxied::take_header(local, self).await {
            return Entered::Closed;
        }
        let entered = self.take_place(local);
        let Some(tls) = tls.filter(|_| entered != Entered::Closed) else { return entered };
        if self.shake_hands(local, tls).await { entered } else { Entered::Closed }
    }

    /// Counts it for its client.
    fn take_place(&mut self, local: &Local) -> Entered {
        let Some(per_client) = local.shared.per_client() else { return Entered::Served };
        let (place, entered) = match per_client.enter(self.source.ip()) {
            Entry::Admitted(place) => (Some(place), Entered::Served),
            Entry::TooMany(place) => (Some(place), Entered::TooMany),
            Entry::FarTooMany => (None, Entered::Closed),
        };
        self._place = place;
        if entered != Entered::Served {
            let why = "its client has as many connections as limits.connections_per_client allows";
            local.shared.turned_away.count(Reason::PerClient, self.source.ip(), why);
        }
        entered
    }

    /// What was read with the PROXY header belongs to the handshake.
    async fn shake_hands(&mut self, local: &Local, accepting: tls::Accepting) -> bool {
        let ahead = std::mem::take(&mut self.carry);
        let Self { stream, watch, source, .. } = self;
        if !accepting.shake_hands(local, stream, watch, source.ip(), ahead).await {
            return false;
        }
        if let Some(der) = self.stream.tls().and_then(Session::peer_certificate) {
            // What the TLS library has verified and we cannot read has a subject all the same: an unknown one.
            let certificate = certificate::read(der).unwrap_or_default();
            self.told().certificate = Some(certificate);
        }
        self.certificate_holds(local)
    }

    /// A session that goes on is not verified again, and each may follow another: the certificate must not outlive itself.
    fn certificate_holds(&self, local: &Local) -> bool {
        let resumed = self.stream.tls().is_some_and(Session::is_resumed);
        let now = i64::try_from(local.unix_seconds()).unwrap_or(i64::MAX);
        let holds = !resumed || self.certificate().is_none_or(|certificate| now <= certificate.not_after);
        if !holds {
            let why = "its certificate has expired since its TLS session began";
            local.shared.turned_away.count(Reason::Tls, self.source.ip(), why);
        }
        holds
    }

    /// What a PROXY header tells of it, beyond its address.
    pub(crate) fn proxy_fields<'a>(&'a self, request_id: &'a str) -> Fields<'a> {
        let unique_id = request_id.as_bytes();
        let Some(session) = self.stream.tls() else {
            let told = self.told.as_deref();
            let authority = told.and_then(|told| told.host.as_deref()).unwrap_or_default();
            return Fields { unique_id, authority, ..Fields::default() };
        };
        let certificate = self.certificate().map(|certificate| Shown {
            in_this_connection: !session.is_resumed(),
            common_name: certificate.common_name.as_deref().unwrap_or_default(),
        });
        let version = match session.version() {
            Some("1.2") => "TLSv1.2",
            _ => "TLSv1.3",
        };
        Fields {
            unique_id,
            authority: session.wanted_host(),
            protocol: session.protocol(),
            tls: Some(Tls { version, certificate }),
        }
    }

    /// Tells a client that it has too many connections. Not longer than that takes.
    async fn turn_away(mut self, local: &Local) {
        let why = "too many connections from your address";
        if self.reply(local, 429, why, "", false, false).await.0 == After::Close {
            self.linger(local).await;
        }
    }

    /// Waits for the next request's head.
    async fn next_request(&mut self, local: &Local) -> Arrived {
        if local.hands_over()
            && let Some(turn) = self.turn_to_leave(local)
        {
            return Arrived::Leaves(turn);
        }
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
        if self.served && self.is_to_close(local) {
            return Some(Arrived::Closed);
        }
        self.watch.set_deadline(Some(local.coarse_now() + self.idle));
        self.watch.set_idle(self.served);
        let read = self.read_or_leave(local).await;
        self.watch.set_idle(false);
        let read = match read {
            Ok(Came::Bytes(read @ 1..)) => read,
            Ok(Came::Turn(turn)) => return Some(Arrived::Leaves(turn)),
            Ok(Came::Bytes(0)) | Err(_) => return Some(Arrived::Closed),
        };
        let scratch = local.buffers.scratch();
        let bytes = &scratch[..read];
        let mut slot = local.rooms.slot();
        let taken = self.take_head(local, bytes, &mut slot);
        match taken {
            Ok(Some(used)) => {
                self.carry.extend_from_slice(&bytes[used..]);
                Some(Arrived::Request(slot))
            }
            Ok(None) => {
                self.carry = local.buffers.take();
                self.carry.extend_from_slice(bytes);
                None
            }
            Err(refusal) => {
                self.carry.extend_from_slice(refusal.next.map_or(&[], |next| &bytes[next..]));
                Some(Arrived::Refused(Box::new(refusal)))
            }
        }
    }

    /// Collects a head that comes in pieces, within `limits.head_time`.
    async fn rest_of_head(&mut self, local: &Local) -> Arrived {
        self.watch.set_deadline(Some(local.now() + local.limits().head_time));
        loop {
            if self.carry.len() > local.limits().head_bytes {
                return Arrived::Refused(Box::new(too_large(&self.carry)));
            }
            match self.read_or_leave(local).await {
                Ok(Came::Bytes(read @ 1..)) => self.carry.extend_from_slice(&local.buffers.scratch()[..read]),
                Ok(Came::Turn(turn)) => return Arrived::Leaves(turn),
                Ok(Came::Bytes(0)) | Err(Signal::Closing | Signal::JudgedDown) => return Arrived::Closed,
                Err(Signal::Deadline) => {
                    let refusal = Refusal::fatal(408, "the head took too long");
                    return Arrived::Refused(Box::new(refusal));
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
        let mut slot = local.rooms.slot();
        let arrived = match self.take_head(local, &carry, &mut slot) {
            Ok(Some(used)) => {
                carry.drain(..used);
                Some(Arrived::Request(slot))
            }
            Ok(None) => None,
            Err(refusal) => {
                carry.drain(..refusal.next.unwrap_or(carry.len()));
                Some(Arrived::Refused(Box::new(refusal)))
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
    pub(crate) async fn read(&mut self, local: &Local) -> Result<usize, Signal> {
        let Self { stream, watch, .. } = self;
        let read = watch.wait(|cx| stream.poll_read(cx, &mut local.buffers.scratch())).await?;
        Ok(read.unwrap_or(0))
    }

    /// Reads what comes next of a request's head, unless the connection's turn to leave comes first.
    async fn read_or_leave(&mut self, local: &Local) -> Result<Came, Signal> {
        self.watch.set_movable(true);
        // What waits here waits in every idle connection: no more than two pointers.
        let came = poll_fn(|cx| self.poll_read_or_leave(cx, local)).await;
        self.watch.set_movable(false);
        self.leaving.forget();
        came
    }

    fn poll_read_or_leave(&mut self, cx: &mut Context<'_>, local: &Local) -> Poll<Result<Came, Signal>> {
        let Self { stream, watch, leaving, .. } = self;
        if let Poll::Ready(turn) = leaving.poll(cx, local, watch, (Kind::Idle, stream.is_plain())) {
            return Poll::Ready(Ok(Came::Turn(turn)));
        }
        let read = stream.poll_read(cx, &mut local.buffers.scratch());
        watch.poll_wait(cx, read.map(|read| Came::Bytes(read.unwrap_or(0))))
    }

    /// Makes a request out of the bytes, in `slot`, and says how many of them it used; None if the head is not whole.
    fn take_head(
        &self,
        local: &Local,
        bytes: &[u8],
        slot: &mut Option<Incoming>,
    ) -> Result<Option<usize>, Refusal> {
        let mut storage = local.buffers.lines();
        let request = match request::parse(bytes, &mut storage) {
            Ok(Parsed::Whole(request)) => request,
            Ok(Parsed::Partial) if bytes.len() > local.limits().head_bytes => return Err(too_large(bytes)),
            Ok(Parsed::Partial) => return Ok(None),
            Err(_) if proxied::looks_like_header(bytes) => {
                return Err(Refusal::fatal(400, "a PROXY header is not accepted from this address"));
            }
            Err(malformed) => {
                return Err(Refusal::fatal(request::status_for(malformed), explain(malformed)));
            }
        };
        if request.head_bytes > local.limits().head_bytes {
            return Err(too_large(bytes));
        }
        self.admit(local, &request, bytes, slot).map(Some)
    }

    /// Finds the service and writes what its instance will get.
    fn admit(
        &self,
        local: &Local,
        request: &Request<'_, '_>,
        bytes: &[u8],
        slot: &mut Option<Incoming>,
    ) -> Result<usize, Refusal> {
        let table = local.table();
        let listener = table.snapshot.listeners.get(self.listener);
        let (index, edits, route) = match listener.and_then(|listener| listener.routes.lookup_route(request))
        {
            Some((Goes::To { service, edits }, route)) => (Some(service), edits.map(Arc::clone), route),
            Some((Goes::Redirect(redirect), route)) => {
                let counted =
                    local.route(self.listener, route).inspect(|route| route.on_request(local.thread));
                return Err(Refusal { route: counted, ..redirected(local, redirect, request) });
            }
            None => (None, None, None),
        };
        let found = index.and_then(|index| table.services.get(index));
        let service = Rc::clone(found.ok_or_else(|| no_route(local, request, listener))?);
        let limit = local.limits().body_bytes.unwrap_or(u64::MAX);
        let too_large = || Refusal {
            asked: noted(local, request),
            ..Refusal::fatal(413, "the request's body is too large")
        };
        if matches!(request.framing, Framing::Length(length) if length > limit) {
            return Err(too_large());
        }
        let mut out = local.buffers.take();
        let target = edits.as_ref().and_then(|edits| edits.target(request.target));
        let written =
            self.write_head(local, &mut out, (request, bytes), &service, edits.as_deref(), target.as_deref());
        let mut body = Body::edited(request.framing, edits.as_ref().and_then(|edits| edits.request.as_ref()));
        let rest = &bytes[request.head_bytes..];
        let mut content = 0;
        let taken = body
            .take(rest, |piece| content += piece.len() as u64)
            .map_err(|malformed| Refusal::fatal(400, explain(malformed)))?;
        if content > limit {
            return Err(too_large());
        }
        let counted = local.route(self.listener, route).inspect(|route| route.on_request(local.thread));
        let used = request.head_bytes + taken;
        out.extend_from_slice(&rest[..taken]);
        *slot = Some(Incoming {
            wish: sticky::wish(local, &service, request, self.is_secure()),
            service,
            edits,
            out,
            body,
            body_bytes: content,
            consumed: false,
            met_stale: false,
            awaits_continue: request.expect_continue && taken == 0,
            asked: Asked { head: request.method == "HEAD", upgrade: request.upgrade },
            version: request.version,
            keep_alive: request.keep_alive,
            idempotent: request.is_idempotent() && !request.upgrade,
            started: local.now(),
            route: counted,
            trail: Trail::new(self.listener, route, used as u64),
            written,
            target: target.map(|_| request.target.to_owned()),
        });
        Ok(used)
    }

    /// Writes the head for the instance, with another target if there is one; returns where what stands in it.
    fn write_head(
        &self,
        local: &Local,
        out: &mut Vec<u8>,
        (request, bytes): (&Request<'_, '_>, &[u8]),
        service: &Service,
        edits: Option<&Edits>,
        target: Option<&str>,
    ) -> forward::Written {
        let mut room = RequestId::default();
        let request_id = match request.request_id {
            Some(id) => id,
            None => local.new_request_id(&mut room),
        };
        let mut room = TraceParent::default();
        let trace_parent =
            (local.makes_trace_parents() && !request.is_traced()).then(|| local.new_trace_parent(&mut room));
        let origin = forward::Origin {
            client: &self.address,
            scheme: if self.is_secure() { "https" } else { "http" },
            request_id,
            fallback_host: &service.settings.name,
            certificate_subject: self.certificate().map(|certificate| &*certificate.subject),
            trace_parent,
        };
        let changes = forward::Changes {
            target,
            without_cookie: sticky::hidden_cookie(service),
            edits: edits.and_then(|edits| edits.request.as_deref()),
        };
        forward::changed_request(out, request, bytes, origin, changes)
    }

    /// Answers what no service has seen.
    async fn refuse(&mut self, local: &Local, refusal: Refusal) -> After {
        let Refusal { status, why, next, head, asked, location, route, head_bytes } = refusal;
        let keep = next.is_some() && !self.is_to_be_last(local);
        let (after, sent) = match location {
            Some(location) => self.redirect(local, status, &location, keep).await,
            None => self.reply(local, status, why, "", head, keep).await,
        };
        if let Some(route) = route {
            route.on_bytes(local.thread, head_bytes as u64, sent);
        }
        tell::refused(local, self, asked.as_deref().map(Noted::note), status, sent);
        after
    }

    /// Sends an answer of ours; returns how many bytes of it went out, too.
    pub(crate) async fn reply(
        &mut self,
        local: &Local,
        status: u16,
        why: &str,
        request_id: &str,
        head: bool,
        keep: bool,
    ) -> (After, u64) {
        let mut out = local.buffers.take();
        let extra = self.hsts_line(local);
        reply::write(&mut out, status, why, request_id, &extra, (head, !keep));
        self.send(local, out, keep).await
    }

    /// Sends the client elsewhere.
    async fn redirect(&mut self, local: &Local, status: u16, location: &str, keep: bool) -> (After, u64) {
        let mut out = local.buffers.take();
        reply::write_redirect(&mut out, status, location, &self.hsts_line(local), !keep);
        self.send(local, out, keep).await
    }

    fn hsts_line(&self, local: &Local) -> String {
        self.hsts(local).map_or_else(String::new, |hsts| format!("Strict-Transport-Security: {hsts}\r\n"))
    }

    async fn send(&mut self, local: &Local, out: Vec<u8>, keep: bool) -> (After, u64) {
        self.watch.set_deadline(Some(local.coarse_now() + self.idle));
        let mut at = 0;
        while at < out.len() || !self.stream.is_flushed() {
            let Self { stream, watch, .. } = self;
            match watch.wait(|cx| stream.poll_write(cx, &out[at..])).await {
                Ok(Ok(written)) => at += written,
                Ok(Err(_)) | Err(_) => return (After::Gone, at as u64),
            }
        }
        local.buffers.give(out);
        (if keep { After::Keep } else { After::Close }, at as u64)
    }

    /// Waits until the client's kernel has what was written, if it takes it at all.
    async fn settle(&mut self, local: &Local) {
        self.stream.send_now();
        if !self.stream.is_flushed() {
            self.watch.set_deadline(Some(local.coarse_now() + self.idle));
            let Self { stream, watch, .. } = self;
            // In vain, or not: the connection ends now.
            let _ = watch.wait(|cx| stream.poll_flush(cx)).await;
        }
    }

    /// Reads and forgets what the client still sends, for a short while, so that it sees our last answer.
    pub(crate) async fn linger(mut self, local: &Local) {
        self.settle(local).await;
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

/// IPv4 as IPv4, also where a socket says it in IPv6 form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether a head may end somewhere in here. Empty lines before it (RFC 9112 section 2.2) are no end.
fn has_blank_line(bytes: &[u8]) -> bool {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    head_may_end(&bytes[empty..], 0)
}

#[cfg(test)]
mod tests {
    use super::has_blank_line;

    #[test]
    fn empty_lines_before_a_head_do_not_end_it() {
        for (bytes, wanted) in [
            (&b"\r\n\r\n"[..], false),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n", false),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            (b"GET / HTTP/1.1\n\n", true),
        ] {
            assert_eq!(has_blank_line(bytes), wanted, "{}", bytes.escape_ascii());
        }
    }
}
