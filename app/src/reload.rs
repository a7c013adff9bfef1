//! Another configuration while everything runs: the worker's half. The keeper has read and checked the file and bound
//! what is new (`keeper/src/reload.rs`); the whole story, and what happens when either side dies in it, stands in
//! `docs/design/0008-reload.md`.
//!
//! ```text
//!   NewConfig ─▶ prepared (all that can fail) ─▶ table and sockets to every thread ─▶ all of them obey
//!       │ refused: nothing was changed                                                    │ Reloaded
//!       ▼                                                                                 ▼
//!   Reloaded { refused }                                    new instances are started, the keeper commits, who asked is told
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everup_admin::api::{EventKind, ListenerStatus, Mistake, Plan, Reloaded, WrongFile};
use everup_admin::{NotReloaded, serve_metrics};
use everup_core::config::{self, Config, TraceParent};
use everup_core::ids::Generation;
use everup_core::keeper::{SocketRole, ToKeeper, ToWorker};
use everup_core::reload::{Change, effective};
use everup_core::time::Time;
use everup_gateway::{Acceptor, Assigned, ListenerSockets, Rearrangement, Settings};
use everup_link::Sockets;
use tokio::sync::oneshot;

use crate::begin::{access_log, node_name};
use crate::clock::Now;
use crate::controller::{Controller, Input, listed};
use crate::descriptors;
use crate::keeperless::GONE;
use crate::status::{Identity, listener_status};
use crate::worker::Worker;

/// Whoever asked for a reload is told after this time that not every thread has acknowledged it yet.
const HELD: Duration = Duration::from_secs(30);

/// What whoever asks meanwhile is told.
const AFTER_HELD: &str =
    "the last reload is held: a data-plane thread does not acknowledge it; try again when it does";

/// So many may wait for the keeper's answer.
const WAITING: usize = 64;

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Asked {
    Plan(oneshot::Sender<Result<Plan, NotReloaded>>),
    Reload(oneshot::Sender<Result<Reloaded, NotReloaded>>),
}

/// Everything about other configurations.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    incoming: Incoming,
    asked: HashMap<u64, Asked>,
    last_ask: u64,
    /// The number of what is being taken in, and who asked; left behind when that fails inside.
    taking_in: Option<(u64, Option<u64>)>,
    under_way: Option<UnderWay>,
}

/// What came before [`ToWorker::NewConfig`].
#[derive(Debug, Default)]
struct Incoming {
    text: String,
    changes: Vec<Change>,
    kept: Vec<(SocketRole, SocketRole)>,
    sockets: Vec<Sockets>,
}

/// A configuration that the threads are changing to.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    ask: Option<u64>,
    generation: Generation,
    changes: Vec<Change>,
    began: Time,
    /// Every thread obeys, and the keeper knows it.
    obeyed: bool,
    /// It was told that not every thread does.
    held: bool,
}

/// What is open at an address, without the sockets themselves: the data plane has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) role: SocketRole,
    pub(crate) address: String,
}

impl Reloads {
    /// Nobody reads the file or commits any more. What the threads obey already, the next keeper is told.
    pub(crate) fn keeper_gone(&mut self) {
        (self.incoming, self.under_way) = (Incoming::default(), None);
        self.asked.drain().for_each(|(_, asked)| asked.refuse(GONE.to_owned(), None));
    }

    /// The keeper does not yet know that another configuration runs.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| !under_way.obeyed)
    }
}

impl Worker {
    /// Has the keeper read the file.
    pub(crate) fn ask_for_file(&mut self, asked: Asked) {
        if self.shutdown.is_under_way() {
            return asked.refuse("everup is stopping".to_owned(), None);
        }
        if self.line.is_none() {
            return asked.refuse(GONE.to_owned(), None);
        }
        if self.reloads.asked.len() >= WAITING {
            return asked.refuse("too many wait for a reload already".to_owned(), None);
        }
        if self.reloads.under_way.as_ref().is_some_and(|under_way| under_way.held) {
            return asked.refuse(AFTER_HELD.to_owned(), None);
        }
        self.reloads.last_ask += 1;
        let (ask, dry) = (self.reloads.last_ask, matches!(asked, Asked::Plan(_)));
        self.reloads.asked.insert(ask, asked);
        self.tell_keeper(ToKeeper::Reload { ask, dry }, None);
    }

