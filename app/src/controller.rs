//! The controller: owns the truth about services and instances, and decides what follows from news.
//!
//! It is a machine: [`Controller::handle`] takes one input, [`Controller::poll_output`] says what is to be done about
//! it; it reads no clock and touches no socket, so that `worker.rs` can put it into its loop, and can make a new one
//! from what is known elsewhere if it ever panics. Inputs that come together make one table: the caller hands in all
//! that wait and then takes the outputs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use everup_admin::{Command, DrainOutcome, NotReady, Refusal};
use everup_core::config;
use everup_core::health::{Reason, Verdict, outlier};
use everup_core::ids::{Generation, InstanceId};
use everup_core::instance::Phase;
use everup_core::time::Time;
use everup_gateway::{Connector, GatewayEvent, Snapshot};
use everup_health::{Tls, VerdictChange, Watch};
use everup_instance::Change;
use tokio::sync::oneshot;

use crate::clock::Now;
use crate::drain::{self, Left, Waiting};
use crate::notes::{Notes, Revisions};
use crate::outliers::Changed;
use crate::service::{Instance, Service};
use crate::status::balance_word;
use crate::table;

mod following;
mod leaving;

pub(crate) use leaving::Slot;

/// How often waiting drains are looked at: what is in flight is counted by the data plane and tells nobody.
pub(crate) const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// An instance's process is no longer what it was.
    Changed(Change),
    /// Health believes something else of an instance.
    Verdict(VerdictChange),
    /// The data plane noticed something.
    Noticed(GatewayEvent),
    /// Every data-plane thread uses this table, or a newer one.
    Acknowledged(Generation),
    /// The operator wants an instance drained, undrained, weighed or killed. Questions are answered elsewhere.
    Order(Order),
    /// Time passed.
    Tick,
}

/// What an operator orders.
#[derive(Debug)]
pub(crate) enum Order {
    Drain { id: InstanceId, wait: Option<Duration>, reply: oneshot::Sender<Result<DrainOutcome, Refusal>> },
    Undrain { id: InstanceId, reply: oneshot::Sender<Result<String, Refusal>> },
    Weigh { id: InstanceId, weight: u32, reply: oneshot::Sender<Result<String, Refusal>> },
    Kill { id: InstanceId, reply: oneshot::Sender<Result<String, Refusal>> },
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Give this table to the data plane, and say when it is acknowledged.
    Publish(Snapshot),
    /// Have the next worker know this.
    Remember(String),
    /// Watch an instance from now on.
    Watch(Watch),
    /// Watch it no more.
    Unwatch(InstanceId),
    /// A request could not connect: health should know at once.
    ConnectFailed(InstanceId, Reason),
    /// An instance that we run is up.
    BecameUp(InstanceId),
    /// Kill its process.
    Kill(InstanceId),
    /// It has left the configuration and gets nothing any more: stop its process, if everup runs it, for good.
    Dismiss(InstanceId),
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Controller {
    /// Listeners by their places in the table, those that leave and those that are gone among them.
    slots: Vec<Slot>,
    /// The places of the configuration's listeners.
    listeners: Vec<usize>,
    /// In the order of the configuration, so that routes find them; behind them those that leave.
    services: Vec<Service>,
    /// Instances to be stopped when this table is acknowledged, in which they are no more.
    departing: Vec<(Generation, InstanceId)>,
    threads: usize,
    places: HashMap<InstanceId, (usize, usize)>,
    generation: Generation,
    acknowledged: Generation,
    drains: Vec<Waiting<oneshot::Sender<Result<DrainOutcome, Refusal>>>>,
    /// The last table no longer says what is known.
    table_is_old: bool,
    notes_are_old: bool,
    /// For the notes: which revision is whose.
    revisions: BTreeMap<Arc<str>, Revisions>,
    outputs: VecDeque<Output>,
}

impl Controller {
    /// Begins with the configured services and what an earlier controller noted. The first table is to be taken with
    /// [`Controller::first_table`] after the instances that run were adopted.
    pub(crate) fn new(config: &config::Config, threads: usize, notes: &Notes, now: Now) -> Self {
        let services: Vec<_> =
            config.services.iter().map(|one| Service::new(one.clone(), threads, notes, now.wall)).collect();
        let mut controller = Self {
            places: HashMap::new(),
            slots: config.listeners.iter().cloned().map(Slot::new).collect(),
            listeners: (0..config.listeners.len()).collect(),
            services,
            departing: Vec::new(),
            threads,
            generation: notes.generation,
            acknowledged: Generation(0),
            drains: Vec::new(),
            table_is_old: false,
            notes_are_old: true,
            revisions: notes.revisions.clone(),
            outputs: VecDeque::new(),
        };
        controller.place_all();
        controller
    }

