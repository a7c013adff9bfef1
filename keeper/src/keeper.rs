//! The keeper's loop: wait, heed signals, heed the worker, reap, keep a worker, keep the deadline, reload.
//!
//! ```text
//!            worker died: another one, at once or after a pause
//!              ┌────┐
//!   start ──▶ Serving ── SIGINT, SIGTERM ──────────▶ Ending ── worker and instances gone ──▶ over
//!                └── first worker died unready ───────▶ │
//!                                                       │ again: hasten; third time or deadline: SIGKILL all
//! ```
//!
//! While a worker lives it ends the instances in order (drain first); without one the keeper terminates them itself.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use everup_core::ids::InstanceId;
use everup_core::keeper::{ExitStatus, NOTES_BYTES, StopSignal, ToKeeper, ToWorker};
use everup_link::Received;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus, wait};

use crate::notify::{Condition, Notifier};
use crate::reload::{Asker, Prepared, Reloads};
use crate::signals::Signals;
use crate::sockets::Held;
use crate::spawn::Launch;
use crate::users::Users;
use crate::worker::{Worker, signal_group};
use crate::{KeeperError, Options, log, order};

/// A worker that lived so long did serve: its successor is started at once, however often that happens. Only workers
/// that die as soon as they begin are started with pauses.
const WORKER_STABLE: Duration = Duration::from_secs(1);
/// The pause before a worker is started after the second quick death in a row; it doubles. (None after the first.)
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause: connections wait in the accept queue meanwhile, and clients give up after some seconds.
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// What the end may take beside draining.
const END: Duration = Duration::from_secs(10);
/// After SIGKILL only the kernel can hold a process back (a dead disk); then it is left to init.
const LAST: Duration = Duration::from_secs(5);
/// Messages that are taken at once: more than the link holds, so the last words of a dead worker are heard in full,
/// and a worker that never stops talking cannot keep signals from being heeded.
const MESSAGES_PER_TURN: usize = 1_000;
/// A worker that closed its link has this long to exit.
const LOST: Duration = Duration::from_secs(2);

pub(crate) struct Keeper {
    options: Options,
    users: Users,
    held: Held,
    signals: Signals,
    notifier: Notifier,
    worker: Option<Worker>,
    /// When the next worker is to be started, if there is none.
    start_at: Instant,
    instances: BTreeMap<InstanceId, Running>,
    notes: Option<String>,
    reloads: Reloads,
    /// Workers started before this one.
    restarts: u32,
    /// Workers in a row that died soon after their start.
    quick_deaths: u32,
    was_ready: bool,
    ending: Option<Ending>,
}

/// A process of an instance.
struct Running {
    pid: u32,
    port: u16,
    revision: String,
}

/// Everything is being stopped.
struct Ending {
    /// How often the operator asked.
    asked: u32,
    kill_at: Instant,
    /// SIGKILL was sent to all.
    killed: bool,
    /// What [`crate::run`] will return, if the end is not a good one.
    failure: Option<KeeperError>,
}

impl Keeper {
    pub(crate) fn new(options: Options, users: Users, held: Held, signals: Signals) -> Self {
        Self {
            reloads: Reloads::new(&options),
            options,
            users,
            held,
            signals,
            notifier: Notifier::from_environment(),
            worker: None,
            start_at: Instant::now(),
            instances: BTreeMap::new(),
            notes: None,
            restarts: 0,
            quick_deaths: 0,
            was_ready: false,
            ending: None,
        }
    }

    pub(crate) fn run(mut self) -> Result<(), KeeperError> {
        self.worker = Some(self.new_worker()?);
        loop {
            self.wait()?;
            self.heed_signals();
            self.heed_worker();
            self.reap();
            self.keep_a_worker();
            self.keep_the_deadline();
            self.reload();
            self.flush();
            self.notify();
            if let Some(result) = self.result() {
                return result;
            }
        }
    }

