//! The birth of a worker: everything it needs, built from what the keeper handed over, in the order in which a
//! worker that takes the place of a killed one serves soonest.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use everup_admin::{Command, Commands, serve_admin, serve_metrics};
use everup_core::config::{self, Config, LogTo};
use everup_core::keeper::{SocketRole, ToKeeper};
use everup_gateway::{
    Acceptor, AccessLog, Batching, Gateway, ListenerSockets, Settings, Setup, open_access_log,
};
use everup_instance::Supervisor;
use everup_link::{Adopted, Inherited, Link, Sockets, receive_start};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::{Clock, Now};
use crate::controller::Controller;
use crate::deployer::{Deployer, Founded};
use crate::descriptors;
use crate::error::AppError;
use crate::hooks::Hooks;
use crate::journal::Journal;
use crate::keeper_line::KeeperLine;
use crate::notes::Notes;
use crate::reload::{Opened, Reloads, listener_statuses, metrics_address, settings};
use crate::shutdown::Shutdown;
use crate::state_file::{self, StateFile};
use crate::status::Identity;
use crate::sticky_key;
use crate::tls_files::TlsFiles;
use crate::worker::{Presenter, Worker};

/// A worker that serves. Must be called within a tokio runtime, on which the admin API runs.
pub(crate) fn begin(link: Link, state: &Path, presenter: Presenter) -> Result<Worker, AppError> {
    let clock = Clock::start();
    descriptors::raise();
    let inherited = receive_start(&link)?;
    let config = config_of(&inherited)?;
    let Inherited { config_path, keeper_pid, restarts, sockets, adopted, notes: notes_text, .. } = inherited;
    descriptors::tell(&config.limits);
    let now = clock.now();
    let notes = known(notes_text.as_deref(), state, now);
    let tls_files = TlsFiles::open(&config, Path::new(&config_path), restarts > 0)?;
    let sorted = Sorted::new(&config, sockets, &tls_files.acceptors())?;
    let seed = seed()?;

    let mut controller = Controller::new(&config, sorted.threads, &notes, now);
    controller.set_connectors(tls_files.connectors());
    let mut supervisor = Supervisor::new(state.join("log"), seed, &config.services)?;
    let (done, stored) = mpsc::unbounded_channel();
    let founded = Founded { state, services: &config.services, notes: &notes, adopted: &adopted, done };
    let mut deployer = take_over(now, founded, &mut supervisor, &mut controller);

    let sockets = (sorted.listeners, sorted.threads);
    let setup = setup(&config, Path::new(&config_path), restarts, state, seed, sockets)?;
    let (events, noticed) = mpsc::unbounded_channel();
    let gateway = Gateway::start(setup, controller.first_table(), events)?;
    let (events, verdicts) = mpsc::unbounded_channel();
    let health = everup_health::spawn(events)?;
    controller.watch_all();
    deployer.published(now, controller.generation());
    let (sender, commands) = Command::channel();
    let identity = Identity {
        node: node_name(&config),
        config: config_path,
        keeper_pid,
        worker_restarts: restarts,
        metrics: metrics_address(&sorted.opened),
        listeners: listener_statuses(&config, &controller, &sorted.opened),
    };
    let metrics_servers = serve(sorted.admin, sorted.metrics, &sender)?;
    let line = say_ready(link)?;
    tell_of_restart(restarts, adopted.len());
    Ok(Worker {
        journal: Journal::new(controller.services(), controller.generation(), restarts, now.wall),
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
        orphans: None,
        shutdown: Shutdown::default(),
        remembered: notes_text,
        state_file: StateFile::new(state)?,
        presenter,
        greeted: restarts > 0,
        next_sample: now.time,
        tls_files,
        verdicts,
        noticed,
        commands,
        stored,
        hooks: Hooks::new(),
    })
}

/// Has everybody know the processes from before this worker, with what is known of them.
fn take_over(
    now: Now,
    founded: Founded<'_>,
    supervisor: &mut Supervisor,
    controller: &mut Controller,
) -> Deployer {
    let (adopted, notes) = (founded.adopted, founded.notes);
    let mut deployer = Deployer::new(now, founded, supervisor, controller);
    for Adopted { id, pid, port, revision } in adopted {
        let earlier = notes.restored(id, Some(*pid)).restarts;
        supervisor.adopt(now.time, id, *pid, *port, revision, earlier);
    }
    supervisor.instances().for_each(|process| controller.adopt(process, notes));
    deployer.adopt(now, controller);
    controller.begin_outliers(now);
    deployer
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

/// What this node is called.
pub(crate) fn node_name(config: &Config) -> String {
    config.node.name.clone().unwrap_or_else(host_name)
}

fn tell_of_restart(restarts: u32, adopted: usize) {
    if restarts > 0 {
        tracing::warn!(restarts, adopted, "this worker took the place of one that died");
    }
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
    config_path: &Path,
    restarts: u32,
    state: &Path,
    seed: u64,
    (sockets, threads): (Vec<ListenerSockets>, usize),
) -> Result<Setup, AppError> {
    let Settings { limits, makes_trace_parents } = settings(config);
    Ok(Setup {
        limits,
        access_log: access_log(&config.access_log, config_path, restarts)?,
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