    /// Takes a message of the keeper about another configuration; gives back what is about something else.
    pub(crate) fn on_config(&mut self, now: Now, message: ToWorker, fds: Vec<OwnedFd>) -> Option<ToWorker> {
        let incoming = &mut self.reloads.incoming;
        match message {
            ToWorker::ConfigText { piece } => incoming.text.push_str(&piece),
            ToWorker::Change { change } => incoming.changes.push(change),
            ToWorker::Kept { before, now } => incoming.kept.push((before, now)),
            ToWorker::Sockets { role, address } => match incoming.sockets.last_mut() {
                Some(last) if last.role == role => last.descriptors.extend(fds),
                _ => incoming.sockets.push(Sockets { role, address, descriptors: fds }),
            },
            ToWorker::NewConfig { number, ask, dry, refused } => {
                let incoming = std::mem::take(incoming);
                match refused {
                    Some(why) => self.answer_refused(ask, why, Some(incoming.text)),
                    None if dry => {
                        let objection = self.objection(&incoming.text);
                        if let Some(why) = objection {
                            self.answer_refused(ask, why, None);
                        } else if let Some(Asked::Plan(reply)) =
                            ask.and_then(|ask| self.reloads.asked.remove(&ask))
                        {
                            // Whoever asked may be gone.
                            let _ = reply.send(Ok(Plan { changes: incoming.changes }));
                        }
                    }
                    None => self.take_in(now, number, ask, incoming),
                }
            }
            ToWorker::Committed { number } => self.on_committed(number),
            other => return Some(other),
        }
        None
    }

    /// Why a reload to this text would be refused because of what runs.
    fn objection(&self, text: &str) -> Option<String> {
        let new = config::parse(text).ok()?;
        self.deployer.objection(&effective(&self.config, &new).services)
    }

    fn take_in(&mut self, now: Now, number: u64, ask: Option<u64>, incoming: Incoming) {
        self.reloads.taking_in = Some((number, ask));
        let changes = incoming.changes.clone();
        let taken = self.change_to(now, incoming);
        self.reloads.taking_in = None;
        match taken {
            Ok(generation) => {
                let under_way = UnderWay {
                    number,
                    ask,
                    generation,
                    changes,
                    began: now.time,
                    obeyed: false,
                    held: false,
                };
                self.reloads.under_way = Some(under_way);
            }
            Err(why) => {
                self.tell_keeper(ToKeeper::Reloaded { number, refused: Some(why.clone()) }, None);
                self.answer_refused(ask, why, None);
            }
        }
    }

    /// Changes to a configuration, or says why not and has changed nothing. Returns the first table that goes by it.
    fn change_to(&mut self, now: Now, incoming: Incoming) -> Result<Generation, String> {
        everup_failpoint::hit("reload");
        let Incoming { text, changes: _, kept, sockets } = incoming;
        let refuse = |mistakes: Vec<config::Diagnostic>| {
            let first = mistakes.into_iter().next().map(|mistake| mistake.message).unwrap_or_default();
            format!("the worker cannot read what the keeper could: {first}")
        };
        let new = effective(&self.config, &config::parse(&text).map_err(refuse)?);
        if let Some(why) = self.deployer.objection(&new.services) {
            return Err(why);
        }
        let Some(gateway) = self.gateway.as_mut().filter(|_| !self.shutdown.is_under_way()) else {
            return Err("everup is stopping".to_owned());
        };
        let places = self.controller.places_of(&self.config, &new);
        let (of_listeners, of_metrics): (Vec<_>, Vec<_>) =
            sockets.into_iter().partition(|sockets| matches!(sockets.role, SocketRole::Listener { .. }));
        let copies = self.estate.sockets.rearranged(&kept, of_listeners.iter().chain(&of_metrics));
        let copies = copies.map_err(|error| format!("the new sockets cannot be used: {error}"))?;
        let opened = rearranged(&self.opened, &kept, of_listeners.iter().chain(&of_metrics));
        let config_path = Path::new(&self.identity.config);
        let files =
            self.tls_files.prepare(&self.config, &new, config_path).map_err(|error| error.to_string())?;
        let plan =
            Planned { config: &new, places: &places, acceptors: self.tls_files.acceptors_with(&files) };
        let rearrangement = Rearrangement {
            settings: Some(settings(&new)),
            access_log: (new.access_log != self.config.access_log)
                .then(|| access_log(&new.access_log, config_path, 0))
                .transpose()
                .map_err(|error| error.to_string())?,
            open: of_listeners.into_iter().map(|one| plan.to_open(one)).collect::<Result<_, _>>()?,
            assign: plan.assigned(&opened, &kept),
            close: closed(&self.opened, &kept),
        };
        let metrics = of_metrics.into_iter().flat_map(|sockets| sockets.descriptors);
        let metrics: Vec<_> = metrics
            .map(|socket| serve_metrics(socket, self.api.clone()))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let prepared = gateway.prepare(rearrangement).map_err(|error| error.to_string())?;
        // From here on nothing can fail.
        self.tls_files.take(files);
        self.deployer.part(&new.services, &mut self.controller);
        let snapshot = self.controller.reload(now, &self.config, &new, self.tls_files.connectors());
        let generation = snapshot.generation;
        gateway.carry_out(prepared, snapshot);
        self.deployer.published(now, generation);
        if !opened.iter().any(|one| one.role == SocketRole::Metrics && self.opened.contains(one)) {
            self.metrics_servers.drain(..).for_each(|server| server.abort());
        }
        self.metrics_servers.extend(metrics.into_iter().map(tokio::spawn));
        (self.opened, self.estate.sockets, self.estate.text) = (opened, copies, text);
        self.config = new;
        self.introduce_anew();
        Ok(generation)
    }

