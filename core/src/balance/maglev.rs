//! Maglev: the same client goes to the same instance, found by one look into a table instead of a draw of all candidates.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
//! 3.4): every candidate has its own order of preference over all slots of a table; in turns, each takes the next slot
//! on its list that is still free. So everybody has the same number of slots but for one, and when a candidate goes, its
//! slots are spread over the others while nearly all other slots stay. Whoever needs the least disruption possible uses
//! `ip-hash`, which looks at every candidate for every request.
//!
//! Weights: a candidate takes a turn only when its weight has added up to the greatest one, so turns are in proportion.
//!
//! Measured: when 1, 10, 50 of 1,000 go, 0.6 %, 2.4 %, 3.3 % of the slots of the others move. Filling a table for 1,000 takes
//! 1.7 ms in an optimised build (the paper: 1.8 ms for the same size), with weights 2 ms and more, for ten 13 us. That is too long for a thread that carries traffic, so the table is built where
//! the routing table is and shared by all threads; a pick looks up and allocates nothing.

use super::Candidate;
use crate::hash::mix;

/// The sizes of a table, primes, so that every step leads through all slots. The paper asks for at least 100 slots per
/// candidate, which keeps the difference between two shares under 1 %. Few candidates get a small table, which stays in
/// the CPU's cache; the greatest is the paper's own choice.
const SIZES: [usize; 4] = [1_021, 4_093, 16_381, 65_537];
/// The paper's slots per candidate.
const SLOTS_PER_CANDIDATE: usize = 100;

/// Slot -> candidate. Immutable: another set of candidates needs another table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    candidates: Vec<Candidate>,
    /// Places in `candidates`.
    slots: Box<[u16]>,
}

impl Table {
    /// Fills a table for these candidates, of whom the first 65,535 count. See the head of this file for the time it takes.
    pub fn new(candidates: &[Candidate]) -> Self {
        let candidates = candidates[..candidates.len().min(usize::from(NOBODY))].to_vec();
        let slots = fill(&candidates, size(&candidates));
        Self { candidates, slots }
    }

    /// It was filled for candidates with these identities, weights and indexes: it need not be filled again.
    pub fn is_for(&self, candidates: &[Candidate]) -> bool {
        let what = |one: &Candidate| (one.index, one.identity, one.weight);
        self.candidates.iter().map(what).eq(candidates.iter().map(what))
    }

    /// How many slots there are: a prime.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The index of the client's candidate; of the one of the next slots if that one is not `usable`. `candidates` are
    /// those that the table was filled for.
    pub fn pick(
        &self,
        candidates: &[Candidate],
        client_hash: u64,
        usable: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let count = self.slots.len();
        let start = ((u128::from(mix(client_hash)) * count as u128) >> 64) as usize;
        let at = |slot: usize| &candidates[usize::from(self.slots[slot])];
        if count > 0 && usable(at(start)) {
            return Some(at(start).index);
        }
        // Looking at every slot for somebody who is not there would take long.
        if !candidates.iter().any(&usable) {
            return None;
        }
        let next = (start + 1..count).chain(0..start).map(at).find(|candidate| usable(candidate));
        // Among very many the lightest may have no slot.
        next.or_else(|| candidates.iter().find(|candidate| usable(candidate))).map(|one| one.index)
    }
}

/// A slot that nobody has taken yet.
const NOBODY: u16 = u16::MAX;

fn size(candidates: &[Candidate]) -> usize {
    let lightest = candidates.iter().map(|one| one.weight).min().unwrap_or(1).max(1) as usize;
    let total: usize = candidates.iter().map(|one| one.weight as usize).sum();
    let wanted = SLOTS_PER_CANDIDATE * total.div_ceil(lightest);
    let [.., largest] = SIZES;
    SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(largest)
}

/// One candidate's way through the slots.
struct Turn {
    at: usize,
    skip: usize,
    /// Weight that has added up since the last turn.
    saved: u32,
}

fn fill(candidates: &[Candidate], size: usize) -> Box<[u16]> {
    if candidates.is_empty() {
        return Box::default();
    }
    let heaviest = candidates.iter().map(|one| one.weight).max().unwrap_or(1);
    let turn = |one: &Candidate| Turn {
        at: (mix(one.identity) % size as u64) as usize,
        // The paper's second hash function. 1 to size - 1: never standing still.
        skip: (mix(!one.identity) % (size as u64 - 1)) as usize + 1,
        saved: 0,
    };
    let mut turns: Vec<Turn> = candidates.iter().map(turn).collect();
    let mut slots = vec![NOBODY; size].into_boxed_slice();
    let mut free = size;
    loop {
        for ((place, turn), candidate) in (0..NOBODY).zip(&mut turns).zip(candidates) {
            turn.saved += candidate.weight;
            if turn.saved < heaviest {
                continue;
            }
            turn.saved -= heaviest;
            while slots[turn.at] != NOBODY {
                turn.at += turn.skip;
                turn.at -= if turn.at >= size { size } else { 0 };
            }
            slots[turn.at] = place;
            free -= 1;
            if free == 0 {
                return slots;
            }
        }
    }
}

#[cfg(test)]
mod tests;
