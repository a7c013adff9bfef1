//! An upgrade: everup goes on as another binary, and nobody notices. This is the whole story; the worker's half of the
//! acting is in `app/src/succession.rs`, that of connections in `edge/gateway`.
//!
//! ```text
//!   operator     old worker              keeper                                    new worker
//!      │ upgrade     │                      │ (old binary)
//!      ├────────────▶├── Upgrade ──────────▶│ 1 opens the file, if it can be trusted
//!      │             │                      │ 2 the file, as a child: reads the state, says what it can  (Proving)
//!      │             │                      │ 3 packs its state, executes the file                        (Proven)
//!      │             │                      ╪ (new binary, same process)
//!      │             │                      │ 4 starts a worker ──── Prepare ───────▶│ reads configuration, certificates,
//!      │             │                      │   (Preparing)    ◀──── Prepared ───────┤ everything that can fail
//!      │             │◀──── Yield ──────────┤ 5 (Yielding)                           │
//!      │   stops acting, closes the store   │                                        │
//!      │             ├──── Yielded ────────▶│                                        │
//!      │             │                      ├──── what runs, notes, Begin ──────────▶│ 6 opens the store,
//!      │             │                      │   (TakingOver)   ◀──── Ready ──────────┤   accepts, serves
//!      │             │◀──── Leave ──────────╪ 7 the commit point                     │
//!      │◀────────────┤ told what became of it                                        │
//!      │             │ 8 accepts nothing more, hands over or finishes what it has ──▶│ takes what can be moved
//!      │             │ exits                │                                        │
//! ```
//!
//! **What moves**: this process (its id, its children, its lock), the listening sockets (the same, nobody closes one) and
//! instances with the exec; what was learned of instances with the notes; what was deployed with the store; counters and
//! users' places with the old worker's bequest (`app/src/bequest.rs`); connections at 8, each as soon as it is idle.
//! **What stays** with the old worker until it is over: requests in flight, and connections that cannot change their
//! process; for the longest `drain.time` at most. Traffic waits for nothing: the old worker accepts until the new one does.
//!
//! **Who is in charge** (may start and stop instances, write the store): the old worker until it says Yielded; then nobody;
//! from Begin on the new one. The commit point is 7, here in [`Keeper::commit`] and nowhere else.
//!
//! | who dies, hangs or refuses | at | then |
//! | --- | --- | --- |
//! | the file | 1, 2 | refused with its words; nothing was changed |
//! | the exec | 3 | refused; this process is as it was |
//! | the next binary cannot read the state after all | 3 | it executes the old one again, which tells why |
//! | the new worker | 4, 5, 6 | it is killed; the old worker is told `TakeBack`, and we execute the old binary again |
//! | the old worker | 2, 3 | another one is started, as ever; the upgrade is off |
//! | the old worker | 4, 5, 6 | the new one takes charge at once, with the last notes; in-flight requests of the old one are lost |
//! | the old worker | 8 | the new one serves; what was still in flight in the old one is lost |
//! | the new worker | 8 | another one of the new binary takes its place, also as the one to whom connections move |
//! | the keeper | any | one worker serves on without it, and the next `everup run` takes that one over: the old one until it has \
//!   yielded and the new one serves, which its line to the new one tells it; who waited for Begin exits |
//! | SIGTERM | before 7 | the new worker is killed, the old one ends everything in order |
//! | SIGTERM | 8 | both workers finish what they have; instances are stopped after that |
//!
//! The state goes through the exec as `state.rs` tells. Signals wait over it: none is lost.

mod exec;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use everup_core::keeper::{ExitStatus, ToKeeper, ToWorker};
use everup_link::{Link, Received};
use rustix::process::Signal;

use crate::candidate::{self, Candidate};
use crate::keeper::{Keeper, Running};
use crate::state::{self, Asked};
use crate::worker::{Worker, signal_group};
use crate::{KeeperError, log};

pub(crate) use exec::resume;

