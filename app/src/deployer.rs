//! Between the deploy machines of core and the rest of the worker: one machine for every service that everup runs. It hands
//! them what is seen and what is stored, and turns what they want into orders for the supervisor and the controller, which
//! `worker.rs` carries out. It decides nothing, and waits for nothing.

mod begin;
mod hook;
mod operator;
mod reload;
mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use everup_core::config;
use everup_core::deploy::{Deployment, Given, Input, Machine, Output as Wish, Process, Row, Seen, Slot};
use everup_core::health::Verdict;
use everup_core::ids::{Generation, InstanceId};
use everup_core::instance::Phase;
use everup_core::time::Time;
use everup_store::{DEPLOYMENTS, Done, Known, Writer};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Now;
use crate::controller::Controller;
use crate::hooks;
use crate::notes::Revisions;
use crate::service::Instance;

pub(crate) use begin::Founded;

/// How many lines of a failed instance are kept with its deployment.
pub(crate) const LAST_WORDS: usize = 10;

/// Logs of the instances of so many deployments are kept.
const LOGGED: usize = 10;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Only these instances of the service get requests.
    Route { service: Arc<str>, names: BTreeSet<String> },
    /// Start this instance with this revision; it gets requests as soon as it is up, or not yet.
    Start { id: InstanceId, revision: Arc<str>, takes: bool },
    /// Tell it to end.
    Stop(InstanceId),
    /// It has ended for good.
    Forget(InstanceId),
    /// Hand in its last lines with [`Deployer::quoted`].
    Quote(InstanceId),
    /// Run a hook, and tell how it ended with [`Deployer::hook_ended`].
    Hook(hooks::Run),
    /// The service's hook is not wanted any more.
    EndHook(Arc<str>),
    /// Of the service's logs only those of these revisions' instances are wanted.
    Sweep { service: Arc<str>, revisions: BTreeSet<Arc<str>> },
    /// This happened: people want to know.
    Told { service: Arc<str>, text: String },
    /// What the next worker should know if the store is lost.
    Note { service: Arc<str>, revisions: Revisions },
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Deployer {
    fleets: Vec<Fleet>,
    store: Result<Writer, String>,
    /// Where it answers.
    done: UnboundedSender<Done>,
    /// The store is another worker's, or nobody's, until [`Deployer::reopen`].
    closed: bool,
    /// What to add to the worker's time, so that it counts from 1970 and never jumps.
    since_1970: Duration,
    outputs: VecDeque<Output>,
    /// Orders that are answered when they are stored.
    waiting: Vec<operator::Waiting>,
    /// What is known of services that are not in the configuration, or not any more.
    gone: BTreeMap<String, Known>,
    /// The services are changing: nothing begins.
    reloading: bool,
    /// The worker is stopping: instances are no more its business.
    ended: bool,
}

/// A service that everup runs.
#[derive(Debug)]
struct Fleet {
    service: Arc<str>,
    settings: config::Service,
    machine: Machine,
    /// Deployments that have ended, oldest first.
    history: Vec<Deployment>,
    /// What the machine was last told of each instance.
    told: BTreeMap<InstanceId, Seen>,
    /// The number of the routes that the controller has.
    routes: u64,
    noted: Option<Revisions>,
}

impl Deployer {
    fn time(&self, now: Now) -> Time {
        now.time + self.since_1970
    }

    /// When [`Deployer::wake`] is due, on the worker's clock.
    pub(crate) fn next_wakeup(&self) -> Option<Time> {
        if self.ended {
            return None;
        }
        let due = self.fleets.iter().filter_map(|fleet| fleet.machine.next_wakeup()).min()?;
        Some(due - self.since_1970)
    }

    /// Requests in flight are waited for: look often.
    pub(crate) fn is_draining(&self) -> bool {
        !self.ended && self.fleets.iter().any(|fleet| fleet.machine.is_draining())
    }

    /// Time passed.
    pub(crate) fn wake(&mut self, now: Now) {
        let time = self.time(now);
        self.each(|fleet| fleet.machine.handle(time, Input::Wakeup));
    }

    /// The store can be used; else why not.
    pub(crate) fn must_store(&self) -> Result<(), String> {
        self.store.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Writes down that somebody ordered something.
    pub(crate) fn audit(&self, now: Now, what: &str) {
        if let Ok(writer) = &self.store {
            writer.audit(format!("{} admin: {what}", seconds(self.time(now))));
        }
    }

    /// From now on instances end with the worker's order, and nothing is deployed.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.outputs.clear();
    }

