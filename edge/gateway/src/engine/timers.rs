//! Times to be woken at. Few wait here (connecting, pausing, sweeping): what every connection waits for is a deadline in
//! a cell that is looked at by the sweep, which costs a request nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Who waits until when. The number tells apart those who wait for the same instant.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next: Cell<u64>,
}

impl Timers {
    pub(super) async fn sleep_until(&self, end: Instant) {
        let place = self.enter(end);
        poll_fn(|cx| place.poll(cx.waker())).await;
    }

    pub(super) async fn timeout<T>(
        &self,
        time: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        // A limit that is too far to be told is none.
        let place = Instant::now().checked_add(time).map(|end| self.enter(end));
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            match &place {
                Some(place) => place.poll(cx.waker()).map(|()| Err(Elapsed)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// How long until someone must be woken; None: nobody waits.
    pub(super) fn until_next(&self) -> Option<Duration> {
        let waiting = self.waiting.borrow();
        let ((first, _), _) = waiting.first_key_value()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Wakes those whose time has come.
    pub(super) fn wake_due(&self) {
        let now = Instant::now();
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some(entry) = waiting.first_entry() else { return };
            if entry.key().0 > now {
                return;
            }
            let waker = entry.remove();
            drop(waiting);
            waker.wake();
        }
    }

    fn enter(&self, end: Instant) -> Place<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        Place { timers: self, key: (end, number) }
    }
}

/// One wait; it leaves when it is dropped.
struct Place<'a> {
    timers: &'a Timers,
    key: (Instant, u64),
}

impl Place<'_> {
    fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.key.0 <= Instant::now() {
            return Poll::Ready(());
        }
        self.timers.waiting.borrow_mut().insert(self.key, waker.clone());
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waker = self.timers.waiting.borrow_mut().remove(&self.key);
        drop(waker);
    }
}
