//! Bytes both ways between two connections until both have ended: TCP relays, and tunnels after an upgrade. Half-closed
//! connections are passed on as such. A quiet relay is not ended by time (a database connection or a WebSocket may be
//! quiet for hours); peers that vanish are noticed by TCP keep-alive. WebSockets are followed on their way (`websocket.rs`).

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use everup_core::handover::{self, Kind, Way, What};
use everup_core::websocket::Frames;

use crate::handover::leaving::{self, Facts, Leaving, Left, Turn};
use crate::local::Local;
use crate::pump::PIECES;
use crate::service::Instance;
use crate::snapshot::{InstanceShared, InstanceTable};
use crate::splice::{BULK, Pipe};
use crate::stream::Stream;
use crate::watch::{Signal, Watched};
use crate::websocket::{Track, WebSocket};

/// Counts a tunnel out when it ends, however it ends.
pub(crate) struct LeaveTunnel<'a>(pub(crate) &'a Arc<InstanceShared>);

impl Drop for LeaveTunnel<'_> {
    fn drop(&mut self) {
        self.0.leave_tunnel();
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Of a WebSocket only.
    pub(crate) track: Option<Box<Track>>,
    unsent: Vec<u8>,
    sent: usize,
    /// Much came at once the last time: let it pass through the kernel.
    bulk: bool,
    pipe: Option<Pipe>,
    ended: bool,
    finished: bool,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both directions have ended, or one side can no longer be read.
    Over,
    /// Another worker goes on with it: nothing here is to be touched.
    Moved,
}

/// A client, an instance, and how bytes go between them.
pub(crate) struct Relay<'a> {
    pub(crate) local: &'a Local,
    pub(crate) watch: &'a Watched,
    pub(crate) client: &'a mut Stream,
    pub(crate) instance: &'a mut Stream,
    /// Apart: nearly none will be asked.
    pub(crate) facts: Box<Facts>,
    pub(crate) to: &'a Rc<Instance>,
    pub(crate) kind: Kind,
    /// When one direction has ended, the other may be quiet for so long at most.
    pub(crate) idle: Duration,
    /// It may be closed by us before its ends have.
    pub(crate) websocket: Option<Box<WebSocket<'a>>>,
    pub(crate) flows: Flows,
}

/// Both directions of a relay.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    pub(crate) up: Flow,
    pub(crate) down: Flow,
}

impl Flows {
    /// Of a relay that begins; `to_instance` was read from the client already.
    pub(crate) fn new(to_instance: Vec<u8>, websocket: Option<&WebSocket<'_>>) -> Self {
        let (up_track, down_track) = websocket.map(|one| one.tracks(&to_instance)).unzip();
        let up = Flow { track: up_track, unsent: to_instance, ..Flow::default() };
        Self { up, down: Flow { track: down_track, ..Flow::default() } }
    }

    /// One of them has ended.
    fn are_half_closed(&self) -> bool {
        self.up.finished || self.down.finished
    }
}