/// A binary that has not proven itself within this time never will.
const PROOF: Duration = Duration::from_secs(5);
/// A new worker reads certificates and checks that it could write its files.
const PREPARE: Duration = Duration::from_secs(20);
/// The old worker waits for its disk when it closes the store.
const YIELD: Duration = Duration::from_secs(15);
/// The new worker waits for the disk too, and starts its threads.
const TAKE_OVER: Duration = Duration::from_secs(20);
/// Links that are full are read within this time, or the worker hangs.
const FLUSH: Duration = Duration::from_secs(5);
/// A killed worker is gone by then, unless the kernel holds it back.
const KILLED: Duration = Duration::from_secs(5);
/// An old worker ends by itself when its time is over; after that and this it is killed.
const LEAVE: Duration = Duration::from_secs(10);
/// So many old workers may finish what they have. Each is a whole worker's memory.
const LEAVING: usize = 8;
/// Messages of one worker that are taken at once.
const MESSAGES: usize = 1_000;

/// An upgrade that is under way.
#[derive(Debug)]
pub(crate) struct Upgrade {
    asked: Asked,
    step: Step,
    /// When the step has taken too long.
    until: Instant,
    /// The binary that we came from; None: we are still the old one.
    from: Option<(File, String)>,
    /// To the new worker, for those that leave already: they get them when it serves.
    lines: Lines,
}

/// Ends of lines to a worker, and which worker that leaves is to have them.
pub(crate) type Lines = Vec<(u32, OwnedFd)>;

#[derive(Debug)]
enum Step {
    /// The file is asked whether it could go on from here.
    Proving(Candidate),
    /// It could. It is executed as soon as workers have read what they were told.
    Proven(File),
    /// The new worker does all that can fail.
    Preparing(Worker),
    /// The old worker closes what only one may have; the line to it is the new one's.
    Yielding(Worker, Link),
    /// The new worker begins.
    TakingOver(Worker),
    /// The new worker, of this process id, is killed. When it is gone the old one takes back what it yielded.
    Failing { pid: u32, yielded: bool, why: String },
    /// Everything is as before, but that we are the new binary: the old one is executed as soon as its worker has read what
    /// it was told.
    Returning { why: String },
}

/// A worker that finishes what it has.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) worker: Worker,
    /// It is killed then.
    pub(crate) until: Instant,
}

// ----- in the old binary: 1 to 3 ----------------------------------------------------------------------------------

impl Keeper {
    /// The worker asks for an upgrade.
    pub(crate) fn on_upgrade_asked(&mut self, ask: u64, path: Option<String>) {
        if let Err(why) = self.begin_upgrade(ask, path) {
            log(&format!("not upgraded: {why}"));
            self.answer_upgrade(ask, Some(why));
        }
    }

    fn begin_upgrade(&mut self, ask: u64, path: Option<String>) -> Result<(), String> {
        if self.ending.is_some() {
            return Err("everup is being stopped".to_owned());
        }
        if self.upgrade.is_some() {
            return Err("another upgrade is under way".to_owned());
        }
        if self.reloads.has_any() {
            return Err("a reload is under way; try again when it is done".to_owned());
        }
        if state::configuration(self.texts.all()).as_ref() != Ok(&self.options.config) {
            return Err("everup runs by more than one version of its file; reload first".to_owned());
        }
        if self.leaving.len() >= LEAVING {
            let (pids, drain) = (self.leaving.iter().map(|one| one.worker.pid.to_string()), self.patience());
            let pids = pids.collect::<Vec<_>>().join(", ");
            return Err(format!(
                "the workers of {LEAVING} upgrades still finish what they have (processes {pids}); each is gone \
                 within drain.time ({} s)",
                drain.as_secs()
            ));
        }
        everup_failpoint::check("upgrade.open").map_err(|error| error.to_string())?;
        let path = path.map_or_else(|| self.options.everup.clone(), PathBuf::from);
        let binary = candidate::open(&path)?;
        let before = self.options.everup.clone().into_os_string();
        let asked = Asked { ask, path: path.into_os_string(), before };
        let text = self.pack_text(&asked);
        let candidate = Candidate::prove(binary, &text, &self.options, self.users.worker())?;
        log(&format!("upgrade: {} proves itself as process {}", asked.path().display(), candidate.pid));
        self.upgrade = Some(Upgrade {
            asked,
            step: Step::Proving(candidate),
            until: Instant::now() + PROOF,
            from: None,
            lines: Lines::new(),
        });
        Ok(())
    }