    /// What instances are connected to with, by service. To be told before anything else.
    pub(crate) fn set_connectors(&mut self, connectors: Vec<Option<Arc<Connector>>>) {
        for (service, connector) in self.services.iter_mut().zip(connectors) {
            service.connector = connector;
        }
    }

    /// Begins anew in the place of a controller that failed: nothing is kept but the counters, which the data plane
    /// uses still, and that generations only grow.
    pub(crate) fn renew(&mut self, config: &config::Config, notes: &Notes, now: Now) {
        let mut renewed = Self::new(config, self.threads, notes, now);
        for service in &mut renewed.services {
            let same = |old: &&Service| old.settings.name == service.settings.name;
            let Some(old) = self.services.iter().find(same) else { continue };
            service.shared = Arc::clone(&old.shared);
            service.have_those_of(old, notes, now);
            service.connector.clone_from(&old.connector);
            for instance in &mut service.instances {
                let Some(old) = old.instances.iter().find(|old| old.id == instance.id) else { continue };
                instance.shared = Arc::clone(&old.shared);
                instance.ejections_total = old.ejections_total;
            }
        }
        renewed.place_all();
        renewed.keep_slots(std::mem::take(&mut self.slots), std::mem::take(&mut self.listeners));
        renewed.generation = renewed.generation.max(self.generation);
        renewed.table_is_old = true;
        *self = renewed;
    }

    /// Takes over a process that runs since before this controller.
    pub(crate) fn adopt(&mut self, process: Change, notes: &Notes) {
        if let Some(instance) = self.instance_mut(&process.id.clone()) {
            instance.adopt(process, notes);
        }
    }

    /// Begins to judge how instances answer. To be called after the instances that run were adopted.
    pub(crate) fn begin_outliers(&mut self, now: Now) {
        self.services.iter_mut().for_each(|service| service.begin_outliers(now));
    }

    /// The table to start the data plane with.
    pub(crate) fn first_table(&mut self) -> Snapshot {
        self.next_table()
    }

    /// Has every instance watched that has an address, believing what is believed now.
    pub(crate) fn watch_all(&mut self) {
        let watches: Vec<_> =
            self.services.iter().flat_map(|one| one.instances.iter().filter_map(|i| watch(one, i))).collect();
        self.outputs.extend(watches.into_iter().map(Output::Watch));
    }

