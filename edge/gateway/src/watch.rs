//! Deadlines and signals for thousands of connections without a timer each: a connection writes its deadline into a
//! cell, and a sweep, 20 times a second, wakes those whose time is over. So a deadline costs a request nothing and is
//! up to [`SWEEP`] late.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everup_core::handover::Kind;

use crate::handover::Tally;

/// How often deadlines are looked at.
pub(crate) const SWEEP: Duration = Duration::from_millis(50);

/// Why a wait ended before what it waited for came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The deadline passed.
    Deadline,
    /// The instance that is waited for was judged down.
    JudgedDown,
    /// everup is shutting down, or the listener is gone, and the connection is idle.
    Closing,
}

/// What one connection waits for. Held by its task and by the thread's [`Watches`].
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The listener of its connection.
    listener: usize,
    deadline: Cell<Option<Duration>>,
    /// From then on its place may be wanted.
    yields: Cell<Option<Duration>>,
    signal: Cell<Option<Signal>>,
    idle: Cell<bool>,
    waits_for: Cell<Option<usize>>,
    /// Time has passed since it was asked.
    waited: Cell<bool>,
    parked: Cell<bool>,
    tunnel: Cell<Option<usize>>,
    /// It may be told that it can leave for another worker.
    movable: Cell<bool>,
    /// It cannot, and is counted as what it is.
    stays: Cell<Option<Kind>>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// From now on, waits end at `deadline` (None: never). A signal that was not taken is forgotten.
    pub(crate) fn set_deadline(&self, deadline: Option<Duration>) {
        self.deadline.set(deadline);
        self.signal.set(None);
    }

    /// The wait that comes next ends at `deadline` if not earlier. Signals that were not taken stay.
    pub(crate) fn limit_deadline(&self, deadline: Duration) {
        self.deadline.set(Some(self.deadline.get().map_or(deadline, |earlier| earlier.min(deadline))));
    }

    /// From now on, waits end at `yields` already if others want the place (None: never).
    pub(crate) fn set_yields(&self, yields: Option<Duration>) {
        self.yields.set(yields);
    }

    /// Whether the connection had to wait for anything since this was asked last.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited.replace(false)
    }

    /// What was done took its time, too.
    pub(crate) fn set_waited(&self) {
        self.waited.set(true);
    }

    /// Whether the connection is between two requests.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// The instance (by `Instance::key`) whose being judged down ends the wait, if any.
    pub(crate) fn set_waits_for(&self, instance: Option<usize>) {
        self.waits_for.set(instance);
    }

    /// Whether the wait is to look again at every new table.
    pub(crate) fn set_parked(&self, parked: bool) {
        self.parked.set(parked);
    }

    /// The instance that a tunnel leads to which is to be told when that leaves.
    pub(crate) fn set_tunnel(&self, instance: Option<usize>) {
        self.tunnel.set(instance);
    }

    /// Whether it is to be told when connections leave for another worker.
    pub(crate) fn set_movable(&self, movable: bool) {
        self.movable.set(movable);
    }

    /// Whether it cannot leave for another worker.
    pub(crate) fn stays(&self) -> bool {
        self.stays.get().is_some()
    }

    /// When its wait ends at the latest.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline.get()
    }

    /// Waits until `poll` is ready or a signal comes.
    pub(crate) async fn wait<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Signal> {
        poll_fn(|cx| {
            let polled = poll(cx);
            self.poll_wait(cx, polled)
        })
        .await
    }

    /// The same for what was polled already.
    pub(crate) fn poll_wait<T>(&self, cx: &Context<'_>, polled: Poll<T>) -> Poll<Result<T, Signal>> {
        if let Poll::Ready(value) = polled {
            return Poll::Ready(Ok(value));
        }
        if let Some(signal) = self.signal.take() {
            return Poll::Ready(Err(signal));
        }
        self.waited.set(true);
        self.remember(cx.waker());
        Poll::Pending
    }

    fn set_stays_in(&self, staying: &Tally, kind: Option<Kind>) {
        let before = self.stays.replace(kind);
        before.into_iter().for_each(|kind| staying.remove(kind));
        kind.into_iter().for_each(|kind| staying.add(kind));
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn send(&self, signal: Signal) {
        self.signal.set(Some(signal));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// All connections of a thread.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Those that cannot leave for another worker, over all threads.
    staying: Arc<Tally>,
    entries: RefCell<Vec<Option<Rc<Watch>>>>,
    free: RefCell<Vec<usize>>,
}

impl Watches {
    pub(crate) fn new(staying: Arc<Tally>) -> Rc<Self> {
        Rc::new(Self { staying, ..Self::default() })
    }

    /// Enters a new connection; it leaves when the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>, listener: usize) -> Watched {
        let watch = Rc::new(Watch { listener, ..Watch::default() });
        let mut entries = self.entries.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or(entries.len());
        if slot == entries.len() {
            entries.push(None);
        }
        entries[slot] = Some(Rc::clone(&watch));
        Watched { watch, watches: Rc::clone(self), slot }
    }

    /// Wakes everyone whose deadline is over, or whose place is wanted now and may be.
    pub(crate) fn sweep(&self, now: Duration, places_are_wanted: bool) {
        let is_over = |time: &Cell<Option<Duration>>| time.get().is_some_and(|time| time <= now);
        self.each(|watch| {
            if is_over(&watch.deadline) || places_are_wanted && is_over(&watch.yields) {
                watch.deadline.set(None);
                watch.yields.set(None);
                watch.send(Signal::Deadline);
            }
        });
    }

    /// Wakes everyone who waits for an instance of which `is_down` holds.
    pub(crate) fn judged_down(&self, is_down: impl Fn(usize) -> bool) {
        self.each(|watch| {
            if watch.waits_for.get().is_some_and(&is_down) {
                watch.waits_for.set(None);
                watch.send(Signal::JudgedDown);
            }
        });
    }

    /// Wakes everyone who is parked.
    pub(crate) fn table_changed(&self) {
        self.each(|watch| {
            if watch.parked.get() {
                watch.wake();
            }
        });
    }

    /// Wakes every tunnel to an instance of which `leaves` holds.
    pub(crate) fn tunnels_leave(&self, leaves: impl Fn(usize) -> bool) {
        self.each(|watch| {
            if watch.tunnel.get().is_some_and(&leaves) {
                watch.wake();
            }
        });
    }

    /// Wakes every idle connection of these listeners so that it closes, and every tunnel so that it looks whether it is to
    /// say goodbye.
    pub(crate) fn closing(&self, of: impl Fn(usize) -> bool) {
        self.each(|watch| {
            if watch.idle.get() && of(watch.listener) {
                watch.send(Signal::Closing);
            } else if of(watch.listener) && watch.tunnel.get().is_some() {
                watch.wake();
            }
        });
    }

    /// Wakes everyone who may be able to leave for another worker.
    pub(crate) fn leaving(&self) {
        self.each(|watch| {
            if watch.movable.get() {
                watch.wake();
            }
        });
    }

    /// Nobody leaves any more: nobody is kept from it.
    pub(crate) fn all_stay(&self) {
        self.each(|watch| {
            watch.set_stays_in(&self.staying, None);
            if watch.tunnel.get().is_some() {
                watch.wake();
            }
        });
    }

    fn each(&self, mut visit: impl FnMut(&Watch)) {
        self.entries.borrow().iter().flatten().for_each(|watch| visit(watch));
    }
}

/// A connection's place among the [`Watches`].
#[derive(Debug)]
pub(crate) struct Watched {
    watch: Rc<Watch>,
    watches: Rc<Watches>,
    slot: usize,
}

impl std::ops::Deref for Watched {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Watched {
    /// Notes what it is that cannot leave for another worker.
    pub(crate) fn set_stays(&self, kind: Kind) {
        self.watch.set_stays_in(&self.watches.staying, Some(kind));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.set_stays_in(&self.watches.staying, None);
        self.watches.entries.borrow_mut()[self.slot] = None;
        self.watches.free.borrow_mut().push(self.slot);
    }
}