    fn on_proven(&mut self, status: ExitStatus) {
        let Some(upgrade) = &mut self.upgrade else { return };
        let Step::Proving(candidate) = &mut upgrade.step else { return };
        match candidate.judge(status) {
            Ok(_) => match candidate.binary.try_clone() {
                Ok(binary) => {
                    (upgrade.step, upgrade.until) = (Step::Proven(binary), Instant::now() + FLUSH);
                }
                Err(error) => self.refuse_upgrade(&format!("it cannot be kept open: {error}")),
            },
            Err(why) => self.refuse_upgrade(&why),
        }
    }

    /// Nothing has changed, and nothing will.
    fn refuse_upgrade(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        let why = format!("{}: {why}", upgrade.asked.path().display());
        log(&format!("not upgraded: {why}"));
        if let Step::Proving(candidate) = upgrade.step {
            signal_group(candidate.pid, Signal::KILL);
        }
        self.answer_upgrade(upgrade.asked.ask, Some(why));
    }

    /// Executes the file, unless a worker has not read everything yet, or there is something else to be heeded first.
    fn depart(&mut self) {
        if self.has_unread() {
            return;
        }
        let Some(Upgrade { step: Step::Proven(binary), asked, .. }) = &self.upgrade else { return };
        let (binary, asked) = (binary.try_clone(), asked.clone());
        let gone = binary.map_err(|error| error.to_string()).and_then(|binary| {
            everup_failpoint::check("upgrade.exec").map_err(|error| error.to_string())?;
            let ourselves = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
            self.execute(&binary, ourselves, &asked, None)
        });
        if let Err(why) = gone {
            self.refuse_upgrade(&format!("it could not be executed: {why}"));
        }
    }
}

// ----- in the new binary: 4 to 7 -----------------------------------------------------------------------------------

impl Keeper {
    /// We are the new binary.
    fn arrive(&mut self) {
        everup_failpoint::hit("upgrade.arrive");
        log(&format!(
            "upgrade: process {} is everup {} now; a worker of it prepares",
            std::process::id(),
            crate::VERSION
        ));
        match self.worker_in_waiting() {
            Ok(worker) => self.step_to(Step::Preparing(worker), PREPARE),
            Err(error) => self.fail_upgrade(error.to_string()),
        }
    }

    /// We are the old binary again.
    fn come_back(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        let why = format!("{}: {why}", upgrade.asked.path().display());
        log(&format!("not upgraded: {why}; everup {} goes on", crate::VERSION));
        // It may know already.
        self.answer_upgrade(upgrade.asked.ask, Some(why));
    }

    fn step_to(&mut self, step: Step, within: Duration) {
        if let Some(upgrade) = &mut self.upgrade {
            (upgrade.step, upgrade.until) = (step, Instant::now() + within);
        }
    }

    /// A worker that may do everything that nobody notices.
    fn worker_in_waiting(&self) -> Result<Worker, KeeperError> {
        let mut worker = Worker::start(&self.options, self.users.worker())?;
        worker.introduce(&self.options, &self.held, &self.lock, self.restarts);
        self.tell_what_runs(&mut worker);
        worker.tell(ToWorker::Prepare);
        Ok(worker)
    }

    /// Instances and notes, and what the operator must know.
    pub(crate) fn tell_what_runs(&self, worker: &mut Worker) {
        if let Some(text) = self.fallback.warning.clone() {
            worker.tell(ToWorker::Warning { text });
        }
        for (id, running) in &self.instances {
            let Running { pid, port, revision, stranger: _ } = running;
            let (id, revision) = (id.clone(), revision.clone());
            worker.tell(ToWorker::Adopt { id, pid: *pid, port: *port, revision });
        }
        if let Some(notes) = &self.notes {
            worker.tell(ToWorker::Notes { notes: notes.clone() });
        }
    }

