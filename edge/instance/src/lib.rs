//! Runs the instances of services with a `run` section: the doing half of `everup_core::instance`.
//!
//! [`Supervisor`] gives every instance a port and a log file, asks the keeper to start and to signal its process,
//! and tells what became of it. It forks nothing (the keeper does), probes nothing (`edge/health` does) and decides
//! nothing (core does). It has no thread and no clock of its own, except for the rotation of log files, so that its
//! owner can keep it in a plain loop:
//!
//! ```text
//! let mut supervisor = Supervisor::new(state.join("log"), seed, &config.services)?;
//! for adopted in inherited.adopted { supervisor.adopt(now, …) }       // before start_all
//! supervisor.start_all(now);
//! loop {
//!     while let Some(output) = supervisor.poll_output() {             // after every call below, until None
//!         match output {
//!             Output::Tell(message, log) => link.send(&message, &log's descriptor),
//!             Output::Changed(change)    => …,                        // watch its health, publish a new table
//!         }
//!     }
//!     wait for the first of:
//!         a message of the keeper       => supervisor.handle(now, &message)      // ignores what is not about instances
//!         supervisor.next_wakeup()      => supervisor.wake(now)
//!         the health verdict Up         => supervisor.became_up(now, &id)
//!         an operator                   => supervisor.kill / stop / start
//! }
//! ```
//!
//! A process is there while [`Change::pid`] is set; its port is [`Change::port`] and is new at every start, so an
//! instance that comes back has another address. To end everything: drain first, then [`Supervisor::stop_all`], then
//! go on with the loop until [`Supervisor::all_stopped`].

mod log;
mod ports;
mod rotation;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everup_core::config;
use everup_core::ids::InstanceId;
use everup_core::instance::{Input, LastExit, Machine, Output as Decision, Phase};
use everup_core::keeper::{StopSignal, ToKeeper, ToWorker};
use everup_core::time::Time;

use ports::Ports;
use rotation::Rotator;

/// Why there can be no supervisor. (What goes wrong with a single instance is told in its [`Change`].)
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The operating system gave no thread.
    #[error("the thread that rotates log files cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// What the owner has to do for the supervisor.
#[derive(Debug)]
pub enum Output {
    /// Send this to the keeper, with the descriptor beside it if there is one.
    Tell(ToKeeper, Option<OwnedFd>),
    /// An instance is no longer what it was.
    Changed(Change),
}

/// An instance as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub id: InstanceId,
    /// What its process does.
    pub phase: Phase,
    /// Its process, if there is one. Also its process group.
    pub pid: Option<u32>,
    /// The port of the process, also while it starts. It listens at `127.0.0.1` or everywhere, as it likes.
    pub port: Option<u16>,
    /// The revision it runs or would run.
    pub revision: String,
    /// How often it was restarted, also under earlier workers if they were told.
    pub restarts: u32,
    /// It dies again and again.
    pub crash_loop: bool,
    /// How its last process ended.
    pub last_exit: Option<LastExit>,
    /// When the phase began.
    pub since: Time,
}

/// All instances that everup runs.
#[derive(Debug)]
pub struct Supervisor {
    logs: PathBuf,
    ports: Ports,
    rotator: Rotator,
    instances: BTreeMap<InstanceId, Entry>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Entry {
    machine: Machine,
    revision: String,
    /// The service's `drain.time`: the grace between SIGTERM and SIGKILL.
    grace: Duration,
    log: config::Log,
    pid: Option<u32>,
    port: Option<u16>,
    /// It is forgotten once its process has ended.
    leaves: bool,
}

impl Supervisor {
    /// Knows every instance of every service with a `run` section; none is started yet. `logs` is the directory for
    /// `SERVICE/INSTANCE.log`, made when needed; `seed` chooses the first port.
    pub fn new(logs: PathBuf, seed: u64, services: &[config::Service]) -> Result<Self, InstanceError> {
        let instances = services.iter().flat_map(entries).collect();
        let rotator = Rotator::spawn().map_err(InstanceError::Thread)?;
        Ok(Self { logs, ports: Ports::new(seed), rotator, instances, outputs: VecDeque::new() })
    }

    /// Knows one instance more; it is not started yet. One that is known already is left as it is, but that one that was being
    /// stopped can be started again, with this revision.
    pub fn add(&mut self, id: InstanceId, service: &config::Service, revision: &str) {
        let Some(run) = &service.run else { return };
        let entry = self.instances.entry(id).or_insert_with(|| Entry::new(run, service.drain.time, revision));
        entry.leaves = false;
        if matches!(entry.machine.phase(), Phase::Stopped | Phase::Stopping) {
            revision.clone_into(&mut entry.revision);
        }
    }

    /// Knows it no more. It must have no process.
    pub fn remove(&mut self, id: &InstanceId) {
        self.instances.remove(id);
        self.rotator.forget(log::path(&self.logs, id));
    }

