//! The queue of requests that wait while every instance is at its `max_connections`: one per service, over all threads.
//! Who is next is decided by `everup_core::balance::queue`; here it is locked, and whoever is called is woken. Nothing of
//! this is touched on the path of a request while nobody waits, but one atomic read when one ends.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use everup_core::balance::queue::{Queue, Wanted};

use crate::client::Client;
use crate::local::Local;
use crate::park::{Held, WaitOver};
use crate::service::Service;
use crate::watch::Signal;

/// The queue of a service.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    queue: Mutex<Queue<Option<Waker>>>,
    /// How many wait. Sequentially consistent with the instances' counters: see [`WaitingRoom::call`].
    waiting: AtomicUsize,
}

impl WaitingRoom {
    /// Somebody waits who would take the place that a newcomer wants.
    pub(crate) fn goes_before(&self, wants: Option<usize>) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0 && self.lock().goes_before(wants)
    }

    /// Wakes the first who waits for the free place. Whoever joins writes `waiting` and then looks for a place; whoever
    /// leaves gives the place back and then reads `waiting`: one of them sees the other.
    pub(crate) fn call(&self, fits: impl Fn(&Wanted) -> bool) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let waker = self.lock().call(fits).and_then(Clone::clone);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Wakes everyone who waits: there is nothing to wait for.
    pub(crate) fn call_all(&self) {
        loop {
            let Some(waker) = self.lock().call(|_| true).cloned() else { return };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Option<Waker>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place in the queue. Dropping it lets the next one look, if there is room for it.
#[derive(Debug)]
pub(crate) struct Turn {
    service: Rc<Service>,
    ticket: u64,
    wanted: Wanted,
    thread: usize,
}

impl Turn {
    fn join(local: &Local, service: &Rc<Service>, wanted: Wanted) -> Result<Self, WaitOver> {
        let room = &service.shared.queue;
        let mut queue = room.lock();
        if wanted.only.is_none() && queue.is_hopeless(local.now(), service.settings.queue.time) {
            return Err(WaitOver::InVain);
        }
        let ticket = queue.join(service.settings.queue.requests, wanted.clone(), None);
        let ticket = ticket.map_err(|_| WaitOver::InVain)?;
        room.waiting.store(queue.len(), Ordering::SeqCst);
        let is_choosy = queue.is_choosy();
        drop(queue);
        service.shared.queued.cell(local.thread).add(1);
        if is_choosy {
            room.call(|wanted| service.has_room(wanted));
        }
        Ok(Self { service: Rc::clone(service), ticket, wanted, thread: local.thread })
    }

    /// It looked and found its place.
    pub(crate) fn succeed(self, now: Duration) {
        self.room().lock().serve(now, self.ticket);
    }

    /// It looked and found no room.
    fn wait_on(&mut self, service: &Rc<Service>) {
        self.service = Rc::clone(service);
        self.room().lock().wait_on(self.ticket);
        // What became free while it looked was offered to nobody.
        self.room().call(|wanted| self.service.has_room(wanted));
    }

    fn room(&self) -> &WaitingRoom {
        &self.service.shared.queue
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let room = self.room();
        let mut queue = room.lock();
        queue.leave(self.ticket);
        room.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        self.service.shared.queued.cell(self.thread).add(-1);
        room.call(|wanted| self.service.has_room(wanted));
    }
}

/// Waits until there may be a place: at the end of the queue if `turn` is None, else where it was. `since` is when the
/// request began to wait; it holds `held` bytes of memory.
pub(crate) async fn wait(
    local: &Local,
    client: &Client,
    service: &Rc<Service>,
    turn: &mut Option<Turn>,
    wanted: Wanted,
    held: usize,
    since: Duration,
) -> Result<(), WaitOver> {
    let end = since + service.settings.queue.time;
    let _held = Held::take(service, held + client.carry.capacity()).ok_or(WaitOver::InVain)?;
    if local.now() >= end || service.is_gone() {
        return Err(WaitOver::InVain);
    }
    match turn {
        Some(turn) if turn.wanted == wanted => {
            turn.wait_on(service);
            // It may be called again at once: others of this thread get their time all the same.
            local.engine.spend().await;
        }
        _ => {
            *turn = None;
            *turn = Some(Turn::join(local, service, wanted)?);
        }
    }
    let Some(turn) = turn else { return Ok(()) };
    let Client { watch, stream, .. } = client;
    watch.set_deadline(Some(end));
    let mut broken = pin!(stream.broken());
    let called = watch.wait(|cx| {
        if broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(WaitOver::ClientGone));
        }
        let remember = |known: &mut Option<Waker>| *known = Some(cx.waker().clone());
        if turn.room().lock().is_called(turn.ticket, remember) { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    match called.await {
        Ok(called) => called,
        Err(Signal::JudgedDown) => Ok(()),
        Err(Signal::Deadline | Signal::Closing) => Err(WaitOver::InVain),
    }
}
