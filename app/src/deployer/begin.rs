//! How the deployer begins: from the store, or without it from what the last worker noted and what runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use everup_core::config;
use everup_core::deploy::{Given, Machine, Row, Slot};
use everup_core::ids::{Generation, InstanceId};
use everup_instance::Supervisor;
use everup_link::Adopted;
use everup_store::{Done, Known, Store, StoreError, Writer};
use tokio::sync::mpsc::UnboundedSender;

use super::{Deployer, Fleet, seen, slot};
use crate::clock::Now;
use crate::controller::{Controller, DRAIN_LOOK};
use crate::notes::{Notes, Revisions};

/// What it begins with.
pub(crate) struct Founded<'a> {
    pub(crate) state: &'a Path,
    pub(crate) services: &'a [config::Service],
    pub(crate) notes: &'a Notes,
    pub(crate) adopted: &'a [Adopted],
    /// Where the store answers.
    pub(crate) done: UnboundedSender<Done>,
}

impl Deployer {
    /// Reads the store, and has supervisor and controller know the instances that there are and that there should be. A
    /// store that cannot be used refuses deployments, and everything goes on as it is.
    pub(crate) fn new(
        now: Now,
        founded: Founded<'_>,
        supervisor: &mut Supervisor,
        controller: &mut Controller,
    ) -> Self {
        let Founded { state, services, notes, adopted, done } = founded;
        let (store, mut known) = match open(state, done.clone(), adopted.is_empty()) {
            Ok((writer, known)) => (Ok(writer), known),
            Err(why) => {
                tracing::error!("{why}: nothing can be deployed, and what runs goes on as it is");
                (Err(why), BTreeMap::new())
            }
        };
        let since_1970 = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_1970 = since_1970.saturating_sub(now.time.since(everup_core::time::Time::ZERO));
        let fleets = services.iter().filter(|service| service.run.is_some());
        let fleets = fleets.map(|service| Fleet::new(service, known.remove(&*service.name), notes, adopted));
        let mut deployer = Self {
            fleets: fleets.collect(),
            gone: known,
            reloading: false,
            store,
            done,
            closed: false,
            since_1970,
            outputs: VecDeque::new(),
            waiting: Vec::new(),
            ended: false,
        };
        if let Err(why) = &deployer.store {
            deployer.fleets.iter_mut().for_each(|fleet| fleet.machine.freeze(why.clone()));
        }
        deployer.introduce(now, adopted, notes, supervisor, controller);
        deployer
    }

    /// Has supervisor and controller know the instances that there are and that there should be, and no others.
    fn introduce(
        &mut self,
        now: Now,
        adopted: &[Adopted],
        notes: &Notes,
        supervisor: &mut Supervisor,
        controller: &mut Controller,
    ) {
        let is_frozen = self.store.is_err();
        for fleet in &mut self.fleets {
            let slots = fleet.slots(adopted);
            let ids: BTreeSet<InstanceId> = slots.iter().map(|slot| fleet.id(slot)).collect();
            let configured = controller.services().iter().find(|one| one.settings.name == fleet.service);
            let configured = configured.into_iter().flat_map(|service| &service.instances);
            for id in configured.map(|instance| instance.id.clone()).collect::<Vec<_>>() {
                supervisor.remove(&id);
                if !ids.contains(&id) {
                    controller.remove(now, &id);
                }
            }
            for slot in &slots {
                let id = fleet.id(slot);
                supervisor.add(id.clone(), &fleet.settings, &slot.revision);
                controller.add(now, &id, notes, false);
            }
            // Without a store nobody knows better than the last worker who got requests.
            let runs = |id: &InstanceId| adopted.iter().any(|one| one.id == *id);
            let kept = |id: &&InstanceId| !(runs(id) && notes.restored(id, None).standby);
            let names = match is_frozen {
                true => ids.iter().filter(kept).map(|id| id.instance.to_string()).collect(),
                false => fleet.names(),
            };
            controller.route(now, &fleet.service, &names);
            controller.note_revisions(&fleet.service, fleet.revisions());
        }
    }

    /// Writes what was ordered and lets go of the store. Whether it could be used.
    pub(crate) fn close(&mut self) -> bool {
        if self.store.is_ok() {
            self.store = Err("everup is being upgraded".to_owned());
            self.closed = true;
        }
        self.closed
    }