    /// The data plane was given the table of this generation, with the routes that the controller has.
    pub(crate) fn published(&mut self, now: Now, generation: Generation) {
        let time = self.time(now);
        self.each(|fleet| {
            fleet.machine.handle(time, Input::Published { number: fleet.routes, generation });
        });
    }

    /// Every thread uses this table, or a newer one. What is in flight is looked at now: a thread may have sent an instance a
    /// request by the older table a moment ago.
    pub(crate) fn acknowledged(&mut self, now: Now, generation: Generation, controller: &Controller) {
        self.observe(now, controller);
        let time = self.time(now);
        self.each(|fleet| fleet.machine.handle(time, Input::Acknowledged(generation)));
    }

    /// The store has answered.
    pub(crate) fn stored(&mut self, now: Now, Done { service, version, result }: Done) {
        let time = self.time(now);
        let trouble = result.err().map(|error| error.to_string());
        self.answer(&service, version, trouble.as_deref());
        let Some(fleet) = self.fleets.iter_mut().find(|fleet| *fleet.service == *service) else { return };
        let input = match trouble {
            None => Input::Stored(version),
            Some(error) => {
                tracing::error!(service, error, "the deployment waits for its store");
                Input::StoreFailed(error)
            }
        };
        fleet.machine.handle(time, input);
    }

    /// The last lines of an instance.
    pub(crate) fn quoted(&mut self, now: Now, id: &InstanceId, lines: Vec<String>) {
        let time = self.time(now);
        if let Some(fleet) = self.fleets.iter_mut().find(|fleet| fleet.service == id.service) {
            fleet.machine.handle(time, Input::Quoted(lines));
        }
    }

    /// Looks at all instances. True: there was news for a machine.
    pub(crate) fn observe(&mut self, now: Now, controller: &Controller) -> bool {
        if self.ended {
            return false;
        }
        let time = self.time(now);
        let mut news = false;
        for fleet in &mut self.fleets {
            let service = controller.services().iter().find(|one| one.settings.name == fleet.service);
            for instance in service.into_iter().flat_map(|service| &service.instances) {
                let (Some(slot), seen) = (slot(instance), seen(instance)) else { continue };
                if fleet.told.get(&instance.id) != Some(&seen) {
                    fleet.told.insert(instance.id.clone(), seen.clone());
                    fleet.machine.handle(time, Input::Instance { slot, seen });
                    news = true;
                }
            }
        }
        news
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self, controller: &Controller) -> Option<Output> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let Self { fleets, store, outputs, .. } = self;
            let (fleet, wish) = fleets.iter_mut().find_map(|fleet| {
                let wish = fleet.machine.poll_output()?;
                Some((fleet, wish))
            })?;
            fleet.translate(wish, store, outputs, controller);
        }
    }

    /// The configuration of a service that is run.
    pub(crate) fn settings(&self, service: &str) -> Option<&config::Service> {
        self.fleets.iter().find(|fleet| *fleet.service == *service).map(|fleet| &fleet.settings)
    }

    /// A new controller took over: nobody knows which outputs were carried out. Tables from `floor` on are its.
    pub(crate) fn recover(&mut self, now: Now, controller: &mut Controller, floor: Generation) {
        let time = self.time(now);
        self.outputs.clear();
        for fleet in &mut self.fleets {
            fleet.machine.begin_anew(floor);
            fleet.told.clear();
            fleet.routes = 0;
            let service = controller.services().iter().find(|one| one.settings.name == fleet.service);
            for instance in service.into_iter().flat_map(|service| &service.instances) {
                if let Some(slot) = slot(instance) {
                    fleet.machine.adopt(time, slot, seen(instance));
                }
            }
            if self.store.is_ok() {
                controller.route(now, &fleet.service, &fleet.names());
            }
        }
    }

    fn each(&mut self, work: impl FnMut(&mut Fleet)) {
        if !self.ended {
            self.fleets.iter_mut().for_each(work);
        }
    }
}

impl Fleet {
    fn given(&self) -> Given {
        let replicas = self.settings.run.as_ref().map_or(0, |run| run.replicas);
        Given { service: Arc::clone(&self.service), replicas, drain: self.settings.drain.time }
    }

    fn id(&self, slot: &Slot) -> InstanceId {
        InstanceId::new(Arc::clone(&self.service), self.machine.name(slot))
    }

    /// Who gets requests.
    fn names(&self) -> BTreeSet<String> {
        self.machine.routes().iter().map(|slot| self.machine.name(slot)).collect()
    }

    fn revisions(&self) -> Revisions {
        let Row { first, stable, .. } = self.machine.row();
        Revisions { first: Arc::clone(first), stable: Arc::clone(stable) }
    }