    fn on_prepared(&mut self) {
        everup_failpoint::hit("upgrade.prepared");
        match self.take_step() {
            Some(Step::Preparing(new)) => match (&mut self.worker, Link::pair()) {
                (None, _) => self.charge(new, None, None),
                (Some(old), Ok((line, end))) => {
                    old.tell_with(ToWorker::Yield, end);
                    self.step_to(Step::Yielding(new, line), YIELD);
                }
                (Some(_), Err(error)) => {
                    self.step_to(Step::Preparing(new), PREPARE);
                    self.fail_upgrade(error.to_string());
                }
            },
            other => self.put_back(other),
        }
    }

    pub(crate) fn on_yielded(&mut self, stores: bool) {
        everup_failpoint::hit("upgrade.yielded");
        match self.take_step() {
            Some(Step::Yielding(new, line)) => self.charge(new, Some(line), Some(stores)),
            other => self.put_back(other),
        }
    }

    /// The new worker begins.
    fn charge(&mut self, mut new: Worker, line: Option<Link>, stores: Option<bool>) {
        self.tell_what_runs(&mut new);
        if let (Some(old), Some(line)) = (&self.worker, line) {
            let (pid, everup) = (old.pid, old.everup.clone());
            match line.as_fd().try_clone_to_owned() {
                Ok(line) => new.tell_with(ToWorker::Predecessor { pid, everup, stores }, line),
                Err(error) => {
                    self.step_to(Step::TakingOver(new), TAKE_OVER);
                    return self.fail_upgrade(error.to_string());
                }
            }
        }
        let lines = self.introduce_leaving(&mut new);
        new.tell(ToWorker::Begin);
        self.step_to(Step::TakingOver(new), TAKE_OVER);
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.lines = lines;
        }
        everup_failpoint::hit("upgrade.begun");
    }

    /// The commit point. Up to here everything can be as if nothing had happened; from here on the new worker is the one that
    /// serves, whatever happens to whom.
    fn commit(&mut self, mut new: Worker) {
        let Some(upgrade) = self.upgrade.take() else { return };
        let Asked { ask, path, .. } = upgrade.asked;
        let serves = new.pid;
        self.options.everup = path.into();
        (self.was_ready, self.quick_deaths) = (true, 0);
        new.ready = true;
        let old = self.worker.replace(new);
        let before = upgrade.from.map_or_else(String::new, |(_, everup)| everup);
        log(&format!("upgraded from everup {before} to {}: worker {serves} serves", crate::VERSION));
        self.connect_leaving(upgrade.lines);
        if let Some(mut old) = old {
            everup_failpoint::hit("upgrade.committed");
            let everup = crate::VERSION.to_owned();
            old.tell(ToWorker::Upgraded { ask, refused: None, everup, worker_pid: serves });
            old.tell(ToWorker::Leave);
            let until = Instant::now() + self.patience() + LEAVE;
            log(&format!(
                "worker {} finishes what it has, for {} s at most",
                old.pid,
                self.patience().as_secs()
            ));
            self.leaving.push(Leaving { worker: old, until });
        }
    }

    /// A worker that is about to begin while others finish what they have gets a line to each. It knows of them before it does
    /// anything: what they still use counts as used by it. The other ends are for [`Keeper::connect_leaving`].
    pub(crate) fn introduce_leaving(&self, worker: &mut Worker) -> Lines {
        let mut ends = Lines::new();
        for Leaving { worker: old, .. } in &self.leaving {
            let lines = Link::pair().and_then(|(line, end)| {
                let line = line.as_fd().try_clone_to_owned().map_err(everup_link::LinkError::System)?;
                Ok((line, end))
            });
            match lines {
                Ok((line, end)) => {
                    let (pid, everup) = (old.pid, old.everup.clone());
                    worker.tell_with(ToWorker::Predecessor { pid, everup, stores: None }, line);
                    ends.push((old.pid, end));
                }
                Err(error) => log(&format!("workers {} and {} have no line: {error}", old.pid, worker.pid)),
            }
        }
        ends
    }

    /// Workers that leave get their lines to their next successor.
    pub(crate) fn connect_leaving(&mut self, lines: Lines) {
        for (pid, end) in lines {
            if let Some(Leaving { worker: old, .. }) =
                self.leaving.iter_mut().find(|one| one.worker.pid == pid)
            {
                old.tell_with(ToWorker::Leave, end);
            }
        }
    }

    /// It does not work, for this reason: back to what was.
    fn fail_upgrade(&mut self, why: String) {
        log(&format!("upgrade: {why}; everup goes back to what it was"));
        let (pid, yielded) = match self.take_step() {
            Some(Step::Preparing(new)) => (new.pid, false),
            // It was told to, whether or not it has.
            Some(Step::Yielding(new, _) | Step::TakingOver(new)) => (new.pid, true),
            Some(other @ (Step::Proving(_) | Step::Proven(_))) => {
                self.put_back(Some(other));
                return self.refuse_upgrade(&why);
            }
            Some(Step::Returning { .. }) => return self.recede(false, why),
            other @ (Some(Step::Failing { .. }) | None) => return self.put_back(other),
        };
        signal_group(pid, Signal::KILL);
        self.step_to(Step::Failing { pid, yielded, why }, KILLED);
    }

    /// Nobody else is left: the old worker goes on.
    fn recede(&mut self, yielded: bool, why: String) {
        if yielded {
            self.tell(ToWorker::TakeBack);
        }
        if let Some(upgrade) = &self.upgrade {
            let (ask, path) = (upgrade.asked.ask, upgrade.asked.path());
            self.answer_upgrade(ask, Some(format!("{}: {why}", path.display())));
        }
        self.step_to(Step::Returning { why }, FLUSH);
    }

    /// Executes the old binary again. If that fails we stay what we are: workers of both speak to us.
    fn go_back(&mut self) {
        if self.has_unread() {
            if self.upgrade.as_ref().is_some_and(|upgrade| Instant::now() < upgrade.until) {
                return;
            }
            // What it has not read is lost with us, and it would not know that it is the one in charge.
            if let Some(worker) = self.worker.as_mut().filter(|worker| worker.has_unread()) {
                worker.condemn("it does not read what it is told");
            }
        }
        let Some(Upgrade { step: Step::Returning { why }, asked, from, .. }) = &self.upgrade else { return };
        let Some((old, _)) = from else { return };
        let returned = old.try_clone().map_err(|error| error.to_string()).and_then(|old| {
            let ourselves = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
            self.execute(&old, ourselves, asked, Some(why))
        });
        if let Err(why) = returned {
            log(&format!(
                "the old binary cannot be executed ({why}): everup {} keeps the old worker",
                crate::VERSION
            ));
            self.upgrade = None;
        }
    }
}

