//! The control thread's clocks. Decisions get the time from here as an argument; nothing else in this crate reads a
//! clock.

use std::time::{Instant, SystemTime};

use everup_core::time::Time;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For deadlines and rates.
    pub(crate) time: Time,
    /// The same, for the data plane.
    pub(crate) instant: Instant,
    /// For what people are told, also by the next worker.
    pub(crate) wall: SystemTime,
}

/// Monotonic since the worker's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let instant = Instant::now();
        let micros = u64::try_from((instant - self.start).as_micros()).unwrap_or(u64::MAX);
        Now { time: Time::from_micros(micros), instant, wall: SystemTime::now() }
    }

    /// When `time` comes, for a timer.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + time.since(Time::ZERO)
    }
}