    /// What people are told of the node, and processes that a service found again.
    fn introduce_anew(&mut self) {
        let now = self.clock.now();
        describe(&mut self.identity, &self.config, &self.controller, &self.opened);
        for process in self.supervisor.instances().filter(|process| process.pid.is_some()) {
            if self.controller.has_no_process(&process.id) {
                self.controller.handle(now, Input::Changed(process));
            }
        }
    }

    /// Looks whether the threads obey a new configuration by now, and whether somebody has waited too long for that.
    pub(crate) fn look_at_reload(&mut self, now: Now) {
        let acknowledged = self.controller.acknowledged();
        let Some(under_way) = &mut self.reloads.under_way else { return };
        if !under_way.obeyed && acknowledged >= under_way.generation {
            under_way.obeyed = true;
            let number = under_way.number;
            if !under_way.changes.is_empty() {
                let changes: Vec<_> = under_way.changes.iter().map(ToString::to_string).collect();
                let text = format!("reloaded: {}", listed(changes.iter().map(String::as_str)));
                self.journal.of_everup(self.clock.now().wall, EventKind::Reloaded, text);
            }
            self.tell_keeper(ToKeeper::Reloaded { number, refused: None }, None);
            if !self.shutdown.is_under_way() {
                self.deployer.settle(now, &self.config.services, &mut self.supervisor, &mut self.controller);
            }
        } else if !(under_way.obeyed || under_way.held) && now.time.since(under_way.began) >= HELD {
            under_way.held = true;
            tracing::error!("a data-plane thread has not acknowledged the new configuration");
            self.answer_reloaded(false);
            // Their turn comes when the thread obeys, which may be never.
            for (_, asked) in self.reloads.asked.drain() {
                asked.refuse(AFTER_HELD.to_owned(), None);
            }
        }
    }

    /// The next worker begins with this configuration, too.
    fn on_committed(&mut self, number: u64) {
        if self.reloads.under_way.as_ref().is_some_and(|under_way| under_way.number == number) {
            self.answer_reloaded(true);
            self.reloads.under_way = None;
            self.identity.warnings.clear();
        }
    }

    fn answer_reloaded(&mut self, acknowledged: bool) {
        let Reloads { under_way: Some(under_way), asked, .. } = &mut self.reloads else { return };
        let asked = under_way.ask.take().and_then(|ask| asked.remove(&ask));
        if let Some(Asked::Reload(reply)) = asked {
            let generation = under_way.generation.0;
            // Whoever asked may be gone.
            let _ = reply.send(Ok(Reloaded { generation, acknowledged, changes: under_way.changes.clone() }));
        }
    }

    fn answer_refused(&mut self, ask: Option<u64>, why: String, text: Option<String>) {
        let Some(asked) = ask.and_then(|ask| self.reloads.asked.remove(&ask)) else { return };
        let path = self.identity.config.clone();
        let mistakes = text.as_deref().and_then(|text| config::parse(text).err());
        let file = mistakes.filter(|_| text.as_ref().is_some_and(|text| !text.is_empty())).map(|mistakes| {
            WrongFile {
                path,
                text: text.unwrap_or_default(),
                mistakes: mistakes.into_iter().map(Mistake::from).collect(),
            }
        });
        asked.refuse(why, file);
    }

    /// Something failed inside while a configuration was taken in.
    pub(crate) fn give_up_reload(&mut self) {
        self.reloads.incoming = Incoming::default();
        if let Some((number, ask)) = self.reloads.taking_in.take() {
            let why = "the worker failed inside; its log says more".to_owned();
            self.tell_keeper(ToKeeper::Reloaded { number, refused: Some(why.clone()) }, None);
            self.answer_refused(ask, why, None);
        }
    }
}

