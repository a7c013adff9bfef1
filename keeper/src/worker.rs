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
use everup_core::keeper::{PROTOCOL, ToWorker};
use everup_core::reload::Change;
use everup_link::{DESCRIPTORS, Link, LinkError};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::sockets::{Group, Held, Place};
use crate::state::{self, Serving};
use crate::users::User;
use crate::{KeeperError, Options, spawn};

/// A worker that leaves so many messages unread hangs: a start with 1,000 instances takes about 1,100.
const UNREAD_MESSAGES: usize = 10_000;

/// A piece of the configuration's text, in bytes: far below the link's limit, also with every character escaped.
const PIECE_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    /// The version that it is.
    pub(crate) everup: String,
    pub(crate) link: Link,
    pub(crate) started: Instant,
    /// It serves.
    pub(crate) ready: bool,
    /// It said that everything is stopped.
    pub(crate) finished: bool,
    /// When it closed the link, or was found to be beyond repair.
    pub(crate) lost: Option<Instant>,
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

/// What travels along with a message.
#[derive(Debug)]
enum Along {
    Nothing,
    /// Some sockets of a group.
    Sockets(Group, Range<usize>),
    One(OwnedFd),
}

impl Along {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Sockets(group, range) => group.descriptors()[range.clone()].to_vec(),
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
        let unread = VecDeque::new();
        let (everup, started) = (crate::VERSION.to_owned(), Instant::now());
        Ok(Self { pid, everup, link, started, ready: false, finished: false, lost: None, unread })
    }

    /// One that another binary started, and that serves.
    pub(crate) fn taken(
        Serving { pid, everup, lived_ms, .. }: &Serving,
        link: OwnedFd,
    ) -> Result<Self, LinkError> {
        let (link, started) = (Link::from_descriptor(link)?, state::began(*lived_ms));
        let (everup, unread) = (everup.clone(), VecDeque::new());
        Ok(Self { pid: *pid, everup, link, started, ready: true, finished: false, lost: None, unread })
    }

    /// What another binary must know of it, beside the link.
    pub(crate) fn to_state(&self, left: Duration) -> Serving {
        let lived_ms = state::milliseconds(self.started.elapsed());
        Serving { pid: self.pid, everup: self.everup.clone(), lived_ms, left_ms: state::milliseconds(left) }
    }

    /// The beginning of what a worker is told: who we are, the configuration, the sockets.
    pub(crate) fn introduce(&mut self, options: &Options, held: &Held, restarts: u32) {
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

/// The text in order, cut at character borders.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_pieces_between_characters_and_nothing_is_lost() {
        let text = "x".to_owned() + &"ü".repeat(PIECE_BYTES);
        let parts: Vec<_> = pieces(&text).collect();
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(parts.concat(), text);
        assert_eq!(pieces("").count(), 0);
    }
}
