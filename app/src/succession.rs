//! A worker that gives its place to another one, and one that takes it: the workers' half of an upgrade. The whole story,
//! and what happens when somebody dies in it, stands in `keeper/src/upgrade.rs`.
//!
//! ```text
//!   Ours ──Yield──▶ Yielded ──Leave──▶ Leaves ── nothing left, or drain.time is over ──▶ exits
//!    ▲                 │                  tells its successor what it holds, and obeys the successor's tables
//!    └────TakeBack─────┘
//! ```
//!
//! "Ours": may start and stop instances and write the store. Traffic and health checks go on in every state.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use everup_admin::api::{EventKind, LeavingWorker, Moved, Upgraded};
use everup_admin::{Command, Refusal};
use everup_core::ids::{Generation, InstanceId};
use everup_core::keeper::{ToKeeper, ToWorker};
use everup_core::succession::{Held, Holds, TAKERS, ToPredecessor, ToSuccessor};
use everup_core::time::Time;
use everup_gateway::{Availability, HandOver, Kinds, Leaving, Stage};
use everup_link::{Link, Predecessor as Inherited, Received};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::bequest;
use crate::clock::Now;
use crate::drain::Left;
use crate::estate::Copies;
use crate::worker::{Notice, Worker};

/// What whoever wants something changed is told meanwhile.
const UNDER_WAY: &str = "everup is being upgraded; try again in a moment";

/// What whoever waited for something is told when another worker has taken over.
const MEANWHILE: &str = "everup was upgraded meanwhile, and goes on with it; ask again";

/// What whoever waited for an upgrade is told when the keeper has died in it.
const KEEPER_DIED: &str = "the keeper died during the upgrade: a worker serves on; start `everup run` again, and ask `everup \
                           status` which version it is";

/// So many may wait for an upgrade's outcome: all but one are refused anyway.
const WAITING: usize = 16;

/// What answers at the admin socket may take that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Whoever asked for an upgrade is told after this time at the latest, also while connections move.
const TOLD: Duration = Duration::from_secs(2);

/// What WebSockets may take to say goodbye when the time is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// Whether this worker is the one that acts.
#[derive(Debug, Default)]
pub(crate) enum Charge {
    /// It is.
    #[default]
    Ours,
    /// Nobody is, until the keeper says who.
    Yielded(Yielded),
    /// Another one is.
    Leaves(Leaves),
}

#[derive(Debug)]
pub(crate) struct Yielded {
    /// What the keeper said of instances since.
    kept: Vec<ToWorker>,
    line: Option<Line>,
    /// The successor says that it serves.
    succeeded: bool,
}

#[derive(Debug)]
pub(crate) struct Leaves {
    began: Time,
    /// Then what is still here is told to end.
    until: Time,
    /// It was told, and ends by then.
    ends: Option<Time>,
    /// How connections move; None: they do not.
    moves: Option<HandOver>,
    /// To the successor; None: there is none now.
    line: Option<Line>,
    /// The successor's newest table.
    ordered: Generation,
    /// The newest of its tables that all our threads obey, by then with this table of ours.
    obeyed: Generation,
    ours: Generation,
    told: Option<Holds>,
}

/// Workers whose successor this one is.
#[derive(Debug, Default)]
pub(crate) struct Predecessors {
    all: Vec<Predecessor>,
    /// All threads of this worker use this table or a newer one.
    acknowledged: Generation,
}

#[derive(Debug)]
struct Predecessor {
    pid: u32,
    everup: String,
    line: Line,
    holds: Holds,
    /// What it is to be told as soon as there is room.
    unsent: Option<ToPredecessor>,
}

/// What came over a line to another worker.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Of the predecessor of this process id; None: it is gone.
    Predecessor(u32, Option<(ToSuccessor, Vec<OwnedFd>)>),
    /// Of the successor; None: it is gone.
    Successor(Option<ToPredecessor>),
}

/// Who wants to know what became of an upgrade.
#[derive(Debug, Default)]
pub(crate) struct Upgrades {
    asked: BTreeMap<u64, oneshot::Sender<Result<Upgraded, Refusal>>>,
    last: u64,
    /// What is to be told, and to whom, as soon as connections have moved.
    done: Option<Upgraded>,
    waits: Option<u64>,
}

