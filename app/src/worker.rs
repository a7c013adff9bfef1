//! The life of the worker process: begin, then one loop that waits for news, hands them to the controller, does what
//! it decides and publishes; until everything is stopped in order.
//!
//! A panic in the control code does not stop traffic: it is caught here, told loudly, and a new controller takes
//! over from what was remembered, what the supervisor knows and the counters that the data plane uses.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everup_admin::api::{DeployRequest, DeployWish, EventKind, Explanation, InstanceState, Status};
use everup_admin::{Command, Commands, Format, NotReady, Refusal};
use everup_core::config::Config;
use everup_core::deploy::Slot;
use everup_core::ids::Generation;
use everup_core::keeper::{ToKeeper, ToWorker};
use everup_core::time::Time;
use everup_gateway::{Gateway, GatewayEvent};
use everup_health::{HealthHandle, VerdictChange};
use everup_instance::Supervisor;
use everup_link::{Link, LinkError};
use everup_observe::{contained, contained_future};
use everup_store::Done;
use tokio::signal::unix::Signal as Terminate;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::begin::begin;
use crate::clock::{Clock, Now};
use crate::controller::{Controller, DRAIN_LOOK, Input, Order, Output};
use crate::deployer::{self, Deployer, LAST_WORDS};
use crate::error::AppError;
use crate::estate::Estate;
use crate::explain;
use crate::hooks::{self, Hooks};
use crate::journal::Journal;
use crate::keeper_line::KeeperLine;
use crate::keeperless::{Keeperless, knock};
use crate::metrics;
use crate::notes::Notes;
use crate::orphans::Orphans;
use crate::pulse::Pulse;
use crate::reload::{Asked, Opened, Reloads};
use crate::shutdown::{Shutdown, Step};
use crate::state_file::StateFile;
use crate::status::{self, Identity, LOG_LINES, Moment};
use crate::succession::{Charge, Heard, Predecessors, Upgrades, hear};
use crate::tls_files::TlsFiles;

/// What the operator at the terminal may be told.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Once per everup: it serves. Told when every instance is up, or after [`GREETING_PATIENCE`].
    Serving(&'a Status),
    /// Once a second.
    Summary(&'a Status),
    /// Everything is stopped in order.
    Stopped,
    /// Another worker talks to the operator from now on.
    Succeeded,
}

/// Tells the operator. It must not block.
pub type Presenter = Box<dyn FnMut(Notice<'_>)>;

/// How long the greeting waits for instances that are not up yet.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// How often rates are sampled and the operator's summary is told.
const SAMPLE: Duration = Duration::from_secs(1);

/// News of one kind that are handed in together, so that one table covers them.
const BATCH: usize = 1000;

/// Before the loop waits again after that failed inside: it must not do so thousands of times a second.
const BREATH: Duration = Duration::from_millis(100);

/// What answers may take that are under way when everything has ended.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_millis(2);

/// Runs the worker until everything was stopped in order. `state` is the state directory; the link comes from
/// [`Link::inherited`].
///
/// # Errors
/// [`AppError`] if it cannot begin, or the line to the keeper fails at the very end.
pub fn run_worker(link: Link, state: &Path, presenter: Presenter) -> Result<(), AppError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AppError::System)?;
    runtime.block_on(async { begin(link, state, presenter)?.run().await })
}

/// Everything the loop holds.
pub(crate) struct Worker {
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) config: Config,
    pub(crate) controller: Controller,
    pub(crate) deployer: Deployer,
    pub(crate) supervisor: Supervisor,
    /// None: stopped.
    pub(crate) gateway: Option<Gateway>,
    pub(crate) health: HealthHandle,
    /// None: the keeper is gone.
    pub(crate) line: Option<KeeperLine>,
    /// What there is instead, while nothing ends.
    pub(crate) keeperless: Option<Keeperless>,
    /// And while everything ends: the instances that a keeper left when it went.
    pub(crate) orphans: Option<Orphans>,
    /// For the next keeper.
    pub(crate) estate: Estate,
    /// SIGTERM.
    pub(crate) terminate: Terminate,
    pub(crate) shutdown: Shutdown,
    pub(crate) reloads: Reloads,
    /// What is open where.
    pub(crate) opened: Vec<Opened>,
    /// For servers that begin later.
    pub(crate) api: Commands,
    pub(crate) metrics_servers: Vec<JoinHandle<()>>,
    /// What happened, for people.
    pub(crate) journal: Journal,
    /// What the next worker would know.
    pub(crate) remembered: Option<String>,
    /// Where the next everup will find it.
    pub(crate) state_file: StateFile,
    pub(crate) presenter: Presenter,
    pub(crate) greeted: bool,
    pub(crate) pulse: Pulse,
    pub(crate) next_sample: Time,
    pub(crate) tls_files: TlsFiles,
    pub(crate) verdicts: mpsc::UnboundedReceiver<VerdictChange>,
    pub(crate) noticed: mpsc::UnboundedReceiver<GatewayEvent>,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Answers of the store.
    pub(crate) stored: mpsc::UnboundedReceiver<Done>,
    pub(crate) hooks: Hooks,
    /// Whether this worker is the one that acts.
    pub(crate) charge: Charge,
    /// Workers of before an upgrade, which finish what they have.
    pub(crate) predecessors: Predecessors,
    pub(crate) upgrades: Upgrades,
}

