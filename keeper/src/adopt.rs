//! Taking over a worker whose keeper has died. It serves on without one, and holds what the keeper held: the lock of the state
//! directory, the listening sockets, and the knowledge of what runs. The next `everup run` finds the lock taken, knocks at the
//! worker's door, and gets all of it; no connection and no process notices.
//!
//! ```text
//!   lock taken ──▶ knock ── Hello ──▶ Orphan, text, sockets, lock, instances, notes, Ready ──▶ checked ──▶ the loop, then a reload
//!        └── nobody opens: another keeper lives, and this one is refused
//! ```
//!
//! The worker reads the internet and is trusted less than the operator's file, which this keeper has read itself. What to
//! execute comes from the file alone ([`runs_by`]); a process is only taken for an instance if it has the user that the file gives
//! that instance; the path of the admin socket is only deleted if the file names it. What else the file says differently is a reload
//! afterwards, as always.
//!
//! Neither the worker nor its instances are children of this keeper: it watches them through pidfds, and is never told how they end.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use everup_core::config::{self, Config, Node, Run, Service, is_revision};
use everup_core::ids::InstanceId;
use everup_core::keeper::{ExitStatus, NOTES_BYTES, PROTOCOL, SocketRole, ToKeeper, ToWorker};
use everup_link::{Link, LinkError, Peer, knock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, getpgid, pidfd_open};

use crate::activation::Given;
use crate::lock::StateLock;
use crate::sockets::Held;
use crate::users::Users;
use crate::worker::Worker;
use crate::{KeeperError, Options, log};

/// A worker that lives answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// More sockets or instances than any configuration gives a reason for.
const MANY: usize = 100_000;

/// Everything that a worker had from its last keeper, checked.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) worker: Worker,
    pub(crate) held: Held,
    pub(crate) lock: StateLock,
    pub(crate) instances: BTreeMap<InstanceId, Process>,
    pub(crate) notes: Option<String>,
    pub(crate) restarts: u32,
}

/// An instance that is no child of this keeper.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) revision: String,
    /// Becomes readable when it ends.
    pub(crate) process: OwnedFd,
}

/// What the worker says, not checked yet.
#[derive(Debug, Default)]
struct Claimed {
    restarts: u32,
    text: String,
    sockets: Vec<(SocketRole, String, Vec<OwnedFd>)>,
    lock: Option<OwnedFd>,
    instances: Vec<(InstanceId, u32, u16, String)>,
    notes: Option<String>,
}

/// Takes over the worker that serves in this state directory without a keeper; None: there is none. Afterwards the options
/// describe what it runs by.
pub(crate) fn adopt(
    options: &mut Options,
    users: &Users,
    given: Given,
) -> Result<Option<Adopted>, KeeperError> {
    let path = options.state.join("worker.sock");
    let Some((link, peer)) = knock(&path)? else { return Ok(None) };
    everup_failpoint::hit("adopt.knocked");
    let refuse = |why: String| KeeperError::Adoption { pid: peer.pid, why };
    let process = known(peer, users).map_err(refuse)?;
    let Some(claimed) = ask(&link, options, peer)? else { return Ok(None) };
    everup_failpoint::hit("adopt.told");
    let Claimed { restarts, text, sockets, lock, instances, notes } = claimed;
    let running =
        config::parse(&text).map_err(|_| refuse("its configuration cannot be read by this everup".into()))?;
    let threads = sockets.iter().map(|(_, _, descriptors)| descriptors.len()).max().unwrap_or(1);
    let lock = lock.ok_or_else(|| "it has no lock of the state directory".to_owned());
    let lock = lock.and_then(|lock| StateLock::kept(&options.state, lock).map_err(|error| error.to_string()));
    let lock = lock.map_err(refuse)?;
    let held = Held::adopted(&running, &options.admin, given, sockets);
    let mut worker = Worker::new(peer.pid, link, Some(process));
    worker.ready = true;
    let mut known = BTreeMap::new();
    for (id, pid, port, revision) in instances {
        match check(&id, pid, users) {
            Some(process) => drop(known.insert(id, Process { pid, port, revision, process })),
            None => worker.tell(ToWorker::Exited { id, pid, status: ExitStatus::Unknown }),
        }
    }
    options.threads = threads;
    options.config = runs_by(running, &options.config);
    options.config_text = text;
    everup_failpoint::hit("adopt.checked");
    Ok(Some(Adopted { worker, held, lock, instances: known, notes, restarts }))
}

/// The worker's process, if its user is who a worker of ours would be.
fn known(peer: Peer, users: &Users) -> Result<OwnedFd, String> {
    let own = rustix::process::getuid().as_raw();
    let expected = users.worker().map_or(own, |user| user.uid);
    if peer.uid != expected && peer.uid != own {
        return Err(format!("it has the user with the number {}, and not that of `node.user`", peer.uid));
    }
    pid(peer.pid)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .ok_or_else(|| "it has just ended".into())
}

