//! A worker whose keeper has died, for which there is no reason to stop: it has the sockets, and the instances live. It serves on,
//! tells everybody who asks, and waits at a door in the state directory for the next keeper (`everup run` again,
//! `keeper/src/adopt.rs`).
//!
//! ```text
//!   keeper dies ──▶ keeperless ── Hello at the door ──▶ everything is handed over ──▶ as before
//!                       │ SIGTERM: the end in order (`shutdown.rs`, `orphans.rs`)
//! ```
//!
//! What it can do itself, it does: it sees through pidfds when a process ends, and signals those that it may. It starts none: that
//! takes the keeper's rights, and its reading of the configuration.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use everup_admin::Refusal;
use everup_admin::api::EventKind;
use everup_core::ids::InstanceId;
use everup_core::instance::{LastExit, Phase};
use everup_core::keeper::{ExitStatus, PROTOCOL, StopSignal, ToKeeper, ToWorker, pieces};
use everup_instance::Change;
use everup_link::{DESCRIPTORS, Door, LinkError, Sockets};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock::Now;
use crate::keeper_line::KeeperLine;
use crate::orphans::Orphans;
use crate::worker::{Worker, of_keeper};

/// What whoever needs a keeper is told.
pub(crate) const GONE: &str = "the keeper is gone: start `everup run` again with the same configuration file; it takes over what \
                               runs, and nothing is interrupted";

/// Where the next keeper knocks, in the state directory.
const DOOR: &str = "worker.sock";

/// What there is instead of a keeper.
#[derive(Debug)]
pub(crate) struct Keeperless {
    /// None: it could not be opened, as was told.
    door: Option<AsyncFd<Door>>,
    /// Somebody has knocked, and has said nothing yet.
    knocking: Option<KeeperLine>,
    processes: BTreeMap<InstanceId, Process>,
}

#[derive(Debug)]
struct Process {
    /// Also its group.
    pid: Pid,
    /// None: it had ended before anybody looked.
    watched: Option<OwnedFd>,
}

impl Keeperless {
    /// Watches the processes of `instances` and opens the door.
    fn new(instances: impl Iterator<Item = Change>, state: &Path) -> Self {
        let process = |change: Change| {
            let pid = Pid::from_raw(i32::try_from(change.pid?).ok()?)?;
            Some((change.id, Process { pid, watched: pidfd_open(pid, PidfdFlags::empty()).ok() }))
        };
        let path = state.join(DOOR);
        let door = Door::open(&path).and_then(open_to_news);
        if let Err(error) = &door {
            tracing::error!(path = %path.display(), %error, "no other keeper can take this worker over");
        }
        Self { door: door.ok(), knocking: None, processes: instances.filter_map(process).collect() }
    }

    /// Those that have ended since the last look, with what they left in their groups.
    fn ended(&mut self) -> Vec<(InstanceId, u32)> {
        let ended = self.processes.extract_if(.., |_, process| process.has_ended());
        let ended = ended.map(|(id, process)| {
            // What it left there would hold its port and never end.
            let _ = kill_process_group(process.pid, Signal::KILL);
            (id, process.pid.as_raw_nonzero().get().cast_unsigned())
        });
        ended.collect()
    }

    fn signal(&self, id: &InstanceId, signal: StopSignal) {
        let Some(process) = self.processes.get(id).filter(|process| !process.has_ended()) else { return };
        let signal = match signal {
            StopSignal::Terminate => Signal::TERM,
            StopSignal::Kill => Signal::KILL,
        };
        if let Err(error) = kill_process_group(process.pid, signal) {
            tracing::error!(instance = %id, %error, "cannot be signalled: {GONE}");
        }
    }

    /// The first word of whoever knocks, and the line to them.
    async fn knock(&mut self) -> (KeeperLine, ToWorker) {
        let Self { door, knocking, .. } = self;
        loop {
            tokio::select! {
                // Who knocks later takes the place of who says nothing.
                line = accepted(door) => *knocking = line.or_else(|| knocking.take()),
                said = of_keeper(knocking) => {
                    if let (Ok(Some((message, _))), Some(line)) = (said, knocking.take()) {
                        return (line, message);
                    }
                }
            }
        }
    }
}

