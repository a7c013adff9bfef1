//! Sends that are made at the end of a turn, all in one call. A task that wrote is told at once that its bytes were taken;
//! whether the kernel took them is known at the end of the turn, and kept with the socket: how many bytes did, which
//! ones still wait, what went wrong.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::net::SendFlags;

use super::batch::{self, Batch};
use super::entry::{Entry, WRITABLE};

/// The largest piece that waits for the end of the turn: a copy of a larger one costs more than a call of its own.
const STAGED_BYTES: usize = 4 * 1024;

/// What a new buffer holds without growing.
const FIRST_BYTES: usize = 1024;

/// The sends of a turn.
#[derive(Default)]
pub(super) struct Sends {
    staged: RefCell<Vec<Staged>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

/// One of them. Without bytes it was made already, or is not wanted any more.
struct Staged {
    entry: Rc<Entry>,
    bytes: Vec<u8>,
}

impl Sends {
    /// Takes both pieces, if there is room for them; they go out behind what `entry` has here already.
    pub(super) fn stage(&self, entry: &Rc<Entry>, first: &[u8], second: &[u8]) -> bool {
        let mut staged = self.staged.borrow_mut();
        let length = first.len() + second.len();
        let place = entry.staged.get() as usize;
        if place > 0 {
            let bytes = &mut staged[place - 1].bytes;
            let fits = bytes.len() + length <= STAGED_BYTES;
            if fits {
                bytes.extend_from_slice(first);
                bytes.extend_from_slice(second);
            }
            return fits;
        }
        if length > STAGED_BYTES || staged.len() == batch::MOST {
            return false;
        }
        let mut bytes =
            self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(FIRST_BYTES.max(length)));
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        staged.push(Staged { entry: Rc::clone(entry), bytes });
        entry.staged.set(u32::try_from(staged.len()).expect("a turn has few sends"));
        true
    }

    /// Sends now what `entry` has here.
    pub(super) fn push(&self, entry: &Rc<Entry>) {
        if let Some(bytes) = self.take(entry) {
            let sent = send(entry, &bytes);
            self.on_sent(entry, bytes, sent);
        }
    }

    /// What `entry` has here is not to be sent.
    pub(super) fn forget(&self, entry: &Entry) {
        drop(self.take(entry));
    }

    /// Makes all sends that are left.
    pub(super) fn send_all(&self, batch: Option<&RefCell<Batch>>) {
        let mut staged = self.staged.borrow_mut();
        staged.retain(|send| !send.bytes.is_empty());
        let Some(batch) = batch.filter(|batch| batch.borrow().pays_for(staged.len())) else {
            for Staged { entry, bytes } in staged.drain(..) {
                let sent = send(&entry, &bytes);
                self.on_sent(&entry, bytes, sent);
            }
            return;
        };
        let mut batch = batch.borrow_mut();
        let results = batch.send(staged.iter().map(|Staged { entry, bytes }| (entry.as_fd(), &bytes[..])));
        for (Staged { entry, bytes }, result) in staged.drain(..).zip(results) {
            self.on_sent(&entry, bytes, batch::outcome(*result));
        }
    }

    /// The kernel takes more: first of all what was left over.
    pub(super) fn on_writable(&self, entry: &Rc<Entry>) {
        let unsent = std::mem::take(&mut *entry.unsent.borrow_mut());
        if !unsent.is_empty() {
            let sent = send(entry, &unsent);
            self.on_sent(entry, unsent, sent);
        }
        if entry.unsent.borrow().is_empty() {
            if entry.finishing.take() {
                finish(entry);
            }
            entry.writer.wake();
        }
    }

    fn take(&self, entry: &Entry) -> Option<Vec<u8>> {
        let place = entry.staged.replace(0) as usize;
        (place > 0).then(|| std::mem::take(&mut self.staged.borrow_mut()[place - 1].bytes))
    }

    fn on_sent(&self, entry: &Entry, mut bytes: Vec<u8>, sent: io::Result<usize>) {
        entry.staged.set(0);
        let sent = match sent {
            Ok(sent) => {
                entry.on_sent(sent);
                sent
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                entry.on_send_failed(&error);
                bytes.len()
            }
        };
        if sent < bytes.len() {
            entry.unset(WRITABLE);
            bytes.drain(..sent);
            entry.unsent.replace(bytes);
            return;
        }
        bytes.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < batch::MOST {
            spare.push(bytes);
        }
    }
}

/// As much of `bytes` as the kernel takes.
pub(super) fn send(entry: &Entry, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::io::retry_on_intr(|| rustix::net::send(entry, bytes, flags))?)
}

/// Tells the peer that no more comes.
pub(super) fn finish(entry: &Entry) {
    // The peer may be gone already, which is what is wanted.
    let _ = rustix::net::shutdown(entry, rustix::net::Shutdown::Write);
}