    /// Takes one input. Who must know is told by [`Controller::poll_output`].
    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Changed(change) => self.on_changed(now, change),
            Input::Verdict(change) => self.on_verdict(now, change),
            Input::Noticed(GatewayEvent::ConnectFailed { id, address, reason }) => {
                self.on_connect_failed(id, address, reason);
            }
            Input::Noticed(GatewayEvent::Failing { id, address }) => self.on_failing(now, &id, address),
            // The worker looks at its threads after every news.
            Input::Noticed(GatewayEvent::ThreadEnded) => {}
            Input::Acknowledged(generation) => self.acknowledged = self.acknowledged.max(generation),
            Input::Order(Order::Drain { id, wait, reply }) => self.on_drain(now, id, wait, reply),
            Input::Order(Order::Undrain { id, reply }) => {
                let done = self.undrain(now, &id);
                // Whoever asked may be gone: then nobody needs to know.
                let _ = reply.send(done);
            }
            Input::Order(Order::Weigh { id, weight, reply }) => {
                let done = self.weigh(&id, weight);
                let _ = reply.send(done);
            }
            Input::Order(Order::Kill { id, reply }) => {
                let done = self.kill(&id);
                let _ = reply.send(done);
            }
            Input::Tick => self.look_where_due(now),
        }
        self.see_off(now);
        if self.table_is_old {
            self.services.iter_mut().for_each(|service| service.note_takers(now.instant));
        }
        self.answer_drains(now);
    }

    /// What is to be done next. A new table and new notes come last, once for all inputs since.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if std::mem::take(&mut self.table_is_old) {
            self.notes_are_old = true;
            return Some(Output::Publish(self.next_table()));
        }
        std::mem::take(&mut self.notes_are_old).then(|| Output::Remember(self.notes().write()))
    }

    /// When [`Input::Tick`] is due, beside [`DRAIN_LOOK`].
    pub(crate) fn next_wakeup(&self) -> Option<Time> {
        self.services.iter().filter_map(Service::next_look).min()
    }

    /// Drains are waited for: hand in [`Input::Tick`] every [`DRAIN_LOOK`].
    pub(crate) fn is_draining(&self) -> bool {
        !self.drains.is_empty() || self.sees_off()
    }

    /// What a new controller needs to know.
    pub(crate) fn notes(&self) -> Notes {
        let instances = self.services.iter().flat_map(|service| &service.instances);
        let mut notes = Notes::new(self.generation, instances.map(Instance::note));
        notes.revisions.clone_from(&self.revisions);
        notes
    }

    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }

    /// Notes where the counters stand. To be called about once a second.
    pub(crate) fn sample(&mut self, now: Time) {
        for Service { rates, shared, .. } in &mut self.services {
            rates.sample(now, shared.requests.total(), || shared.latency.total());
        }
    }

    /// Every thread uses this table, or a newer one.
    pub(crate) fn acknowledged(&self) -> Generation {
        self.acknowledged
    }

    /// It is known here, and that it has a process is not.
    pub(crate) fn has_no_process(&self, id: &InstanceId) -> bool {
        let instance = self.places.get(id).map(|&(s, i)| &self.services[s].instances[i]);
        instance.is_some_and(|instance| instance.is_run_by_us() && instance.process.is_none())
    }

    /// Whether it is known here.
    pub(crate) fn knows(&self, id: &InstanceId) -> bool {
        self.places.contains_key(id) || self.departing.iter().any(|(_, departing)| departing == id)
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Every service has an instance that takes requests.
    pub(crate) fn ready(&self) -> Result<(), NotReady> {
        let stays = |one: &&Service| one.leaves.is_none();
        let down = self.services.iter().filter(stays).filter(|one| !one.is_up());
        let without: Vec<&str> = down.map(|one| &*one.settings.name).collect();
        if without.is_empty() {
            Ok(())
        } else {
            Err(NotReady(format!("no instance of {} is up", without.join(", "))))
        }
    }

    /// What has to be finished before the data plane may end: requests, also those that wait, relays of services behind tcp
    /// and tls-passthrough listeners, and WebSockets, which are being closed. Other tunnels end whenever they like and are
    /// not waited for.
    pub(crate) fn to_be_finished(&self) -> u64 {
        let of_service = |(index, service): (usize, &Service)| {
            let mut listeners = self.slots.iter().map(|slot| &slot.listener);
            let is_relayed =
                listeners.any(|one| one.protocol.relays() && one.services().any(|service| service == index));
            let of_instance = |instance: &Instance| {
                let shared = &instance.shared;
                let endless =
                    if is_relayed { 0 } else { shared.tunnels().saturating_sub(shared.websockets()) };
                u64::from(shared.in_flight().saturating_sub(endless)) + instance.held.in_flight
            };
            service.shared.parked.total()
                + service.shared.queued.total()
                + service.instances.iter().map(of_instance).sum::<u64>()
        };
        self.services.iter().enumerate().map(of_service).sum()
    }

    fn on_changed(&mut self, now: Now, change: Change) {
        let Some(&(s, i)) = self.places.get(&change.id) else { return };
        let service = &mut self.services[s];
        let instance = &mut service.instances[i];
        tell_process(instance, &change);
        let before = instance.address();
        let state = instance.state();
        instance.process = Some(change);
        let is_another = instance.address() != before;
        if is_another {
            // Another process: nothing is known of it.
            instance.verdict = Verdict::Unknown;
            instance.seen_up = false;
            instance.shared.forgive();
        }
        if instance.state() != state {
            instance.since = now.wall;
        }
        if is_another {
            if before.is_some() {
                self.outputs.push_back(Output::Unwatch(instance.id.clone()));
            }
            let instance = &service.instances[i];
            self.outputs.extend(watch(service, instance).map(Output::Watch));
        }
        self.table_is_old = true;
        self.look(now, s, is_another.then_some(outlier::Input::Replaced(i)));
    }

    fn on_verdict(&mut self, now: Now, VerdictChange { id, address, verdict, wall }: VerdictChange) {
        let Some(instance) = self.instance_mut(&id) else { return };
        // News of a process that is gone.
        if instance.address() != Some(address) || instance.verdict == verdict {
            return;
        }
        tell(&id, &verdict, instance);
        let kind_is_new = std::mem::discriminant(&instance.verdict) != std::mem::discriminant(&verdict);
        if kind_is_new {
            instance.since = wall;
        }
        let was_up = instance.verdict == Verdict::Up;
        let is_up = verdict == Verdict::Up;
        let became_up = is_up && instance.is_run_by_us();
        instance.seen_up |= verdict == Verdict::Up;
        instance.verdict = verdict;
        if became_up {
            self.outputs.push_back(Output::BecameUp(id.clone()));
        }
        if kind_is_new {
            self.table_is_old = true;
        } else {
            self.notes_are_old = true;
        }
        if let Some(&(s, i)) = self.places.get(&id) {
            let news = match (was_up, is_up) {
                (true, false) => Some(outlier::Input::WentDown(i)),
                (false, true) => Some(outlier::Input::CameUp(i)),
                (true, true) | (false, false) => None,
            };
            self.look(now, s, news);
        }
    }

    fn on_failing(&mut self, now: Now, id: &InstanceId, address: SocketAddr) {
        let Some(&(s, i)) = self.places.get(id) else { return };
        if self.services[s].instances[i].address() == Some(address) {
            self.look(now, s, None);
        }
    }

    fn look_where_due(&mut self, now: Now) {
        for s in 0..self.services.len() {
            if self.services[s].next_look().is_some_and(|due| due <= now.time) {
                self.look(now, s, None);
            }
        }
    }

    /// Has a service's instances judged by how they answer.
    fn look(&mut self, now: Now, s: usize, news: Option<outlier::Input>) {
        let Changed { table, notes } = self.services[s].look(now, news);
        self.table_is_old |= table;
        self.notes_are_old |= notes;
    }

    /// A request may still try the address of a process that is gone while the next one is up.
    fn on_connect_failed(&mut self, id: InstanceId, address: SocketAddr, reason: Reason) {
        if self.instance_mut(&id).is_some_and(|instance| instance.address() == Some(address)) {
            self.outputs.push_back(Output::ConnectFailed(id, reason));
        }
    }

    fn on_drain(
        &mut self,
        now: Now,
        id: InstanceId,
        wait: Option<Duration>,
        reply: oneshot::Sender<Result<DrainOutcome, Refusal>>,
    ) {
        let (s, i) = match self.place(&id) {
            Ok(place) => place,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let service = &mut self.services[s];
        let instance = &mut service.instances[i];
        if !instance.draining {
            tracing::info!(instance = %id, "drains: no new requests");
            instance.draining = true;
            instance.since = now.wall;
            self.table_is_old = true;
            self.look(now, s, None);
        }
        let wait = wait.unwrap_or(self.services[s].settings.drain.time);
        // A drain that began earlier is in some table already; the newest holds it in any case.
        let generation = if self.table_is_old { Generation(self.generation.0 + 1) } else { self.generation };
        self.drains.push(Waiting { id, generation, began: now.time, deadline: now.time + wait, reply });
    }

    fn undrain(&mut self, now: Now, id: &InstanceId) -> Result<String, Refusal> {
        let (s, i) = self.place(id)?;
        let instance = &mut self.services[s].instances[i];
        if !instance.draining {
            return Ok("was not drained".to_owned());
        }
        instance.draining = false;
        instance.since = now.wall;
        self.table_is_old = true;
        self.look(now, s, None);
        tracing::info!(instance = %id, "drained no more");
        for waiting in self.drains.extract_if(.., |waiting| waiting.id == *id) {
            let _ = waiting.reply.send(Err(Refusal::Conflict(format!("{id} was undrained meanwhile"))));
        }
        Ok("takes requests again".to_owned())
    }

    fn weigh(&mut self, id: &InstanceId, weight: u32) -> Result<String, Refusal> {
        let (s, i) = self.place(id)?;
        let Service { settings, instances, .. } = &mut self.services[s];
        if !settings.balance.heeds_weights() {
            let way = balance_word(settings.balance);
            return Err(Refusal::Conflict(format!("balance = \"{way}\" does not heed weights")));
        }
        let before = instances[i].weight();
        if before == weight {
            return Ok(format!("has weight {weight} already"));
        }
        instances[i].weighed = Some(weight);
        self.table_is_old = true;
        tracing::info!(instance = %id, before, weight, "weighed anew");
        Ok(format!("has weight {weight} now, until everup is started anew (before: {before})"))
    }

    fn kill(&mut self, id: &InstanceId) -> Result<String, Refusal> {
        let (s, i) = self.place(id)?;
        let instance = &self.services[s].instances[i];
        if !instance.is_run_by_us() {
            return Err(Refusal::Conflict(format!(
                "{id} is not run by everup, so it cannot be killed by it"
            )));
        }
        let process = instance.process.as_ref().filter(|process| process.phase == Phase::Running);
        let Some(pid) = process.and_then(|process| process.pid) else {
            return Err(Refusal::Conflict(format!("{id} has no process now (it is {})", instance.state())));
        };
        tracing::info!(instance = %id, pid, "killed by order");
        self.outputs.push_back(Output::Kill(id.clone()));
        Ok(format!("killed process {pid}"))
    }

    fn answer_drains(&mut self, now: Now) {
        let Self { drains, places, services, acknowledged, .. } = self;
        let left = |id: &InstanceId| {
            let place = places.get(id).map(|&(s, i)| &services[s].instances[i]);
            place.map_or_else(Left::default, Instance::left)
        };
        for (reply, outcome) in drain::finished(drains, now.time, *acknowledged, left) {
            let _ = reply.send(Ok(outcome));
        }
    }

    fn next_table(&mut self) -> Snapshot {
        self.generation = Generation(self.generation.0 + 1);
        table::snapshot(self.generation, &self.slots, &mut self.services)
    }

    fn instance_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let &(s, i) = self.places.get(id)?;
        Some(&mut self.services[s].instances[i])
    }

    /// Where it is; the refusal names what there is.
    fn place(&self, id: &InstanceId) -> Result<(usize, usize), Refusal> {
        if let Some(&place) = self.places.get(id) {
            return Ok(place);
        }
        let InstanceId { service: wanted, instance } = id;
        let line = match self.services.iter().find(|one| one.settings.name == *wanted) {
            None => {
                let names = self.services.iter().map(|one| &*one.settings.name);
                format!("there is no service {wanted}; there is {}", listed(names))
            }
            Some(service) => {
                let names = service.instances.iter().map(|one| &*one.id.instance);
                format!("{wanted} has no instance {instance}; it has {}", listed(names))
            }
        };
        Err(Refusal::NotFound(line))
    }
}

