//! One attempt: one request sent to one instance, and its answer carried to the client. Whether there is another
//! attempt is not decided here; what is reported is exactly how far this one came.
//!
//! ```text
//! connect or take from the pool -> send head and what is there of the body -> await the answer's head
//!   (meanwhile carry the rest of the body) -> forward interim answers, the head, the body -> give the connection back
//! ```

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use everup_core::config::{Balance, SendProxy, Timeout};
use everup_core::exchange::Failure;
use everup_core::handover::Kind;
use everup_core::http::body::Body;
use everup_core::http::response::{self, Response};
use everup_core::http::{Framing, Parsed, Version, forward, head_may_end};
use everup_core::websocket::Frames;

use crate::buffers::SCRATCH_BYTES;
use crate::client::{Client, Incoming};
use crate::dial::{Dial, dial};
use crate::judge;
use crate::local::Local;
use crate::pool::Reuse;
use crate::pump::{Pump, PumpEnd};
use crate::relay::{self, Flows, Relay};
use crate::service::Instance;
use crate::splice::{BULK, Pipe, SPLICE_FROM};
use crate::sticky;
use crate::stream::Stream;
use crate::taking::{Look, Taking};
use crate::watch::Signal;
use crate::websocket::{self, WebSocket};

/// The largest head of an answer. Applications set many cookies; no honest head comes near it.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// When an instance has said nothing for so long, it is noticed if the client breaks off. Not sooner, for that costs a
/// little, and most answers are there by then.
const LOOK_AFTER: Duration = Duration::from_millis(250);

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The whole answer went to the client.
    Answered {
        /// Another request may follow on the client's connection.
        keep: bool,
    },
    /// It has become a tunnel, with which another worker goes on.
    Moved,
    /// The client has gone; nobody is there to answer.
    ClientGone,
    /// The request's body is at fault; refuse it with this status if nothing was answered yet.
    Refused { status: u16, answered: bool },
    /// The instance is at fault.
    Failed { failure: Failure, written: bool, answered: bool },
}

type Step<T> = Result<T, Ended>;

/// An attempt under way.
struct Attempt<'a> {
    local: &'a Local,
    client: &'a mut Client,
    incoming: &'a mut Incoming,
    instance: &'a Rc<Instance>,
    upstream: Stream,
    pump: Pump,
    /// For the client, not yet taken by the kernel.
    unsent: Vec<u8>,
    taking: Taking,
    began: Duration,
    /// When `timeout.request` is over.
    until: Duration,
    /// What is read next must have come by then.
    deadline: Duration,
    /// What the connection had carried before.
    carried_before: u64,
    answered: bool,
    /// The connection was used before, and not a byte came on it since.
    stale: bool,
    /// It was ended in another way than by the instance's word that this is the end: by a reset, or within TLS without
    /// close_notify. Which is an end like any other but for a body that lasts until then.
    was_broken: bool,
    /// The instance keeps the client waiting: does that still wait?
    looks_at_client: bool,
    /// It has become a WebSocket, of which so much went to the client with the answer's head.
    websocket: Option<Frames>,
}

/// A final answer of which the head was forwarded.
struct Answer {
    status: u16,
    body: Body,
    keep_client: bool,
    keep_instance: bool,
    dechunk: bool,
    /// Much of it came at once the last time.
    bulk: bool,
}

/// What is read at first of an answer that is likely to be spliced: its head, and not much that would have to be copied.
const HEAD_READ_BYTES: usize = 8 * 1024;

/// What to do after some bytes from the instance were looked at.
enum Next {
    ReadMore,
    Body(Answer),
    Tunnel,
}

