//! At which candidates a least-connections pick looks: at all while they are few, at some random ones when they are
//! many. Reading the load of every one of 1,000 instances would touch 1,000 cache lines that other threads write;
//! the best of a few random ones is nearly as good (Mitzenmacher 2001, "the power of two choices").

use super::Candidate;
use crate::hash::Random;

/// Up to this many candidates the pick is exact.
pub(super) const EXACT: usize = 32;
/// How many are looked at above [`EXACT`]. Two give most of the gain; five cost five cache misses.
pub(super) const SAMPLES: usize = 5;

/// Where the next pick begins to look.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    /// Position behind the last choice: ties then go to whoever waited longest, which makes idle picks a round robin.
    next: usize,
    random: Random,
}

impl Looks {
    pub(super) fn new(seed: u64) -> Self {
        Self { next: (seed >> 33) as usize, random: Random::new(seed) }
    }

    /// The index of the candidate with the smallest `cost` among those looked at, the first of equals.
    pub(super) fn cheapest<C: Ord>(
        &mut self,
        candidates: &[Candidate],
        usable: impl Fn(&Candidate) -> bool,
        cost: impl Fn(&Candidate) -> C,
    ) -> Option<usize> {
        let count = candidates.len();
        let usable = |place: &usize| usable(&candidates[*place]);
        let cost = |place: &usize| cost(&candidates[*place]);
        let start = if count > EXACT { self.random.below(count) } else { self.next.checked_rem(count)? };
        let everyone = (start..count).chain(0..start).filter(usable);
        let place = if count > EXACT {
            let random = &mut self.random;
            let some = (0..SAMPLES).map(|_| random.below(count)).filter(usable);
            // No sample was usable: whoever comes next is as good as any.
            some.min_by_key(cost).or_else(|| { everyone }.next())?
        } else {
            everyone.min_by_key(cost)?
        };
        self.next = place + 1;
        Some(candidates[place].index)
    }
}
