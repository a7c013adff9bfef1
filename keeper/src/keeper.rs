//! The keeper's loop: wait, heed signals, heed the worker, reap, upgrade, keep a worker, keep the deadline, reload.
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

use crate::adopt::{Adopted, Process};
use crate::fallback::{Earlier, Fallback};
use crate::lock::StateLock;
use crate::notify::{Condition, Notifier};
use crate::reload::{Asker, Prepared, Reloads};
use crate::signals::Signals;
use crate::sockets::{Held, Place};
use crate::spawn::Launch;
use crate::state::Texts;
use crate::upgrade::{Leaving, Lines, Upgrade};
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
    pub(crate) options: Options,
    pub(crate) users: Users,
    pub(crate) held: Held,
    pub(crate) signals: Signals,
    notifier: Notifier,
    pub(crate) worker: Option<Worker>,
    /// When the next worker is to be started, if there is none.
    start_at: Instant,
    pub(crate) instances: BTreeMap<InstanceId, Running>,
    pub(crate) notes: Option<String>,
    pub(crate) reloads: Reloads,
    pub(crate) fallback: Fallback,
    /// Workers started before this one.
    pub(crate) restarts: u32,
    /// Workers in a row that died soon after their start.
    pub(crate) quick_deaths: u32,
    pub(crate) was_ready: bool,
    pub(crate) ending: Option<Ending>,
    pub(crate) lock: StateLock,
    /// The texts that make the configuration.
    pub(crate) texts: Texts,
    pub(crate) upgrade: Option<Upgrade>,
    /// Workers of before an upgrade, which finish what they have.
    pub(crate) leaving: Vec<Leaving>,
}

/// A process of an instance.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) revision: String,
    /// Of one that is no child of ours: its pidfd.
    pub(crate) stranger: Option<OwnedFd>,
}

/// Everything is being stopped.
pub(crate) struct Ending {
    /// How often the operator asked.
    asked: u32,
    kill_at: Instant,
    /// SIGKILL was sent to all.
    killed: bool,
    /// What [`crate::run`] will return, if the end is not a good one.
    failure: Option<KeeperError>,
}

impl Keeper {
    pub(crate) fn new(options: Options, users: Users, held: Held, lock: StateLock, signals: Signals) -> Self {
        Self {
            reloads: Reloads::new(&options),
            texts: Texts::new(options.config_text.clone()),
            upgrade: None,
            leaving: Vec::new(),
            options,
            users,
            held,
            lock,
            signals,
            notifier: Notifier::from_environment(),
            worker: None,
            start_at: Instant::now(),
            instances: BTreeMap::new(),
            notes: None,
            fallback: Fallback::new(),
            restarts: 0,
            quick_deaths: 0,
            was_ready: false,
            ending: None,
        }
    }

    /// The keeper of a worker that had lost its own. Whatever the file says differently is a reload.
    pub(crate) fn adopting(
        options: Options,
        users: Users,
        adopted: Adopted,
        file: String,
        signals: Signals,
    ) -> Self {
        let Adopted { worker, held, lock, instances, notes, restarts } = adopted;
        let count = instances.len();
        log(&format!(
            "took over worker {}, its sockets and {count} instances: nothing was interrupted",
            worker.pid
        ));
        let running = |(id, Process { pid, port, revision, process })| {
            (id, Running { pid, port, revision, stranger: Some(process) })
        };
        let mut keeper = Self::new(options, users, held, lock, signals);
        keeper.worker = Some(worker);
        keeper.was_ready = true;
        keeper.instances = instances.into_iter().map(running).collect();
        (keeper.notes, keeper.restarts) = (notes, restarts);
        // What is started comes from the file, whatever the worker says.
        keeper.texts = Texts::taken(vec![file, keeper.options.config_text.clone()]);
        keeper.reloads.ask(Asker::File, false);
        keeper
    }

    pub(crate) fn run(mut self) -> Result<(), KeeperError> {
        if self.worker.is_none() {
            let (worker, _) = self.new_worker()?;
            self.worker = Some(worker);
        }
        self.go_on()
    }

