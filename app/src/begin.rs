//! The birth of a worker: everything it needs, built from what the keeper handed over, in the order in which a
//! worker that takes the place of a killed one serves soonest.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use everup_admin::api::EventKind;
use everup_admin::{Command, Commands, serve_admin, serve_metrics};
use everup_core::config::{self, Config, LogTo};
use everup_core::keeper::{SocketRole, ToKeeper};
use everup_gateway::{
    Acceptor, AccessLog, Batching, Gateway, ListenerSockets, Settings, Setup, open_access_log,
};
use everup_instance::Supervisor;
use everup_link::{Adopted, Inherited, Link, Predecessor, Sockets, receive_charge, receive_start};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bequest;
use crate::clock::{Clock, Now};
use crate::controller::Controller;
use crate::deployer::{Deployer, Founded};
use crate::descriptors;
use crate::error::AppError;
use crate::estate::Estate;
use crate::hooks::Hooks;
use crate::journal::Journal;
use crate::keeper_line::KeeperLine;
use crate::notes::Notes;
use crate::pulse::Pulse;
use crate::reload::{Opened, Reloads, describe, settings};
use crate::shutdown::Shutdown;
use crate::state_file::{self, StateFile};
use crate::status::Identity;
use crate::sticky_key;
use crate::succession::{Charge, Predecessors, Upgrades};
use crate::tls_files::TlsFiles;
use crate::worker::{Presenter, Worker};

/// A worker that serves. Must be called within a tokio runtime, on which the admin API runs.
pub(crate) fn begin(link: Link, state: &Path, presenter: Presenter) -> Result<Worker, AppError> {
    let clock = Clock::start();
    let Prepared { inherited, config, tls_files, sorted, estate, succeeds } = prepare(&link, state)?;
    let now = clock.now();
    let notes = known(inherited.notes.as_deref(), state, now);
    let seed = seed()?;

    let mut controller = Controller::new(&config, sorted.threads, &notes, now);
    controller.set_connectors(tls_files.connectors());
    let mut supervisor = Supervisor::new(state.join("log"), seed, &config.services)?;
    let (done, stored) = mpsc::unbounded_channel();
    let founded =
        Founded { state, services: &config.services, notes: &notes, adopted: &inherited.adopted, done };
    let mut deployer = take_over(now, founded, &inherited.predecessors, &mut supervisor, &mut controller)?;

    let (events, verdicts) = mpsc::unbounded_channel();
    let health = everup_health::spawn(events)?;
    let first_table = controller.first_table();
    controller.watch_all();
    deployer.published(now, controller.generation());
    let (sender, commands) = Command::channel();
    let identity = identity(&inherited, &config, &controller, &sorted.opened);
    let metrics_servers = serve(sorted.admin, sorted.metrics, &sender)?;
    let state_file = StateFile::new(state)?;
    everup_failpoint::check("upgrade.ready").map_err(AppError::System)?;
    // From here on clients come.
    let setup = setup(&config, &inherited, state, seed, (sorted.listeners, sorted.threads))?;
    let (events, noticed) = mpsc::unbounded_channel();
    let gateway = Gateway::start(setup, first_table, events)?;
    let line = say_ready(link)?;
    let Inherited { restarts, adopted, notes: remembered, predecessors, .. } = inherited;
    let mut worker = Worker {
        journal: begin_journal(&identity, &controller, adopted.len(), succeeds, now),
        clock,
        identity,
        reloads: Reloads::default(),
        opened: sorted.opened,
        api: sender,
        metrics_servers,
        config,
        controller,
        deployer,
        supervisor,
        gateway: Some(gateway),
        health,
        line: Some(line),
        keeperless: None,
        orphans: None,
        estate,
        terminate: signal(SignalKind::terminate()).map_err(AppError::System)?,
        shutdown: Shutdown::default(),
        remembered,
        state_file,
        presenter,
        greeted: restarts > 0 || succeeds,
        pulse: Pulse::default(),
        next_sample: now.time,
        tls_files,
        verdicts,
        noticed,
        commands,
        stored,
        hooks: Hooks::new(),
        charge: Charge::default(),
        predecessors: Predecessors::default(),
        upgrades: Upgrades::default(),
    };
    worker.succeed_all(predecessors);
    Ok(worker)
}

/// What a worker has before it touches what only one may have.
struct Prepared {
    inherited: Inherited,
    config: Config,
    tls_files: TlsFiles,
    sorted: Sorted,
    estate: Estate,
    /// It takes the place of a worker that lives.
    succeeds: bool,
}