    fn translate(
        &mut self,
        wish: Wish,
        store: &Result<Writer, String>,
        outputs: &mut VecDeque<Output>,
        controller: &Controller,
    ) {
        let service = Arc::clone(&self.service);
        match wish {
            Wish::Store(row) => {
                self.remember(&row, outputs);
                if let Ok(writer) = store {
                    writer.write(service.to_string(), row);
                }
                let revisions = self.revisions();
                if self.noted.as_ref() != Some(&revisions) {
                    self.noted = Some(revisions.clone());
                    outputs.push_back(Output::Note { service, revisions });
                }
            }
            Wish::Route { number, slots } => {
                self.routes = number;
                let names = slots.iter().map(|slot| self.machine.name(slot)).collect();
                outputs.push_back(Output::Route { service, names });
            }
            Wish::Start(slot) => {
                let takes = self.machine.routes().contains(&slot);
                outputs.push_back(Output::Start { id: self.id(&slot), revision: slot.revision, takes });
            }
            Wish::Stop(slot) => outputs.push_back(Output::Stop(self.id(&slot))),
            Wish::Forget(slot) => {
                let id = self.id(&slot);
                self.told.remove(&id);
                outputs.push_back(Output::Forget(id));
            }
            Wish::Hook(order) => outputs.push_back(Output::Hook(self.hook(*order, controller))),
            Wish::EndHook => outputs.push_back(Output::EndHook(service)),
            Wish::Quote(slot) => outputs.push_back(Output::Quote(self.id(&slot))),
        }
    }

    /// The revisions whose logs somebody may still want to read.
    fn told_of(&self, row: &Row) -> BTreeSet<Arc<str>> {
        let lately = self.history.iter().rev().take(LOGGED).chain(&row.deployment);
        let lately = lately.flat_map(|one| [Arc::clone(&one.from), Arc::clone(&one.to)]);
        lately.chain([Arc::clone(&row.first), Arc::clone(&row.stable)]).chain(row.previous.clone()).collect()
    }

    /// The history holds every deployment once, as it was last stored.
    fn remember(&mut self, row: &Row, outputs: &mut VecDeque<Output>) {
        let Some(deployment) = &row.deployment else { return };
        let Deployment { id, from, to, .. } = deployment;
        let before = self.history.iter().find(|one| one.id == *id);
        if before.is_none() {
            outputs.push_back(Output::Sweep {
                service: Arc::clone(&self.service),
                revisions: self.told_of(row),
            });
        }
        for event in deployment.events.iter().skip(before.map_or(0, |before| before.events.len())) {
            tracing::info!(service = %self.service, %from, %to, "deployment {id}: {}", event.text);
            let text = format!("{from} -> {to}: {}", event.text);
            outputs.push_back(Output::Told { service: Arc::clone(&self.service), text });
        }
        self.history.retain(|one| one.id != deployment.id);
        self.history.push(deployment.clone());
        self.history.drain(..self.history.len().saturating_sub(DEPLOYMENTS));
    }
}

/// The place of an instance; None: everup does not run it, or not by this revision's name.
fn slot(instance: &Instance) -> Option<Slot> {
    let process = instance.process.as_ref()?;
    Slot::of(&instance.id.instance, &process.revision)
}

fn seen(instance: &Instance) -> Seen {
    let Some(process) = &instance.process else { return Seen::default() };
    let what = match process.phase {
        Phase::Stopped => Process::Absent,
        Phase::Starting => Process::Starting,
        Phase::Running => Process::Running,
        Phase::Backoff => Process::Backoff,
        Phase::Stopping => Process::Stopping,
    };
    let up = instance.verdict == Verdict::Up;
    Seen {
        process: what,
        up,
        deaths: process.restarts + u32::from(process.phase == Phase::Backoff),
        // Only who gets no more requests is waited for.
        busy: !instance.standby || instance.left().in_flight > 0,
        trouble: if up { String::new() } else { trouble(instance) },
    }
}

/// Why it is not up: the end of its process says more than that nothing listens.
fn trouble(instance: &Instance) -> String {
    let exit = instance.process.as_ref().and_then(|process| process.last_exit.as_ref());
    match (exit, &instance.verdict) {
        (Some(exit), _) => exit.to_string(),
        (None, Verdict::Down(reason)) => reason.to_string(),
        (None, Verdict::Unknown | Verdict::Up) => String::new(),
    }
}

/// Seconds since 1970.
fn seconds(time: Time) -> f64 {
    time.since(Time::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests;