// ----- what the loop asks for --------------------------------------------------------------------------------------

impl Keeper {
    /// All workers beside the one that serves, with their links.
    pub(crate) fn other_workers(&self) -> impl Iterator<Item = &Worker> {
        let new = self.upgrade.as_ref().and_then(|upgrade| match &upgrade.step {
            Step::Preparing(new) | Step::Yielding(new, _) | Step::TakingOver(new) => Some(new),
            Step::Proving(_) | Step::Proven(_) | Step::Failing { .. } | Step::Returning { .. } => None,
        });
        new.into_iter()
            .chain(self.leaving.iter().map(|one| &one.worker))
            .filter(|worker| worker.lost.is_none())
    }

    fn new_worker_mut(&mut self) -> Option<&mut Worker> {
        match &mut self.upgrade.as_mut()?.step {
            Step::Preparing(new) | Step::Yielding(new, _) | Step::TakingOver(new) => Some(new),
            Step::Proving(_) | Step::Proven(_) | Step::Failing { .. } | Step::Returning { .. } => None,
        }
    }

    /// When an upgrade or an old worker has taken too long.
    pub(crate) fn upgrade_deadline(&self) -> Option<Instant> {
        let upgrade = self.upgrade.as_ref().map(|upgrade| upgrade.until);
        upgrade.into_iter().chain(self.leaving.iter().map(|one| one.until)).min()
    }