/// Takes what the keeper hands over, and reads what can be read. While another worker serves: all that can fail and that
/// nobody notices; then waits until that one has yielded.
fn prepare(link: &Link, state: &Path) -> Result<Prepared, AppError> {
    descriptors::raise();
    let mut inherited = receive_start(link)?;
    let config = config_of(&inherited)?;
    everup_failpoint::hit(&format!("worker.of.{}", node_name(&config)));
    descriptors::tell(&config.limits);
    let estate = Estate::of(&mut inherited, state).map_err(AppError::System)?;
    let succeeds = inherited.waits;
    // Who takes the place of a dead one takes what it gets; who takes that of a living one must be as good.
    let lenient = inherited.restarts > 0 && !succeeds;
    let tls_files = TlsFiles::open(&config, Path::new(&inherited.config_path), lenient)?;
    let sockets = std::mem::take(&mut inherited.sockets);
    let sorted = Sorted::new(&config, sockets, &tls_files.acceptors())?;
    if succeeds {
        sticky_key::read_or_create(state)?;
        access_log(&config.access_log, Path::new(&inherited.config_path), 0)?;
        everup_failpoint::check("upgrade.prepare").map_err(AppError::System)?;
        link.send(&ToKeeper::Prepared, &[])?;
        receive_charge(link, &mut inherited)?;
        everup_failpoint::check("upgrade.begin").map_err(AppError::System)?;
    }
    Ok(Prepared { inherited, config, tls_files, sorted, estate, succeeds })
}

/// What this worker has to tell at its beginning.
fn begin_journal(
    identity: &Identity,
    controller: &Controller,
    adopted: usize,
    succeeds: bool,
    now: Now,
) -> Journal {
    let Identity { worker_restarts, warnings, .. } = identity;
    let deaths = tell_of_restart(*worker_restarts, adopted, succeeds);
    let mut journal = Journal::new(controller.services(), controller.generation(), deaths, now.wall);
    for warning in warnings {
        tracing::error!("{warning}");
        journal.of_everup(now.wall, EventKind::FellBack, warning.clone());
    }
    journal
}

/// Has everybody know the processes from before this worker, with what is known of them, and counts on from the last one.
fn take_over(
    now: Now,
    founded: Founded<'_>,
    predecessors: &[Predecessor],
    supervisor: &mut Supervisor,
    controller: &mut Controller,
) -> Result<Deployer, AppError> {
    let (adopted, notes) = (founded.adopted, founded.notes);
    let mut deployer = Deployer::new(now, founded, supervisor, controller);
    for predecessor in predecessors.iter().filter(|one| one.stores.is_some()) {
        // What it could do with the store, this one must be able to do too, or it does not take its place.
        if predecessor.stores == Some(true) {
            deployer.must_store().map_err(AppError::Store)?;
        }
        bequest::inherit(controller.services(), &bequest::take(&predecessor.line));
    }
    for Adopted { id, pid, port, revision } in adopted {
        let earlier = notes.restored(id, Some(*pid)).restarts;
        supervisor.adopt(now.time, id, *pid, *port, revision, earlier);
    }
    supervisor.instances().for_each(|process| controller.adopt(process, notes));
    deployer.adopt(now, controller);
    controller.begin_outliers(now);
    Ok(deployer)
}

/// The configuration that runs. What processes are started with can be of an older one than the text: only the keeper
/// knows all of that.
fn config_of(inherited: &Inherited) -> Result<Config, AppError> {
    let mut config = parse(&inherited.config_text)?;
    for service in &mut config.services {
        let known = inherited.revisions.iter().find(|(name, _)| *name == service.name);
        if let (Some(run), Some((_, revision))) = (&mut service.run, known) {
            run.revision.clone_from(revision);
        }
    }
    Ok(config)
}

/// What people are told of this worker.
fn identity(inherited: &Inherited, config: &Config, controller: &Controller, opened: &[Opened]) -> Identity {
    let Inherited { config_path, keeper_pid, restarts, warning, .. } = inherited;
    let mut identity =
        Identity { keeper_pid: *keeper_pid, worker_restarts: *restarts, ..Identity::default() };
    (identity.config, identity.warnings) = (config_path.clone(), Vec::from_iter(warning.clone()));
    describe(&mut identity, config, controller, opened);
    identity
}

/// What this node is called.
pub(crate) fn node_name(config: &Config) -> String {
    config.node.name.clone().unwrap_or_else(host_name)
}

/// How many deaths of workers led to this one.
fn tell_of_restart(restarts: u32, adopted: usize, succeeds: bool) -> u32 {
    if succeeds {
        tracing::info!(
            adopted,
            version = crate::status::VERSION,
            "this worker took the place of another one"
        );
        return 0;
    }
    if restarts > 0 {
        tracing::warn!(restarts, adopted, "this worker took the place of one that died");
    }
    restarts
}

