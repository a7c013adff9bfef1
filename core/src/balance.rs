//! Which instance gets the next request: one [`Picker`] per service and data-plane thread, five ways to choose.
//!
//! A picker knows neither health nor connections: it is told the eligible candidates ([`Picker::update`]), which of
//! them a request has tried already, and how to ask for an instance's load. Each way is one file that reads like its
//! recipe. `pick` allocates nothing.
//!
//! | way | chooses | state |
//! | --- | --- | --- |
//! | [`round_robin`] | the next one | whose turn it is |
//! | [`weighted_round_robin`] | the one that lags most behind its share | every candidate's credit |
//! | [`least_connections`] | the one with the fewest requests in flight | where ties begin |
//! | [`weighted_least_connections`] | the one with the fewest per weight | where ties begin |
//! | [`ip_hash`] | the one that wins the client's draw | none: all gateways agree |

use crate::config::Balance;
pub use crate::hash::hash;

pub mod ip_hash;
pub mod least_connections;
mod looks;
pub mod round_robin;
pub mod weighted_least_connections;
pub mod weighted_round_robin;

/// An instance that may take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index into the service's instances, as [`Picker::pick`] returns it.
    pub index: usize,
    /// 1..=256, relative to the others. Ways without "weighted" in their name ignore it, except [`ip_hash`].
    pub weight: u32,
    /// [`hash`] of the instance's name: what makes it the same instance in the next table.
    pub identity: u64,
}

/// Chooses among the candidates of one service, on one thread.
#[derive(Clone, Debug)]
pub struct Picker {
    candidates: Vec<Candidate>,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    RoundRobin(round_robin::RoundRobin),
    WeightedRoundRobin(weighted_round_robin::WeightedRoundRobin),
    LeastConnections(least_connections::LeastConnections),
    WeightedLeastConnections(weighted_least_connections::WeightedLeastConnections),
    IpHash,
}

impl Picker {
    /// A picker without candidates. `seed` should differ from thread to thread: it keeps them from choosing in step.
    pub fn new(balance: Balance, seed: u64) -> Self {
        let way = match balance {
            Balance::RoundRobin => Way::RoundRobin(round_robin::RoundRobin::new(seed)),
            Balance::WeightedRoundRobin => {
                Way::WeightedRoundRobin(weighted_round_robin::WeightedRoundRobin::new(seed))
            }
            Balance::LeastConnections => {
                Way::LeastConnections(least_connections::LeastConnections::new(seed))
            }
            Balance::WeightedLeastConnections => {
                Way::WeightedLeastConnections(weighted_least_connections::WeightedLeastConnections::new(seed))
            }
            Balance::IpHash => Way::IpHash,
        };
        Self { candidates: Vec::new(), way }
    }

    /// Replaces the candidates. Those with an identity that was there before keep their place in the order of things.
    pub fn update(&mut self, candidates: &[Candidate]) {
        debug_assert!(candidates.iter().all(|c| (1..=256).contains(&c.weight)), "weights are 1..=256");
        match &mut self.way {
            Way::RoundRobin(way) => way.update(&self.candidates, candidates),
            Way::WeightedRoundRobin(way) => way.update(&self.candidates, candidates),
            Way::LeastConnections(_) | Way::WeightedLeastConnections(_) | Way::IpHash => {}
        }
        self.candidates.clear();
        self.candidates.extend_from_slice(candidates);
    }

    /// The index of the instance that gets the next request; None if there is no candidate outside `excluded`
    /// (the indexes that this request has tried). `load` tells an instance's requests in flight, over all threads.
    pub fn pick(
        &mut self,
        client_hash: u64,
        excluded: &[usize],
        load: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let Self { candidates, way } = self;
        match way {
            Way::RoundRobin(way) => way.pick(candidates, excluded),
            Way::WeightedRoundRobin(way) => way.pick(candidates, excluded),
            Way::LeastConnections(way) => way.pick(candidates, excluded, load),
            Way::WeightedLeastConnections(way) => way.pick(candidates, excluded, load),
            Way::IpHash => ip_hash::pick(candidates, client_hash, excluded),
        }
    }
}

#[cfg(test)]
mod tests;
