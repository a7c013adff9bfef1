//! Least connections: the candidate with the fewest requests in flight, counted over all threads. Slow instances
//! finish less and so get less. Up to 32 candidates nobody with a lower load is ever passed over; above, the best of
//! five random ones is taken. Ties rotate. Knows no weights.

use super::Candidate;
use super::looks::Looks;

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
        excluded: &[usize],
        load: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        self.0.cheapest(candidates, excluded, |candidate| load(candidate.index))
    }
}