fn say_ready(link: Link) -> Result<KeeperLine, AppError> {
    let mut line = KeeperLine::new(link).map_err(AppError::System)?;
    line.send(ToKeeper::Ready, None);
    Ok(line)
}

/// What the last worker left with the keeper; the first worker of a keeper finds what the last everup left.
fn known(notes: Option<&str>, state: &Path, now: Now) -> Notes {
    match notes {
        Some(text) => Notes::read(Some(text)),
        None => state_file::read(state, now.wall),
    }
}

/// What the data plane needs.
fn setup(
    config: &Config,
    inherited: &Inherited,
    state: &Path,
    seed: u64,
    (sockets, threads): (Vec<ListenerSockets>, usize),
) -> Result<Setup, AppError> {
    let Settings { limits, makes_trace_parents } = settings(config);
    Ok(Setup {
        limits,
        access_log: access_log(&config.access_log, Path::new(&inherited.config_path), inherited.restarts)?,
        makes_trace_parents,
        batching: if config.node.io_uring { Batching::WhenItPays } else { Batching::Never },
        sockets,
        threads,
        sticky_keys: sticky_key::read_or_create(state)?.into(),
        worker_seed: seed,
    })
}

/// Where requests are written down. A file that cannot be written is told before anything serves; later, traffic does not
/// depend on it: the lines are dropped and counted until it can.
pub(crate) fn access_log(
    settings: &config::AccessLog,
    config_path: &Path,
    restarts: u32,
) -> Result<Option<AccessLog>, AppError> {
    let config::AccessLog { to, query } = settings;
    let file = match to {
        LogTo::Off => return Ok(None),
        LogTo::Stdout => None,
        LogTo::File(file) => Some(config_path.parent().unwrap_or_else(|| Path::new("")).join(file)),
    };
    if let Some(path) = file.as_ref().filter(|_| restarts == 0) {
        open_access_log(path).map_err(|source| AppError::AccessLog { path: path.clone(), source })?;
    }
    Ok(Some(AccessLog { file, query: *query }))
}

fn parse(text: &str) -> Result<Config, AppError> {
    config::parse(text).map_err(|mistakes| {
        let messages: Vec<_> = mistakes.into_iter().map(|mistake| mistake.message).collect();
        AppError::Config(messages.join("; "))
    })
}

/// The inherited sockets by their use.
struct Sorted {
    listeners: Vec<ListenerSockets>,
    /// All addresses.
    opened: Vec<Opened>,
    /// One socket per address for each.
    threads: usize,
    admin: Vec<OwnedFd>,
    metrics: Vec<OwnedFd>,
}

impl Sorted {
    fn new(config: &Config, sockets: Vec<Sockets>, tls: &[Option<Arc<Acceptor>>]) -> Result<Self, AppError> {
        let mut sorted = Self {
            listeners: Vec::new(),
            opened: Vec::new(),
            threads: 1,
            admin: Vec::new(),
            metrics: Vec::new(),
        };
        for Sockets { role, address, descriptors } in sockets {
            sorted.opened.push(Opened { role, address: address.clone() });
            match role {
                SocketRole::Listener { listener, bind: _ } => {
                    sorted.listener(config, listener, &address, descriptors)?;
                    sorted.listeners.last_mut().expect("it was just added").tls = tls[listener].clone();
                }
                SocketRole::Admin => sorted.admin.extend(descriptors),
                SocketRole::Metrics => sorted.metrics.extend(descriptors),
            }
        }
        Ok(sorted)
    }

    fn listener(
        &mut self,
        config: &Config,
        listener: usize,
        address: &str,
        fds: Vec<OwnedFd>,
    ) -> Result<(), AppError> {
        let wrong = || AppError::Config(format!("a socket for {address} fits no listener of it"));
        let settings = config.listeners.get(listener).ok_or_else(wrong)?;
        let local: SocketAddr = address.parse().map_err(|_| wrong())?;
        self.threads = self.threads.max(fds.len());
        self.listeners.push(ListenerSockets { listener, protocol: settings.protocol, local, tls: None, fds });
        Ok(())
    }
}

/// The API runs beside the loop, on the same thread. Returns the servers of the metrics, which a reload can end.
fn serve(
    admin: Vec<OwnedFd>,
    metrics: Vec<OwnedFd>,
    commands: &Commands,
) -> Result<Vec<JoinHandle<()>>, AppError> {
    for socket in admin {
        tokio::spawn(serve_admin(socket, commands.clone())?);
    }
    let serve = |socket| Ok(tokio::spawn(serve_metrics(socket, commands.clone())?));
    metrics.into_iter().map(serve).collect()
}

fn seed() -> Result<u64, AppError> {
    getrandom::u64().map_err(|error| AppError::System(std::io::Error::other(error)))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