    fn wait(&self) -> Result<(), KeeperError> {
        let timeout = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, so that the deadline has passed when the wait is over.
        let timeout = timeout.map(|time| time + Duration::from_millis(1));
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut waited = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(worker) = self.worker.as_ref().filter(|worker| worker.lost.is_none()) {
            let room = if worker.has_unread() { PollFlags::OUT } else { PollFlags::empty() };
            waited.push(PollFd::new(&worker.link, PollFlags::IN | room));
        }
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(KeeperError::System { what: "waiting for events", source: errno.into() }),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().map(|ending| ending.kill_at);
        let worker = match &self.worker {
            Some(worker) => worker.lost.map(|since| since + LOST),
            None if self.ending.is_none() => Some(self.start_at),
            None => None,
        };
        let reload = self.reloads.next_look(self.can_reload());
        ending.into_iter().chain(worker).chain(reload).chain(self.notifier.next()).min()
    }

    // ----- the init system --------------------------------------------------------------------------------------

    fn notify(&mut self) {
        let ends_within = |ending: &Ending| ending.kill_at.saturating_duration_since(Instant::now()) + LAST;
        self.notifier.tell(&Condition {
            serves: self.can_reload(),
            asked: self.reloads.asked(),
            reloads: self.reloads.is_busy(),
            ends_within: self.ending.as_ref().map(ends_within),
            status: self.status(),
        });
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let instances = match self.instances.len() {
            1 => "1 instance".to_owned(),
            count => format!("{count} instances"),
        };
        match &self.worker {
            _ if self.ending.is_some() => format!("stopping: {instances} left"),
            Some(worker) if worker.ready => {
                format!("serving: worker {} (restarts: {}), {instances} started", worker.pid, self.restarts)
            }
            Some(_) | None => format!("starting a worker (restarts: {}), {instances} run", self.restarts),
        }
    }

    // ----- signals: the operator ------------------------------------------------------------------------------

    fn heed_signals(&mut self) {
        let came = self.signals.take();
        if came.reload {
            self.reloads.ask(Asker::Signal, false);
        }
        if came.end {
            self.end_asked();
        }
    }

    fn end_asked(&mut self) {
        if self.ending.is_none() {
            let drain = self.options.config.services.iter().map(|service| service.drain.time).max();
            self.begin_to_end(drain.unwrap_or_default() + END, None);
        }
        let Some(ending) = &mut self.ending else { return };
        ending.asked += 1;
        match ending.asked {
            1 => {}
            2 => {
                log("hastening: requests in flight are not waited for; a third signal kills everything");
                ending.kill_at = ending.kill_at.min(Instant::now() + END);
                self.tell(ToWorker::Shutdown { hasten: true });
            }
            _ => self.kill_all("killed at the third signal"),
        }
    }

    fn begin_to_end(&mut self, within: Duration, failure: Option<KeeperError>) {
        let kill_at = Instant::now() + within;
        self.ending = Some(Ending { asked: 0, kill_at, killed: false, failure });
        match self.worker {
            Some(_) => self.tell(ToWorker::Shutdown { hasten: false }),
            None => self.signal_instances(Signal::TERM),
        }
    }

    fn kill_all(&mut self, why: &str) {
        if let Some(worker) = &self.worker {
            worker.signal(Signal::KILL);
        }
        self.signal_instances(Signal::KILL);
        if let Some(ending) = &mut self.ending {
            ending.killed = true;
            ending.kill_at = Instant::now() + LAST;
            ending.failure.get_or_insert_with(|| KeeperError::Disorderly(why.to_owned()));
        }
    }

    // ----- the worker -----------------------------------------------------------------------------------------

    /// A worker that is told everything it needs.
    fn new_worker(&self) -> Result<Worker, KeeperError> {
        let mut worker = Worker::start(&self.options, self.users.worker())?;
        worker.introduce(&self.options, &self.held, self.restarts);
        for (id, Running { pid, port, revision }) in &self.instances {
            worker.tell(ToWorker::Adopt {
                id: id.clone(),
                pid: *pid,
                port: *port,
                revision: revision.clone(),
            });
        }
        if let Some(notes) = &self.notes {
            worker.tell(ToWorker::Notes { notes: notes.clone() });
        }
        worker.tell(ToWorker::Begin);
        Ok(worker)
    }

