//! Receiving for everyone who waits to read and now can: one call for all, and each finds what came for him here when he
//! is run. For those who wait only: who does not, has no place for bytes yet.

use std::cell::RefCell;
use std::rc::Rc;

use std::os::fd::AsFd;

use super::batch::{self, Batch};
use super::entry::{ENDED, Entry, READABLE};

/// What is received at once for one who waits: nearly every head fits.
const ROOM: usize = 8 * 1024;

/// How far apart the places lie: not a power of two, for then all would share a few lines of the cache.
const STRIDE: usize = ROOM + 320;

/// What was received in a turn.
pub(super) struct Receives {
    due: RefCell<Vec<Rc<Entry>>>,
    /// A place for each, [`STRIDE`] apart.
    room: RefCell<Box<[u8]>>,
}

impl Receives {
    /// For at most `most` in a turn.
    pub(super) fn new(most: usize) -> Self {
        let room = vec![0; most * STRIDE].into_boxed_slice();
        Self { due: RefCell::new(Vec::with_capacity(most)), room: RefCell::new(room) }
    }

    /// `entry` can be read, and someone waits for that.
    pub(super) fn enter(&self, entry: &Rc<Entry>) {
        self.due.borrow_mut().push(Rc::clone(entry));
    }

    /// Receives for all that were entered, and wakes them.
    pub(super) fn receive_all(&self, batch: Option<&RefCell<Batch>>) {
        let mut due = self.due.borrow_mut();
        let Some(batch) = batch.filter(|batch| batch.borrow().pays_for(due.len())) else {
            return due.drain(..).for_each(|entry| entry.reader.wake());
        };
        let mut room = self.room.borrow_mut();
        let calls = due.iter().zip(room.chunks_exact_mut(STRIDE));
        let calls = calls.map(|(entry, place)| (entry.as_fd(), &mut place[..wanted(entry)]));
        let mut batch = batch.borrow_mut();
        let results = batch.receive(calls);
        for ((index, entry), result) in due.iter().enumerate().zip(results) {
            match batch::outcome(*result) {
                Ok(0) => entry.set(READABLE | ENDED),
                Ok(read) => {
                    entry.on_read(read, wanted(entry));
                    entry.inbox.replace(index * STRIDE..index * STRIDE + read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    // Told of something that someone else has read already: he waits on.
                    entry.unset(READABLE);
                    continue;
                }
                Err(error) => entry.read_failure.set(error.raw_os_error().unwrap_or_default()),
            }
            entry.reader.wake();
        }
    }

    /// What is there for the reader of `entry`, as much as fits; none: nothing.
    pub(super) fn take(&self, entry: &Entry, into: &mut [u8]) -> Option<usize> {
        let mut inbox = entry.inbox.borrow_mut();
        if !inbox.is_empty() {
            let taken = inbox.len().min(into.len());
            into[..taken].copy_from_slice(&self.room.borrow()[inbox.start..inbox.start + taken]);
            inbox.start += taken;
            return Some(taken);
        }
        let mut kept = entry.kept.borrow_mut();
        if kept.is_empty() {
            return None;
        }
        let taken = kept.len().min(into.len());
        into[..taken].copy_from_slice(&kept[..taken]);
        kept.drain(..taken);
        if kept.is_empty() {
            *kept = Vec::new();
        }
        Some(taken)
    }

    /// The places are needed again: what nobody took goes with its socket.
    pub(super) fn keep(&self) {
        let room = self.room.borrow();
        for entry in self.due.borrow_mut().drain(..) {
            let inbox = entry.inbox.replace(0..0);
            if !inbox.is_empty() {
                entry.kept.borrow_mut().extend_from_slice(&room[inbox]);
            }
        }
    }
}

fn wanted(entry: &Entry) -> usize {
    ROOM.min(entry.wants.get() as usize)
}