impl Relay<'_> {
    /// For a relay that another worker has begun. `left`: how long it may be quiet still, if one direction has ended.
    pub(crate) fn expect_end(&self, left: Option<Duration>) {
        if self.flows.are_half_closed() {
            self.watch.set_deadline(Some(self.local.coarse_now() + left.unwrap_or(self.idle)));
        }
    }

    /// Relays until both directions have ended or one side can no longer be read.
    pub(crate) async fn run(&mut self) -> Ended {
        self.watch.set_movable(true);
        let mut leaving = Leaving::default();
        let ended = loop {
            match poll_fn(|cx| self.poll_wait(cx, &mut leaving)).await {
                Ok(None) => break Ended::Over,
                Ok(Some(turn)) => {
                    // Room for this is needed once, if at all.
                    if Box::pin(self.leave(turn)).await == Left::Gone {
                        break Ended::Moved;
                    }
                }
                // Whether it ended well is the peers' business: both see just what the other did.
                Err(_) if !self.websocket.as_ref().is_some_and(|websocket| websocket.is_due()) => {
                    break Ended::Over;
                }
                Err(_) => {}
            }
        };
        self.watch.set_movable(false);
        // The last words of one side may have come together with its end.
        self.instance.send_now();
        ended
    }

    fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        leaving: &mut Leaving,
    ) -> Poll<Result<Option<Box<Turn>>, Signal>> {
        let polled = self.poll(cx, leaving);
        self.watch.poll_wait(cx, polled)
    }

    /// Carries what can be carried now. Ready when it is over, or its turn to leave has come.
    fn poll(&mut self, cx: &mut Context<'_>, leaving: &mut Leaving) -> Poll<Option<Box<Turn>>> {
        let Self { local, watch, client, instance, websocket, flows: Flows { up, down }, .. } = self;
        let is_plain = client.is_plain() && instance.is_plain();
        // One that has said goodbye already ends here, and soon.
        if websocket.as_ref().is_some_and(|websocket| websocket.has_said()) {
            leaving.forget();
        } else if let Poll::Ready(turn) = leaving.poll(cx, local, watch, (self.kind, is_plain)) {
            return Poll::Ready(Some(turn));
        }
        loop {
            if websocket.as_mut().is_some_and(|websocket| websocket.look(up, down)) {
                return Poll::Ready(None);
            }
            let before = (up.finished, down.finished);
            let mut moved = false;
            let sides = [
                up.poll(cx, client, instance, local, &mut moved),
                down.poll(cx, instance, client, local, &mut moved),
            ];
            let is_broken = sides.iter().any(|side| matches!(side, Poll::Ready(Err(_))));
            if is_broken || (up.finished && down.finished) {
                return Poll::Ready(None);
            }
            let half_closed = up.finished || down.finished;
            if half_closed && (moved || before != (up.finished, down.finished)) {
                watch.set_deadline(Some(local.coarse_now() + self.idle));
                let wakeup = websocket.as_ref().and_then(|websocket| websocket.next_wakeup());
                wakeup.into_iter().for_each(|wakeup| watch.limit_deadline(wakeup));
            }
            if !websocket.as_ref().is_some_and(|websocket| websocket.has_news(up, down)) {
                return Poll::Pending;
            }
        }
    }

    /// Offers it to the other worker. Between two polls it is in one of its own states: of what was read, all that was not
    /// written is in the flows and below them in the engine.
    async fn leave(&mut self, turn: Box<Turn>) -> Left {
        if !self.client.may_move() || !self.instance.may_move() {
            // It is about to end.
            leaving::stays(self.local, self.watch, self.kind);
            return Left::Stays;
        }
        let Flows { up, down } = &mut self.flows;
        up.gather(self.client, self.instance, self.local);
        down.gather(self.instance, self.client, self.local);
        if up.has_stopped() || down.has_stopped() {
            // Our Close stands in what was gathered: it has begun to end.
            return Left::Stays;
        }
        let half_closed = up.finished || down.finished;
        let left = self.watch.deadline().filter(|_| half_closed);
        let left = left.map(|end| end.saturating_sub(self.local.now()).as_millis());
        let InstanceTable { id, address, .. } = &self.to.table;
        let relay = handover::Relay {
            instance: id.clone(),
            address: *address,
            to_instance: up.way(),
            to_client: down.way(),
            left_ms: left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
        };
        let what = match self.kind {
            Kind::Idle | Kind::Relay => What::Relay(relay),
            Kind::Tunnel => What::Tunnel(relay),
            Kind::Websocket => What::Websocket(relay),
        };
        let held = [&up.unsent[..], &down.unsent].concat();
        let streams = [&*self.client, &*self.instance];
        turn.offer((self.local, self.watch), *self.facts, (self.kind, what), held, &streams).await
    }
}

impl Flow {
    /// A direction that another worker has begun: of what it read, `held` was not written.
    pub(crate) fn arrived(held: Vec<u8>, frames: Option<Frames>, ended: bool, finished: bool) -> Self {
        let track = frames.map(|frames| Box::new(Track::new(frames)));
        Self { track, unsent: held, ended, finished, ..Self::default() }
    }

    /// Of a WebSocket: what comes is not passed on any more.
    fn has_stopped(&self) -> bool {
        self.track.as_ref().is_some_and(|track| track.has_stopped())
    }

    /// What another worker needs to know of it, once it is gathered.
    fn way(&self) -> Way {
        Way {
            // More than fits is more than may be held, and does not move.
            bytes: u32::try_from(self.unsent.len()).unwrap_or(u32::MAX),
            ended: self.ended,
            finished: self.finished,
            frames: self.track.as_ref().map(|track| track.frames()),
        }
    }