    /// Takes up the store again, after [`Deployer::close`], and begins anew with what is seen.
    pub(crate) fn reopen(&mut self, now: Now, state: &Path, controller: &mut Controller) {
        if std::mem::take(&mut self.closed) {
            match open(state, self.done.clone(), true) {
                // What is in it, the machines know.
                Ok((writer, _)) => self.store = Ok(writer),
                Err(why) => {
                    tracing::error!("{why}: nothing can be deployed, and what runs goes on as it is");
                    self.fleets.iter_mut().for_each(|fleet| fleet.machine.freeze(why.clone()));
                    self.store = Err(why);
                }
            }
        }
        let floor = Generation(controller.generation().0 + 1);
        self.recover(now, controller, floor);
    }

    /// Has the machines see the processes that were adopted. Before anything else is told to them.
    pub(crate) fn adopt(&mut self, now: Now, controller: &Controller) {
        let time = self.time(now);
        for fleet in &mut self.fleets {
            let service = controller.services().iter().find(|one| one.settings.name == fleet.service);
            for instance in service.into_iter().flat_map(|service| &service.instances) {
                if let Some(slot) = slot(instance).filter(|_| instance.pid().is_some()) {
                    fleet.told.insert(instance.id.clone(), seen(instance));
                    fleet.machine.adopt(time, slot, seen(instance));
                }
            }
        }
    }
}

/// How long a new everup waits for the last one's worker to let go of the store.
const LET_GO: Duration = Duration::from_secs(5);

/// `may_wait`: nothing runs that could be served meanwhile.
fn open(
    state: &Path,
    done: UnboundedSender<Done>,
    may_wait: bool,
) -> Result<(Writer, BTreeMap<String, Known>), String> {
    let mut left = if may_wait { LET_GO } else { Duration::ZERO };
    let (store, known) = loop {
        match Store::open(state) {
            Err(StoreError::InUse { .. }) if !left.is_zero() => {
                left = left.saturating_sub(DRAIN_LOOK);
                std::thread::sleep(DRAIN_LOOK);
            }
            opened => break opened.map_err(|error| error.to_string())?,
        }
    };
    // Without a worker nobody waits for the answer.
    let tell = move |one| drop(done.send(one));
    let writer = Writer::spawn(store, tell).map_err(|error| format!("the store has no thread: {error}"))?;
    Ok((writer, known))
}

impl Fleet {
    pub(super) fn new(
        service: &config::Service,
        known: Option<Known>,
        notes: &Notes,
        adopted: &[Adopted],
    ) -> Self {
        let configured = service.run.as_ref().map_or("v1", |run| &run.revision);
        let (row, history) = match known {
            Some(Known { row, history }) => (row, history),
            None => (row_without_store(service, configured, notes, adopted), Vec::new()),
        };
        if *row.stable != *configured && *row.stable != *row.first {
            tracing::info!(
                service = %service.name,
                "runs {}, which was deployed; run.revision = \"{configured}\" is what it began with",
                row.stable
            );
        }
        let replicas = service.run.as_ref().map_or(0, |run| run.replicas);
        let given = Given { service: Arc::clone(&service.name), replicas, drain: service.drain.time };
        Self {
            service: Arc::clone(&service.name),
            settings: service.clone(),
            machine: Machine::new(given, row, Generation(0)),
            history,
            told: BTreeMap::new(),
            routes: 0,
            noted: None,
        }
    }

    /// Instances that run, by the names that they should have, and those that should.
    fn slots(&self, adopted: &[Adopted]) -> BTreeSet<Slot> {
        let runs = adopted.iter().filter(|one| one.id.service == self.service).filter_map(|one| {
            let slot = Slot::of(&one.id.instance, &one.revision)?;
            (self.id(&slot) == one.id).then_some(slot)
        });
        let replicas = self.given().replicas;
        runs.chain(self.machine.row().wanted(replicas).into_keys()).collect()
    }
}

/// Nothing was deployed yet, or what was is not known any more: then what runs is right.
fn row_without_store(service: &config::Service, configured: &str, notes: &Notes, adopted: &[Adopted]) -> Row {
    if let Some(Revisions { first, stable }) = notes.revisions.get(&service.name) {
        let mut row = Row::new(Arc::clone(first));
        // An operator who changes the file and starts everup anew, never having deployed, means the file.
        let is_deployed = first != stable || adopted.iter().any(|one| one.id.service == service.name);
        if is_deployed {
            row.stable = Arc::clone(stable);
            return row;
        }
    }
    Row::new(configured)
}
