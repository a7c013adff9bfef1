//! Weighted least connections: the candidate that would have the fewest requests in flight per weight *with* this
//! request, min (load + 1) / weight, as HAProxy's `leastconn` counts. Without the `+ 1` an idle instance of weight 1
//! would beat a much stronger one that holds a single request. Sampling and ties as in least connections.

use std::cmp::Ordering;

use super::looks::Looks;
use super::{Candidate, Loads};

/// Where ties begin.
#[derive(Clone, Debug)]
pub struct WeightedLeastConnections(Looks);

impl WeightedLeastConnections {
    /// `seed` decides where ties begin and which candidates are sampled when they are many.
    pub fn new(seed: u64) -> Self {
        Self(Looks::new(seed))
    }

    pub(super) fn pick(
        &mut self,
        candidates: &[Candidate],
        usable: impl Fn(&Candidate) -> bool,
        loads: &impl Loads,
    ) -> Option<usize> {
        self.0.cheapest(candidates, usable, |candidate| {
            PerWeight::with_one_more(loads.in_flight(candidate.index), candidate.power())
        })
    }
}

/// The fraction `load / weight`, compared exactly by cross-multiplication: at most 2^32 * 2^32.
pub(super) struct PerWeight {
    load: u64,
    weight: u64,
}

impl PerWeight {
    pub(super) fn with_one_more(load: u32, weight: u32) -> Self {
        Self { load: u64::from(load) + 1, weight: u64::from(weight) }
    }
}

impl Ord for PerWeight {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.load * other.weight).cmp(&(other.load * self.weight))
    }
}

impl PartialOrd for PerWeight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PerWeight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PerWeight {}
