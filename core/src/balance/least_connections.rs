//! Least connections: the candidate with the fewest requests in flight, counted over all threads. Slow instances
//! finish less and so get less. Up to 32 candidates nobody with a lower load is ever passed over; above, the best of
//! five random ones is taken. Ties rotate. Knows no weights but the share of one that starts slowly.

use super::looks::Looks;
use super::weighted_least_connections::PerWeight;
use super::{Candidate, Loads};

/// Where ties begin.
#[derive(Clone, Debug)]
pub struct LeastConnections(Looks);

impl LeastConnections {
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
            PerWeight::with_one_more(loads.in_flight(candidate.index), candidate.share)
        })
    }
}
