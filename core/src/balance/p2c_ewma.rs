//! Power of two choices by peak EWMA: of two random candidates the one where a request would wait less, by the latency
//! that it lately showed times the requests that would be before it. Slow instances get less at once, and a thousand
//! instances cost two looks.
//!
//! The power of two choices is Mitzenmacher's (2001); the estimate is Finagle's `PeakEwma` (Twitter, class
//! `com.twitter.finagle.loadbalancer.PeakEwma`), kept by [`Latency`](super::latency::Latency). What has no estimate yet is
//! tried with one request at a time: idle it is the cheapest of all, busy the dearest.

use std::cmp::Ordering;

use super::{Candidate, Loads};
use crate::hash::Random;

/// Which candidates are looked at.
#[derive(Clone, Debug)]
pub struct P2cEwma(Random);

impl P2cEwma {
    /// `seed` decides which candidates are looked at.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub(super) fn pick(
        &mut self,
        candidates: &[Candidate],
        usable: impl Fn(&Candidate) -> bool,
        loads: &impl Loads,
    ) -> Option<usize> {
        let first = from(candidates, self.0.below(candidates.len()), &usable)?;
        let other = |candidate: &Candidate| candidate.index != first.index && usable(candidate);
        let Some(second) = from(candidates, self.0.below(candidates.len()), other) else {
            return Some(first.index);
        };
        let better = if Cost::of(second, loads) < Cost::of(first, loads) { second } else { first };
        Some(better.index)
    }
}

/// The first usable one from this place on.
fn from(candidates: &[Candidate], start: usize, usable: impl Fn(&Candidate) -> bool) -> Option<&Candidate> {
    let (before, after) = candidates.split_at(start);
    after.iter().chain(before).find(|candidate| usable(candidate))
}

/// What a further request would meet, as the fraction `wait / power`.
#[derive(Debug)]
struct Cost {
    /// Microseconds. At most 2^32 * 2^33.
    wait: u128,
    power: u128,
}

/// What a busy candidate counts that nothing is known of: more than any that is known, Finagle's `Penalty`.
const UNKNOWN: u128 = 1 << 80;

impl Cost {
    fn of(candidate: &Candidate, loads: &impl Loads) -> Self {
        let in_flight = u128::from(loads.in_flight(candidate.index));
        let latency = loads.latency(candidate.index).as_micros();
        let wait = match (latency, in_flight) {
            (0, 0) => 0,
            (0, busy) => UNKNOWN + busy,
            (known, busy) => known * (busy + 1),
        };
        Self { wait, power: u128::from(candidate.power()) }
    }
}

impl PartialEq for Cost {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Cost {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some((self.wait * other.power).cmp(&(other.wait * self.power)))
    }
}
