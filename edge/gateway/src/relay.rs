//! Bytes both ways between two connections until both have ended: TCP relays, and tunnels after an upgrade. Half-closed
//! connections are passed on as such. A quiet relay is not ended by time (a database connection or a WebSocket may be
//! quiet for hours); peers that vanish are noticed by TCP keep-alive. WebSockets are followed on their way (`websocket.rs`).

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::local::Local;
use crate::pump::PIECES;
use crate::snapshot::InstanceShared;
use crate::splice::{BULK, Pipe};
use crate::stream::Stream;
use crate::watch::Watch;
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

/// Relays until both directions have ended or one side can no longer be read; `to_instance` was read from the client already. When
/// one direction has ended, the other may be quiet for `idle` at most. A WebSocket may be closed by us before that.
pub(crate) async fn run(
    local: &Local,
    watch: &Watch,
    client: &mut Stream,
    instance: &mut Stream,
    to_instance: Vec<u8>,
    idle: Duration,
    mut websocket: Option<Box<WebSocket<'_>>>,
) {
    let (to_instance_track, to_client_track) = websocket.as_ref().map(|one| one.tracks(&to_instance)).unzip();
    let mut up = Flow { track: to_instance_track, unsent: to_instance, ..Flow::default() };
    let mut down = Flow { track: to_client_track, ..Flow::default() };
    loop {
        let waited = watch.wait(|cx| {
            loop {
                if websocket.as_mut().is_some_and(|websocket| websocket.look(&mut up, &mut down)) {
                    return Poll::Ready(());
                }
                let before = (up.finished, down.finished);
                let mut moved = false;
                let sides = [
                    up.poll(cx, client, instance, local, &mut moved),
                    down.poll(cx, instance, client, local, &mut moved),
                ];
                let is_broken = sides.iter().any(|side| matches!(side, Poll::Ready(Err(_))));
                if is_broken || (up.finished && down.finished) {
                    return Poll::Ready(());
                }
                let half_closed = up.finished || down.finished;
                if half_closed && (moved || before != (up.finished, down.finished)) {
                    watch.set_deadline(Some(local.coarse_now() + idle));
                    let wakeup = websocket.as_ref().and_then(|websocket| websocket.next_wakeup());
                    wakeup.into_iter().for_each(|wakeup| watch.limit_deadline(wakeup));
                }
                if !websocket.as_ref().is_some_and(|websocket| websocket.has_news(&up, &down)) {
                    return Poll::Pending;
                }
            }
        });
        // Whether it ended well is the peers' business: both see just what the other did.
        let was_it_time = waited.await.is_err();
        if !was_it_time || !websocket.as_ref().is_some_and(|websocket| websocket.is_due()) {
            break;
        }
    }
    // The last words of one side may have come together with its end.
    instance.send_now();
}

impl Flow {
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