impl TryFrom<Command> for Order {
    /// A question, which is no order.
    type Error = Command;

    fn try_from(command: Command) -> Result<Self, Command> {
        match command {
            Command::Drain { id, wait, reply } => Ok(Self::Drain { id, wait, reply }),
            Command::Undrain { id, reply } => Ok(Self::Undrain { id, reply }),
            Command::Weigh { id, weight, reply } => Ok(Self::Weigh { id, weight, reply }),
            Command::Kill { id, reply } => Ok(Self::Kill { id, reply }),
            question @ (Command::Status { .. }
            | Command::Events { .. }
            | Command::Explain { .. }
            | Command::Metrics { .. }
            | Command::Deploy { .. }
            | Command::Plan { .. }
            | Command::Reload { .. }
            | Command::Upgrade { .. }
            | Command::Ready { .. }) => Err(question),
        }
    }
}

impl Controller {
    /// How an instance is reached by whoever looks whether it works.
    pub(crate) fn watch_of(&self, id: &InstanceId) -> Option<Watch> {
        let &(s, i) = self.places.get(id)?;
        watch(&self.services[s], &self.services[s].instances[i])
    }
}

/// Where each instance is.
fn places(services: &[Service]) -> HashMap<InstanceId, (usize, usize)> {
    let of_service = |(s, service): (usize, &Service)| {
        let ids: Vec<_> = service.instances.iter().map(|instance| instance.id.clone()).collect();
        ids.into_iter().enumerate().map(move |(i, id)| (id, (s, i)))
    };
    services.iter().enumerate().flat_map(of_service).collect()
}

