//! Which instance gets the next request: one [`Picker`] per service and data-plane thread, seven ways to choose.
//!
//! A picker knows neither health nor connections: it is told the eligible candidates ([`Picker::update`]), which of
//! them a request has tried already, and how to ask for an instance's load ([`Loads`]). Each way is one file that reads
//! like its recipe. `pick` allocates nothing.
//!
//! | way | chooses | state |
//! | --- | --- | --- |
//! | [`round_robin`] | the next one | whose turn it is |
//! | [`weighted_round_robin`] | the one that lags most behind its share | every candidate's credit |
//! | [`least_connections`] | the one with the fewest requests in flight | where ties begin |
//! | [`weighted_least_connections`] | the one with the fewest per weight | where ties begin |
//! | [`ip_hash`] | the one that wins the client's draw | none: all gateways agree |
//! | [`maglev`] | the one in the client's slot | a table: all gateways agree |
//! | [`p2c_ewma`] | of two random ones that where one waits less | none |
//!
//! Who is eligible is decided by [`backup`], how much of its weight an instance counts by [`slow_start`], and who waits
//! for an instance that is at its limit by [`queue`].

use std::sync::Arc;
use std::time::Duration;

use crate::config::Balance;
pub use crate::hash::hash;

pub mod backup;
mod flow;
pub mod ip_hash;
pub mod latency;
pub mod least_connections;
mod looks;
pub mod maglev;
pub mod p2c_ewma;
pub mod queue;
pub mod round_robin;
pub mod slow_start;
pub mod weighted_least_connections;
pub mod weighted_round_robin;

/// An instance that may take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index into the service's instances, as [`Picker::pick`] returns it.
    pub index: usize,
    /// 1..=256, relative to the others. Round robin and least connections ignore it.
    pub weight: u32,
    /// [`hash`] of the instance's name: what makes it the same instance in the next table.
    pub identity: u64,
    /// 1..=100: how much of its weight it counts now, in percent. See [`slow_start`].
    pub share: u32,
}

impl Candidate {
    /// One that counts its whole weight.
    pub fn new(index: usize, weight: u32, identity: u64) -> Self {
        Self { index, weight, identity, share: slow_start::WHOLE }
    }

    /// What it counts now beside the others: 1 to 25,600.
    fn power(&self) -> u32 {
        self.weight * self.share
    }
}

/// What is known of the load of instances, by index. A closure that tells requests in flight will do: no limits then,
/// and nothing is known of latencies.
pub trait Loads {
    /// Requests in flight, over all threads.
    fn in_flight(&self, index: usize) -> u32;
    /// How long it lately took to answer, see [`latency`]; zero: not known.
    fn latency(&self, index: usize) -> Duration;
    /// It has as many requests as it may have: none more may go there now.
    fn is_full(&self, index: usize) -> bool;
}

impl<F: Fn(usize) -> u32> Loads for F {
    fn in_flight(&self, index: usize) -> u32 {
        self(index)
    }

    fn latency(&self, _: usize) -> Duration {
        Duration::ZERO
    }

    fn is_full(&self, _: usize) -> bool {
        false
    }
}

