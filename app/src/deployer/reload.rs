//! What another configuration means for deployments. A reload and a deployment never decide about the same instance: those of
//! a service that everup runs are the machine's business as long as the service stays, and `controller/leaving.rs` sees
//! them off when it goes.

use everup_core::config;
use everup_core::deploy::{Input, Machine};
use everup_core::ids::Generation;
use everup_instance::Supervisor;
use everup_store::Known;

use super::{Deployer, Fleet, seen, slot};
use crate::clock::Now;
use crate::controller::Controller;
use crate::notes::Notes;

impl Deployer {
    /// Why the services cannot become these now, in one line; None: they can.
    pub(crate) fn objection(&self, services: &[config::Service]) -> Option<String> {
        self.fleets.iter().find_map(|fleet| {
            let deployment = fleet.machine.row().active()?;
            let same = services.iter().find(|service| service.name == fleet.service);
            let what = match same.and_then(|service| service.run.as_ref()) {
                Some(run) if run.replicas == fleet.given().replicas => return None,
                Some(_) => "`run.replicas` cannot be changed",
                None => "it cannot be removed",
            };
            let (service, from, to) = (&fleet.service, &deployment.from, &deployment.to);
            Some(format!(
                "service {service}: {what} while its deployment {from} -> {to} is under way: finish it (`everup promote \
                 {service}`) or give it up (`everup abort {service}`) first"
            ))
        })
    }

    /// The worker changes to these services. Those that go are no more deployed to; the others are told of it with
    /// [`Deployer::settle`].
    pub(crate) fn part(&mut self, services: &[config::Service], controller: &mut Controller) {
        self.reloading = true;
        let goes = |fleet: &mut Fleet| {
            !services.iter().any(|service| service.name == fleet.service && service.run.is_some())
        };
        for fleet in self.fleets.extract_if(.., goes) {
            controller.forget_revisions(&fleet.service);
            let known = Known { row: fleet.machine.row().clone(), history: fleet.history };
            self.gone.insert(fleet.service.to_string(), known);
        }
    }

    /// These services run, and the keeper was told so: it starts what they need.
    pub(crate) fn settle(
        &mut self,
        now: Now,
        services: &[config::Service],
        supervisor: &mut Supervisor,
        controller: &mut Controller,
    ) {
        self.reloading = false;
        let time = self.time(now);
        for service in services.iter().filter(|service| service.run.is_some()) {
            supervisor.resettle(service);
            match self.fleets.iter_mut().find(|fleet| fleet.service == service.name) {
                Some(fleet) => {
                    fleet.settings = service.clone();
                    fleet.machine.give(time, fleet.given());
                }
                None => self.found(now, service, supervisor, controller),
            }
        }
    }

    /// A service that is new, or has come back.
    fn found(
        &mut self,
        now: Now,
        service: &config::Service,
        supervisor: &mut Supervisor,
        controller: &mut Controller,
    ) {
        let time = self.time(now);
        let runs = supervisor.instances().any(|process| process.id.service == service.name);
        // What was deployed holds; of a service that never was the configuration does.
        let known = self.gone.remove(&*service.name).filter(|known| runs || known.row.version > 0);
        let mut fleet = Fleet::new(service, known, &Notes::default(), &[]);
        let (given, row) = (fleet.given(), fleet.machine.row().clone());
        fleet.machine = Machine::new(given, row, Generation(controller.generation().0 + 1));
        let there = controller.services().iter().find(|one| one.settings.name == service.name);
        let there = there.into_iter().flat_map(|service| &service.instances).filter(|one| one.is_run_by_us());
        let mut unknown = Vec::new();
        for instance in there {
            match slot(instance).filter(|slot| *fleet.machine.name(slot) == *instance.id.instance) {
                Some(slot) => fleet.machine.adopt(time, slot, seen(instance)),
                None => unknown.push(instance.id.clone()),
            }
        }
        for id in unknown {
            controller.remove(now, &id);
            supervisor.dismiss(now.time, &id);
        }
        controller.route(now, &fleet.service, &fleet.names());
        controller.note_revisions(&fleet.service, fleet.revisions());
        if let Err(why) = &self.store {
            fleet.machine.freeze(why.clone());
        }
        fleet.machine.handle(time, Input::Wakeup);
        self.fleets.push(fleet);
    }
}