/// What the loop waited for.
enum News {
    Verdict(VerdictChange),
    Noticed(GatewayEvent),
    Acknowledged(Generation),
    Keeper(Result<Option<(ToWorker, Vec<OwnedFd>)>, LinkError>),
    Command(Command),
    Stored(Done),
    HookEnded(hooks::Ended),
    Heard(Heard),
    Knock(KeeperLine, ToWorker),
    Terminate,
    Tick,
}

impl Worker {
    async fn run(mut self) -> Result<(), AppError> {
        self.guarded(|worker| worker.apply());
        loop {
            let Some(news) = contained_future("waiting for news", self.news()).await else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let ended = self.guarded(|worker| {
                worker.handle(news);
                worker.apply();
                worker.step()
            });
            if ended == Some(true) {
                self.let_answers_out().await;
                return self.end();
            }
            self.show_life();
            if self.gateway.as_ref().is_some_and(|gateway| !gateway.is_whole()) {
                return Err(AppError::ThreadLost);
            }
        }
    }

    /// Whoever asked something last may still be being answered.
    async fn let_answers_out(&mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        // This worker's own handle is the last one.
        let answered = async {
            while self.api.strong_count() > 1 {
                tokio::time::sleep(LAST_LOOK).await;
            }
        };
        // Those that do not read what they asked for are not waited for.
        let _ = tokio::time::timeout(LAST_ANSWERS, answered).await;
    }

    /// The loop turns.
    fn show_life(&mut self) {
        let Self { pulse, gateway, clock, .. } = self;
        let counts = || gateway.as_ref().map_or_else(Vec::new, Gateway::pulses);
        if let Some(sign) = pulse.look(clock.now().time, counts) {
            self.tell_keeper(sign, None);
        }
    }

