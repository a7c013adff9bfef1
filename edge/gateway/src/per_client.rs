//! `limits.connections_per_client`: how many connections each client has, over all threads. A client is an IPv4 address,
//! or a /64 of IPv6, which is what one household or host gets. Touched when a connection begins and ends, never per
//! request; it holds no more clients than there are connections.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many locks, so that threads seldom meet.
const SHARDS: usize = 64;

/// Of a client that has all its connections already, this many times as many are told so; those beyond are closed without
/// a word, so that telling costs a bounded number of connections too.
const TOLD: usize = 2;

/// Connections by client.
#[derive(Debug)]
pub(crate) struct PerClient {
    most: AtomicUsize,
    shards: [Mutex<HashMap<Key, usize>>; SHARDS],
    /// Keyed at random: nobody can choose addresses that meet in one shard.
    random: RandomState,
}

/// The address without what a client can choose freely.
type Key = u128;

/// Whether a connection may be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It may, and is counted as long as the place lives.
    Admitted(Place),
    /// The client has enough, and may be told.
    TooMany(Place),
    /// The client has far too many.
    FarTooMany,
}

/// A connection that is counted for its client.
#[derive(Debug)]
pub(crate) struct Place {
    table: Arc<PerClient>,
    key: Key,
}

impl PerClient {
    /// At most `most` connections for each client.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let shards = std::array::from_fn(|_| Mutex::default());
        Arc::new(Self { most: AtomicUsize::new(most), shards, random: RandomState::new() })
    }

    /// Another limit for connections that begin from now on.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Counts a connection of the client.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Entry {
        let key = key(client);
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_insert(0);
        let most = self.most.load(Ordering::Relaxed);
        if *count >= most.saturating_mul(TOLD) {
            return Entry::FarTooMany;
        }
        *count += 1;
        let place = Place { table: Arc::clone(self), key };
        if *count > most { Entry::TooMany(place) } else { Entry::Admitted(place) }
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, usize>> {
        let shard = self.random.hash_one(key) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table) && self.key == other.key
    }
}

impl Eq for Place {}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.table.shard(self.key);
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
                // An attack leaves no memory behind.
                if shard.capacity() > 64 + 4 * shard.len() {
                    shard.shrink_to_fit();
                }
            }
        }
    }
}

fn key(client: IpAddr) -> Key {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(table: &Arc<PerClient>, client: &str) -> Option<Place> {
        match table.enter(client.parse().unwrap()) {
            Entry::Admitted(place) => Some(place),
            Entry::TooMany(_) | Entry::FarTooMany => None,
        }
    }

    #[test]
    fn a_client_has_so_many_places_and_gets_them_back() {
        let table = PerClient::new(2);
        let first = admitted(&table, "192.0.2.1").unwrap();
        let _second = admitted(&table, "::ffff:192.0.2.1").unwrap();
        assert!(admitted(&table, "192.0.2.1").is_none());
        assert!(admitted(&table, "192.0.2.2").is_some());
        drop(first);
        assert!(admitted(&table, "192.0.2.1").is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let table = PerClient::new(1);
        let _place = admitted(&table, "2001:db8:1:2::1").unwrap();
        assert!(admitted(&table, "2001:db8:1:2:ffff::7").is_none());
        assert!(admitted(&table, "2001:db8:1:3::1").is_some());
    }

    #[test]
    fn only_some_are_told_and_the_rest_is_closed() {
        let table = PerClient::new(1);
        let enter = || table.enter("192.0.2.1".parse().unwrap());
        let (first, second) = (enter(), enter());
        assert!(matches!((&first, &second), (Entry::Admitted(_), Entry::TooMany(_))));
        assert_eq!(enter(), Entry::FarTooMany);
        drop(second);
        assert!(matches!(enter(), Entry::TooMany(_)));
    }

    #[test]
    fn nobody_is_remembered_who_has_no_connection() {
        let table = PerClient::new(1);
        for last in 0..=255 {
            drop(table.enter(IpAddr::from([192, 0, 2, last])));
        }
        assert!(table.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
