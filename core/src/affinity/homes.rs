//! Where users belong, as far as that must be remembered. Two things are: who had to move away from the instance that
//! their address or header draws (when it returns they stay where they are, for their session is there now: a user moves
//! once and not twice), and which instance an application's own cookie was given out by.
//!
//! Nobody is remembered for ever: the memory is bounded and the idle go. It is kept in two
//! halves. Whoever is seen is in the young half; when that is full, it becomes the old one and the old one, which
//! holds only users not seen for longer than anyone in the young one, is dropped. No list to relink on every request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Time;

/// How many displaced users are remembered at most. About 3 MiB.
pub const DISPLACED: usize = 65_536;
/// A displaced user not seen for this long is forgotten: the session that would be lost is over by then.
pub const DISPLACED_IDLE: Duration = Duration::from_secs(30 * 60);
/// How many of an application's cookies are remembered at most. About 12 MiB, and only if the application gives out
/// so many.
pub const LEARNED: usize = 262_144;

/// User (as a hash) -> instance. A tree, not a hash table: clients choose their keys, and core has no secret seed to
/// protect a table with.
#[derive(Clone, Debug)]
pub struct Homes {
    /// At most so many, both halves full.
    capacity: usize,
    young: BTreeMap<u64, Home>,
    old: BTreeMap<u64, Home>,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    /// `balance::Candidate::identity` of the instance.
    identity: u64,
    seen: Time,
}

impl Homes {
    /// Nobody is remembered yet, and never more than `capacity` (2 or more) will be.
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, young: BTreeMap::new(), old: BTreeMap::new() }
    }

    /// The user belongs to the instance `identity` from now on. If there is no room, those not seen for longest go.
    pub fn remember(&mut self, now: Time, user: u64, identity: u64) {
        self.old.remove(&user);
        if self.young.len() >= self.capacity / 2 && !self.young.contains_key(&user) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, Home { identity, seen: now });
    }

    /// Where the user belongs, if that is known and the user was seen within `idle` (None: ever); it counts as seen now.
    pub fn home(&mut self, now: Time, user: u64, idle: Option<Duration>) -> Option<u64> {
        let holds = |home: &Home| idle.is_none_or(|idle| now.since(home.seen) < idle);
        if let Some(home) = self.young.get_mut(&user)
            && holds(home)
        {
            home.seen = now;
            return Some(home.identity);
        }
        let home = self.young.remove(&user).or_else(|| self.old.remove(&user))?;
        holds(&home).then(|| {
            self.remember(now, user, home.identity);
            home.identity
        })
    }

    /// The user needs no memory any more.
    pub fn forget(&mut self, user: u64) {
        self.young.remove(&user);
        self.old.remove(&user);
    }

    /// Everybody with the instance where they belong; those not seen for longer come first.
    pub fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.old.iter().chain(&self.young).map(|(user, home)| (*user, home.identity))
    }

    /// How many users are remembered, idle ones included: at most the capacity.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = DISPLACED_IDLE;
    const NOW: Time = Time::from_millis(1000);

    #[test]
    fn a_displaced_user_stays_until_half_an_hour_without_a_visit() {
        let mut homes = Homes::new(DISPLACED);
        homes.remember(NOW, 1, 77);
        let almost = IDLE - Duration::from_micros(1);
        assert_eq!(homes.home(NOW + almost, 1, Some(IDLE)), Some(77));
        assert_eq!(homes.home(NOW + almost + almost, 1, Some(IDLE)), Some(77), "each visit counts anew");
        assert_eq!(homes.home(NOW + almost + almost + IDLE, 1, Some(IDLE)), None);
        assert!(homes.is_empty());
    }

    #[test]
    fn everybody_can_be_told_and_those_seen_last_come_last() {
        let mut homes = Homes::new(4);
        (1..=4).for_each(|user| homes.remember(NOW, user, user * 10));
        homes.home(NOW, 1, None);
        let mut again = Homes::new(4);
        homes.all().for_each(|(user, identity)| again.remember(NOW, user, identity));
        assert_eq!(again.home(NOW, 1, None), Some(10));
        assert_eq!(homes.all().last(), Some((1, 10)));
    }

    #[test]
    fn whoever_moves_again_has_the_newer_home_and_the_forgotten_none() {
        let mut homes = Homes::new(DISPLACED);
        homes.remember(NOW, 1, 77);
        homes.remember(NOW, 1, 78);
        assert_eq!((homes.home(NOW, 1, Some(IDLE)), homes.len()), (Some(78), 1));
        homes.forget(1);
        assert_eq!(homes.home(NOW, 1, Some(IDLE)), None);
    }

    #[test]
    fn when_full_those_go_who_were_not_seen_for_longest() {
        let mut homes = Homes::new(DISPLACED);
        for client in 0..DISPLACED as u64 {
            homes.remember(NOW, client, client);
        }
        assert_eq!(homes.len(), DISPLACED);
        assert_eq!(homes.home(NOW, 5, Some(IDLE)), Some(5), "the visit makes room and keeps 5 young");
        homes.remember(NOW, u64::MAX, 1);
        assert!(homes.len() <= DISPLACED);
        assert_eq!(homes.home(NOW, 5, Some(IDLE)), Some(5));
        assert_eq!(homes.home(NOW, 6, Some(IDLE)), None);
        assert_eq!(homes.home(NOW, u64::MAX, Some(IDLE)), Some(1));
        assert_eq!(homes.home(NOW, DISPLACED as u64 - 1, Some(IDLE)), Some(DISPLACED as u64 - 1));
    }

    #[test]
    fn without_an_idle_time_only_the_newer_push_a_user_out() {
        let mut homes = Homes::new(4);
        homes.remember(NOW, 1, 77);
        assert_eq!(homes.home(NOW + 1000 * IDLE, 1, None), Some(77));
        for user in 2..6 {
            homes.remember(NOW + 1000 * IDLE, user, 78);
        }
        assert_eq!(homes.home(NOW + 1000 * IDLE, 1, None), None);
    }

    proptest! {
        #[test]
        fn below_half_of_its_room_it_is_a_map_with_expiry(
            steps in prop::collection::vec((0..4_u8, 0..20_u64, 0..1200_u64), 0..200),
        ) {
            let (mut homes, mut model, mut now) = (Homes::new(DISPLACED), HashMap::new(), NOW);
            for (step, client, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                model.retain(|_, (_, seen)| now.since(*seen) < IDLE);
                match step {
                    0 => {
                        homes.remember(now, client, seconds);
                        model.insert(client, (seconds, now));
                    }
                    1 => {
                        homes.forget(client);
                        model.remove(&client);
                    }
                    _ => {
                        let home = model.get_mut(&client).map(|(identity, seen)| {
                            *seen = now;
                            *identity
                        });
                        prop_assert_eq!(homes.home(now, client, Some(IDLE)), home);
                    }
                }
            }
        }
    }
}
