//! Virtual time: what happens next. Events at the same time come in the order in which they were planned.

use std::collections::BTreeMap;
use std::time::Duration;

use everup_core::time::Time;

/// The clock and the events to come.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    now: Time,
    planned: u64,
    events: BTreeMap<(Time, u64), E>,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { now: Time::ZERO, planned: 0, events: BTreeMap::new() }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn after(&mut self, wait: Duration, event: E) {
        self.at(self.now + wait, event);
    }

    /// The past is now.
    pub(crate) fn at(&mut self, time: Time, event: E) {
        self.planned += 1;
        self.events.insert((time.max(self.now), self.planned), event);
    }

    /// Moves the clock to the next event.
    pub(crate) fn next(&mut self) -> Option<E> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}