impl Charge {
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours)
    }

    pub(crate) fn leaves(&self) -> bool {
        matches!(self, Self::Leaves(_))
    }

    fn line(&self) -> Option<&Line> {
        match self {
            Self::Ours => None,
            Self::Yielded(Yielded { line, .. }) | Self::Leaves(Leaves { line, .. }) => line.as_ref(),
        }
    }

    fn drop_line(&mut self) {
        match self {
            Self::Ours => {}
            Self::Yielded(Yielded { line, .. }) | Self::Leaves(Leaves { line, .. }) => *line = None,
        }
    }
}

/// The next thing that another worker says.
pub(crate) async fn hear(charge: &Charge, predecessors: &Predecessors) -> Heard {
    let of_successor = async {
        match charge.line() {
            Some(line) => Heard::Successor(line.hear().await.map(|(message, _)| message)),
            None => std::future::pending().await,
        }
    };
    let of_predecessors = std::future::poll_fn(|cx| {
        for one in &predecessors.all {
            if let Poll::Ready(said) = one.line.poll_hear(cx) {
                return Poll::Ready(Heard::Predecessor(one.pid, said));
            }
        }
        Poll::Pending
    });
    tokio::select! {
        heard = of_successor => heard,
        heard = of_predecessors => heard,
    }
}

// ----- the one that gives its place ------------------------------------------------------------------------------

impl Worker {
    /// Passes on that somebody wants another binary.
    pub(crate) fn ask_for_upgrade(
        &mut self,
        path: Option<String>,
        reply: oneshot::Sender<Result<Upgraded, Refusal>>,
    ) {
        if let Err(why) = self.needs_keeper() {
            return drop(reply.send(Err(why)));
        }
        let refusal = if self.line.is_none() || self.shutdown.is_under_way() {
            Some("everup is stopping".to_owned())
        } else if !self.charge.is_ours() || self.upgrades.asked.len() >= WAITING {
            Some(UNDER_WAY.to_owned())
        } else {
            // It would end with this worker.
            self.deployer.hook_under_way().map(|what| format!("{what}: try again when it is over"))
        };
        if let Some(why) = refusal {
            // Whoever asked may be gone.
            return drop(reply.send(Err(Refusal::Conflict(why))));
        }
        self.upgrades.last += 1;
        let ask = self.upgrades.last;
        self.deployer.audit(
            self.clock.now(),
            &format!("upgrade to {}", path.as_deref().unwrap_or("what lies at its path")),
        );
        self.upgrades.asked.insert(ask, reply);
        self.tell_keeper(ToKeeper::Upgrade { ask, path }, None);
    }

    /// Takes a message of the keeper about who is in charge, and while nobody is, about instances; gives back the others.
    pub(crate) fn on_succession(
        &mut self,
        now: Now,
        message: ToWorker,
        descriptor: Option<OwnedFd>,
    ) -> Option<ToWorker> {
        match message {
            ToWorker::Upgraded { ask, refused, everup, worker_pid } => {
                self.on_upgraded(ask, refused, everup, worker_pid)
            }
            ToWorker::Yield => self.yield_charge(descriptor.and_then(Line::of)),
            ToWorker::TakeBack => self.take_back(now),
            ToWorker::Leave => self.leave(now, descriptor.and_then(Line::of)),
            ToWorker::Predecessor { pid, everup, stores: _ } => {
                if let Some(line) = descriptor.and_then(Line::of) {
                    self.succeed(pid, everup, line);
                }
            }
            ToWorker::Started { .. } | ToWorker::StartFailed { .. } | ToWorker::Exited { .. } => {
                match &mut self.charge {
                    Charge::Ours => return Some(message),
                    Charge::Yielded(Yielded { kept, .. }) => kept.push(message),
                    // The successor's business.
                    Charge::Leaves(_) => {}
                }
            }
            other => return Some(other),
        }
        None
    }