    /// Deletes the log files of a service's instances that are not known now and that `is_old` by their names.
    pub fn delete_logs(&self, service: &str, is_old: impl Fn(&str) -> bool) {
        let is_known =
            |name: &str| self.instances.keys().any(|id| *id.service == *service && *id.instance == *name);
        let is_old = |name: &str| !is_known(name) && is_old(name);
        if let Err(error) = log::delete(&self.logs.join(service), is_old) {
            tracing::warn!(service, %error, "old log files cannot be deleted");
        }
    }

    /// Takes over a process that runs already. `restarts` is what the last worker remembered, or 0. One that is not
    /// wanted (its service is gone from the configuration) is terminated.
    pub fn adopt(&mut self, now: Time, id: &InstanceId, pid: u32, port: u16, revision: &str, restarts: u32) {
        let Some(entry) = self.instances.get_mut(id) else {
            let signal = ToKeeper::Signal { id: id.clone(), signal: StopSignal::Terminate };
            self.outputs.push_back(Output::Tell(signal, None));
            return;
        };
        entry.machine = Machine::new(restarts);
        entry.pid = Some(pid);
        entry.port = Some(port);
        revision.clone_into(&mut entry.revision);
        self.ports.reserve(port);
        self.rotator.watch(log::path(&self.logs, id), entry.log.clone());
        self.tell(now, id, Input::Adopt);
    }

    /// The known instances of this service go by these settings from now on, but for what their processes were started
    /// with.
    pub fn resettle(&mut self, service: &config::Service) {
        let Some(run) = &service.run else { return };
        for (id, known) in self.instances.iter_mut().filter(|(id, _)| id.service == service.name) {
            (known.grace, known.log) = (service.drain.time, run.log.clone());
            if known.pid.is_some() {
                self.rotator.watch(log::path(&self.logs, id), known.log.clone());
            }
        }
    }

    /// Ends this instance like [`Supervisor::stop`], and forgets it then.
    pub fn dismiss(&mut self, now: Time, id: &InstanceId) {
        if let Some(entry) = self.instances.get_mut(id) {
            entry.leaves = true;
            self.stop(now, id);
            self.forget_dismissed(id);
        }
    }

    fn forget_dismissed(&mut self, id: &InstanceId) {
        let is_over = |entry: &Entry| entry.leaves && entry.machine.phase() == Phase::Stopped;
        if self.instances.get(id).is_some_and(is_over) {
            self.instances.remove(id);
        }
    }

    /// Every instance is wanted.
    pub fn start_all(&mut self, now: Time) {
        self.tell_all(now, |_| Input::Start);
    }

    /// This instance is wanted.
    pub fn start(&mut self, now: Time, id: &InstanceId) {
        self.tell(now, id, Input::Start);
    }

    /// Takes a message of the keeper.
    pub fn handle(&mut self, now: Time, message: &ToWorker) {
        match message {
            ToWorker::Started { id, pid } => {
                if let Some(entry) = self.instances.get_mut(id) {
                    entry.pid = Some(*pid);
                }
                self.tell(now, id, Input::Started);
            }
            ToWorker::StartFailed { id, reason } => {
                self.forget_process(id);
                self.tell(now, id, Input::StartFailed(reason.clone()));
                self.forget_dismissed(id);
            }
            ToWorker::Exited { id, pid, status } => {
                if self.instances.get(id).is_some_and(|entry| entry.pid == Some(*pid)) {
                    self.forget_process(id);
                    self.tell(now, id, Input::Exited(*status));
                    self.forget_dismissed(id);
                }
            }
            ToWorker::Hello { .. }
            | ToWorker::ConfigText { .. }
            | ToWorker::Sockets { .. }
            | ToWorker::Adopt { .. }
            | ToWorker::Notes { .. }
            | ToWorker::Revision { .. }
            | ToWorker::Lock
            | ToWorker::Warning { .. }
            | ToWorker::Begin
            | ToWorker::Change { .. }
            | ToWorker::Kept { .. }
            | ToWorker::NewConfig { .. }
            | ToWorker::Committed { .. }
            | ToWorker::Prepare
            | ToWorker::Predecessor { .. }
            | ToWorker::Upgraded { .. }
            | ToWorker::Yield
            | ToWorker::TakeBack
            | ToWorker::Leave
            | ToWorker::Shutdown { .. } => {}
        }
    }

    /// Its health checks pass.
    pub fn became_up(&mut self, now: Time, id: &InstanceId) {
        self.tell(now, id, Input::BecameUp);
    }

    /// Ends this instance: SIGTERM, and SIGKILL after its service's `drain.time`. Its requests should be drained.
    pub fn stop(&mut self, now: Time, id: &InstanceId) {
        if let Some(grace) = self.instances.get(id).map(|entry| entry.grace) {
            self.tell(now, id, Input::Stop { grace });
        }
    }

    /// Ends all instances, giving none more than `at_most` after SIGTERM. A second call can only shorten the time.
    pub fn stop_all(&mut self, now: Time, at_most: Duration) {
        self.tell_all(now, |entry| Input::Stop { grace: entry.grace.min(at_most) });
    }