impl Asked {
    pub(crate) fn refuse(self, line: String, file: Option<WrongFile>) {
        // Whoever asked may be gone.
        match self {
            Self::Plan(reply) => drop(reply.send(Err(NotReloaded { line, file }))),
            Self::Reload(reply) => drop(reply.send(Err(NotReloaded { line, file }))),
        }
    }
}

/// What the configuration sets for the whole data plane.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        limits: config::Limits { connections: descriptors::connections(&config.limits), ..config.limits },
        makes_trace_parents: config.trace.parent == TraceParent::Make,
    }
}

/// The addresses that will be open.
fn rearranged<'a>(
    before: &[Opened],
    kept: &[(SocketRole, SocketRole)],
    new: impl Iterator<Item = &'a Sockets>,
) -> Vec<Opened> {
    let keep = |(was, role): &(SocketRole, SocketRole)| {
        let address = before.iter().find(|one| one.role == *was)?.address.clone();
        Some(Opened { role: *role, address })
    };
    let mut opened: Vec<_> = kept.iter().filter_map(keep).collect();
    opened.extend(new.map(|sockets| Opened { role: sockets.role, address: sockets.address.clone() }));
    opened
}

/// What the sockets of a configuration are for.
struct Planned<'a> {
    config: &'a Config,
    /// Of its listeners in the table.
    places: &'a [usize],
    acceptors: Vec<Option<Arc<Acceptor>>>,
}

impl Planned<'_> {
    fn to_open(&self, sockets: Sockets) -> Result<ListenerSockets, String> {
        let Sockets { role, address, descriptors: fds } = sockets;
        let wrong = || format!("a socket for {address} fits no listener");
        let Assigned { local, listener, protocol, tls } =
            self.assigned_to(role, &address).ok_or_else(wrong)?;
        Ok(ListenerSockets { listener, protocol, local, tls, fds })
    }

    /// Sockets that stay, with what they are for now.
    fn assigned(&self, opened: &[Opened], kept: &[(SocketRole, SocketRole)]) -> Vec<Assigned> {
        let is_kept = |one: &&Opened| kept.iter().any(|(_, role)| *role == one.role);
        let kept = opened.iter().filter(is_kept);
        kept.filter_map(|one| self.assigned_to(one.role, &one.address)).collect()
    }

    /// None: it is no listener's.
    fn assigned_to(&self, role: SocketRole, address: &str) -> Option<Assigned> {
        let SocketRole::Listener { listener, .. } = role else { return None };
        Some(Assigned {
            local: address.parse().ok()?,
            listener: *self.places.get(listener)?,
            protocol: self.config.listeners.get(listener)?.protocol,
            tls: self.acceptors.get(listener)?.clone(),
        })
    }
}

/// Addresses of listeners that nobody needs any more.
fn closed(before: &[Opened], kept: &[(SocketRole, SocketRole)]) -> Vec<SocketAddr> {
    let goes = |one: &&Opened| !kept.iter().any(|(was, _)| *was == one.role);
    let listeners = before.iter().filter(|one| matches!(one.role, SocketRole::Listener { .. }));
    listeners.filter(goes).filter_map(|one| one.address.parse().ok()).collect()
}

/// What people are told of the node and its addresses.
pub(crate) fn describe(identity: &mut Identity, config: &Config, controller: &Controller, opened: &[Opened]) {
    identity.node = node_name(config);
    identity.metrics = metrics_address(opened);
    identity.listeners = listener_statuses(config, controller, opened);
}

/// The real address of the metrics.
fn metrics_address(opened: &[Opened]) -> Option<String> {
    opened.iter().find(|one| one.role == SocketRole::Metrics).map(|one| one.address.clone())
}

/// What people are told of the configuration's listeners, with the addresses that they really have.
fn listener_statuses(config: &Config, controller: &Controller, opened: &[Opened]) -> Vec<ListenerStatus> {
    let addresses = |index: usize| {
        let mut found: Vec<(usize, String)> = Vec::new();
        for one in opened {
            if let SocketRole::Listener { listener, bind } = one.role
                && listener == index
            {
                found.push((bind, one.address.clone()));
            }
        }
        found.sort();
        found.into_iter().map(|(_, address)| address).collect()
    };
    let listeners = config.listeners.iter().enumerate();
    listeners.map(|(index, one)| listener_status(one, addresses(index), controller.services())).collect()
}