    /// Hears workers that do not serve, and takes the next step if it has come.
    pub(crate) fn look_at_upgrade(&mut self) {
        self.heed_new_worker();
        self.heed_leaving();
        let now = Instant::now();
        let Some(upgrade) = &self.upgrade else { return };
        let late = now >= upgrade.until;
        let serves = self.worker.as_ref().is_some_and(|worker| worker.ready && worker.lost.is_none());
        match &upgrade.step {
            Step::Proving(_) | Step::Proven(_) if !serves => {
                self.refuse_upgrade("the worker that asked has gone")
            }
            Step::Proving(_) if late => {
                self.refuse_upgrade(&format!("it did not prove itself within {} s", PROOF.as_secs()));
            }
            Step::Proven(_) if late => self.refuse_upgrade("the worker does not read what it is told"),
            Step::Proven(_) => self.depart(),
            Step::Yielding(..) if self.worker.is_none() => self.on_yielded(false),
            Step::Preparing(_) if late => {
                self.fail_upgrade("the new worker was not prepared in time".to_owned())
            }
            Step::Yielding(..) if late => {
                self.fail_upgrade("the old worker did not yield in time".to_owned())
            }
            Step::TakingOver(_) if late => {
                self.fail_upgrade("the new worker did not serve in time".to_owned())
            }
            Step::Failing { yielded, why, .. } if late => {
                let (yielded, why) = (*yielded, why.clone());
                self.recede(yielded, why);
            }
            Step::Returning { .. } => self.go_back(),
            Step::Proving(_)
            | Step::Preparing(_)
            | Step::Yielding(..)
            | Step::TakingOver(_)
            | Step::Failing { .. } => {}
        }
    }

    fn heed_new_worker(&mut self) {
        for _ in 0..MESSAGES {
            let Some(new) = self.new_worker_mut() else { return };
            match new.link.try_receive() {
                Ok(Received::Message(ToKeeper::Prepared, _)) => self.on_prepared(),
                Ok(Received::Message(ToKeeper::Ready, _)) => match self.take_step() {
                    Some(Step::TakingOver(new)) => return self.commit(new),
                    other => self.put_back(other),
                },
                // It is not in charge.
                Ok(Received::Message(_, _)) => {}
                Ok(Received::Nothing) => return,
                // How it ended is known when it is reaped.
                Ok(Received::Gone) => return new.lost = Some(Instant::now()),
                Err(error) => return self.fail_upgrade(error.to_string()),
            }
        }
    }

    fn heed_leaving(&mut self) {
        let now = Instant::now();
        for Leaving { worker, until } in &mut self.leaving {
            if now >= *until {
                log(&format!("worker {} did not end in time and is killed", worker.pid));
                worker.signal(Signal::KILL);
                *until = now + KILLED;
            }
            if worker.lost.is_some() {
                continue;
            }
            for _ in 0..MESSAGES {
                match worker.link.try_receive::<ToKeeper>() {
                    Ok(Received::Message(ToKeeper::Finished, _)) => worker.finished = true,
                    // It is not in charge any more.
                    Ok(Received::Message(_, _)) => {}
                    Ok(Received::Nothing) => break,
                    Ok(Received::Gone) | Err(_) => {
                        worker.lost = Some(now);
                        break;
                    }
                }
            }
        }
    }

    /// A process ended. True: it was one of ours.
    pub(crate) fn upgrade_reaped(&mut self, pid: u32, status: ExitStatus) -> bool {
        if let Some(at) = self.leaving.iter().position(|one| one.worker.pid == pid) {
            self.heed_leaving();
            let Leaving { worker, .. } = self.leaving.remove(at);
            worker.signal(Signal::KILL);
            match worker.finished && status == ExitStatus::Code(0) {
                true => log(&format!("worker {pid} of everup {} has finished", worker.everup)),
                false => {
                    log(&format!("worker {pid} of everup {} {status} before it had finished", worker.everup))
                }
            }
            return true;
        }
        let Some(upgrade) = &self.upgrade else { return false };
        match &upgrade.step {
            Step::Proving(candidate) if candidate.pid == pid => self.on_proven(status),
            Step::Failing { pid: new, yielded, why } if *new == pid => {
                let (yielded, why) = (*yielded, why.clone());
                self.recede(yielded, why);
            }
            Step::Preparing(new) | Step::Yielding(new, _) | Step::TakingOver(new) if new.pid == pid => {
                self.heed_new_worker();
                // Its last words may have been that it serves; then it is a worker like any other that died.
                if self.new_worker_mut().is_none_or(|new| new.pid != pid) {
                    return false;
                }
                self.fail_upgrade(format!("the new worker {status}; its own words stand above"));
                if let Some(Step::Failing { yielded, why, .. }) = self.take_step() {
                    self.recede(yielded, why);
                }
            }
            Step::Proving(_)
            | Step::Proven(_)
            | Step::Preparing(_)
            | Step::Yielding(..)
            | Step::TakingOver(_)
            | Step::Failing { .. }
            | Step::Returning { .. } => return false,
        }
        true
    }