    /// What may not be changed now is refused; gives back the others.
    pub(crate) fn unless_yielded(&self, command: Command) -> Option<Command> {
        if self.charge.is_ours() {
            return Some(command);
        }
        let why = || Refusal::Conflict(UNDER_WAY.to_owned());
        // Whoever asked may be gone.
        match command {
            Command::Drain { reply, .. } => drop(reply.send(Err(why()))),
            Command::Undrain { reply, .. } | Command::Weigh { reply, .. } | Command::Kill { reply, .. } => {
                drop(reply.send(Err(why())));
            }
            Command::Deploy { reply, .. } => drop(reply.send(Err(why()))),
            Command::Upgrade { reply, .. } => drop(reply.send(Err(why()))),
            Command::Plan { reply } => crate::reload::Asked::Plan(reply).refuse(UNDER_WAY.to_owned(), None),
            Command::Reload { reply } => {
                crate::reload::Asked::Reload(reply).refuse(UNDER_WAY.to_owned(), None)
            }
            question @ (Command::Status { .. }
            | Command::Explain { .. }
            | Command::Events { .. }
            | Command::Metrics { .. }
            | Command::Ready { .. }) => return Some(question),
        }
        None
    }

    fn yield_charge(&mut self, line: Option<Line>) {
        if !self.charge.is_ours() {
            return;
        }
        everup_failpoint::hit("upgrade.yield");
        tracing::info!("yields to another worker; traffic goes on");
        self.hooks.end_all();
        let stores = self.deployer.close();
        let notes = self.controller.notes().write();
        self.remembered = Some(notes.clone());
        if let Some(line) = &line {
            bequest::leave(self.controller.services(), line.link.get_ref());
        }
        self.tell_keeper(ToKeeper::Remember { notes }, None);
        self.tell_keeper(ToKeeper::Yielded { stores }, None);
        self.charge = Charge::Yielded(Yielded { kept: Vec::new(), line, succeeded: false });
    }

    fn take_back(&mut self, now: Now) {
        let Charge::Yielded(Yielded { kept, .. }) = std::mem::take(&mut self.charge) else { return };
        everup_failpoint::hit("upgrade.take_back");
        tracing::warn!("nobody took over: this worker goes on");
        let Self { deployer, controller, estate, .. } = self;
        deployer.reopen(now, &estate.state, controller);
        for message in kept {
            self.supervisor.handle(now.time, &message);
        }
        // Notes that came up meanwhile were not sent.
        let notes = self.controller.notes().write();
        self.remembered = Some(notes.clone());
        self.tell_keeper(ToKeeper::Remember { notes }, None);
    }

    /// Another worker serves.
    fn leave(&mut self, now: Now, line: Option<Line>) {
        match &mut self.charge {
            Charge::Ours => return tracing::error!("told to leave, and never to yield: goes on"),
            Charge::Leaves(leaves) => {
                // Another successor knows nothing yet.
                (leaves.line, leaves.told) = (line, None);
                let is_broken = |moves: &HandOver| matches!(moves.progress().stage, Stage::Broken(_));
                if leaves.moves.as_ref().is_some_and(is_broken) {
                    self.move_again();
                }
                return;
            }
            Charge::Yielded(_) => {}
        }
        everup_failpoint::hit("upgrade.leave");
        let Charge::Yielded(Yielded { line: known, .. }) = std::mem::take(&mut self.charge) else { return };
        let until = now.time + self.controller.patience();
        tracing::info!(connections = self.connections(), "another worker serves: finishes what it has");
        self.charge = Charge::Leaves(Leaves {
            began: now.time,
            until,
            ends: None,
            moves: None,
            line: line.or(known),
            ordered: Generation(0),
            obeyed: Generation(0),
            ours: Generation(0),
            told: None,
        });
        // The next keeper, if there is to be one, takes over the other worker.
        (self.estate.lock, self.estate.sockets) = (None, Copies::default());
        // Its servers end; who asks from now on asks the other worker.
        self.commands.close();
        self.controller.give_up_drains(MEANWHILE);
        self.deployer.give_up_waiting(MEANWHILE);
        self.greeted = true;
        (self.presenter)(Notice::Succeeded);
        let moves = self.hand_over_connections();
        if let (Some(moves), Charge::Leaves(leaves)) = (moves, &mut self.charge) {
            leaves.moves = Some(moves);
            // The keeper and the successor have the same sockets. Held here, those of an address that a reload takes away
            // would stay open, and clients would wait at them when it comes back.
            self.gateway.iter().for_each(everup_gateway::Gateway::let_go);
        } else {
            self.keep_connections();
        }
    }

