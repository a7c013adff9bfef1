//! Carrying the rest of a request's body from the client to the instance while the answer is awaited: many bodies are
//! larger than one read, and an instance may answer before it has read all.

use std::task::{Context, Poll};
use std::time::Duration;

use everup_core::http::Malformed;
use everup_core::http::body::Body;
use everup_core::pace::Pace;

use crate::local::Local;
use crate::stream::Stream;

/// So many pieces are carried one way before the other way is looked at: who sends without a pause must not use up all that
/// a task may do in a turn.
pub(crate) const PIECES: usize = 8;

/// What is left to carry.
#[derive(Debug)]
pub(crate) struct Pump {
    body: Body,
    /// Read from the client, not yet taken by the instance.
    unsent: Vec<u8>,
    sent: usize,
    /// The instance takes no more; its answer (or its end) will say why.
    broken: bool,
    /// Bytes of content, without the framing.
    seen: u64,
    limit: Option<u64>,
    /// How fast the client sends, while it can.
    pace: Pace,
    /// The client waits for `100 Continue`: that nothing comes is not its doing.
    awaits_continue: bool,
    /// Bytes read from the client, with the framing.
    carried: u64,
}

/// Why the body cannot be carried on. Always the client's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PumpEnd {
    /// It closed the connection in the middle of the body.
    ClientGone,
    /// The chunked coding is broken.
    Malformed(Malformed),
    /// The body is larger than `limits.body_bytes`.
    TooLarge,
}

impl Pump {
    /// `seen` bytes of its content were taken already.
    pub(crate) fn new(local: &Local, body: Body, seen: u64, awaits_continue: bool) -> Self {
        let pace = Pace::new(local.coarse_now(), local.limits().body_rate);
        let limit = local.limits().body_bytes;
        Self {
            body,
            unsent: Vec::new(),
            sent: 0,
            broken: false,
            seen,
            limit,
            pace,
            awaits_continue,
            carried: 0,
        }
    }

    /// When [`Self::is_too_slow`] is to be asked next.
    pub(crate) fn next_wakeup(&self) -> Option<Duration> {
        self.pace.next_wakeup().filter(|_| self.waits_for_client())
    }

    /// Whether the client sends more slowly than `limits.body_rate` allows.
    pub(crate) fn is_too_slow(&mut self, now: Duration) -> bool {
        self.waits_for_client() && self.pace.is_too_slow(now)
    }

    fn waits_for_client(&self) -> bool {
        self.is_active() && self.unsent.is_empty() && !self.awaits_continue
    }

    /// Until now the client's doing was not looked at, or it was told only now to go on.
    pub(crate) fn on_held_up(&mut self, now: Duration) {
        self.awaits_continue = false;
        self.pace.on_held_up(now);
    }

    /// Whether the whole body was read, and sent as far as the instance took it.
    pub(crate) fn is_done(&self) -> bool {
        self.body.is_done() && self.unsent.is_empty()
    }

    /// Whether the instance has the whole body.
    pub(crate) fn has_arrived(&self) -> bool {
        self.is_done() && !self.broken
    }

    /// How many bytes of the body it read from the client.
    pub(crate) fn carried(&self) -> u64 {
        self.carried
    }

    /// What the instance has not taken yet; it is the caller's from now on.
    pub(crate) fn take_unsent(&mut self) -> Vec<u8> {
        let unsent = self.unsent.split_off(self.sent);
        self.unsent.clear();
        self.sent = 0;
        unsent
    }

    /// Whether there is anything left to do.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_done() && !self.broken
    }

    /// Carries what can be carried now. Ready only when the client's side failed; `progress` is called for every piece.
    /// Bytes after the body's end go to `carry`.
    pub(crate) fn poll(
        &mut self,
        cx: &Context<'_>,
        (client, instance): (&mut Stream, &mut Stream),
        local: &Local,
        carry: &mut Vec<u8>,
        mut progress: impl FnMut(),
    ) -> Poll<PumpEnd> {
        for _ in 0..PIECES {
            if !self.is_active() {
                return Poll::Pending;
            }
            let moved = if self.unsent.is_empty() {
                match self.poll_read(cx, client, instance, local, carry) {
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Ready(Ok(())) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            } else {
                self.poll_write(cx, instance, local)
            };
            if moved.is_pending() {
                return Poll::Pending;
            }
            progress();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read(
        &mut self,
        cx: &Context<'_>,
        client: &mut Stream,
        instance: &mut Stream,
        local: &Local,
        carry: &mut Vec<u8>,
    ) -> Poll<Result<(), PumpEnd>> {
        let mut scratch = local.buffers.scratch();
        // Not a byte more than the body: what follows belongs to the next request and would have to be kept.
        let most = self
            .body
            .wants()
            .map_or(scratch.len(), |wants| usize::try_from(wants).unwrap_or(usize::MAX).min(scratch.len()));
        let read = match client.poll_read(cx, &mut scratch[..most]) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(PumpEnd::ClientGone)),
            Poll::Ready(Ok(read)) => read,
            Poll::Pending => return Poll::Pending,
        };
        self.awaits_continue = false;
        self.pace.on_bytes(read as u64);
        let seen = &mut self.seen;
        let taken = match self.body.take(&scratch[..read], |piece| *seen += piece.len() as u64) {
            Ok(taken) => taken,
            Err(malformed) => return Poll::Ready(Err(PumpEnd::Malformed(malformed))),
        };
        self.carried += taken as u64;
        if self.limit.is_some_and(|limit| self.seen > limit) {
            return Poll::Ready(Err(PumpEnd::TooLarge));
        }
        carry.extend_from_slice(&scratch[taken..read]);
        match instance.try_write(&scratch[..taken], &[]) {
            Ok(written) => {
                self.unsent.extend_from_slice(&scratch[written..taken]);
                self.sent = 0;
            }
            Err(_) => self.broken = true,
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &Context<'_>, instance: &mut Stream, local: &Local) -> Poll<()> {
        match instance.poll_write(cx, &self.unsent[self.sent..]) {
            Poll::Ready(Ok(written)) => {
                self.sent += written;
                if self.sent == self.unsent.len() {
                    self.unsent.clear();
                    self.sent = 0;
                    self.pace.on_held_up(local.coarse_now());
                }
                Poll::Ready(())
            }
            Poll::Ready(Err(_)) => {
                self.broken = true;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