/// Sends the request to `instance` and carries the answer back.
pub(crate) async fn run(
    local: &Local,
    client: &mut Client,
    incoming: &mut Incoming,
    instance: &Rc<Instance>,
    until: Duration,
) -> Ended {
    let began = local.coarse_now();
    let (upstream, stale) = match connect(local, client, incoming, instance, until).await {
        Ok(connected) => connected,
        Err(failure) => return Ended::Failed { failure, written: false, answered: false },
    };
    // On the common path the connection was there, and the clock is not read for it.
    incoming.trail.on_connected(if stale { local.coarse_now() } else { local.now() });
    instance.table.shared.requests.cell(local.thread).add(1);
    let pump = Pump::new(local, incoming.body.clone(), incoming.body_bytes, incoming.awaits_continue);
    let (unsent, answered) = (Vec::new(), false);
    let carried_before = upstream.passed();
    let mut attempt = Attempt {
        local,
        client,
        incoming,
        instance,
        upstream,
        pump,
        unsent,
        taking: Taking::new(local.limits().answer_rate),
        began,
        until,
        deadline: until,
        carried_before,
        answered,
        stale,
        was_broken: false,
        looks_at_client: false,
        websocket: None,
    };
    let mut held = Vec::new();
    let ended = attempt.run(&mut held).await;
    attempt.incoming.trail.bytes_in += attempt.pump.carried();
    attempt.client.watch.set_waits_for(None);
    match ended {
        Ok(answer) => attempt.finish(answer),
        Err(ended) => ended,
    }
}

/// A connection to the instance: one from the pool (then true), or a new one within `timeout.connect`.
async fn connect(
    local: &Local,
    client: &Client,
    incoming: &Incoming,
    instance: &Rc<Instance>,
    until: Duration,
) -> Result<(Stream, bool), Failure> {
    let reuse = if incoming.idempotent { Reuse::Any } else { Reuse::Fresh };
    let send_proxy = incoming.service.settings.send_proxy;
    if !incoming.met_stale
        && send_proxy == SendProxy::Off
        && let Some(stream) = instance.pool.take(local.coarse_now(), reuse)
    {
        return Ok((stream, true));
    }
    let (service, request_id) = (&incoming.service, incoming.request_id());
    let left = until.saturating_sub(local.now());
    let stream = dial(local, client, Dial { service, instance, request_id, left }).await?;
    Ok((stream, false))
}

