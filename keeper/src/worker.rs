//! A worker as its keeper sees it: a process, a link, and the messages that it has not read yet.
//!
//! The keeper never waits for a worker: what does not fit into the link waits in a bounded queue here. What the
//! messages mean stands in `keeper.rs`.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everup_core::config::Service;
use everup_core::keeper::{PROTOCOL, ToWorker, pieces};
use everup_core::reload::Change;
use everup_link::{DESCRIPTORS, Link, LinkError};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::lock::StateLock;
use crate::sockets::{Group, Held, Place};
use crate::state::{self, Serving};
use crate::users::User;
use crate::watchdog::Watchdog;
use crate::{KeeperError, Options, log, spawn};

/// A worker that leaves so many messages unread hangs: a start with 1,000 instances takes about 1,100.
const UNREAD_MESSAGES: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    /// The version that it is.
    pub(crate) everup: String,
    pub(crate) link: Link,
    /// Of one that is no child of ours: its pidfd.
    pub(crate) stranger: Option<OwnedFd>,
    pub(crate) started: Instant,
    /// It serves.
    pub(crate) ready: bool,
    /// It said that everything is stopped.
    pub(crate) finished: bool,
    /// When it closed the link, or was found to be beyond repair.
    pub(crate) lost: Option<Instant>,
    pub(crate) watchdog: Watchdog,
    /// The keeper killed it.
    pub(crate) condemned: bool,
    unread: VecDeque<Unread>,
}

/// A configuration for a worker to change to, or to look at.
#[derive(Debug)]
pub(crate) struct Proposal<'a> {
    pub(crate) number: u64,
    pub(crate) ask: Option<u64>,
    pub(crate) dry: bool,
    pub(crate) text: &'a str,
    pub(crate) changes: Vec<Change>,
    pub(crate) groups: &'a [Place],
    pub(crate) refused: Option<String>,
}

#[derive(Debug)]
struct Unread {
    message: ToWorker,
    along: Along,
}

/// What travels beside a message.
#[derive(Debug)]
enum Along {
    Nothing,
    /// These sockets of a group.
    Sockets(Group, Range<usize>),
    Lock(StateLock),
    One(OwnedFd),
}

impl Along {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Sockets(group, range) => group.descriptors()[range.clone()].to_vec(),
            Self::Lock(lock) => vec![lock.as_fd()],
            Self::One(descriptor) => vec![descriptor.as_fd()],
        }
    }
}

impl Worker {
    /// Starts a worker; nothing was said to it yet.
    pub(crate) fn start(options: &Options, user: Option<&User>) -> Result<Self, KeeperError> {
        let (link, theirs) = Link::pair()?;
        let pid = spawn::worker(options, user, theirs)
            .map_err(|source| KeeperError::System { what: "starting the worker", source })?;
        Ok(Self::new(pid, link, None))
    }

    /// `stranger`: it is no child of this keeper, and this becomes readable when it ends.
    pub(crate) fn new(pid: u32, link: Link, stranger: Option<OwnedFd>) -> Self {
        Self {
            pid,
            everup: crate::VERSION.to_owned(),
            link,
            stranger,
            started: Instant::now(),
            ready: false,
            finished: false,
            lost: None,
            watchdog: Watchdog::new(),
            condemned: false,
            unread: VecDeque::new(),
        }
    }

    /// One that another binary had, and that serves.
    pub(crate) fn taken(
        Serving { pid, everup, lived_ms, .. }: &Serving,
        link: OwnedFd,
        stranger: Option<OwnedFd>,
    ) -> Result<Self, LinkError> {
        let (link, started) = (Link::from_descriptor(link)?, state::began(*lived_ms));
        let everup = everup.clone();
        Ok(Self { everup, started, ready: true, ..Self::new(*pid, link, stranger) })
    }

    /// What another binary must know of it, beside its descriptors.
    pub(crate) fn to_state(&self, left: Duration) -> Serving {
        Serving {
            pid: self.pid,
            everup: self.everup.clone(),
            lived_ms: state::milliseconds(self.started.elapsed()),
            left_ms: state::milliseconds(left),
            stranger: self.stranger.is_some(),
        }
    }

    /// The beginning of what a worker is told: who we are, the configuration, the sockets.
    pub(crate) fn introduce(&mut self, options: &Options, held: &Held, lock: &StateLock, restarts: u32) {
        self.tell(ToWorker::Hello {
            protocol: PROTOCOL,
            config_path: options.config_path.display().to_string(),
            keeper_pid: std::process::id(),
            restarts,
        });
        pieces(&options.config_text)
            .for_each(|piece| self.tell(ToWorker::ConfigText { piece: piece.to_owned() }));
        for Service { name, run, .. } in &options.config.services {
            if let Some(run) = run {
                let (service, revision) = (Arc::clone(name), run.revision.clone());
                self.tell(ToWorker::Revision { service, revision });
            }
        }
        held.groups().iter().for_each(|group| self.hand_over(group));
        self.unread.push_back(Unread { message: ToWorker::Lock, along: Along::Lock(lock.clone()) });
    }

    /// Sends the sockets of one address.
    fn hand_over(&mut self, group: &Group) {
        let count = group.descriptors().len();
        for first in (0..count).step_by(DESCRIPTORS) {
            let message = ToWorker::Sockets { role: group.role, address: group.address.clone() };
            let along = Along::Sockets(group.clone(), first..count.min(first + DESCRIPTORS));
            self.unread.push_back(Unread { message, along });
        }
    }

    /// Everything that a worker must know to change to another configuration.
    pub(crate) fn propose(&mut self, proposal: Proposal<'_>) {
        let Proposal { number, ask, dry, text, changes, groups, refused } = proposal;
        pieces(text).for_each(|piece| self.tell(ToWorker::ConfigText { piece: piece.to_owned() }));
        changes.into_iter().for_each(|change| self.tell(ToWorker::Change { change }));
        for Place { group, before } in groups {
            match before {
                Some(before) => self.tell(ToWorker::Kept { before: *before, now: group.role }),
                None => self.hand_over(group),
            }
        }
        self.tell(ToWorker::NewConfig { number, ask, dry, refused });
    }

    pub(crate) fn tell(&mut self, message: ToWorker) {
        self.unread.push_back(Unread { message, along: Along::Nothing });
    }

    /// A message with a descriptor.
    pub(crate) fn tell_with(&mut self, message: ToWorker, descriptor: OwnedFd) {
        self.unread.push_back(Unread { message, along: Along::One(descriptor) });
    }

    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn unread(&self) -> impl Iterator<Item = &ToWorker> {
        self.unread.iter().map(|one| &one.message)
    }

    /// Sends what fits. The error means that the worker is lost.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        while let Some(Unread { message, along }) = self.unread.front() {
            if !self.link.try_send(message, &along.descriptors())? {
                break;
            }
            self.unread.pop_front();
        }
        Ok(())
    }

    pub(crate) fn hangs(&self) -> bool {
        self.unread.len() > UNREAD_MESSAGES
    }

    /// It does not do what a worker must. It is gone when it is reaped.
    pub(crate) fn condemn(&mut self, why: &str) {
        log(&format!("worker {} is killed: {why}", self.pid));
        self.condemned = true;
        self.signal(Signal::KILL);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_group(self.pid, signal);
    }
}

/// Every child leads a process group. One that is gone already needs no signal.
pub(crate) fn signal_group(pid: u32, signal: Signal) {
    if let Some(group) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process_group(group, signal);
    }
}
