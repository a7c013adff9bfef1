//! Whether a client takes its answer at `limits.answer_rate` at least, on average over the time in which there was something
//! to take. What counts is what its side acknowledged, not what our kernel took on its behalf. The common answer never
//! comes here for more than a few cells: the kernel is asked only once a client has kept us waiting for a while.

use std::time::Duration;

use everup_core::pace::Pace;

use crate::stream::Stream;

/// The span over which the rate is averaged: twice that, and [`GRACE`], are what a client can stop for in the middle of an
/// answer at most.
const WINDOW: Duration = Duration::from_secs(13);

/// Waits shorter than this are no sign of a slow client.
const GRACE: Duration = Duration::from_secs(2);

/// How a client takes one answer.
#[derive(Debug)]
pub(crate) struct Taking {
    rate: Option<u64>,
    /// None: it never kept us waiting for long.
    pace: Option<Pace>,
    /// Since when there is more than the kernel takes; None: the kernel has everything.
    blocked: Option<Duration>,
    /// Since when it is not blocked, if it was before.
    free: Option<Duration>,
    /// Taken by the kernel since the last look.
    written: u64,
    /// What the kernel held then.
    queued: u64,
}

/// What a look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It took something since the last look, or this was the first.
    Taking,
    /// It took nothing, which is all right so far.
    Resting,
    /// It takes too little.
    TooSlow,
}

impl Taking {
    /// Of an answer that has not begun. `rate` None: any pace will do.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, pace: None, blocked: None, free: None, written: 0, queued: 0 }
    }

    /// The kernel takes no more for now.
    pub(crate) fn on_blocked(&mut self, now: Duration) {
        if self.blocked.is_some() {
            return;
        }
        self.blocked = Some(now);
        if let (Some(pace), Some(free)) = (&mut self.pace, self.free.take()) {
            pace.on_pause(now.saturating_sub(free));
        }
    }

    /// The kernel took something.
    pub(crate) fn on_written(&mut self, now: Duration, bytes: usize) {
        self.written += bytes as u64;
        if self.blocked.take().is_some() {
            self.free = Some(now);
        }
    }

    /// When to [`Self::look`], if a wait that begins now goes on till then.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        self.rate?;
        let begun = self.blocked.unwrap_or(now);
        let Some(pace) = &self.pace else { return Some(begun + GRACE) };
        let pause = self.free.map_or(Duration::ZERO, |free| now.saturating_sub(free));
        pace.next_wakeup().map(|due| due + pause)
    }

    /// Whether it still may take its time. Only while blocked, and when it is due.
    pub(crate) fn look(&mut self, now: Duration, client: &Stream) -> Look {
        // A socket that cannot tell is judged by what was written.
        let queued = client.unacknowledged().unwrap_or(self.queued);
        let taken = (self.written + self.queued).saturating_sub(queued);
        (self.written, self.queued) = (0, queued);
        let Some(pace) = &mut self.pace else {
            self.pace = Some(Pace::over(WINDOW, now, self.rate));
            return Look::Taking;
        };
        pace.on_bytes(taken);
        match (pace.is_too_slow(now), taken) {
            (true, _) => Look::TooSlow,
            (false, 0) => Look::Resting,
            (false, _) => Look::Taking,
        }
    }
}