/// What a request is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Go to the instance of this index.
    Take(usize),
    /// Wait in the queue for a place: instances could take it, but all of them are at their limit.
    Queue,
    /// Be parked until the table changes: there is no instance for it.
    Park,
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
    Maglev(Option<Arc<maglev::Table>>),
    P2cEwma(p2c_ewma::P2cEwma),
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
            Balance::Maglev => Way::Maglev(None),
            Balance::P2cEwma => Way::P2cEwma(p2c_ewma::P2cEwma::new(seed)),
        };
        Self { candidates: Vec::new(), way }
    }

    /// Replaces the candidates. Those with an identity that was there before keep their place in the order of things.
    /// With `maglev` the table is filled here, which takes time, unless one for these candidates was given before
    /// ([`Picker::share_table`]).
    pub fn update(&mut self, candidates: &[Candidate]) {
        debug_assert!(candidates.iter().all(|c| (1..=256).contains(&c.weight)), "weights are 1..=256");
        debug_assert!(candidates.iter().all(|c| (1..=100).contains(&c.share)), "shares are 1..=100");
        match &mut self.way {
            Way::RoundRobin(way) => way.update(&self.candidates, candidates),
            Way::WeightedRoundRobin(way) => way.update(&self.candidates, candidates),
            Way::Maglev(table) => {
                if !table.as_ref().is_some_and(|table| table.is_for(candidates)) {
                    *table = Some(Arc::new(maglev::Table::new(candidates)));
                }
            }
            Way::LeastConnections(_) | Way::WeightedLeastConnections(_) | Way::IpHash | Way::P2cEwma(_) => {}
        }
        self.candidates.clear();
        self.candidates.extend_from_slice(candidates);
    }

    /// A table that was filled elsewhere for the candidates of the next [`Picker::update`]. Other ways need none.
    pub fn share_table(&mut self, filled: &Arc<maglev::Table>) {
        if let Way::Maglev(table) = &mut self.way {
            *table = Some(Arc::clone(filled));
        }
    }

    /// Sets how much of its weight each candidate counts now, by index. Cheap: nothing is built anew.
    pub fn set_shares(&mut self, share: impl Fn(usize) -> u32) {
        for candidate in &mut self.candidates {
            candidate.share = share(candidate.index).clamp(1, slow_start::WHOLE);
        }
    }

    /// The index of the instance that gets the next request; None if there is no candidate outside `excluded`
    /// (the indexes that this request has tried) with room for another request.
    pub fn pick(&mut self, client_hash: u64, excluded: &[usize], loads: impl Loads) -> Option<usize> {
        self.pick_by(client_hash, excluded, &loads)
    }

    fn pick_by(&mut self, client_hash: u64, excluded: &[usize], loads: &impl Loads) -> Option<usize> {
        let Self { candidates, way } = self;
        let usable = |one: &Candidate| !excluded.contains(&one.index) && !loads.is_full(one.index);
        match way {
            Way::RoundRobin(way) => way.pick(candidates, usable),
            Way::WeightedRoundRobin(way) => way.pick(candidates, usable),
            Way::LeastConnections(way) => way.pick(candidates, usable, loads),
            Way::WeightedLeastConnections(way) => way.pick(candidates, usable, loads),
            Way::IpHash => ip_hash::pick(candidates, client_hash, usable),
            Way::Maglev(table) => pick_maglev(table.as_deref()?, candidates, client_hash, usable),
            Way::P2cEwma(way) => way.pick(candidates, usable, loads),
        }
    }

    /// What a request is to do that has `tried` some instances, and of these must `never` go to some again: another
    /// instance if there is one with room, else one of those it may go to again. Full ones are waited for.
    pub fn choose(
        &mut self,
        client_hash: u64,
        tried: &[usize],
        never: &[usize],
        loads: &impl Loads,
    ) -> Choice {
        let picked = self.pick_by(client_hash, tried, loads);
        let picked = match picked {
            None if tried.len() > never.len() => self.pick_by(client_hash, never, loads),
            picked => picked,
        };
        match picked {
            Some(index) => Choice::Take(index),
            None if self.candidates.iter().any(|one| !never.contains(&one.index)) => Choice::Queue,
            None => Choice::Park,
        }
    }
}

/// In the client's slot; a candidate that starts slowly is passed over by those clients whose turn has not come yet.
fn pick_maglev(
    table: &maglev::Table,
    candidates: &[Candidate],
    client_hash: u64,
    usable: impl Fn(&Candidate) -> bool,
) -> Option<usize> {
    let welcome = |one: &Candidate| {
        let turn = || crate::hash::mix(client_hash ^ one.identity) % u64::from(slow_start::WHOLE);
        one.share == slow_start::WHOLE || turn() < u64::from(one.share)
    };
    let picked = table.pick(candidates, client_hash, |one| usable(one) && welcome(one));
    picked.or_else(|| table.pick(candidates, client_hash, usable))
}

#[cfg(test)]
mod tests;