/// The first word of another keeper; never, while there is one.
pub(crate) async fn knock(keeperless: &mut Option<Keeperless>) -> (KeeperLine, ToWorker) {
    match keeperless {
        Some(keeperless) => keeperless.knock().await,
        None => std::future::pending().await,
    }
}

#[expect(deprecated, reason = "its replacement is unsafe; a Door owns the one descriptor that it names")]
fn open_to_news(door: Door) -> std::io::Result<AsyncFd<Door>> {
    AsyncFd::with_interest(door, Interest::READABLE)
}

/// Somebody of our own user, or root.
async fn accepted(door: &mut Option<AsyncFd<Door>>) -> Option<KeeperLine> {
    let Some(door) = door else { return std::future::pending().await };
    let Ok(mut guard) = door.readable().await else { return std::future::pending().await };
    match guard.get_inner().try_accept() {
        Ok(Some((link, peer))) if [0, rustix::process::getuid().as_raw()].contains(&peer.uid) => {
            KeeperLine::new(link).ok()
        }
        Ok(Some((_, peer))) => {
            tracing::warn!(pid = peer.pid, uid = peer.uid, "another user has knocked and is not let in");
            None
        }
        Ok(None) => {
            guard.clear_ready();
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a keeper has knocked and could not be let in");
            guard.clear_ready();
            None
        }
    }
}