fn pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Everything up to its [`ToKeeper::Ready`]; None: it has ended, or another keeper was faster.
fn ask(link: &Link, options: &Options, peer: Peer) -> Result<Option<Claimed>, KeeperError> {
    let refuse = |why: &str| KeeperError::Adoption { pid: peer.pid, why: why.to_owned() };
    let hello = ToWorker::Hello {
        protocol: PROTOCOL,
        config_path: options.config_path.display().to_string(),
        keeper_pid: std::process::id(),
        restarts: 0,
    };
    match link.send(&hello, &[]) {
        Err(LinkError::Gone) => return Ok(None),
        other => other?,
    }
    let until = Instant::now() + PATIENCE;
    let mut claimed = Claimed::default();
    loop {
        if !is_readable(link, until) {
            return Err(refuse("it does not answer: it hangs, and must be killed"));
        }
        let (message, descriptors) = match link.receive() {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(None),
            Err(LinkError::Malformed(_)) => return Err(refuse("it is of another version of everup")),
            Err(error) => return Err(error.into()),
        };
        match message {
            ToKeeper::Orphan { protocol, .. } if protocol != PROTOCOL => {
                return Err(refuse("it is of another version of everup"));
            }
            ToKeeper::Orphan { restarts, .. } => claimed.restarts = restarts,
            ToKeeper::Runs { piece } => claimed.text.push_str(&piece),
            ToKeeper::Holds { role, address } => match claimed.sockets.last_mut() {
                Some((last, _, all)) if *last == role => all.extend(descriptors),
                _ => claimed.sockets.push((role, address, descriptors)),
            },
            ToKeeper::Lock => claimed.lock = descriptors.into_iter().next(),
            ToKeeper::Instance { id, pid, port, revision } => {
                claimed.instances.push((id, pid, port, revision));
            }
            ToKeeper::Remember { notes } => {
                claimed.notes = Some(notes).filter(|notes| notes.len() <= NOTES_BYTES)
            }
            ToKeeper::Ready => return Ok(Some(claimed)),
            ToKeeper::Start { .. }
            | ToKeeper::Signal { .. }
            | ToKeeper::Alive { .. }
            | ToKeeper::Finished
            | ToKeeper::Reload { .. }
            | ToKeeper::Upgrade { .. }
            | ToKeeper::Prepared
            | ToKeeper::Yielded { .. }
            | ToKeeper::Reloaded { .. } => return Err(refuse("it says something that cannot be said now")),
        }
        let many = claimed.sockets.len().max(claimed.instances.len()) > MANY;
        if many || claimed.text.len() > config::MAX_BYTES {
            return Err(refuse("it has more to say than can be"));
        }
    }
}

fn is_readable(link: &Link, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    poll(&mut [PollFd::new(link, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// The instance's process, if what the worker says of it can be true. Root would signal any process otherwise.
fn check(id: &InstanceId, number: u32, users: &Users) -> Option<OwnedFd> {
    let pid = pid(number)?;
    // It cannot become another process from here on; one that has ended is told of by the loop.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let own = rustix::process::getuid().as_raw();
    let expected = users.instances_of(&id.service).map_or(own, |user| user.uid);
    let is_leader = getpgid(Some(pid)) == Ok(pid);
    if user_of(number) != Some(expected) || !is_leader {
        log(&format!("process {number} is not taken for {id}: it has another user, or leads no group"));
        return None;
    }
    Some(process)
}

/// Whose rights the process has. Not the owner of its directory, which is root's if it may not be looked into.
fn user_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What runs: the worker's configuration, but for what processes are started with. That is the file's; a service that is in the
/// file no more, or is not run any more, starts nothing until the reload that follows takes it away.
fn runs_by(running: Config, file: &Config) -> Config {
    let mut config = running;
    let Node { name, metrics, watchdog, .. } = config.node;
    config.node = Node { name, metrics, watchdog, ..file.node.clone() };
    for service in &mut config.services {
        let Some(before) = service.run.take() else { continue };
        let now = file.services.iter().find(|other| other.name == service.name);
        service.run = Some(started_with(before, now.and_then(|service: &Service| service.run.as_ref())));
    }
    config
}

fn started_with(before: Run, now: Option<&Run>) -> Run {
    let Run { replicas, log, revision, .. } = before.clone();
    let now = now.cloned().unwrap_or_else(|| Run { command: vec!["false".to_owned()], user: None, ..before });
    let revision = if is_revision(&revision) { revision } else { now.revision.clone() };
    Run { replicas, log, revision, ..now }
}