    /// Kills the instance's process group now; a wanted instance is started again.
    pub fn kill(&mut self, now: Time, id: &InstanceId) {
        self.tell(now, id, Input::Kill);
    }

    /// When to call [`Supervisor::wake`].
    pub fn next_wakeup(&self) -> Option<Time> {
        self.instances.values().filter_map(|entry| entry.machine.next_wakeup()).min()
    }

    /// The time has come. Calling it more often does no harm.
    pub fn wake(&mut self, now: Time) {
        let due: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, entry)| entry.machine.next_wakeup().is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        due.iter().for_each(|id| self.tell(now, id, Input::Wakeup));
    }

    /// What the owner has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Every instance as it is now, ordered by service and instance name.
    pub fn instances(&self) -> impl Iterator<Item = Change> {
        self.instances.iter().map(|(id, entry)| entry.as_change(id))
    }

    /// No instance has a process and none is about to get one.
    pub fn all_stopped(&self) -> bool {
        self.instances.values().all(|entry| entry.machine.phase() == Phase::Stopped)
    }

    /// The last lines that the instance wrote, oldest first: at most `count`, from at most the last 4 KiB, with
    /// control characters escaped. Empty if there are none or the file cannot be read.
    pub fn last_lines(&self, id: &InstanceId, count: usize) -> Vec<String> {
        log::last_lines(&log::path(&self.logs, id), count).unwrap_or_default()
    }

    fn tell_all(&mut self, now: Time, input: impl Fn(&Entry) -> Input) {
        let inputs: Vec<_> = self.instances.iter().map(|(id, entry)| (id.clone(), input(entry))).collect();
        for (id, input) in inputs {
            self.tell(now, &id, input);
        }
    }

    /// Hands the machine one input and does what it decides.
    fn tell(&mut self, now: Time, id: &InstanceId, input: Input) {
        let Self { logs, ports, rotator, instances, outputs } = self;
        let Some(entry) = instances.get_mut(id) else { return };
        entry.machine.handle(now, input);
        while let Some(decision) = entry.machine.poll_output() {
            match decision {
                Decision::Changed => outputs.push_back(Output::Changed(entry.as_change(id))),
                Decision::Signal(signal) => {
                    outputs.push_back(Output::Tell(ToKeeper::Signal { id: id.clone(), signal }, None));
                }
                Decision::StartProcess => match entry.prepare(id, logs, ports) {
                    Ok((start, log)) => {
                        rotator.watch(log::path(logs, id), entry.log.clone());
                        outputs.push_back(Output::Changed(entry.as_change(id)));
                        outputs.push_back(Output::Tell(start, Some(log.into())));
                    }
                    Err(reason) => entry.machine.handle(now, Input::StartFailed(reason)),
                },
            }
        }
    }

    fn forget_process(&mut self, id: &InstanceId) {
        let Some(entry) = self.instances.get_mut(id) else { return };
        entry.pid = None;
        if let Some(port) = entry.port.take() {
            self.ports.give_back(port);
        }
    }
}

impl Entry {
    fn new(run: &config::Run, grace: Duration, revision: &str) -> Self {
        let (machine, revision, log) = (Machine::default(), revision.to_owned(), run.log.clone());
        Self { machine, revision, grace, log, pid: None, port: None, leaves: false }
    }

    /// Everything that a process needs before it can start. The error is in words for the operator.
    fn prepare(
        &mut self,
        id: &InstanceId,
        logs: &Path,
        ports: &mut Ports,
    ) -> Result<(ToKeeper, File), String> {
        let path = log::path(logs, id);
        let log =
            log::open(&path).map_err(|e| format!("its log file {} cannot be opened: {e}", path.display()))?;
        let port = ports.take().ok_or("every port from 20000 to 29999 is in use")?;
        self.port = Some(port);
        Ok((ToKeeper::Start { id: id.clone(), port, revision: self.revision.clone() }, log))
    }

    fn as_change(&self, id: &InstanceId) -> Change {
        Change {
            id: id.clone(),
            phase: self.machine.phase(),
            pid: self.pid,
            port: self.port,
            revision: self.revision.clone(),
            restarts: self.machine.restarts(),
            crash_loop: self.machine.crash_loop(),
            last_exit: self.machine.last_exit().cloned(),
            since: self.machine.since(),
        }
    }
}

/// The instances of one service, `SERVICE-1` to `SERVICE-N`; none if it has no `run` section.
fn entries(service: &config::Service) -> impl Iterator<Item = (InstanceId, Entry)> {
    let replicas = service.run.as_ref().map_or(0, |run| run.replicas);
    (1..=replicas).zip(std::iter::repeat(service)).filter_map(|(number, service)| {
        let run = service.run.as_ref()?;
        let id = InstanceId::new(service.name.clone(), format!("{}-{number}", service.name));
        Some((id, Entry::new(run, service.drain.time, &run.revision)))
    })
}

#[cfg(test)]
mod tests;
