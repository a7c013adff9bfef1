//! Whether *we* were too late. A probe that got no answer in time is evidence against the instance only if we were
//! there to hear it: on a machine that is overloaded, suspended or stopped our timers fire late, and every instance
//! would look dead at once.
//!
//! The driver says when it means to be awake next; by how much it is later than that, beyond a tolerance, is our own
//! starvation. While probes are under way it wakes up every [`PULSE`] just for this. Probes get back the time for
//! which we starved (`probe::within`); nothing here decides about instances.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the driver wakes up while probes are under way.
const PULSE: Duration = Duration::from_millis(20);
/// A timer that is later than this is late. Ordinary scheduling on a busy machine stays below it.
const TOLERANCE_MICROS: u64 = 10_000;
/// "No wake-up is planned."
const NEVER: u64 = u64::MAX;

/// Shared by the tasks of one thread; atomics (all relaxed) only because tasks must be `Send`.
#[derive(Debug)]
pub(crate) struct Starvation {
    start: Instant,
    /// When the driver means to be awake, in microseconds since `start`.
    planned: AtomicU64,
    /// All lateness up to the last wake-up, in microseconds.
    total: AtomicU64,
}

impl Starvation {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, planned: AtomicU64::new(NEVER), total: AtomicU64::new(0) }
    }

    /// The driver is about to sleep until `alarm`: when it should wake up, which is sooner while probes are under way.
    pub(crate) fn plan(&self, alarm: Option<Instant>, probing: bool) -> Option<Instant> {
        let pulse = probing.then(|| Instant::now() + PULSE);
        let wakeup = match (alarm, pulse) {
            (Some(alarm), Some(pulse)) => Some(alarm.min(pulse)),
            (alarm, pulse) => alarm.or(pulse),
        };
        // An alarm in the past is not lateness: the driver may have been busy until now.
        let planned = wakeup.map_or(NEVER, |wakeup| self.micros(wakeup.max(Instant::now())));
        self.planned.store(planned, Ordering::Relaxed);
        wakeup
    }

    /// The driver is awake.
    pub(crate) fn woke(&self) {
        self.total.store(self.total().as_micros() as u64, Ordering::Relaxed);
        self.planned.store(NEVER, Ordering::Relaxed);
    }

    /// For how long we starved since the start, including a wake-up that is overdue right now.
    pub(crate) fn total(&self) -> Duration {
        let overdue = self.micros(Instant::now()).saturating_sub(self.planned.load(Ordering::Relaxed));
        let late = if overdue > TOLERANCE_MICROS { overdue } else { 0 };
        Duration::from_micros(self.total.load(Ordering::Relaxed) + late)
    }

    fn micros(&self, instant: Instant) -> u64 {
        instant.duration_since(self.start).as_micros() as u64
    }
}