impl Attempt<'_> {
    async fn run(&mut self, held: &mut Vec<u8>) -> Step<Answer> {
        self.await_answer();
        self.send().await?;
        loop {
            let read = self.read().await?;
            if read == 0 {
                return Err(self.lost());
            }
            self.stale = false;
            let next = self.take_head_bytes(read, held)?;
            self.flush().await?;
            match next {
                Next::ReadMore => {}
                Next::Body(answer) => return self.forward_body_whole(answer).await,
                Next::Tunnel => return Err(self.tunnel().await),
            }
        }
    }

    /// Deadline and rescue for the time until the answer's head.
    fn await_answer(&mut self) {
        // A request that may not be sent again gains nothing from giving up early.
        let attempt = self.incoming.service.settings.timeout.attempt.filter(|_| self.may_be_rescued());
        self.deadline =
            attempt.map_or(self.until, |attempt| self.until.min(self.local.coarse_now() + attempt));
        self.client.watch.set_deadline(Some(self.deadline));
        self.client.watch.set_waits_for(self.may_be_rescued().then(|| self.instance.key()));
    }

    /// Whether the kernel has taken a byte of the request: then nobody knows whether the instance got it.
    fn is_written(&self) -> bool {
        self.upstream.passed() > self.carried_before
    }

    fn may_be_rescued(&self) -> bool {
        self.incoming.idempotent && !self.incoming.consumed
    }

    /// Writes the head and what was read of the body so far.
    async fn send(&mut self) -> Step<()> {
        let mut at = 0;
        while at < self.incoming.out.len() {
            let (upstream, out) = (&mut self.upstream, &self.incoming.out);
            match self.client.watch.wait(|cx| upstream.poll_write(cx, &out[at..])).await {
                Ok(Ok(written)) => at += written,
                // It may have answered before it closed: reading will tell.
                Ok(Err(_)) if self.is_written() => return Ok(()),
                Ok(Err(_)) => return Err(self.lost()),
                Err(signal) => return Err(self.signalled(signal)),
            }
        }
        Ok(())
    }

    /// The connection ended without a byte of an answer.
    fn lost(&mut self) -> Ended {
        self.incoming.met_stale |= self.stale;
        self.failed(if self.stale { Failure::Stale } else { Failure::Lost })
    }

    /// Reads from the instance into the scratch buffer, and carries the request's body meanwhile. 0: it has closed.
    async fn read(&mut self) -> Step<usize> {
        loop {
            if let Some(wakeup) = self.pump.next_wakeup() {
                self.client.watch.limit_deadline(wakeup);
            }
            let read = if self.pump.is_active() {
                self.read_once().await
            } else if self.looks_at_client {
                self.read_unless_broken().await
            } else {
                self.client.watch.limit_deadline(self.local.coarse_now() + LOOK_AFTER);
                self.read_once().await
            };
            match read {
                Ok(read) => return read,
                Err(Signal::Deadline) if self.pump.is_too_slow(self.local.now()) => {
                    return Err(Ended::Refused { status: 408, answered: self.has_begun() });
                }
                // It was only time to look at the client.
                Err(Signal::Deadline) if self.local.coarse_now() < self.deadline => {
                    self.looks_at_client = true;
                    self.client.watch.set_deadline(Some(self.deadline));
                }
                Err(signal) => return Err(self.signalled(signal)),
            }
        }
    }

    /// How much of the answer to read at a time.
    fn most_to_read(&self) -> usize {
        let head_only = !self.answered && self.instance.answers_large.get();
        if head_only { HEAD_READ_BYTES } else { SCRATCH_BYTES }
    }

    async fn read_once(&mut self) -> Result<Step<usize>, Signal> {
        let (carried_before, most) = (self.carried_before, self.most_to_read());
        let Self { local, client, incoming, upstream, pump, until, deadline, answered, .. } = self;
        let Client { stream, watch, carry, .. } = &mut **client;
        let mut pumped = false;
        let Timeout { request: request_time, idle, .. } = incoming.service.settings.timeout;
        let read = watch.wait(|cx| {
            if pump.is_active() {
                let progress = || pumped = true;
                if let Poll::Ready(end) = pump.poll(cx, (stream, upstream), local, carry, progress) {
                    return Poll::Ready(Err(end));
                }
                if pumped && !incoming.consumed {
                    incoming.consumed = true;
                    watch.set_waits_for(None);
                }
                if std::mem::take(&mut pumped) {
                    // The time for the answer begins when the request is whole; after that, neither way is silence.
                    *until = local.coarse_now() + if *answered { idle } else { request_time };
                    *deadline = *until;
                    watch.set_deadline(Some(pump.next_wakeup().map_or(*until, |pace| pace.min(*until))));
                }
            }
            poll_answer(cx, upstream, carried_before, &mut local.buffers.scratch()[..most]).map(Ok)
        });
        Ok(match read.await? {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(_)) => {
                self.was_broken = true;
                Ok(0)
            }
            Err(end) => Err(self.pump_ended(end)),
        })
    }

    /// Reads from the instance for as long as the client is there.
    async fn read_unless_broken(&mut self) -> Result<Step<usize>, Signal> {
        let (carried_before, most) = (self.carried_before, self.most_to_read());
        let Self { local, client, upstream, .. } = self;
        let Client { stream, watch, .. } = &**client;
        let mut broken = pin!(stream.broken());
        let read = watch.wait(|cx| {
            let read = poll_answer(cx, upstream, carried_before, &mut local.buffers.scratch()[..most]);
            if read.is_pending() && broken.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Ended::ClientGone));
            }
            read.map(Ok)
        });
        let read = read.await?;
        self.was_broken |= matches!(read, Ok(Err(_)));
        Ok(read.map(|read| read.unwrap_or(0)))
    }

    /// Looks at `read` new bytes in the scratch buffer (after those in `held`) as heads of answers; interim ones are
    /// forwarded, the final one too, with what is there of its body.
    fn take_head_bytes(&mut self, read: usize, held: &mut Vec<u8>) -> Step<Next> {
        let local = self.local;
        let scratch = local.buffers.scratch();
        let mut bytes = &scratch[..read];
        let joined;
        if !held.is_empty() {
            let seen = held.len();
            held.extend_from_slice(bytes);
            if held.len() <= ANSWER_HEAD_BYTES && !head_may_end(held, seen) {
                return Ok(Next::ReadMore);
            }
            joined = std::mem::take(held);
            bytes = &joined;
        }
        while !bytes.is_empty() {
            let mut storage = local.buffers.lines();
            let parsed = response::parse(bytes, &mut storage, self.incoming.asked);
            let Ok(parsed) = parsed else { return Err(self.failed(Failure::BadAnswer)) };
            let Parsed::Whole(head) = parsed else {
                if bytes.len() > ANSWER_HEAD_BYTES {
                    return Err(self.failed(Failure::BadAnswer));
                }
                held.extend_from_slice(bytes);
                break;
            };
            match head.status {
                101 => return self.switch(&head, bytes),
                100..200 => {
                    let head_bytes = head.head_bytes;
                    self.forward_interim(&head, bytes)?;
                    bytes = &bytes[head_bytes..];
                }
                _ => return self.forward_head(&head, bytes).map(Next::Body),
            }
        }
        Ok(Next::ReadMore)
    }

    /// 100 Continue, 103 Early Hints and so on: forwarded to who can read them (RFC 9110 section 15.2).
    fn forward_interim(&mut self, head: &Response<'_, '_>, bytes: &[u8]) -> Step<()> {
        if self.incoming.version == Version::Http10 {
            return Ok(());
        }
        let plain = forward::Answer {
            client: Version::Http11,
            close: false,
            confirm_keep_alive: false,
            set_cookie: None,
            hsts: None,
        };
        let mut out = self.local.buffers.take();
        forward::response(&mut out, head, bytes, plain);
        self.send_to_client(&out, &[])?;
        self.local.buffers.give(out);
        if head.status == 100 {
            self.pump.on_held_up(self.local.coarse_now());
        }
        Ok(())
    }

    /// The final head, and what is there of the body.
    fn forward_head(&mut self, head: &Response<'_, '_>, bytes: &[u8]) -> Step<Answer> {
        let dechunk = head.framing == Framing::Chunked && self.incoming.version == Version::Http10;
        let keep_client = self.incoming.keep_alive
            && !self.client.is_to_be_last(self.local)
            && head.framing != Framing::UntilClose
            && !dechunk
            && self.pump.is_done();
        let Incoming { service, wish, .. } = &*self.incoming;
        sticky::learn(self.local, service, self.instance, head.headers);
        let secure = self.client.is_secure();
        let cookie = sticky::set_cookie(self.local, service, *wish, self.instance, head.headers, secure);
        let hsts = self.client.hsts(self.local);
        let wanted = forward::Answer {
            client: self.incoming.version,
            close: !keep_client,
            confirm_keep_alive: keep_client && self.incoming.version == Version::Http10,
            set_cookie: cookie.as_deref(),
            hsts: hsts.as_deref(),
        };
        let mut body = Body::new(head.framing);
        let rest = &bytes[head.head_bytes..];
        let mut data = Vec::new();
        let taken = body.take(rest, |piece| {
            if dechunk {
                data.extend_from_slice(piece)
            }
        });
        let Ok(taken) = taken else { return Err(self.failed(Failure::BadAnswer)) };
        if self.incoming.service.settings.balance == Balance::P2cEwma {
            let now = self.local.now();
            self.instance.table.shared.observe(now, now.saturating_sub(self.began));
        }
        // From here on the client sees an answer; there is no way back.
        self.answered = true;
        self.incoming.trail.on_answer(self.local.now(), head.status);
        // From here on it counts: if there is nothing to wait for, the answer ends when it comes.
        self.client.watch.has_waited();
        self.client.watch.set_waits_for(None);
        let edits = self.incoming.edits.as_ref().and_then(|edits| edits.response.as_ref());
        if edits.is_none() && forward::response_is_untouched(head, wanted) {
            self.send_to_client(&bytes[..head.head_bytes + taken], &[])?;
        } else {
            let mut out = self.local.buffers.take();
            forward::edited_response(&mut out, head, bytes, wanted, edits);
            self.send_to_client(&out, if dechunk { &data } else { &rest[..taken] })?;
            self.local.buffers.give(out);
        }
        let keep_instance = head.keep_alive && taken == rest.len();
        let large = body.wants().is_some_and(|left| left >= SPLICE_FROM);
        let bulk = taken >= BULK || large && self.instance.answers_large.get();
        self.instance.answers_large.set(large);
        Ok(Answer { status: head.status, body, keep_client, keep_instance, dechunk, bulk })
    }

    /// The rest of the body, or an end that nobody takes for its end.
    async fn forward_body_whole(&mut self, answer: Answer) -> Step<Answer> {
        let only_the_end_tells = answer.dechunk || matches!(answer.body, Body::UntilClose);
        let ended = self.forward_body(answer).await;
        if only_the_end_tells && matches!(ended, Err(Ended::Failed { .. })) {
            // This client has nothing but the end of the connection to tell a whole body from half a one.
            self.client.stream.reset_on_close();
        }
        ended
    }

    async fn forward_body(&mut self, mut answer: Answer) -> Step<Answer> {
        if !answer.body.is_done() {
            self.client.watch.set_waited();
        }
        while !answer.body.is_done() {
            self.deadline = self.idle_deadline();
            self.client.watch.set_deadline(Some(self.deadline));
            if let Some(left) = self.worth_splicing(&answer)
                && let Some(pipe) = self.local.pipes.take()
            {
                let spliced = self.splice(pipe, left).await?;
                answer.bulk = spliced >= BULK;
                answer.body = Body::new(Framing::Length(left - spliced as u64));
                continue;
            }
            let read = self.read().await?;
            if read == 0 {
                // An instance that answers before it has read the whole request may reset what it closes. Not so within
                // TLS: anybody on the way can end a connection, but only the instance can say that it ends (RFC 9112
                // section 9.8).
                let may_reset = self.upstream.is_plain() && !self.has_arrived();
                let is_whole = !self.was_broken || may_reset;
                if matches!(answer.body, Body::UntilClose) && is_whole {
                    break;
                }
                return Err(self.failed(Failure::Lost));
            }
            self.take_body_bytes(read, &mut answer)?;
            self.flush().await?;
        }
        Ok(answer)
    }

    /// How much is left of the body, if much is, and much comes at once, and none of it needs to pass through our hands.
    fn worth_splicing(&self, answer: &Answer) -> Option<u64> {
        let plain = self.upstream.may_splice() && self.client.stream.may_splice() && !self.pump.is_active();
        answer.body.wants().filter(|left| answer.bulk && plain && *left >= SPLICE_FROM)
    }

    /// Splices what is there of the `left` bytes of the body from the instance to the client; how many that were.
    async fn splice(&mut self, mut pipe: Pipe, left: u64) -> Step<usize> {
        let Self { upstream, client, .. } = &*self;
        let filled = match client.watch.wait(|cx| pipe.poll_fill(cx, upstream, left)).await {
            Ok(Ok(filled @ 1..)) => filled,
            Ok(Ok(0) | Err(_)) => return Err(self.failed(Failure::Lost)),
            Err(signal) => return Err(self.signalled(signal)),
        };
        while !pipe.is_empty() {
            let pushed = self.push(|cx, stream| pipe.poll_drain(cx, stream)).await;
            self.incoming.trail.bytes_out += pushed.map_err(|signal| self.not_taken(signal))? as u64;
        }
        self.local.pipes.give(pipe);
        Ok(filled)
    }

    fn take_body_bytes(&mut self, read: usize, answer: &mut Answer) -> Step<()> {
        let local = self.local;
        let scratch = local.buffers.scratch();
        let dechunk = answer.dechunk;
        let mut data = Vec::new();
        let taken = answer.body.take(&scratch[..read], |piece| {
            if dechunk {
                data.extend_from_slice(piece)
            }
        });
        let Ok(taken) = taken else { return Err(self.failed(Failure::BadAnswer)) };
        answer.keep_instance &= taken == read;
        answer.bulk = read >= BULK;
        self.send_to_client(if dechunk { &data } else { &scratch[..taken] }, &[])
    }

    /// The answer went out: who keeps which connection.
    fn finish(self, answer: Answer) -> Ended {
        // The answer may have been quicker than the rest of the request.
        self.upstream.send_now();
        judge::on_answer(self.local, &self.incoming.service, self.instance, answer.status);
        let send_proxy = self.incoming.service.settings.send_proxy;
        let keep = answer.keep_client && self.pump.is_done();
        if answer.keep_instance && self.has_arrived() && send_proxy == SendProxy::Off {
            self.instance.pool.give(self.local.coarse_now(), self.upstream);
        }
        Ended::Answered { keep }
    }

    /// Whether the instance has the whole request.
    fn has_arrived(&self) -> bool {
        self.pump.has_arrived() && self.upstream.is_flushed() && !self.upstream.has_failed()
    }

    /// The instance agreed to another protocol: its head goes to the client, then bytes flow both ways.
    fn switch(&mut self, head: &Response<'_, '_>, bytes: &[u8]) -> Step<Next> {
        let plain = forward::Answer {
            client: Version::Http11,
            close: false,
            confirm_keep_alive: false,
            set_cookie: None,
            hsts: None,
        };
        let mut out = self.local.buffers.take();
        forward::response(&mut out, head, bytes, plain);
        self.answered = true;
        self.incoming.trail.on_answer(self.local.now(), head.status);
        let rest = &bytes[head.head_bytes..];
        self.send_to_client(&out, rest)?;
        self.local.buffers.give(out);
        // While a body is still to come, nobody can tell where the first frame of the client begins.
        if websocket::is_opened_by(head.headers) && self.pump.is_done() {
            self.websocket.insert(Frames::default()).take(rest);
        }
        judge::on_answer(self.local, &self.incoming.service, self.instance, head.status);
        Ok(Next::Tunnel)
    }

    async fn tunnel(&mut self) -> Ended {
        self.client.watch.set_deadline(None);
        self.client.watch.set_waits_for(None);
        // An upgrade that was asked for with a body may be granted before all of that was sent.
        let mut to_instance = self.pump.take_unsent();
        to_instance.append(&mut self.client.carry);
        let idle = self.incoming.service.settings.timeout.idle;
        let shared = &self.instance.table.shared;
        shared.enter_tunnel();
        let _leave = relay::LeaveTunnel(shared);
        let facts = Box::new(self.client.facts());
        let Client { stream, watch, .. } = &mut *self.client;
        let (local, ends) = (self.local, (&self.incoming.service, self.instance));
        let websocket = self.websocket.map(|frames| Box::new(WebSocket::new(local, watch, ends, frames)));
        let kind = if websocket.is_some() { Kind::Websocket } else { Kind::Tunnel };
        let (instance, to) = (&mut self.upstream, self.instance);
        let flows = Flows::new(to_instance, websocket.as_deref());
        let mut relay =
            Relay { local, watch, client: stream, instance, facts, to, kind, idle, websocket, flows };
        match relay.run().await {
            relay::Ended::Over => Ended::Answered { keep: false },
            relay::Ended::Moved => Ended::Moved,
        }
    }

    /// Hands bytes to the kernel; what it does not take now is kept for [`Self::flush`].
    fn send_to_client(&mut self, first: &[u8], second: &[u8]) -> Step<()> {
        self.incoming.trail.bytes_out += (first.len() + second.len()) as u64;
        let written = if self.unsent.is_empty() {
            self.client.stream.try_write(first, second).map_err(|_| Ended::ClientGone)?
        } else {
            0
        };
        self.taking.on_written(self.local.coarse_now(), written);
        if written < first.len() {
            self.unsent.extend_from_slice(&first[written..]);
        }
        let second_written = written.saturating_sub(first.len());
        self.unsent.extend_from_slice(&second[second_written..]);
        Ok(())
    }

    /// Waits until the client's kernel has taken everything.
    async fn flush(&mut self) -> Step<()> {
        let mut at = 0;
        let mut waited = false;
        while at < self.unsent.len() || !self.client.stream.is_flushed() {
            waited = true;
            let unsent = std::mem::take(&mut self.unsent);
            let pushed = self.push(|cx, stream| stream.poll_write(cx, &unsent[at..])).await;
            self.unsent = unsent;
            at += pushed.map_err(|signal| self.not_taken(signal))?;
        }
        if waited {
            self.unsent.clear();
            self.pump.on_held_up(self.local.coarse_now());
            if !self.answered {
                self.await_answer();
                // We may have been told meanwhile, and would not be again.
                if self.may_be_rescued() && self.local.table().is_down(self.instance.key()) {
                    return Err(self.failed(Failure::JudgedDown));
                }
            }
        }
        Ok(())
    }

    /// Waits until the client's kernel takes more, and the client what that has, within `timeout.idle` and at
    /// `limits.answer_rate`; how much it took. None: the client has gone, or is as good as gone.
    async fn push(
        &mut self,
        mut write: impl FnMut(&mut Context<'_>, &mut Stream) -> Poll<std::io::Result<usize>>,
    ) -> Result<usize, Option<Signal>> {
        let mut idle_end = self.idle_deadline();
        loop {
            let (local, taking) = (self.local, &mut self.taking);
            let Client { stream, watch, .. } = &mut *self.client;
            let look = taking.next_look(local.coarse_now());
            watch.set_deadline(Some(look.map_or(idle_end, |look| look.min(idle_end))));
            let written = watch.wait(|cx| {
                let written = write(cx, stream);
                if written.is_pending() {
                    taking.on_blocked(local.coarse_now());
                }
                written
            });
            match written.await {
                Ok(Ok(written)) => {
                    self.taking.on_written(local.coarse_now(), written);
                    return Ok(written);
                }
                Ok(Err(_)) => return Err(None),
                Err(Signal::Deadline) => {}
                Err(signal @ (Signal::JudgedDown | Signal::Closing)) => return Err(Some(signal)),
            }
            let now = local.now();
            let is_due = look.is_some_and(|look| look <= now);
            match if is_due { self.taking.look(now, &self.client.stream) } else { Look::Resting } {
                Look::Taking => idle_end = self.idle_deadline(),
                Look::Resting if now < idle_end => {}
                Look::Resting | Look::TooSlow => {
                    // The kernel would go on for as long as the client pleases.
                    self.client.stream.reset_on_close();
                    return Err(None);
                }
            }
        }
    }

    fn not_taken(&self, signal: Option<Signal>) -> Ended {
        signal.map_or(Ended::ClientGone, |signal| self.signalled(signal))
    }

    fn idle_deadline(&self) -> Duration {
        self.local.coarse_now() + self.incoming.service.settings.timeout.idle
    }

    fn pump_ended(&self, end: PumpEnd) -> Ended {
        let refused = |status| Ended::Refused { status, answered: self.has_begun() };
        match end {
            PumpEnd::ClientGone => Ended::ClientGone,
            PumpEnd::Malformed(malformed) => refused(everup_core::http::request::status_for(malformed)),
            PumpEnd::TooLarge => refused(413),
        }
    }

    fn signalled(&self, signal: Signal) -> Ended {
        match signal {
            Signal::JudgedDown => self.failed(Failure::JudgedDown),
            // The body of an answer stopped: the instance's fault, too late for a status.
            Signal::Deadline if self.answered => self.failed(Failure::Lost),
            Signal::Deadline if self.local.now() >= self.until => self.failed(Failure::RequestTimeout),
            Signal::Deadline => self.failed(Failure::AttemptTimeout),
            // Only idle connections are told to close.
            Signal::Closing => Ended::ClientGone,
        }
    }

    fn failed(&self, failure: Failure) -> Ended {
        Ended::Failed { failure, written: self.is_written(), answered: self.has_begun() }
    }

    /// Something of an answer went out that nothing else can follow: its head, or a part of an interim answer.
    fn has_begun(&self) -> bool {
        self.answered || !self.unsent.is_empty()
    }
}

/// Reads from the instance. What comes on a connection that refused the request from its first byte on is no answer to it.
fn poll_answer(
    cx: &Context<'_>,
    upstream: &mut Stream,
    carried_before: u64,
    into: &mut [u8],
) -> Poll<std::io::Result<usize>> {
    if upstream.has_failed() && upstream.passed() == carried_before {
        return Poll::Ready(Ok(0));
    }
    upstream.poll_read(cx, into)
}
