//! Round robin: everyone in turn. Over any number of picks no two candidates' counts differ by more than one (as long
//! as neither the candidates change nor a retry excludes one, and none starts slowly). Knows no weights and no load.

use super::{Candidate, slow_start};
use crate::hash::Random;

/// Whose turn it is.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    /// Position of the candidate that is next. Wraps; may be anything, because the seed starts it anywhere.
    next: usize,
    random: Random,
}

impl RoundRobin {
    /// Starts at a candidate that depends on `seed`, so that threads do not all begin with the first.
    pub fn new(seed: u64) -> Self {
        Self { next: (seed >> 33) as usize, random: Random::new(seed) }
    }

    /// The turn stays with the candidate that had it, or goes to the first one after it that is still there.
    pub(super) fn update(&mut self, old: &[Candidate], new: &[Candidate]) {
        let survivor = (0..old.len()).find_map(|step| {
            let due = old[(self.next % old.len() + step) % old.len()];
            new.iter().position(|candidate| candidate.identity == due.identity)
        });
        self.next = survivor.unwrap_or(self.next);
    }

    /// The first usable candidate from `next` on; the turn then goes to the one behind it. One that starts slowly takes
    /// its turn only as often as its share says.
    pub(super) fn pick(
        &mut self,
        candidates: &[Candidate],
        usable: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let count = candidates.len();
        let start = self.next.checked_rem(count)?;
        let mut hesitating = None;
        for place in (start..count).chain(0..start) {
            let candidate = &candidates[place];
            if !usable(candidate) {
                continue;
            }
            if candidate.share >= self.random_share(candidate) {
                return self.take(candidates, place);
            }
            hesitating = hesitating.or(Some(place));
        }
        self.take(candidates, hesitating?)
    }

    fn random_share(&mut self, candidate: &Candidate) -> u32 {
        if candidate.share == slow_start::WHOLE {
            0
        } else {
            self.random.below(slow_start::WHOLE as usize) as u32 + 1
        }
    }

    fn take(&mut self, candidates: &[Candidate], place: usize) -> Option<usize> {
        self.next = place + 1;
        Some(candidates[place].index)
    }
}
