//! A controller beside another one: while two workers have connections, after an upgrade. The one that leaves goes by what its
//! successor says of instances; the successor counts what the other one has in flight as its own.

use std::collections::BTreeMap;

use everup_admin::Refusal;
use everup_core::health::Verdict;
use everup_core::ids::InstanceId;

use super::{Controller, Output, watch};
use crate::clock::Now;
use crate::drain::Left;
use crate::notes::Notes;
use crate::service::Instance;
use crate::succession::{Takers, takes};

impl Controller {
    /// Who gets requests by the newest table.
    pub(crate) fn takers(&self) -> Vec<(InstanceId, std::net::SocketAddr)> {
        let all = self.services.iter().flat_map(|service| &service.instances);
        let taking = all.filter(|one| takes(one.availability()));
        taking.filter_map(|one| Some((one.id.clone(), one.address()?))).collect()
    }

    /// Whoever waits for a drain is told to ask another worker.
    pub(crate) fn give_up_drains(&mut self, why: &str) {
        for waiting in self.drains.drain(..) {
            // Whoever asked may be gone.
            drop(waiting.reply.send(Err(Refusal::Conflict(why.to_owned()))));
        }
    }

    /// Another worker accepts connections: those that are here end with their next answers.
    pub(crate) fn leave_listeners(&mut self) {
        self.slots.iter_mut().for_each(super::Slot::leave);
        self.table_is_old = true;
    }

    /// From now on only these instances get requests, wherever they listen; whether they answer is still found out here.
    pub(crate) fn follow(&mut self, now: Now, takers: &Takers) {
        for s in 0..self.services.len() {
            let service = &mut self.services[s];
            let name = service.settings.name.clone();
            let mut anew = Vec::new();
            for instance in &mut service.instances {
                let address = takers.get(&instance.id);
                let standby = address.is_none();
                self.table_is_old |= instance.standby != standby || instance.draining;
                (instance.standby, instance.draining) = (standby, false);
                if let Some(address) = address.filter(|address| instance.address() != Some(**address)) {
                    instance.move_to(*address);
                    anew.push(instance.id.clone());
                }
            }
            let known = |id: &InstanceId| service.instances.iter().any(|instance| instance.id == *id);
            let new = takers.iter().filter(|(id, _)| id.service == name && !known(id));
            let new: Vec<_> = new.map(|(id, address)| (id.clone(), *address)).collect();
            let threads = service.shared.requests.cells().count();
            for (id, address) in new {
                let mut instance = Instance::run(id.clone(), threads, &Notes::default(), now.wall);
                instance.move_to(address);
                service.instances.push(instance);
                anew.push(id);
            }
            if anew.is_empty() {
                continue;
            }
            service.begin_outliers(now);
            let service = &self.services[s];
            let watches = service.instances.iter().filter(|one| anew.contains(&one.id));
            let watches: Vec<_> = watches.filter_map(|one| watch(service, one)).collect();
            self.outputs.extend(anew.into_iter().map(Output::Unwatch));
            self.outputs.extend(watches.into_iter().map(Output::Watch));
            self.place_all();
            self.table_is_old = true;
        }
    }

    /// So much is in flight on instances in other workers.
    pub(crate) fn hold(&mut self, held: &BTreeMap<InstanceId, Left>) {
        for instance in self.services.iter_mut().flat_map(|service| &mut service.instances) {
            instance.held = held.get(&instance.id).copied().unwrap_or_default();
        }
    }
}

impl Instance {
    /// Another worker says where it is now, and that it takes requests.
    fn move_to(&mut self, address: std::net::SocketAddr) {
        (self.fixed, self.process) = (Some(address), None);
        (self.verdict, self.seen_up) = (Verdict::Up, true);
        self.shared.forgive();
    }
}