    /// What the last successor had not taken goes to the next one.
    fn move_again(&mut self) {
        let again = self.hand_over_connections();
        if let (Some(again), Charge::Leaves(leaves)) = (again, &mut self.charge) {
            leaves.moves = Some(again);
        }
    }

    /// Connections go to the successor, if it can be reached.
    fn hand_over_connections(&self) -> Option<HandOver> {
        let (line, gateway) = (self.charge.line()?, self.gateway.as_ref()?);
        let begun = || -> Result<HandOver, String> {
            let pair = rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            );
            let (ours, theirs) = pair.map_err(|error| error.to_string())?;
            let sent = line.link.get_ref().try_send(&ToSuccessor::Connections, &[theirs.as_fd()]);
            match sent {
                Ok(true) => gateway.hand_over(ours).map_err(|error| error.to_string()),
                Ok(false) => Err("it does not listen".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        let begun = begun();
        begun.inspect_err(|why| tracing::warn!(why, "connections cannot move to the next worker")).ok()
    }

    /// Connections stay: each ends with its next answer.
    fn keep_connections(&mut self) {
        self.controller.leave_listeners();
        if let Some(gateway) = &self.gateway {
            gateway.let_go();
        }
    }

    /// The operator wants an end: in order, or at once.
    pub(crate) fn hasten_leaving(&mut self, now: Time, hasten: bool) {
        if let Charge::Leaves(leaves) = &mut self.charge
            && hasten
        {
            (leaves.until, leaves.ends) = (now, Some(now));
        }
    }

    /// Looks how far a worker that leaves has come. True: it may exit.
    pub(crate) fn look_at_leaving(&mut self, now: Now) -> bool {
        if !self.charge.leaves() {
            return false;
        }
        self.look_at_moves(now);
        let acknowledged = self.predecessors.acknowledged;
        let (generation, holds) = (self.controller.generation(), self.holds(now));
        let Charge::Leaves(leaves) = &mut self.charge else { return false };
        if leaves.ordered > leaves.obeyed {
            leaves.ours = leaves.ours.max(generation);
            if acknowledged >= leaves.ours {
                leaves.obeyed = leaves.ordered;
                leaves.ours = Generation(0);
            }
        }
        let holds = Holds { generation: leaves.obeyed, ..holds };
        if now.time >= leaves.until && leaves.ends.is_none() {
            // Those that were to move, or to stay for a while, have had their time.
            let farewell = if leaves.moves.is_some() { Duration::ZERO } else { FAREWELL };
            leaves.ends = Some(now.time + farewell);
            self.gateway.iter().for_each(everup_gateway::Gateway::begin_shutdown);
        }
        // Whoever asked something is still being answered: this worker's own handle is the last one.
        let talks = self.api.strong_count() > 1 && now.time < leaves.began + LAST_ANSWERS;
        let has_nothing = holds.connections == 0 && !talks;
        let is_over = has_nothing || leaves.ends.is_some_and(|ends| now.time >= ends);
        let is_news = leaves.told.as_ref().is_none_or(|told| !says_the_same(told, &holds));
        if is_news
            && let Some(line) = &leaves.line
            && line.say(&ToSuccessor::Holds(holds.clone()))
        {
            leaves.told = Some(holds);
        }
        if is_over && let Some(gateway) = self.gateway.take() {
            everup_failpoint::hit("upgrade.left");
            gateway.stop();
        }
        is_over
    }

    /// Looks how connections move, and tells whoever asked for the upgrade when they have.
    fn look_at_moves(&mut self, now: Now) {
        let Charge::Leaves(leaves) = &mut self.charge else { return };
        let progress = leaves.moves.as_ref().map(HandOver::progress);
        let (moves, moved) = match &progress {
            Some(Leaving { stage: Stage::Greeting | Stage::Moving, moved, .. }) => (true, *moved),
            Some(Leaving { stage: Stage::Settled | Stage::Broken(_), moved, .. }) => (false, *moved),
            Some(Leaving { stage: Stage::Refused(why), .. }) => {
                tracing::warn!(why, "connections cannot move to the next worker");
                leaves.moves = None;
                return self.keep_connections();
            }
            None => (false, Kinds::default()),
        };
        let is_late = now.time >= leaves.began + TOLD;
        if (!moves || is_late)
            && let Some(Upgraded { left, moved: told, .. }) = &mut self.upgrades.done
        {
            let Kinds { idle, relays, tunnels, websockets } = moved;
            *told = Moved { idle, relays, tunnels, websockets };
            left.ends_in_seconds = leaves.until.since(now.time).as_secs_f64();
            self.answer_upgraded();
        }
    }

    /// What is still here.
    fn holds(&self, now: Now) -> Holds {
        let held = |instance: &crate::service::Instance| Held {
            id: instance.id.clone(),
            in_flight: instance.shared.in_flight(),
            tunnels: instance.shared.tunnels(),
        };
        let services = self.controller.services();
        let instances = services.iter().flat_map(|service| &service.instances).map(held);
        let waiting = services.iter().map(|one| one.shared.parked.total() + one.shared.queued.total());
        let until = match &self.charge {
            Charge::Leaves(leaves) => leaves.until,
            Charge::Ours | Charge::Yielded(_) => now.time,
        };
        Holds {
            generation: Generation(0),
            connections: self.connections(),
            ends_in_ms: u64::try_from(until.since(now.time).as_millis()).unwrap_or(u64::MAX),
            instances: instances.filter(|held| held.in_flight > 0).collect(),
            waiting: waiting.sum(),
        }
    }

    /// The keeper is gone while this worker is not in charge. True: nothing else is to be done about it.
    pub(crate) fn outlives_keeper(&mut self, now: Now) -> bool {
        match &self.charge {
            Charge::Ours => return false,
            Charge::Leaves(_) => {}
            Charge::Yielded(Yielded { succeeded: true, .. }) => self.leave(now, None),
            // Its end of the line tells who is the one that serves.
            Charge::Yielded(Yielded { line: Some(_), .. }) => {}
            Charge::Yielded(Yielded { line: None, .. }) => {
                self.take_back(now);
                return false;
            }
        }
        true
    }

    /// Without a keeper nobody learns what became of them, but for one that is done.
    pub(crate) fn give_up_upgrades(&mut self) {
        let done = self.upgrades.waits;
        for (_, reply) in self.upgrades.asked.extract_if(.., |ask, _| Some(*ask) != done) {
            // Whoever asked may be gone.
            drop(reply.send(Err(Refusal::Conflict(KEEPER_DIED.to_owned()))));
        }
    }

    fn on_upgraded(&mut self, ask: u64, refused: Option<String>, everup: String, worker_pid: u32) {
        if let Some(why) = refused {
            let Some(reply) = self.upgrades.asked.remove(&ask) else { return };
            let why = format!("not upgraded, and nothing was changed: {why}");
            // Whoever asked may be gone.
            return drop(reply.send(Err(Refusal::Conflict(why))));
        }
        // Told when connections have moved.
        let version = crate::status::VERSION.to_owned();
        let left =
            LeavingWorker { pid: std::process::id(), version: version.clone(), ..LeavingWorker::default() };
        let (keeper_pid, moved) = (self.identity.keeper_pid, Moved::default());
        let upgraded = Upgraded { from: version, to: everup, keeper_pid, worker_pid, moved, left };
        (self.upgrades.done, self.upgrades.waits) = (Some(upgraded), Some(ask));
    }

    fn answer_upgraded(&mut self) {
        let Some(mut upgraded) = self.upgrades.done.take() else { return };
        let Some(reply) = self.upgrades.waits.take().and_then(|ask| self.upgrades.asked.remove(&ask)) else {
            return;
        };
        let Holds { connections, instances, waiting, .. } = self.holds(self.clock.now());
        let in_flight: u64 = instances.iter().map(|held| u64::from(held.in_flight)).sum();
        let tunnels: u64 = instances.iter().map(|held| u64::from(held.tunnels)).sum();
        let in_flight = in_flight.saturating_sub(tunnels) + waiting;
        upgraded.left = LeavingWorker { connections, in_flight, tunnels, ..upgraded.left };
        // Whoever asked may be gone.
        drop(reply.send(Ok(upgraded)));
    }
}

// ----- the one that takes its place -------------------------------------------------------------------------------

impl Worker {
    /// From now on this worker is the successor of that one, too.
    fn succeed(&mut self, pid: u32, everup: String, line: Line) {
        line.say(&ToPredecessor::Serves);
        self.predecessors.all.retain(|one| one.pid != pid);
        let holds = Holds::default();
        self.predecessors.all.push(Predecessor { pid, everup, line, holds, unsent: None });
        self.tell_takers();
    }

    /// Those that were inherited at the start. To be called when this worker serves.
    pub(crate) fn succeed_all(&mut self, inherited: Vec<Inherited>) {
        for Inherited { pid, everup, line, stores } in inherited {
            match Line::new(line) {
                Ok(line) => {
                    // The others have been left behind before.
                    if stores.is_some() {
                        let text = format!("everup was upgraded from {everup} to {}", crate::status::VERSION);
                        self.journal.of_everup(self.clock.now().wall, EventKind::Upgraded, text);
                    }
                    self.succeed(pid, everup, line);
                }
                Err(error) => tracing::error!(%error, "the last worker cannot be asked what it still has"),
            }
        }
    }

    /// Tells workers that leave who gets requests by the newest table.
    pub(crate) fn tell_takers(&mut self) {
        if self.predecessors.all.is_empty() {
            return;
        }
        let takers = self.controller.takers();
        if takers.len() > TAKERS {
            return;
        }
        let generation = self.controller.generation();
        for one in &mut self.predecessors.all {
            one.unsent = Some(ToPredecessor::Takes { generation, takers: takers.clone() });
        }
        self.predecessors.flush();
    }

    pub(crate) fn on_heard(&mut self, now: Now, heard: Heard) {
        match heard {
            Heard::Predecessor(pid, Some((ToSuccessor::Holds(holds), _))) => {
                if let Some(one) = self.predecessors.all.iter_mut().find(|one| one.pid == pid) {
                    one.holds = holds;
                }
                self.look_at_predecessors(now);
            }
            // It comes before this worker serves, or not at all.
            Heard::Predecessor(_, Some((ToSuccessor::Bequest, _))) => {}
            Heard::Predecessor(pid, Some((ToSuccessor::Connections, line))) => {
                let taken = line.into_iter().next().zip(self.gateway.as_ref());
                match taken.map(|(line, gateway)| gateway.take_over(line)) {
                    Some(Ok(_)) => tracing::debug!(pid, "takes connections over"),
                    Some(Err(error)) => {
                        tracing::error!(%error, "connections of the last worker cannot be taken")
                    }
                    None => {}
                }
            }
            Heard::Predecessor(pid, None) => {
                self.predecessors.all.retain(|one| one.pid != pid);
                self.look_at_predecessors(now);
            }
            Heard::Successor(Some(ToPredecessor::Serves)) => {
                if let Charge::Yielded(yielded) = &mut self.charge {
                    yielded.succeeded = true;
                }
                self.settle_without_keeper(now);
            }
            Heard::Successor(Some(ToPredecessor::Takes { generation, takers })) => {
                if let Charge::Leaves(leaves) = &mut self.charge {
                    leaves.ordered = leaves.ordered.max(generation);
                    self.controller.follow(now, &takers.into_iter().collect());
                }
            }
            Heard::Successor(None) => {
                self.charge.drop_line();
                self.settle_without_keeper(now);
            }
        }
    }

    /// While the keeper lives it says who is in charge.
    fn settle_without_keeper(&mut self, now: Now) {
        if self.line.is_none() && matches!(self.charge, Charge::Yielded(_)) && !self.outlives_keeper(now) {
            self.lose_keeper(now);
        }
    }

    /// What workers that leave still have counts as ours.
    fn look_at_predecessors(&mut self, now: Now) {
        let mut held = BTreeMap::<InstanceId, Left>::new();
        for one in self.predecessors.all.iter().flat_map(|one| &one.holds.instances) {
            let sum = held.entry(one.id.clone()).or_default();
            sum.in_flight += u64::from(one.in_flight);
            sum.tunnels += u64::from(one.tunnels);
        }
        self.controller.hold(&held);
        self.on_acknowledged(now);
    }

    /// All threads of this worker use this table.
    pub(crate) fn on_own_acknowledged(&mut self, now: Now, generation: Generation) {
        self.predecessors.acknowledged = self.predecessors.acknowledged.max(generation);
        self.on_acknowledged(now);
    }

    /// Looks which table every thread of every worker uses by now.
    fn on_acknowledged(&mut self, now: Now) {
        let generation = self.predecessors.acknowledged_by_all();
        self.controller.handle(now, crate::controller::Input::Acknowledged(generation));
        if !self.charge.leaves() {
            self.deployer.acknowledged(now, generation, &self.controller);
            self.look_at_reload(now);
        }
    }
}

impl Predecessors {
    /// What all threads of this worker use.
    pub(crate) fn own_acknowledged(&self) -> Generation {
        self.acknowledged
    }

    fn acknowledged_by_all(&self) -> Generation {
        let theirs = self.all.iter().map(|one| one.holds.generation).min();
        theirs.map_or(self.acknowledged, |theirs| theirs.min(self.acknowledged))
    }

    /// Sends what had no room before.
    pub(crate) fn flush(&mut self) {
        for one in &mut self.all {
            if one.unsent.as_ref().is_some_and(|message| one.line.say(message)) {
                one.unsent = None;
            }
        }
    }

    /// For the status.
    pub(crate) fn statuses(&self) -> Vec<LeavingWorker> {
        let status = |one: &Predecessor| {
            let all = |what: fn(&Held) -> u32| {
                one.holds.instances.iter().map(|held| u64::from(what(held))).sum::<u64>()
            };
            let tunnels = all(|held| held.tunnels);
            LeavingWorker {
                pid: one.pid,
                version: one.everup.clone(),
                connections: one.holds.connections,
                in_flight: all(|held| held.in_flight).saturating_sub(tunnels) + one.holds.waiting,
                tunnels,
                ends_in_seconds: Duration::from_millis(one.holds.ends_in_ms).as_secs_f64(),
            }
        };
        self.all.iter().map(status).collect()
    }
}

/// Apart from the time that is left, which everybody can count.
fn says_the_same(one: &Holds, other: &Holds) -> bool {
    let second = |holds: &Holds| holds.ends_in_ms / 1000;
    second(one) == second(other)
        && Holds { ends_in_ms: 0, ..one.clone() } == Holds { ends_in_ms: 0, ..other.clone() }
}

// ----- the line between them --------------------------------------------------------------------------------------

/// One end of the line between two workers.
#[derive(Debug)]
pub(crate) struct Line {
    link: AsyncFd<Link>,
}

impl Line {
    /// Must be called within a tokio runtime.
    #[expect(deprecated, reason = "its replacement is unsafe; a Link owns the one descriptor that it names")]
    fn new(link: Link) -> io::Result<Self> {
        Ok(Self { link: AsyncFd::with_interest(link, Interest::READABLE)? })
    }

    fn of(descriptor: OwnedFd) -> Option<Self> {
        Link::from_descriptor(descriptor).ok().and_then(|link| Self::new(link).ok())
    }

    /// True: it was sent, or nobody is there to hear it.
    fn say<M: Serialize>(&self, message: &M) -> bool {
        self.link.get_ref().try_send(message, &[]).unwrap_or(true)
    }

    /// What the other one says next; None: it is gone, or says what nobody understands.
    async fn hear<M: DeserializeOwned>(&self) -> Option<(M, Vec<OwnedFd>)> {
        std::future::poll_fn(|cx| self.poll_hear(cx)).await
    }

    fn poll_hear<M: DeserializeOwned>(&self, cx: &mut Context<'_>) -> Poll<Option<(M, Vec<OwnedFd>)>> {
        loop {
            let mut guard = match self.link.poll_read_ready(cx) {
                Poll::Ready(Ok(guard)) => guard,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            match self.link.get_ref().try_receive() {
                Ok(Received::Message(message, descriptors)) => {
                    return Poll::Ready(Some((message, descriptors)));
                }
                Ok(Received::Nothing) => guard.clear_ready(),
                Ok(Received::Gone) | Err(_) => return Poll::Ready(None),
            }
        }
    }
}

/// Instances that get requests by a table, and where they listen.
pub(crate) type Takers = BTreeMap<InstanceId, SocketAddr>;

/// Whether an instance gets requests, for a worker that only follows.
pub(crate) fn takes(availability: Availability) -> bool {
    match availability {
        Availability::Takes | Availability::Ejected => true,
        Availability::Draining | Availability::Down => false,
    }
}
