//! What a data plane counted and learned goes on in the next one, after an upgrade: counters begin where the last ones stood,
//! and users stay where they were. Connections are not its business.

use std::sync::PoisonError;

use everup_core::affinity::Homes;
use everup_core::succession::{InstanceBequest, ServiceBequest};
use everup_core::time::Time;
use everup_observe::{Counter, PerThread};

use crate::snapshot::{Farewells, InstanceShared, ServiceShared};

impl ServiceShared {
    /// What goes on, but for its name and its instances.
    pub fn bequest(&self) -> ServiceBequest {
        let all = |homes: &std::sync::Mutex<Homes>| {
            // Copied first: whoever carries traffic waits only for that.
            let homes = homes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            homes.all().collect()
        };
        let farewells =
            |what: fn(&Farewells) -> &Counter| self.farewells.cells().map(|one| what(one).value()).sum();
        ServiceBequest {
            name: String::new(),
            requests: self.requests.total(),
            errors: self.errors.total(),
            retries: self.retries.total(),
            statuses: std::array::from_fn(|class| {
                self.statuses.cells().map(|one| one.value(class + 1)).sum()
            }),
            farewells: [farewells(|one| &one.closed), farewells(|one| &one.cut)],
            displaced: all(&self.displaced),
            learned: all(&self.learned),
            instances: Vec::new(),
        }
    }

    /// Goes on from there. To be called before any thread counts.
    pub fn inherit(&self, bequest: &ServiceBequest) {
        let ServiceBequest { requests, errors, retries, statuses, farewells, displaced, learned, .. } =
            bequest;
        begin_at(&self.requests, *requests);
        begin_at(&self.errors, *errors);
        begin_at(&self.retries, *retries);
        self.statuses.cell(0).begin_at(*statuses);
        self.farewells.cell(0).closed.add(farewells[0]);
        self.farewells.cell(0).cut.add(farewells[1]);
        for (homes, users) in [(&self.displaced, displaced), (&self.learned, learned)] {
            let mut homes = homes.lock().unwrap_or_else(PoisonError::into_inner);
            // They count as seen now: nobody is forgotten for an upgrade.
            users.iter().for_each(|(user, identity)| homes.remember(Time::ZERO, *user, *identity));
        }
    }
}

impl InstanceShared {
    /// What goes on, but for its name.
    pub fn bequest(&self) -> InstanceBequest {
        InstanceBequest {
            name: String::new(),
            requests: self.requests.total(),
            failures: self.failures.total(),
            answers: [self.good(), self.errors(), self.broken()],
        }
    }

    /// Goes on from there. To be called before any thread counts.
    pub fn inherit(&self, bequest: &InstanceBequest) {
        let InstanceBequest { name: _, requests, failures, answers: [good, errors, broken] } = bequest;
        begin_at(&self.requests, *requests);
        begin_at(&self.failures, *failures);
        let answers = self.answers.cell(0);
        answers.good.add(*good);
        answers.errors.add(*errors);
        answers.broken.add(*broken);
    }
}

/// No thread has counted yet, so every cell may be written.
fn begin_at(counter: &PerThread<Counter>, value: u64) {
    counter.cell(0).add(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_users_go_on_where_they_stood() {
        let before = ServiceShared::new(3);
        before.requests.cell(2).add(7);
        before.errors.cell(1).add(2);
        before.statuses.cell(0).count(200);
        before.statuses.cell(1).count(503);
        before.farewells.cell(2).cut.add(4);
        before.displaced.lock().unwrap().remember(Time::ZERO, 5, 50);
        before.learned.lock().unwrap().remember(Time::ZERO, 6, 60);
        let bequest = before.bequest();
        let after = ServiceShared::new(1);
        after.inherit(&bequest);
        assert_eq!(after.bequest(), bequest);
        assert_eq!((bequest.requests, bequest.statuses, bequest.farewells), (7, [0, 1, 0, 0, 1], [0, 4]));
        assert_eq!((bequest.displaced, bequest.learned), (vec![(5, 50)], vec![(6, 60)]));

        let before = InstanceShared::new(2);
        before.requests.cell(1).add(9);
        before.answers.cell(0).good.add(8);
        before.answers.cell(1).broken.add(1);
        let after = InstanceShared::new(4);
        after.inherit(&before.bequest());
        assert_eq!(after.bequest(), before.bequest());
        assert_eq!((after.requests.total(), after.good(), after.broken()), (9, 8, 1));
    }
}