    /// Everything is to end: with the worker that serves, and none that only prepares.
    pub(crate) fn abandon_upgrade(&mut self) {
        let Some(upgrade) = &self.upgrade else { return };
        let ask = upgrade.asked.ask;
        match self.take_step() {
            Some(other @ (Step::Proving(_) | Step::Proven(_))) => {
                self.put_back(Some(other));
                return self.refuse_upgrade("everup is being stopped");
            }
            Some(Step::Preparing(new)) => signal_group(new.pid, Signal::KILL),
            Some(Step::Yielding(new, _) | Step::TakingOver(new)) if self.worker.is_some() => {
                signal_group(new.pid, Signal::KILL);
                self.tell(ToWorker::TakeBack);
            }
            // There is no other.
            Some(Step::Yielding(new, _) | Step::TakingOver(new)) => self.worker = Some(new),
            Some(Step::Failing { yielded: true, .. }) => self.tell(ToWorker::TakeBack),
            Some(Step::Failing { yielded: false, .. } | Step::Returning { .. }) | None => {}
        }
        self.answer_upgrade(ask, Some("everup is being stopped".to_owned()));
        self.upgrade = None;
    }

    /// An instance ended: who is about to take over must know it as well.
    pub(crate) fn tell_heir(&mut self, message: &ToWorker) {
        if let Some(Upgrade { step: Step::TakingOver(new), .. }) = &mut self.upgrade {
            new.tell(message.clone());
        }
    }

    /// Sends what fits to workers that do not serve.
    pub(crate) fn flush_others(&mut self) {
        if let Some(new) = self.new_worker_mut().filter(|new| new.lost.is_none())
            && let Err(error) = new.flush()
        {
            new.lost = Some(Instant::now());
            log(&format!("upgrade: {error}"));
        }
        for Leaving { worker, .. } in self.leaving.iter_mut().filter(|one| one.worker.lost.is_none()) {
            if worker.flush().is_err() || worker.hangs() {
                worker.lost = Some(Instant::now());
            }
        }
    }

    fn has_unread(&self) -> bool {
        let leaving = self.leaving.iter().map(|one| &one.worker);
        self.worker.iter().chain(leaving).filter(|worker| worker.lost.is_none()).any(Worker::has_unread)
    }

    /// The longest `drain.time`.
    pub(crate) fn patience(&self) -> Duration {
        self.options.config.services.iter().map(|service| service.drain.time).max().unwrap_or_default()
    }

    fn answer_upgrade(&mut self, ask: u64, refused: Option<String>) {
        let (everup, worker_pid) =
            (crate::VERSION.to_owned(), self.worker.as_ref().map_or(0, |worker| worker.pid));
        self.tell(ToWorker::Upgraded { ask, refused, everup, worker_pid });
    }

    /// The step, to be put back by [`Keeper::step_to`] or [`Keeper::put_back`].
    fn take_step(&mut self) -> Option<Step> {
        let upgrade = self.upgrade.as_mut()?;
        Some(std::mem::replace(&mut upgrade.step, Step::Returning { why: String::new() }))
    }

    fn put_back(&mut self, step: Option<Step>) {
        if let (Some(upgrade), Some(step)) = (&mut self.upgrade, step) {
            upgrade.step = step;
        }
    }
}
