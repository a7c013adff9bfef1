//! Round robin: everyone in turn. Over any number of picks no two candidates' counts differ by more than one (as long
//! as neither the candidates change nor a retry excludes one). Knows no weights and no load.

use super::Candidate;

/// Whose turn it is.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    /// Position of the candidate that is next. Wraps; may be anything, because the seed starts it anywhere.
    next: usize,
}

impl RoundRobin {
    /// Starts at a candidate that depends on `seed`, so that threads do not all begin with the first.
    pub fn new(seed: u64) -> Self {
        Self { next: (seed >> 33) as usize }
    }

    /// The turn stays with the candidate that had it, or goes to the first one after it that is still there.
    pub(super) fn update(&mut self, old: &[Candidate], new: &[Candidate]) {
        let survivor = (0..old.len()).find_map(|step| {
            let due = old[(self.next % old.len() + step) % old.len()];
            new.iter().position(|candidate| candidate.identity == due.identity)
        });
        self.next = survivor.unwrap_or(self.next);
    }

    /// The first candidate from `next` on that is not excluded; the turn then goes to the one behind it.
    pub(super) fn pick(&mut self, candidates: &[Candidate], excluded: &[usize]) -> Option<usize> {
        let count = candidates.len();
        let start = self.next.checked_rem(count)?;
        let place = (start..start + count)
            .map(|place| place % count)
            .find(|place| !excluded.contains(&candidates[*place].index))?;
        self.next = place + 1;
        Some(candidates[place].index)
    }
}
