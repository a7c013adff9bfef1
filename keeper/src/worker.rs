//! A worker as its keeper sees it: a process, a link, and the messages that it has not read yet.
//!
//! The keeper never waits for a worker: what does not fit into the link waits in a bounded queue here. What the
//! messages mean stands in `keeper.rs`.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use everup_core::keeper::{PROTOCOL, ToWorker};
use everup_link::{DESCRIPTORS, Link, LinkError};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::sockets::Held;
use crate::users::User;
use crate::{KeeperError, Options, spawn};

/// A worker that leaves so many messages unread hangs: a start with 1,000 instances takes about 1,100.
const UNREAD_MESSAGES: usize = 10_000;

/// A piece of the configuration's text, in bytes: far below the link's limit, also with every character escaped.
const PIECE_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    pub(crate) link: Link,
    pub(crate) started: Instant,
    /// It said that everything is stopped.
    pub(crate) finished: bool,
    /// When it closed the link, or was found to be beyond repair.
    pub(crate) lost: Option<Instant>,
    unread: VecDeque<Unread>,
}

#[derive(Debug)]
struct Unread {
    message: ToWorker,
    /// Which sockets of which group travel along.
    sockets: Option<(usize, Range<usize>)>,
}

impl Worker {
    /// Starts a worker; nothing was said to it yet.
    pub(crate) fn start(options: &Options, user: Option<&User>) -> Result<Self, KeeperError> {
        let (link, theirs) = Link::pair()?;
        let pid = spawn::worker(options, user, theirs)
            .map_err(|source| KeeperError::System { what: "starting the worker", source })?;
        let started = Instant::now();
        Ok(Self { pid, link, started, finished: false, lost: None, unread: VecDeque::new() })
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
        for (index, group) in held.groups().iter().enumerate() {
            let count = group.descriptors().len();
            for first in (0..count).step_by(DESCRIPTORS) {
                let message = ToWorker::Sockets { role: group.role, address: group.address.clone() };
                let sockets = Some((index, first..count.min(first + DESCRIPTORS)));
                self.unread.push_back(Unread { message, sockets });
            }
        }
    }

    pub(crate) fn tell(&mut self, message: ToWorker) {
        self.unread.push_back(Unread { message, sockets: None });
    }

    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Sends what fits. The error means that the worker is lost.
    pub(crate) fn flush(&mut self, held: &Held) -> Result<(), LinkError> {
        while let Some(Unread { message, sockets }) = self.unread.front() {
            let descriptors = sockets.as_ref().map_or_else(Vec::new, |(group, range)| {
                held.groups()[*group].descriptors()[range.clone()].to_vec()
            });
            if !self.link.try_send(message, &descriptors)? {
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