    /// Gets hold of every byte that was read and that the kernel has not got yet, in their order: what is written and waits
    /// for the kernel, what waits here or in a pipe, what was received ahead of being read.
    fn gather(&mut self, from: &Stream, to: &Stream, local: &Local) {
        let mut bytes = to.take_unsent();
        bytes.extend_from_slice(&self.unsent[self.sent..]);
        if let Some(mut pipe) = self.pipe.take()
            && pipe.empty_into(&mut bytes)
        {
            local.pipes.give(pipe);
        }
        if self.finished {
            // The receiver takes nothing.
            bytes.clear();
        } else {
            let at = bytes.len();
            from.take_received(&mut bytes);
            let on = self.track.as_mut().map(|track| track.pass(&bytes[at..]));
            bytes.truncate(on.map_or(bytes.len(), |on| at + on));
        }
        local.buffers.give(std::mem::replace(&mut self.unsent, bytes));
        self.sent = 0;
    }

    /// Carries what can be carried now.
    fn poll(
        &mut self,
        cx: &Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        local: &Local,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        for _ in 0..PIECES {
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if let Some(last) = self.track.as_mut().and_then(|track| track.take_last()) {
                self.unsent.extend_from_slice(&last);
            }
            if self.sent < self.unsent.len() {
                match to.poll_write(cx, &self.unsent[self.sent..]) {
                    Poll::Ready(Ok(written)) => self.sent += written,
                    Poll::Ready(Err(_)) => self.give_up(),
                    Poll::Pending => return Poll::Pending,
                }
                *moved = true;
                continue;
            }
            if !self.unsent.is_empty() {
                // Quiet relays hold no memory.
                local.buffers.give(std::mem::take(&mut self.unsent));
                self.sent = 0;
            }
            if let Some(pipe) = &mut self.pipe
                && !pipe.is_empty()
            {
                match pipe.poll_drain(cx, to) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => self.give_up(),
                    Poll::Pending => return Poll::Pending,
                }
                *moved = true;
                continue;
            }
            if self.ended {
                if to.poll_flush(cx).is_pending() {
                    return Poll::Pending;
                }
                to.finish_writing();
                self.finished = true;
                return Poll::Ready(Ok(()));
            }
            let read = match self.bulk && self.track.is_none() && from.may_splice() && to.may_splice() {
                true => self.poll_fill(cx, from, local),
                false => self.poll_read(cx, from, to, local),
            };
            match read {
                Poll::Ready(Ok(())) => *moved = true,
                Poll::Pending if self.track.as_mut().is_some_and(|track| track.stops_on_quiet()) => {}
                other => {
                    // What TLS took may not be out yet, and nobody else waits for the kernel to take it.
                    let _ = to.poll_flush(cx);
                    // Quiet relays hold no pipe either.
                    self.pipe.take().into_iter().for_each(|pipe| local.pipes.give(pipe));
                    return other;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// All that came of it was sent on.
    pub(crate) fn has_sent(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Nothing more comes of it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended || self.finished
    }

    fn poll_fill(&mut self, cx: &Context<'_>, from: &Stream, local: &Local) -> Poll<io::Result<()>> {
        let Some(pipe) = self.pipe.take().or_else(|| local.pipes.take()) else {
            // No pipe to be had: the next look is by hand.
            self.bulk = false;
            return Poll::Ready(Ok(()));
        };
        let filled = ready!(self.pipe.insert(pipe).poll_fill(cx, from, u64::MAX))?;
        self.ended = filled == 0;
        self.bulk = filled >= BULK;
        Poll::Ready(Ok(()))
    }

    /// The receiver takes no more. What it sent before it closed may still be on its way to the other side, which
    /// therefore goes on until it has seen the end.
    fn give_up(&mut self) {
        self.unsent.clear();
        self.sent = 0;
        self.finished = true;
    }

    fn poll_read(
        &mut self,
        cx: &Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        local: &Local,
    ) -> Poll<io::Result<()>> {
        let mut scratch = local.buffers.scratch();
        let read = match from.poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => {
                to.break_off();
                return Poll::Ready(Err(error));
            }
            Poll::Pending => return Poll::Pending,
        };
        self.ended = read == 0;
        self.bulk = read >= BULK;
        let on = self.track.as_mut().map_or(read, |track| track.pass(&scratch[..read]));
        let written = if on == 0 { 0 } else { to.try_write(&scratch[..on], &[]).unwrap_or(0) };
        if written < on {
            self.unsent = local.buffers.take();
            self.unsent.extend_from_slice(&scratch[written..on]);
        }
        Poll::Ready(Ok(()))
    }
}