    /// Does a piece of control work. If it panics, the controller is replaced and None returned.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(done) => Some(done),
            Err(_) => {
                tracing::error!(
                    "the controller failed inside (see the panic above; please report it). Traffic goes on; \
                     a new controller takes over"
                );
                if catch_unwind(AssertUnwindSafe(|| self.recover())).is_err() {
                    tracing::error!(
                        "the new controller failed too: traffic goes on as it was until the next news"
                    );
                }
                None
            }
        }
    }

    /// A new controller from what is known elsewhere. Who waited for a drain is told to ask again.
    fn recover(&mut self) {
        let now = self.clock.now();
        let notes = Notes::read(self.remembered.as_deref());
        self.give_up_reload();
        self.controller.renew(&self.config, &notes, now);
        let Self { supervisor, controller, .. } = self;
        supervisor.instances().for_each(|process| controller.adopt(process, &notes));
        let unknown = supervisor.instances().map(|process| process.id).filter(|id| !controller.knows(id));
        unknown.collect::<Vec<_>>().iter().for_each(|id| supervisor.dismiss(now.time, id));
        controller.begin_outliers(now);
        controller.watch_all();
        let floor = Generation(self.controller.generation().0 + 1);
        self.deployer.recover(now, &mut self.controller, floor);
        if !self.reloads.is_under_way() {
            let Self { deployer, controller, supervisor, config, .. } = self;
            deployer.settle(now, &config.services, supervisor, controller);
        }
        let text = "the controller failed inside and began anew; see the log";
        self.journal.of_everup(now.wall, EventKind::ControllerReplaced, text.to_owned());
    }

    async fn news(&mut self) -> News {
        everup_failpoint::hit("news");
        let wakeup = self.clock.instant(self.next_wakeup());
        let generation = self.controller.generation();
        let acknowledgement_is_due = self.predecessors.own_acknowledged() < generation;
        let Self {
            verdicts,
            noticed,
            commands,
            stored,
            hooks,
            line,
            keeperless,
            terminate,
            gateway,
            charge,
            predecessors,
            ..
        } = self;
        tokio::select! {
            Some(change) = verdicts.recv() => News::Verdict(change),
            Some(event) = noticed.recv() => News::Noticed(event),
            Some(command) = commands.recv() => News::Command(command),
            Some(done) = stored.recv() => News::Stored(done),
            Some(ended) = hooks.ended() => News::HookEnded(ended),
            message = of_keeper(line) => News::Keeper(message),
            heard = hear(charge, predecessors) => News::Heard(heard),
            (line, message) = knock(keeperless) => News::Knock(line, message),
            Some(()) = terminate.recv() => News::Terminate,
            () = acknowledged(gateway, generation), if acknowledgement_is_due => News::Acknowledged(generation),
            () = tokio::time::sleep_until(wakeup.into()) => News::Tick,
        }
    }

    fn next_wakeup(&self) -> Time {
        let drains = self.controller.is_draining() || self.deployer.is_draining();
        let looks_often = drains || self.shutdown.is_under_way() || self.charge.leaves();
        let look = if looks_often { self.clock.now().time + DRAIN_LOOK } else { self.next_sample };
        let supervisor = self.supervisor.next_wakeup().unwrap_or(look);
        let controller = self.controller.next_wakeup().unwrap_or(look);
        let deployer = self.deployer.next_wakeup().unwrap_or(look);
        look.min(self.next_sample).min(supervisor).min(controller).min(deployer)
    }

    fn handle(&mut self, news: News) {
        let now = self.clock.now();
        // A verdict that waits is older than any news of the keeper about the same process.
        for _ in 0..BATCH {
            let Ok(change) = self.verdicts.try_recv() else { break };
            self.controller.handle(now, Input::Verdict(change));
        }
        match news {
            News::Verdict(change) => self.controller.handle(now, Input::Verdict(change)),
            News::Noticed(event) => {
                self.controller.handle(now, Input::Noticed(event));
                for _ in 0..BATCH {
                    let Ok(event) = self.noticed.try_recv() else { break };
                    self.controller.handle(now, Input::Noticed(event));
                }
            }
            News::Acknowledged(generation) => self.on_own_acknowledged(now, generation),
            News::Heard(heard) => self.on_heard(now, heard),
            News::Stored(done) => self.deployer.stored(now, done),
            News::HookEnded(ended) => self.deployer.hook_ended(now, ended),
            News::Keeper(message) => self.on_keeper(now, message),
            News::Command(command) => self.on_command(now, command),
            News::Knock(line, message) => self.on_knock(now, line, message),
            News::Terminate => self.on_terminate(now),
            News::Tick => self.on_tick(now),
        }
    }

    fn on_keeper(&mut self, now: Now, message: Result<Option<(ToWorker, Vec<OwnedFd>)>, LinkError>) {
        match message {
            Ok(Some((ToWorker::Shutdown { hasten }, _))) if self.charge.leaves() => {
                self.hasten_leaving(now.time, hasten);
            }
            Ok(Some((ToWorker::Shutdown { hasten }, _))) => {
                self.twice("shutdown", |worker| worker.begin_shutdown(now.time, hasten));
            }
            Ok(Some((message, mut descriptors))) => {
                let is_ours =
                    matches!(message, ToWorker::Yield | ToWorker::Leave | ToWorker::Predecessor { .. });
                let line = if is_ours { descriptors.pop() } else { None };
                if let Some(message) = self.on_succession(now, message, line)
                    && let Some(message) = self.on_config(now, message, descriptors)
                {
                    self.twice("supervisor.news", |worker| worker.supervisor.handle(now.time, &message));
                }
            }
            Err(error @ (LinkError::Malformed(_) | LinkError::Truncated)) => {
                tracing::error!(%error, "a message of the keeper was lost");
            }
            Ok(None) | Err(_) => self.lose_keeper(now),
        }
    }

    /// The keeper ends everything in order, and is the one to be told. Without one, this process is.
    fn on_terminate(&mut self, now: Now) {
        if self.line.is_some() {
            let keeper = self.identity.keeper_pid;
            tracing::warn!(keeper, "SIGTERM is not for the worker: send it to the keeper");
        } else {
            self.begin_shutdown(now.time, self.shutdown.is_under_way());
        }
    }

    /// The keeper says it only once: what fails inside is tried once more.
    fn twice(&mut self, what: &str, mut work: impl FnMut(&mut Self)) {
        let first = contained("heeding the keeper", || {
            everup_failpoint::hit(what);
            work(self);
        });
        if first.is_none() {
            work(self);
        }
    }

    fn on_command(&mut self, now: Now, command: Command) {
        let Some(command) = self.unless_yielded(command) else { return };
        // Whoever asked may be gone: then nobody needs the answer.
        match Order::try_from(command) {
            Ok(order) => self.controller.handle(now, Input::Order(order)),
            Err(Command::Status { reply }) => drop(reply.send(self.status(now))),
            Err(Command::Events { after, reply }) => drop(reply.send(self.journal.after(after))),
            Err(Command::Explain { id, reply }) => drop(reply.send(self.explain(id))),
            Err(Command::Plan { reply }) => self.ask_for_file(Asked::Plan(reply)),
            Err(Command::Reload { reply }) => self.ask_for_file(Asked::Reload(reply)),
            Err(Command::Upgrade { path, reply }) => self.ask_for_upgrade(path, reply),
            Err(Command::Metrics { format, reply }) => drop(reply.send(self.metrics_page(format))),
            Err(Command::Ready { reply }) => drop(reply.send(self.ready())),
            Err(Command::Deploy { request, reply }) => {
                if let Err(refusal) =
                    self.needs_keeper().or_else(|no| reads_only(&request).then_some(()).ok_or(no))
                {
                    return drop(reply.send(Err(refusal)));
                }
                let Self { deployer, controller, .. } = self;
                deployer.on_request(now, request, reply, controller);
            }
            Err(
                Command::Drain { .. }
                | Command::Undrain { .. }
                | Command::Weigh { .. }
                | Command::Kill { .. },
            ) => {
                unreachable!("these are orders")
            }
        }
    }

    fn on_tick(&mut self, now: Now) {
        self.look_after_processes(now);
        if self.charge.is_ours() {
            everup_failpoint::hit("supervisor");
            self.supervisor.wake(now.time);
            everup_failpoint::hit("deployer");
            self.deployer.wake(now);
        }
        everup_failpoint::hit("controller");
        self.controller.handle(now, Input::Tick);
        self.predecessors.flush();
        if now.time >= self.next_sample {
            self.next_sample = now.time + SAMPLE;
            everup_failpoint::hit("tls-files");
            self.tls_files.look();
            self.controller.sample(now.time);
            self.look_at_reload(now);
            if let Some(notes) = self.remembered.as_ref().filter(|_| self.charge.is_ours()) {
                self.state_file.offer(now, notes);
            }
            if !self.charge.leaves() {
                let status = self.status(now);
                (self.presenter)(Notice::Summary(&status));
            }
            if self.verdicts.is_closed() {
                self.check_health_anew();
            }
        }
    }

    /// Without health checks nobody would notice that an instance hangs.
    fn check_health_anew(&mut self) {
        tracing::error!(
            "health checks failed inside (see the panic above; please report it): they begin anew"
        );
        let (events, verdicts) = mpsc::unbounded_channel();
        match everup_health::spawn(events) {
            Ok(health) => {
                (self.health, self.verdicts) = (health, verdicts);
                self.controller.watch_all();
            }
            Err(error) => tracing::error!(%error, "health checks cannot begin; tried again in a second"),
        }
    }

    /// Does what supervisor, deployer and controller decided, until none has more. Tables come last, so that one of them holds
    /// everything that the others decided.
    fn apply(&mut self) {
        let now = self.clock.now();
        let acts = self.charge.is_ours();
        loop {
            if acts && let Some(output) = self.supervisor.poll_output() {
                match output {
                    everup_instance::Output::Tell(message, log) => self.tell_keeper(message, log),
                    everup_instance::Output::Changed(change) => {
                        self.controller.handle(now, Input::Changed(change))
                    }
                }
            } else if acts && let Some(output) = self.deployer.poll_output(&self.controller) {
                self.deploy(now, output);
            } else if acts && self.deployer.observe(now, &self.controller) {
                // It may want something.
            } else if let Some(output) = self.controller.poll_output() {
                self.carry_out(now, output);
            } else {
                break;
            }
        }
        everup_failpoint::hit("journal");
        self.journal.look(now.wall, self.controller.generation(), self.controller.services());
        self.greet(now);
    }

    fn deploy(&mut self, now: Now, output: deployer::Output) {
        use deployer::Output;
        let Self { controller, supervisor, deployer, journal, hooks, .. } = self;
        match output {
            Output::Hook(run) => hooks.run(run),
            Output::EndHook(service) => hooks.end(&service),
            Output::Route { service, names } => controller.route(now, &service, &names),
            Output::Start { id, revision, takes } => {
                if let Some(settings) = deployer.settings(&id.service) {
                    supervisor.add(id.clone(), settings, &revision);
                    controller.add(now, &id, &Notes::default(), takes);
                    supervisor.start(now.time, &id);
                    // One that was being stopped has its process still.
                    let mut processes = supervisor.instances().filter(|process| process.pid.is_some());
                    if controller.has_no_process(&id)
                        && let Some(process) = processes.find(|process| process.id == id)
                    {
                        controller.handle(now, Input::Changed(process));
                    }
                }
            }
            Output::Stop(id) => supervisor.stop(now.time, &id),
            Output::Forget(id) => {
                supervisor.remove(&id);
                controller.remove(now, &id);
            }
            Output::Quote(id) => deployer.quoted(now, &id, supervisor.last_lines(&id, LAST_WORDS)),
            Output::Sweep { service, revisions } => {
                let is_kept =
                    |name: &str| revisions.iter().any(|revision| Slot::is_name(name, &service, revision));
                supervisor.delete_logs(&service, |name| !is_kept(name));
            }
            Output::Told { service, text } => journal.of_deployment(now.wall, &service, text),
            Output::Note { service, revisions } => controller.note_revisions(&service, revisions),
        }
    }

    fn carry_out(&mut self, now: Now, output: Output) {
        match output {
            Output::Publish(snapshot) => {
                self.deployer.published(now, snapshot.generation);
                if let Some(gateway) = &self.gateway {
                    gateway.publish(snapshot);
                }
                self.tell_takers();
            }
            // The successor has them.
            Output::Remember(_) if !self.charge.is_ours() => {}
            Output::Remember(notes) => {
                if self.remembered.as_ref() != Some(&notes) {
                    self.remembered = Some(notes.clone());
                    self.tell_keeper(ToKeeper::Remember { notes }, None);
                }
            }
            Output::Watch(watch) => self.health.watch(watch),
            Output::Unwatch(id) => self.health.unwatch(&id),
            Output::ConnectFailed(id, reason) => self.health.connect_failed(id, reason),
            Output::BecameUp(id) => self.supervisor.became_up(now.time, &id),
            Output::Kill(id) => self.supervisor.kill(now.time, &id),
            Output::Dismiss(id) => self.supervisor.dismiss(now.time, &id),
        }
    }

    pub(crate) fn tell_keeper(&mut self, message: ToKeeper, descriptor: Option<OwnedFd>) {
        match &mut self.line {
            Some(line) => line.send(message, descriptor),
            None => self.do_without_keeper(message),
        }
    }

    fn greet(&mut self, now: Now) {
        if self.greeted {
            return;
        }
        let mut instances = self.controller.services().iter().flat_map(|service| &service.instances);
        let all_up = instances.all(|instance| instance.state() == InstanceState::Up);
        if all_up || now.time >= Time::ZERO + GREETING_PATIENCE {
            self.greeted = true;
            let status = self.status(now);
            (self.presenter)(Notice::Serving(&status));
            (self.presenter)(Notice::Summary(&status));
        }
    }

    fn begin_shutdown(&mut self, now: Time, hasten: bool) {
        // Nobody needs to be told what to try next any more.
        self.greeted = true;
        self.deployer.end();
        if !self.shutdown.is_under_way() {
            self.journal.of_everup(self.clock.now().wall, EventKind::Stopping, "everup stops".to_owned());
        }
        if let Some(notes) = &self.remembered {
            self.state_file.freeze(self.clock.now(), notes);
        }
        if self.line.is_none() && self.orphans.is_none() {
            self.end_alone(self.clock.now());
        }
        let step = self.shutdown.begin(now, self.controller.patience(), hasten);
        self.take_step(now, step);
    }

    /// Looks how far the end has come. True: the worker may exit.
    fn step(&mut self) -> bool {
        let now = self.clock.now();
        if self.look_at_leaving(now) {
            return true;
        }
        let now = now.time;
        if !self.shutdown.is_under_way() {
            return false;
        }
        let all_stopped = match &mut self.orphans {
            Some(orphans) => orphans.look(now),
            None => self.supervisor.all_stopped(),
        };
        let step = self.shutdown.look(now, self.controller.to_be_finished(), self.connections(), all_stopped);
        self.take_step(now, step);
        self.shutdown.is_over()
    }

    fn take_step(&mut self, now: Time, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Exit) => self.stop_gateway(),
            Some(Step::FinishRequests) => {
                let in_flight = self.controller.to_be_finished();
                if in_flight > 0 {
                    let at_most = self.controller.patience();
                    tracing::info!(
                        in_flight,
                        ?at_most,
                        "stops: waits for requests in flight; ask again to hasten"
                    );
                }
                if let Some(gateway) = &self.gateway {
                    gateway.begin_shutdown();
                }
            }
            Some(Step::StopInstances { grace, cut }) => {
                let left = self.controller.to_be_finished();
                if left > 0 {
                    tracing::warn!(in_flight = left, "stops without waiting for requests that are in flight");
                }
                match &self.gateway {
                    Some(gateway) if !cut => gateway.refuse(),
                    _ => self.stop_gateway(),
                }
                match &mut self.orphans {
                    Some(orphans) => orphans.stop(now, grace.min(self.controller.patience())),
                    None => self.supervisor.stop_all(now, grace),
                }
                self.apply();
            }
        }
    }

    /// Nobody listens any more, and every connection is closed.
    fn stop_gateway(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop();
        }
    }

    fn end(mut self) -> Result<(), AppError> {
        if !self.charge.leaves() {
            (self.presenter)(Notice::Stopped);
        }
        self.state_file.finish();
        if let Some(mut line) = self.line.take() {
            line.send(ToKeeper::Finished, None);
            line.finish()?;
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), NotReady> {
        if self.shutdown.is_under_way() {
            Err(NotReady("everup is stopping".to_owned()))
        } else {
            self.controller.ready()
        }
    }

    pub(crate) fn connections(&self) -> u64 {
        self.gateway.as_ref().map_or(0, |gateway| gateway.connections() as u64)
    }

    fn status(&self, now: Now) -> Status {
        everup_failpoint::hit("status");
        let moment = Moment {
            now,
            generation: self.controller.generation().0,
            ready: self.ready().is_ok(),
            stopping: self.shutdown.is_under_way(),
            keeper_gone: self.line.is_none(),
            connections: self.connections(),
        };
        let last_lines = |id: &_| self.supervisor.last_lines(id, LOG_LINES);
        let deployed = |service: &_| (self.deployer.lock(service), self.deployer.active(now, service));
        let status = status::status(&self.identity, moment, self.controller.services(), last_lines, deployed);
        Status { leaving: self.predecessors.statuses(), ..status }
    }

    fn explain(&self, id: String) -> Result<Explanation, Refusal> {
        let tales = self.gateway.as_ref().map_or_else(Vec::new, |gateway| gateway.recall(&id));
        explain::explanation(id, &tales)
    }

    fn metrics_page(&self, format: Format) -> String {
        everup_failpoint::hit("metrics.page");
        let gateway = self.gateway.as_ref();
        let process = metrics::Process {
            connections: self.connections(),
            turned_away: self.gateway.as_ref().map(Gateway::turned_away).unwrap_or_default(),
            generation: self.controller.generation().0,
            worker_restarts: self.identity.worker_restarts,
            keeper_gone: self.line.is_none(),
            dropped_lines: gateway.map_or(0, Gateway::dropped_lines),
            wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        let routes = gateway.map_or_else(Vec::new, Gateway::routes);
        metrics::page(format, process, &routes, self.controller.services())
    }
}

/// Never ready when the keeper is gone.
pub(crate) async fn of_keeper(
    line: &mut Option<KeeperLine>,
) -> Result<Option<(ToWorker, Vec<OwnedFd>)>, LinkError> {
    match line {
        Some(line) => line.receive().await,
        None => std::future::pending().await,
    }
}

/// What is asked of deployments changes nothing.
fn reads_only(request: &DeployRequest) -> bool {
    matches!(request.wish, DeployWish::Show | DeployWish::History | DeployWish::Plan { .. })
}

/// Never ready when there is no data plane.
async fn acknowledged(gateway: &Option<Gateway>, generation: Generation) {
    match gateway {
        Some(gateway) => gateway.acknowledged(generation).await,
        None => std::future::pending().await,
    }
}
