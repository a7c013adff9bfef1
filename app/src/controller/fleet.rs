//! Instances that come and go because of deployments. Everything else in the controller knows instances by their place,
//! so whoever adds or removes one has all of the service's places and its judge made anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use everup_core::ids::InstanceId;

use super::Controller;
use super::Output;
use crate::clock::Now;
use crate::notes::{Notes, Revisions};
use crate::service::{Instance, Service};

impl Controller {
    /// An instance that everup runs is there from now on; nothing is known of it but what `notes` say. One that is there
    /// already stays as it is.
    pub(crate) fn add(&mut self, now: Now, id: &InstanceId, notes: &Notes, takes: bool) {
        let Some(s) = self.services.iter().position(|one| one.settings.name == id.service) else { return };
        // It was about to be stopped, because its service had left the configuration.
        self.departing.retain(|(_, departing)| departing != id);
        let service = &mut self.services[s];
        if service.instances.iter().any(|one| one.id == *id) {
            return;
        }
        let threads = service.shared.requests.cells().count();
        let mut instance = Instance::run(id.clone(), threads, notes, now.wall);
        instance.standby = !takes;
        service.instances.push(instance);
        self.change(now, s);
    }

    /// It is gone.
    pub(crate) fn remove(&mut self, now: Now, id: &InstanceId) {
        let Some(&(s, i)) = self.places.get(id) else { return };
        self.services[s].instances.remove(i);
        self.outputs.push_back(Output::Unwatch(id.clone()));
        for waiting in self.drains.extract_if(.., |waiting| waiting.id == *id) {
            // Nothing is in flight on what is gone.
            let waited = now.time.since(waiting.began);
            let _ = waiting.reply.send(Ok(everup_admin::DrainOutcome { in_flight: 0, tunnels: 0, waited }));
        }
        self.change(now, s);
    }

    /// Of this service only these instances are to get requests.
    pub(crate) fn route(&mut self, now: Now, service: &str, names: &BTreeSet<String>) {
        let Some(s) = self.services.iter().position(|one| *one.settings.name == *service) else { return };
        for instance in &mut self.services[s].instances {
            let standby = !names.contains(&*instance.id.instance);
            if instance.standby != standby {
                instance.standby = standby;
                instance.since = now.wall;
            }
        }
        self.table_is_old = true;
        self.look(now, s, None);
    }

    /// Nobody deploys to it any more.
    pub(crate) fn forget_revisions(&mut self, service: &str) {
        self.notes_are_old |= self.revisions.remove(service).is_some();
    }

    /// For the notes.
    pub(crate) fn note_revisions(&mut self, service: &Arc<str>, revisions: Revisions) {
        if self.revisions.get(service) != Some(&revisions) {
            self.revisions.insert(Arc::clone(service), revisions);
            self.notes_are_old = true;
        }
    }

    fn change(&mut self, now: Now, s: usize) {
        self.place_all();
        self.services[s].begin_outliers(now);
        self.table_is_old = true;
    }

    pub(super) fn place_all(&mut self) {
        let all = self.services.iter().enumerate().flat_map(|(s, service)| {
            service.instances.iter().enumerate().map(move |(i, instance)| (instance.id.clone(), (s, i)))
        });
        self.places = all.collect();
    }
}

impl Service {
    /// The same instances as another one that was in its place, with nothing known of them but what `notes` say.
    pub(super) fn have_those_of(&mut self, old: &Self, notes: &Notes, now: Now) {
        if self.settings.run.is_none() {
            return;
        }
        let again = old.instances.iter().filter(|old| old.is_run_by_us()).map(|old| {
            let mut instance = Instance::run(old.id.clone(), 1, notes, now.wall);
            instance.standby = old.standby;
            instance
        });
        self.instances = again.collect();
    }
}
