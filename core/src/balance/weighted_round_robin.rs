//! Smooth weighted round robin: the algorithm of nginx (Sysoev, commit 52327e0627f4, 2012), the same idea as the
//! weighted scheduling of LVS by Wensong Zhang without its bursts: weights 5, 1, 1 give `a a b a c a a`.
//!
//! Each pick gives every candidate a credit of its weight, chooses the one with the most credit and takes the sum W
//! of all weights from it. After k picks a candidate's credit is k * weight - W * picks of it, hence (for a fixed set
//! of n candidates):
//! - exact: W picks choose everyone exactly `weight` times, then everything repeats;
//! - never more than 1 pick ahead of its share: who is chosen has at least W/n, so keeps more than -W;
//! - never more than H(n) - 1 = 1/2 + 1/3 + ... + 1/n picks behind: this is the cup game with the greedy emptier
//!   (Dietz and Sleator 1987). The mean credit of the j richest is at most W * (1/(j+1) + ... + 1/n): if the one
//!   chosen leaves the j richest, they were at most as rich as the mean of j+1, which one round raises by at most
//!   W/(j+1); if it stays, they get at most W and pay W.

use super::Candidate;

/// Every candidate's credit.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobin {
    /// In the order of the candidates. Their sum is 0 while the candidates stay.
    credits: Vec<i64>,
    /// Where ties begin: differs from thread to thread.
    first: usize,
}

impl WeightedRoundRobin {
    /// Equal credits; `seed` decides who is first among equals.
    pub fn new(seed: u64) -> Self {
        Self { credits: Vec::new(), first: (seed >> 33) as usize }
    }

    /// Survivors keep their credit, at most one round's worth of the new weights; newcomers start with none.
    pub(super) fn update(&mut self, old: &[Candidate], new: &[Candidate]) {
        let total: i64 = new.iter().map(|candidate| i64::from(candidate.power())).sum();
        let credit_of = |candidate: &Candidate| {
            let place = old.iter().position(|before| before.identity == candidate.identity);
            place.map_or(0, |place| self.credits[place].clamp(-total, total))
        };
        self.credits = new.iter().map(credit_of).collect();
    }

    /// The candidate with the most credit. One that is not usable takes no part in the round: it neither earns nor pays.
    pub(super) fn pick(
        &mut self,
        candidates: &[Candidate],
        usable: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let count = candidates.len();
        let first = self.first.checked_rem(count)?;
        let (mut total, mut richest) = (0, None);
        for place in (first..count).chain(0..first) {
            let candidate = &candidates[place];
            if !usable(candidate) {
                continue;
            }
            total += i64::from(candidate.power());
            self.credits[place] += i64::from(candidate.power());
            if richest.is_none_or(|richest: usize| self.credits[place] > self.credits[richest]) {
                richest = Some(place);
            }
        }
        let richest = richest?;
        self.credits[richest] -= total;
        Some(candidates[richest].index)
    }
}