    /// Until everything ended.
    pub(crate) fn go_on(mut self) -> Result<(), KeeperError> {
        loop {
            self.wait()?;
            self.heed_signals();
            self.heed_worker();
            self.watch_over_worker();
            self.reap();
            self.look_at_upgrade();
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
        for worker in self.other_workers() {
            let room = if worker.has_unread() { PollFlags::OUT } else { PollFlags::empty() };
            waited.push(PollFd::new(&worker.link, PollFlags::IN | room));
        }
        waited.extend(self.strangers().map(|process| PollFd::new(process, PollFlags::IN)));
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(KeeperError::System { what: "waiting for events", source: errno.into() }),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().map(|ending| ending.kill_at);
        let worker = match &self.worker {
            Some(worker) => worker.lost.map(|since| since + LOST).or_else(|| {
                let is_watched = self.ending.is_none() && self.options.config.node.watchdog.is_some();
                is_watched.then(|| worker.watchdog.next_look())
            }),
            None if self.ending.is_none() && self.upgrade.is_none() => Some(self.start_at),
            None => None,
        };
        let reload = self.reloads.next_look(self.can_reload());
        ending
            .into_iter()
            .chain(worker)
            .chain(reload)
            .chain(self.notifier.next())
            .chain(self.upgrade_deadline())
            .min()
    }

    // ----- the init system --------------------------------------------------------------------------------------

    fn notify(&mut self) {
        let ends_within = |ending: &Ending| ending.kill_at.saturating_duration_since(Instant::now()) + LAST;
        self.notifier.tell(&Condition {
            serves: self.serves(),
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

    /// Whose ends the kernel does not tell us by itself.
    fn strangers(&self) -> impl Iterator<Item = &OwnedFd> {
        let leaving = self.leaving.iter().map(|one| &one.worker);
        let worker = self.worker.iter().chain(leaving).filter_map(|worker| worker.stranger.as_ref());
        worker.chain(self.instances.values().filter_map(|running| running.stranger.as_ref()))
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
                self.tell_all(&ToWorker::Shutdown { hasten: true });
            }
            _ => self.kill_all("killed at the third signal"),
        }
    }

    fn begin_to_end(&mut self, within: Duration, failure: Option<KeeperError>) {
        let kill_at = Instant::now() + within;
        self.abandon_upgrade();
        self.ending = Some(Ending { asked: 0, kill_at, killed: false, failure });
        match self.worker {
            Some(_) => self.tell_all(&ToWorker::Shutdown { hasten: false }),
            None => self.signal_instances(Signal::TERM),
        }
    }

    fn kill_all(&mut self, why: &str) {
        for worker in self.worker.iter().chain(self.leaving.iter().map(|one| &one.worker)) {
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

    /// A worker that is told everything it needs, and lines to it for those that leave.
    pub(crate) fn new_worker(&self) -> Result<(Worker, Lines), KeeperError> {
        let mut worker = Worker::start(&self.options, self.users.worker())?;
        worker.introduce(&self.options, &self.held, &self.lock, self.restarts);
        self.tell_what_runs(&mut worker);
        let lines = self.introduce_leaving(&mut worker);
        worker.tell(ToWorker::Begin);
        Ok((worker, lines))
    }

    fn keep_a_worker(&mut self) {
        let now = Instant::now();
        if self.worker.is_some() || self.ending.is_some() || self.upgrade.is_some() || now < self.start_at {
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        match self.new_worker() {
            Ok((worker, lines)) => {
                log(&format!("started worker {} with the same sockets", worker.pid));
                self.worker = Some(worker);
                self.connect_leaving(lines);
            }
            Err(error) => {
                self.start_at = now + PAUSE_LONGEST;
                log(&format!("{error}; trying again in {} s", PAUSE_LONGEST.as_secs()));
            }
        }
    }

    fn heed_worker(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(worker) = self.worker.as_mut().filter(|worker| worker.lost.is_none()) else { return };
            match worker.link.try_receive() {
                Ok(Received::Message(message, descriptors)) => self.handle(message, descriptors),
                Ok(Received::Nothing) => return,
                Ok(Received::Gone) => self.lose_worker(),
                Err(error) => {
                    worker.condemn(&error.to_string());
                    self.lose_worker();
                }
            }
        }
    }

    /// One that hangs is killed. While everything ends there is another deadline.
    fn watch_over_worker(&mut self) {
        let limit = self.options.config.node.watchdog.filter(|_| self.ending.is_none());
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.lost.is_none()) else { return };
        let trouble = worker.watchdog.look(Instant::now(), worker.ready, limit);
        // Once killed, it may take the kernel a while.
        if let Some(why) = trouble.filter(|_| !worker.condemned) {
            worker.condemn(&why);
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
            ToKeeper::Orphan { .. }
            | ToKeeper::Runs { .. }
            | ToKeeper::Holds { .. }
            | ToKeeper::Lock
            | ToKeeper::Instance { .. } => log("the worker says who it is, and was not asked"),
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
            ToKeeper::Alive { quiet } => {
                if let Some(worker) = &mut self.worker {
                    worker.watchdog.on_alive(quiet);
                }
            }
            ToKeeper::Reload { ask, dry } => self.on_reload_asked(ask, dry),
            ToKeeper::Reloaded { number, refused } => self.on_reloaded(number, refused),
            ToKeeper::Finished => {
                if let Some(worker) = &mut self.worker {
                    worker.finished = true;
                }
            }
            ToKeeper::Upgrade { ask, path } => self.on_upgrade_asked(ask, path),
            ToKeeper::Yielded { stores } => self.on_yielded(stores),
            // It serves already.
            ToKeeper::Prepared => {}
        }
    }

    fn start_instance(
        &mut self,
        id: &InstanceId,
        port: u16,
        revision: &str,
        descriptors: Vec<OwnedFd>,
    ) -> Result<u32, String> {
        everup_failpoint::hit("keeper.start");
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
        let launch = Launch { options: &self.options, run, id, port, revision, user };
        let pid = launch.start(output)?;
        let running = Running { pid, port, revision: revision.to_owned(), stranger: None };
        self.instances.insert(id.clone(), running);
        Ok(pid)
    }

    pub(crate) fn tell(&mut self, message: ToWorker) {
        if let Some(worker) = &mut self.worker {
            worker.tell(message);
        }
    }

    /// The worker, and those that finish what they have.
    fn tell_all(&mut self, message: &ToWorker) {
        self.leaving.iter_mut().for_each(|one| one.worker.tell(message.clone()));
        self.tell(message.clone());
    }

    fn flush(&mut self) {
        self.flush_others();
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.lost.is_none()) else { return };
        let trouble = match worker.flush() {
            Ok(()) if worker.hangs() => "it reads nothing any more".to_owned(),
            Ok(()) => return,
            Err(error) => error.to_string(),
        };
        worker.condemn(&trouble);
        // It may have died after it said that it obeys another configuration.
        self.heed_worker();
        self.lose_worker();
    }

    // ----- another configuration --------------------------------------------------------------------------------

    /// There is a worker that could change to another configuration.
    fn can_reload(&self) -> bool {
        self.upgrade.is_none() && self.serves()
    }

    /// There is a worker that answers.
    fn serves(&self) -> bool {
        let serves = |worker: &Worker| worker.ready && worker.lost.is_none();
        self.ending.is_none() && self.worker.as_ref().is_some_and(serves)
    }

    fn on_reload_asked(&mut self, ask: u64, dry: bool) {
        match &mut self.worker {
            Some(worker) if self.upgrade.is_some() => {
                self.reloads.refuse(ask, dry, "an upgrade is under way; try again when it is done", worker);
            }
            Some(_) | None => self.reloads.ask(Asker::Worker(ask), dry),
        }
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
            let mut texts = self.texts.clone();
            texts.push(text.clone());
            let before = self.go_by(Earlier { config, text, texts }, users, places);
            let is_another = before.text != self.options.config_text;
            self.fallback.changed(Instant::now(), Some(before).filter(|_| is_another));
            self.tell(ToWorker::Committed { number });
        }
    }

    /// Takes over a configuration; returns the one before.
    fn go_by(&mut self, new: Earlier, users: Users, places: Vec<Place>) -> Earlier {
        let Earlier { config, text, texts } = new;
        self.users = users;
        self.held.replace(places);
        let Options { config: running, config_text, .. } = &mut self.options;
        Earlier {
            config: std::mem::replace(running, config),
            text: std::mem::replace(config_text, text),
            texts: std::mem::replace(&mut self.texts, texts),
        }
    }

    /// Goes by the configuration again that ran before the last change. Its addresses may be somebody else's by now.
    fn fall_back(&mut self, to: Earlier) {
        let users = Users::choose(&to.config);
        let places = self.held.rearranged(&to.config, self.options.threads);
        match users.and_then(|users| Ok((users, places?))) {
            Ok((users, places)) => {
                self.go_by(to, users, places);
                self.quick_deaths = 0;
                self.fallback.warning.iter().for_each(|warning| log(&format!("WARNING: {warning}")));
            }
            Err(error) => {
                self.fallback.warning = None;
                log(&format!("the configuration from before the last reload cannot be used again: {error}"));
            }
        }
    }

    // ----- deaths ---------------------------------------------------------------------------------------------

    /// Every child that ended, instances' orphans among them.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().cast_unsigned();
            if let Some(status) = exit_status(status) {
                self.process_ended(pid, status);
            }
        }
        let has_ended = |process: &OwnedFd| {
            let mut fds = [PollFd::new(process, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        let leaving = self.leaving.iter().map(|one| &one.worker);
        let worker = self.worker.iter().chain(leaving).map(|worker| (worker.pid, &worker.stranger));
        let instances = self.instances.values().map(|running| (running.pid, &running.stranger));
        let ended = worker.chain(instances).filter(|(_, stranger)| stranger.as_ref().is_some_and(has_ended));
        let ended: Vec<u32> = ended.map(|(pid, _)| pid).collect();
        ended.into_iter().for_each(|pid| self.process_ended(pid, ExitStatus::Unknown));
    }

    fn process_ended(&mut self, pid: u32, status: ExitStatus) {
        if self.upgrade_reaped(pid, status) {
            return;
        }
        if self.worker.as_ref().is_some_and(|worker| worker.pid == pid) {
            // Its last words first.
            self.heed_worker();
            self.worker_died(status);
        } else if let Some(id) = self.instance_of(pid) {
            self.instances.remove(&id);
            // What it left behind in its group would hold its port and never end. (No other group can have this
            // number so soon: process ids are given out in a circle.)
            signal_group(pid, Signal::KILL);
            let exited = ToWorker::Exited { id, pid, status };
            self.tell_heir(&exited);
            self.tell(exited);
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
            let now = Instant::now();
            let by_itself = worker.condemned || status != ExitStatus::Signal(Signal::KILL.as_raw());
            let earlier = if by_itself { self.fallback.worker_died(now, status) } else { None };
            if let Some(earlier) = earlier {
                self.fall_back(earlier);
            }
            let quick = worker.started.elapsed() < WORKER_STABLE;
            self.quick_deaths = if quick { self.quick_deaths.saturating_add(1) } else { 0 };
            let pause = pause_after(self.quick_deaths);
            self.start_at = now + pause;
            let when =
                if pause.is_zero() { "at once".into() } else { format!("in {} ms", pause.as_millis()) };
            log(&format!("worker {} {status}; starting another one {when}", worker.pid));
        }
    }

    fn worker_died_at_the_end(&mut self, worker: &Worker, status: ExitStatus) {
        self.signal_instances(Signal::TERM);
        let Some(ending) = &mut self.ending else { return };
        ending.kill_at = ending.kill_at.min(Instant::now() + END);
        if !(worker.finished && matches!(status, ExitStatus::Code(0) | ExitStatus::Unknown)) {
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
        let is_over = self.worker.is_none() && self.instances.is_empty() && self.leaving.is_empty();
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