impl Process {
    /// A pidfd is readable once its process has ended.
    fn has_ended(&self) -> bool {
        let Some(watched) = &self.watched else { return true };
        let mut fds = [PollFd::new(watched, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Worker {
    /// The keeper has died. While everything ends, that goes on; otherwise nothing ends.
    pub(crate) fn lose_keeper(&mut self, now: Now) {
        self.line = None;
        self.give_up_upgrades();
        if self.outlives_keeper(now) {
            return;
        }
        self.reloads.keeper_gone();
        if self.shutdown.is_under_way() {
            tracing::error!("the keeper is gone: the worker ends what is left");
            return self.end_alone(now);
        }
        let pid = self.identity.keeper_pid;
        tracing::error!(keeper = pid, "{GONE}. Until then traffic goes on, but no process is started");
        let text = format!("the keeper (process {pid}) is gone; traffic goes on");
        self.journal.of_everup(now.wall, EventKind::KeeperGone, text);
        self.keeperless = Some(Keeperless::new(self.supervisor.instances(), &self.estate.state));
        self.look_after_processes(now);
        self.fail_starts(now);
    }

    /// Nobody else ends what runs: looked at from now on by this process.
    pub(crate) fn end_alone(&mut self, now: Now) {
        self.keeperless = None;
        let mut orphans = Orphans::new(self.supervisor.instances());
        if let Some(grace) = self.shutdown.grace() {
            // The keeper may have gone before it passed the order on.
            orphans.stop(now.time, grace.min(self.controller.patience()));
        }
        self.orphans = Some(orphans);
    }

    /// Nobody answers any more whether those that were asked for were started.
    fn fail_starts(&mut self, now: Now) {
        let is_asked_for = |change: &Change| {
            matches!(change.phase, Phase::Starting | Phase::Stopping) && change.pid.is_none()
        };
        let asked: Vec<_> =
            self.supervisor.instances().filter(is_asked_for).map(|change| change.id).collect();
        for id in asked {
            let refused = ToWorker::StartFailed { id, reason: GONE.to_owned() };
            self.supervisor.handle(now.time, &refused);
        }
    }

    /// Tells the supervisor who has ended: nobody else does.
    pub(crate) fn look_after_processes(&mut self, now: Now) {
        let ended = self.keeperless.as_mut().map(Keeperless::ended).unwrap_or_default();
        for (id, pid) in ended {
            self.supervisor.handle(now.time, &ToWorker::Exited { id, pid, status: ExitStatus::Unknown });
        }
    }

    /// What the keeper would do with this.
    pub(crate) fn do_without_keeper(&mut self, message: ToKeeper) {
        match message {
            ToKeeper::Start { id, .. } => {
                let refused = ToWorker::StartFailed { id, reason: GONE.to_owned() };
                self.supervisor.handle(self.clock.now().time, &refused);
            }
            ToKeeper::Signal { id, signal } => {
                if let Some(keeperless) = &self.keeperless {
                    keeperless.signal(&id, signal);
                }
            }
            // The next one is told when it comes, or need not know.
            ToKeeper::Remember { .. }
            | ToKeeper::Ready
            | ToKeeper::Alive { .. }
            | ToKeeper::Finished
            | ToKeeper::Reload { .. }
            | ToKeeper::Reloaded { .. }
            | ToKeeper::Upgrade { .. }
            | ToKeeper::Prepared
            | ToKeeper::Yielded { .. }
            | ToKeeper::Orphan { .. }
            | ToKeeper::Runs { .. }
            | ToKeeper::Holds { .. }
            | ToKeeper::Lock
            | ToKeeper::Instance { .. } => {}
        }
    }

    /// Why something that needs a keeper is refused.
    pub(crate) fn needs_keeper(&self) -> Result<(), Refusal> {
        match self.line {
            None if !self.shutdown.is_under_way() => Err(Refusal::Conflict(GONE.to_owned())),
            _ => Ok(()),
        }
    }

    /// Another keeper takes over, if it can: it gets everything that this worker has from the last one.
    pub(crate) fn on_knock(&mut self, now: Now, mut line: KeeperLine, message: ToWorker) {
        let ToWorker::Hello { protocol, config_path, keeper_pid, restarts: _ } = message else {
            tracing::warn!("somebody knocked who is no keeper");
            return;
        };
        if protocol != PROTOCOL {
            // It reads ours from the first word, and says what is to be done.
            tracing::error!(keeper = keeper_pid, "is of another version of everup and cannot take over");
            line.send(ToKeeper::Orphan { protocol: PROTOCOL, restarts: self.identity.worker_restarts }, None);
            return;
        }
        if let Err(error) = self.hand_over(now, &mut line) {
            tracing::error!(%error, keeper = keeper_pid, "cannot be taken over");
            return;
        }
        everup_failpoint::hit("taken-over");
        self.line = Some(line);
        self.keeperless = None;
        (self.identity.config, self.identity.keeper_pid) = (config_path, keeper_pid);
        tracing::info!(keeper = keeper_pid, "taken over by another keeper");
        let text = format!("another keeper (process {keeper_pid}) has taken over");
        self.journal.of_everup(now.wall, EventKind::KeeperBack, text);
        self.start_again(now);
    }

    fn hand_over(&mut self, now: Now, line: &mut KeeperLine) -> Result<(), LinkError> {
        self.look_after_processes(now);
        let sockets = self.estate.sockets.again().map_err(LinkError::System)?;
        let lock = self.estate.lock.as_ref().map(OwnedFd::try_clone).transpose();
        let lock = lock.map_err(LinkError::System)?;
        line.send(ToKeeper::Orphan { protocol: PROTOCOL, restarts: self.identity.worker_restarts }, None);
        pieces(&self.estate.text)
            .for_each(|piece| line.send(ToKeeper::Runs { piece: piece.to_owned() }, None));
        for Sockets { role, address, mut descriptors } in sockets {
            while !descriptors.is_empty() {
                let rest = descriptors.split_off(descriptors.len().min(DESCRIPTORS));
                line.send_with(ToKeeper::Holds { role, address: address.clone() }, descriptors);
                descriptors = rest;
            }
        }
        if let Some(lock) = lock {
            line.send(ToKeeper::Lock, Some(lock));
        }
        for Change { id, pid, port, revision, .. } in self.supervisor.instances() {
            if let (Some(pid), Some(port)) = (pid, port) {
                line.send(ToKeeper::Instance { id, pid, port, revision }, None);
            }
        }
        if let Some(notes) = self.remembered.clone() {
            line.send(ToKeeper::Remember { notes }, None);
        }
        line.send(ToKeeper::Ready, None);
        Ok(())
    }

    /// Those that could not be started for want of a keeper have waited long enough.
    fn start_again(&mut self, now: Now) {
        let waits = |change: &Change| {
            let for_a_keeper =
                matches!(&change.last_exit, Some(LastExit::NotStarted(reason)) if reason == GONE);
            change.phase == Phase::Backoff && for_a_keeper
        };
        let waiting: Vec<_> = self.supervisor.instances().filter(waits).map(|change| change.id).collect();
        for id in waiting {
            self.supervisor.stop(now.time, &id);
            self.supervisor.start(now.time, &id);
        }
    }
}