/// How an instance is to be watched; None while it has no address. A fixed one joins with its first good check: it
/// is known to have been there. One that was just started must pass `rise` in a row.
fn watch(service: &Service, instance: &Instance) -> Option<Watch> {
    let check = &service.settings.health;
    let address = instance.address()?;
    Some(Watch {
        id: instance.id.clone(),
        address,
        check: check.clone(),
        send_proxy: service.settings.send_proxy,
        tls: service.connector.as_ref().map(|connector| Tls {
            current: connector.current(),
            server_name: connector.server_name(address.ip()),
        }),
        initial: instance.verdict.clone(),
        joins_after: if instance.is_run_by_us() { check.rise } else { 1 },
    })
}

/// For the log: that a process ended by itself, and how.
fn tell_process(instance: &Instance, change: &Change) {
    let Change { id, phase, crash_loop, last_exit, .. } = change;
    let Some(exit) = last_exit else { return };
    let (was, looped) = match &instance.process {
        Some(process) => (process.phase, process.crash_loop),
        None => (Phase::Stopped, false),
    };
    match (was, phase) {
        _ if *crash_loop && !looped => {
            tracing::error!(instance = %id, "{exit}, again and again: see `everup status` for its last words");
        }
        (Phase::Starting | Phase::Running, Phase::Backoff) | (Phase::Running, Phase::Starting) => {
            tracing::warn!(instance = %id, "{exit}; it is started again");
        }
        (Phase::Stopped | Phase::Starting | Phase::Running | Phase::Backoff | Phase::Stopping, _) => {}
    }
}

/// For the log: what changed for the traffic. That a process does not listen yet is no news.
fn tell(id: &InstanceId, verdict: &Verdict, instance: &Instance) {
    match verdict {
        Verdict::Up => tracing::info!(instance = %id, "up"),
        Verdict::Down(reason) if instance.seen_up || !instance.is_run_by_us() => {
            tracing::warn!(instance = %id, %reason, "down");
        }
        Verdict::Down(reason) => tracing::debug!(instance = %id, %reason, "not up yet"),
        Verdict::Unknown => tracing::debug!(instance = %id, "unknown"),
    }
}

/// At most so many names in a one-line answer.
const LISTED: usize = 10;

pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let mut text = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text += &format!(" and {} more", names.len() - LISTED);
    }
    text
}

mod fleet;
#[cfg(test)]
pub(crate) mod tests;