    fn keep_a_worker(&mut self) {
        let now = Instant::now();
        if self.worker.is_some() || self.ending.is_some() || now < self.start_at {
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        match self.new_worker() {
            Ok(worker) => {
                log(&format!("started worker {} with the same sockets", worker.pid));
                self.worker = Some(worker);
            }
            Err(error) => {
                self.start_at = now + PAUSE_LONGEST;
                log(&format!("{error}; trying again in {} s", PAUSE_LONGEST.as_secs()));
            }
        }
    }

    fn heed_worker(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(worker) = self.worker.as_ref().filter(|worker| worker.lost.is_none()) else { return };
            match worker.link.try_receive() {
                Ok(Received::Message(message, descriptors)) => self.handle(message, descriptors),
                Ok(Received::Nothing) => return,
                Ok(Received::Gone) => self.lose_worker(),
                Err(error) => {
                    log(&format!("worker {} is killed: {error}", worker.pid));
                    worker.signal(Signal::KILL);
                    self.lose_worker();
                }
            }
        }
    }

    fn lose_worker(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.lost = Some(Instant::now());
        }
    }

    fn handle(&mut self, message: ToKeeper, descriptors: Vec<OwnedFd>) {
        match message {
            ToKeeper::Start { id, port, revision } => {
                let answer = match self.start_instance(&id, port, &revision, descriptors) {
                    Ok(pid) => ToWorker::Started { id, pid },
                    Err(reason) => {
                        log(&format!("{id} is not started: {reason}"));
                        ToWorker::StartFailed { id, reason }
                    }
                };
                self.tell(answer);
            }
            ToKeeper::Signal { id, signal } => {
                // It may have ended while the message was on its way.
                if let Some(running) = self.instances.get(&id) {
                    let signal = match signal {
                        StopSignal::Terminate => Signal::TERM,
                        StopSignal::Kill => Signal::KILL,
                    };
                    signal_group(running.pid, signal);
                }
            }
            ToKeeper::Remember { notes } if notes.len() > NOTES_BYTES => {
                log(&format!("notes of {} bytes are not kept: the limit is {NOTES_BYTES}", notes.len()));
            }
            ToKeeper::Remember { notes } => self.notes = Some(notes),
            ToKeeper::Ready => {
                self.was_ready = true;
                if let Some(worker) = &mut self.worker {
                    worker.ready = true;
                }
            }
            ToKeeper::Reload { ask, dry } => self.reloads.ask(Asker::Worker(ask), dry),
            ToKeeper::Reloaded { number, refused } => self.on_reloaded(number, refused),
            ToKeeper::Finished => {
                if let Some(worker) = &mut self.worker {
                    worker.finished = true;
                }
            }
        }
    }

    fn start_instance(
        &mut self,
        id: &InstanceId,
        port: u16,
        revision: &str,
        descriptors: Vec<OwnedFd>,
    ) -> Result<u32, String> {
        let run = order::check_start(&self.options.config, id, port, revision)?;
        if let Some(running) = self.instances.get(id) {
            return Err(format!("it runs already as process {}", running.pid));
        }
        if self.ending.is_some() {
            return Err("everup is being stopped".to_owned());
        }
        let Ok([output]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err("exactly one descriptor must come along, for its output".to_owned());
        };
        let user = self.users.instances_of(&id.service);
        let ends_with_us = !self.users.worker_may_signal(&id.service);
        let launch = Launch { options: &self.options, run, id, port, revision, user, ends_with_us };
        let pid = launch.start(output)?;
        self.instances.insert(id.clone(), Running { pid, port, revision: revision.to_owned() });
        Ok(pid)
    }

    fn tell(&mut self, message: ToWorker) {
        if let Some(worker) = &mut self.worker {
            worker.tell(message);
        }
    }

    fn flush(&mut self) {
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.lost.is_none()) else { return };
        let trouble = match worker.flush() {
            Ok(()) if worker.hangs() => "it reads nothing any more".to_owned(),
            Ok(()) => return,
            Err(error) => error.to_string(),
        };
        log(&format!("worker {} is killed: {trouble}", worker.pid));
        worker.signal(Signal::KILL);
        // It may have died after it said that it obeys another configuration.
        self.heed_worker();
        self.lose_worker();
    }

    // ----- another configuration --------------------------------------------------------------------------------

    /// There is a worker that could change to another configuration.
    fn can_reload(&self) -> bool {
        let serves = |worker: &Worker| worker.ready && worker.lost.is_none();
        self.ending.is_none() && self.worker.as_ref().is_some_and(serves)
    }

    /// Reads the file if somebody asked, and has the worker change to it. See `reload.rs` for the whole story.
    fn reload(&mut self) {
        if !self.can_reload() {
            self.reloads.worker_gone();
            return;
        }
        let Some(worker) = &mut self.worker else { return };
        self.reloads.look(&self.options, &self.held, worker);
    }

    fn on_reloaded(&mut self, number: u64, refused: Option<String>) {
        if let Some(why) = refused {
            self.reloads.roll_back(&why);
        } else if let Some(Prepared { config, text, users, places, .. }) = self.reloads.commit(number) {
            (self.options.config, self.options.config_text, self.users) = (config, text, users);
            self.held.replace(places);
            self.tell(ToWorker::Committed { number });
        }
    }

    // ----- deaths ---------------------------------------------------------------------------------------------

    /// Every child that ended, instances' orphans among them.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().cast_unsigned();
            let Some(status) = exit_status(status) else { continue };
            if self.worker.as_ref().is_some_and(|worker| worker.pid == pid) {
                // Its last words first.
                self.heed_worker();
                self.worker_died(status);
            } else if let Some(id) = self.instance_of(pid) {
                self.instances.remove(&id);
                // What it left behind in its group would hold its port and never end. (No other group can have this
                // number so soon: process ids are given out in a circle.)
                signal_group(pid, Signal::KILL);
                self.tell(ToWorker::Exited { id, pid, status });
            }
        }
    }

    fn worker_died(&mut self, status: ExitStatus) {
        let Some(worker) = self.worker.take() else { return };
        // Health checks that it had started, for example.
        worker.signal(Signal::KILL);
        if self.ending.is_some() {
            self.worker_died_at_the_end(&worker, status);
        } else if !self.was_ready {
            self.begin_to_end(END, Some(KeeperError::NeverReady(status)));
        } else {
            let quick = worker.started.elapsed() < WORKER_STABLE;
            self.quick_deaths = if quick { self.quick_deaths.saturating_add(1) } else { 0 };
            let pause = pause_after(self.quick_deaths);
            self.start_at = Instant::now() + pause;
            let when =
                if pause.is_zero() { "at once".into() } else { format!("in {} ms", pause.as_millis()) };
            log(&format!("worker {} {status}; starting another one {when}", worker.pid));
        }
    }

    fn worker_died_at_the_end(&mut self, worker: &Worker, status: ExitStatus) {
        self.signal_instances(Signal::TERM);
        let Some(ending) = &mut self.ending else { return };
        ending.kill_at = ending.kill_at.min(Instant::now() + END);
        if !(worker.finished && status == ExitStatus::Code(0)) {
            let why = format!("worker {} {status} before everything was stopped", worker.pid);
            ending.failure.get_or_insert(KeeperError::Disorderly(why));
        }
    }

    fn instance_of(&self, pid: u32) -> Option<InstanceId> {
        self.instances.iter().find(|(_, running)| running.pid == pid).map(|(id, _)| id.clone())
    }

    fn signal_instances(&self, signal: Signal) {
        self.instances.values().for_each(|running| signal_group(running.pid, signal));
    }

    // ----- the end --------------------------------------------------------------------------------------------

    fn keep_the_deadline(&mut self) {
        let now = Instant::now();
        if let Some(worker) = &self.worker
            && worker.lost.is_some_and(|since| now >= since + LOST)
        {
            worker.signal(Signal::KILL);
            self.lose_worker();
        }
        if self.ending.as_ref().is_some_and(|ending| !ending.killed && now >= ending.kill_at) {
            self.kill_all("something did not stop in time and was killed");
        }
    }

    /// Some when everything ended, or when the kernel cannot end it.
    fn result(&mut self) -> Option<Result<(), KeeperError>> {
        let ending = self.ending.as_mut()?;
        let is_over = self.worker.is_none() && self.instances.is_empty();
        let is_hopeless = ending.killed && Instant::now() >= ending.kill_at;
        (is_over || is_hopeless).then(|| ending.failure.take().map_or(Ok(()), Err))
    }
}

/// Nothing after the first quick death in a row, then 100 ms, doubling to 5 s.
fn pause_after(quick_deaths: u32) -> Duration {
    match quick_deaths {
        0 | 1 => Duration::ZERO,
        more => PAUSE_LONGEST.min(PAUSE_FIRST * 2_u32.pow((more - 2).min(16))),
    }
}

/// None if it only stopped or went on.
fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    status.exit_status().map(ExitStatus::Code).or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}
