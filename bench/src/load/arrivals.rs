//! When requests of the open loop are due: at random (exponential gaps), at a given mean rate, the same instants for
//! every proxy.

use std::time::{Duration, Instant};

/// Bounds one gap, so that a rare long one does not make a short measurement unlike another.
const LONGEST_GAP: Duration = Duration::from_millis(50);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

pub(crate) struct Arrivals {
    rate: f64,
    next: Instant,
    random: u64,
}

impl Arrivals {
    /// `rate` per second from `start` on.
    pub(crate) fn new(rate: f64, start: Instant) -> Self {
        Self { rate, next: start, random: SEED }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// The oldest one that is due by `now` and was not taken yet.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        if due > now {
            return None;
        }
        let gap = self.gap();
        self.next += gap;
        Some(due)
    }

    fn gap(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // In (0, 1]: 53 bits, as a double holds.
        let uniform = ((self.random >> 11) + 1) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() / self.rate).min(LONGEST_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_due_as_the_rate_says_give_or_take_chance() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(1000.0, start);

        let due = std::iter::from_fn(|| arrivals.take_due(start + Duration::from_secs(10))).count();

        assert!((9_600..10_400).contains(&due), "{due}");
    }

    #[test]
    fn one_that_lies_ahead_is_not_due() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(1000.0, start);

        assert_eq!(arrivals.take_due(start), Some(start));
        assert_eq!(arrivals.take_due(start), None);
        assert!(arrivals.next() > start);
    }
}
