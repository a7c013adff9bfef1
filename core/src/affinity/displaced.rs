//! Who had to move: users pinned by address whose instance was gone when they came, and where they went. When the
//! instance returns they stay where they are (their session is there now), so that a user moves once and not twice.
//!
//! Only those users are remembered, and not for ever: the memory is bounded and the idle go. It is kept in two
//! halves. Whoever is seen is in the young half; when that is full, it becomes the old one and the old one, which
//! holds only users not seen for longer than anyone in the young one, is dropped. No list to relink on every request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Time;

/// How many users are remembered at most: both halves full. About 3 MiB.
pub const CAPACITY: usize = 65_536;
/// A user not seen for this long is forgotten: the session that would be lost is over by then.
pub const IDLE: Duration = Duration::from_secs(30 * 60);

/// Client hash -> the instance the client moved to. A tree, not a hash table: clients choose their keys, and core has
/// no secret seed to protect a table with.
#[derive(Clone, Debug, Default)]
pub struct Displaced {
    young: BTreeMap<u64, Home>,
    old: BTreeMap<u64, Home>,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    /// `balance::Candidate::identity` of the instance.
    identity: u64,
    seen: Time,
}

impl Displaced {
    /// Nobody has moved.
    pub fn new() -> Self {
        Self::default()
    }

    /// The client had to move to the instance `identity`. If there is no room, those not seen for longest go.
    pub fn remember(&mut self, now: Time, client_hash: u64, identity: u64) {
        self.old.remove(&client_hash);
        if self.young.len() >= CAPACITY / 2 && !self.young.contains_key(&client_hash) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(client_hash, Home { identity, seen: now });
    }

    /// Where the client moved to, if it did and was seen within [`IDLE`]; it counts as seen now.
    pub fn home(&mut self, now: Time, client_hash: u64) -> Option<u64> {
        if let Some(home) = self.young.get_mut(&client_hash)
            && now.since(home.seen) < IDLE
        {
            home.seen = now;
            return Some(home.identity);
        }
        let home = self.young.remove(&client_hash).or_else(|| self.old.remove(&client_hash))?;
        (now.since(home.seen) < IDLE).then(|| {
            self.remember(now, client_hash, home.identity);
            home.identity
        })
    }

    /// The client needs no memory any more: it is where its address draws it.
    pub fn forget(&mut self, client_hash: u64) {
        self.young.remove(&client_hash);
        self.old.remove(&client_hash);
    }

    /// How many clients are remembered, idle ones included: at most [`CAPACITY`].
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Nobody is remembered: the usual state, worth a look before hashing anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_millis(1000);

    #[test]
    fn a_displaced_user_stays_until_half_an_hour_without_a_visit() {
        let mut displaced = Displaced::new();
        displaced.remember(NOW, 1, 77);
        let almost = IDLE - Duration::from_micros(1);
        assert_eq!(displaced.home(NOW + almost, 1), Some(77));
        assert_eq!(displaced.home(NOW + almost + almost, 1), Some(77), "each visit counts anew");
        assert_eq!(displaced.home(NOW + almost + almost + IDLE, 1), None);
        assert!(displaced.is_empty());
    }

    #[test]
    fn whoever_moves_again_has_the_newer_home_and_the_forgotten_none() {
        let mut displaced = Displaced::new();
        displaced.remember(NOW, 1, 77);
        displaced.remember(NOW, 1, 78);
        assert_eq!((displaced.home(NOW, 1), displaced.len()), (Some(78), 1));
        displaced.forget(1);
        assert_eq!(displaced.home(NOW, 1), None);
    }

    #[test]
    fn when_full_those_go_who_were_not_seen_for_longest() {
        let mut displaced = Displaced::new();
        for client in 0..CAPACITY as u64 {
            displaced.remember(NOW, client, client);
        }
        assert_eq!(displaced.len(), CAPACITY);
        assert_eq!(displaced.home(NOW, 5), Some(5), "the visit makes room and keeps 5 young");
        displaced.remember(NOW, u64::MAX, 1);
        assert!(displaced.len() <= CAPACITY);
        assert_eq!(displaced.home(NOW, 5), Some(5));
        assert_eq!(displaced.home(NOW, 6), None);
        assert_eq!(displaced.home(NOW, u64::MAX), Some(1));
        assert_eq!(displaced.home(NOW, CAPACITY as u64 - 1), Some(CAPACITY as u64 - 1));
    }

    proptest! {
        #[test]
        fn below_half_of_its_room_it_is_a_map_with_expiry(
            steps in prop::collection::vec((0..4_u8, 0..20_u64, 0..1200_u64), 0..200),
        ) {
            let (mut displaced, mut model, mut now) = (Displaced::new(), HashMap::new(), NOW);
            for (step, client, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                model.retain(|_, (_, seen)| now.since(*seen) < IDLE);
                match step {
                    0 => {
                        displaced.remember(now, client, seconds);
                        model.insert(client, (seconds, now));
                    }
                    1 => {
                        displaced.forget(client);
                        model.remove(&client);
                    }
                    _ => {
                        let home = model.get_mut(&client).map(|(identity, seen)| {
                            *seen = now;
                            *identity
                        });
                        prop_assert_eq!(displaced.home(now, client), home);
                    }
                }
            }
        }
    }
}
