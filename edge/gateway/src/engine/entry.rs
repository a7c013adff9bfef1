//! What a thread knows of one descriptor: whether it can be read or written as far as the kernel has told, who waits for
//! that, and bytes that are on their way between the task and the kernel.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Waker;

use rustix::event::epoll::EventFlags;

/// It can be read (or accepted from).
pub(super) const READABLE: u8 = 1;
/// It can be written to.
pub(super) const WRITABLE: u8 = 2;
/// Its end, or an error, is there to be read: it stays readable.
pub(super) const ENDED: u8 = 4;
/// It was reset, or its peer has vanished.
pub(super) const BROKEN: u8 = 8;
/// Urgent data came: from now on a read may end at it though more is there.
pub(super) const URGENT: u8 = 16;
/// It is offered to another process: not to be touched.
pub(super) const FROZEN: u8 = 32;
/// It was, once.
pub(super) const SHARED: u8 = 64;

/// More than this at once is a body: what comes next is not received ahead but read into a larger buffer.
const BULKY: usize = 4 * 1024;

/// One descriptor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fd: OwnedFd,
    /// Its place among the reactor's entries.
    pub(super) place: u32,
    ready: Cell<u8>,
    pub(super) reader: Waiter,
    pub(super) writer: Waiter,
    /// Waits for it to break.
    pub(super) breaking: Waiter,
    /// How many bytes the reader would take; 0: it wants to be told only.
    pub(super) wants: Cell<u32>,
    /// Much came at once the last time: what comes next is read to where it is wanted, in one piece.
    pub(super) bulky: Cell<bool>,
    /// Where in the reactor's receive buffer its bytes lie that nobody took yet.
    pub(super) inbox: RefCell<Range<usize>>,
    /// What was received for a reader that did something else in its turn.
    pub(super) kept: RefCell<Vec<u8>>,
    /// Which of the reactor's waiting sends is its, counted from 1.
    pub(super) staged: Cell<u32>,
    /// What a send at the end of a turn left over.
    pub(super) unsent: RefCell<Vec<u8>>,
    /// Once all is out, the peer is told that no more comes.
    pub(super) finishing: Cell<bool>,
    /// The first failure of a send at the end of a turn.
    pub(super) failure: Cell<Option<ErrorKind>>,
    /// The number of an error that a receive brought for a reader who has not heard of it yet; 0: none.
    pub(super) read_failure: Cell<i32>,
    /// Bytes that the kernel took.
    pub(super) passed: Cell<u64>,
}

/// One who waits. Who waited last is remembered, for mostly it is the same again.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    waits: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    pub(super) fn new(fd: OwnedFd, place: u32, ready: u8) -> Self {
        Self {
            fd,
            place,
            ready: Cell::new(ready),
            reader: Waiter::default(),
            writer: Waiter::default(),
            breaking: Waiter::default(),
            wants: Cell::new(0),
            bulky: Cell::new(false),
            inbox: RefCell::new(0..0),
            kept: RefCell::default(),
            staged: Cell::new(0),
            unsent: RefCell::default(),
            finishing: Cell::new(false),
            failure: Cell::new(None),
            read_failure: Cell::new(0),
            passed: Cell::new(0),
        }
    }

    pub(super) fn is(&self, state: u8) -> bool {
        self.ready.get() & state != 0
    }

    pub(super) fn set(&self, state: u8) {
        self.ready.set(self.ready.get() | state);
    }

    pub(super) fn unset(&self, state: u8) {
        self.ready.set(self.ready.get() & !state);
    }

    /// What the kernel tells.
    pub(super) fn on_event(&self, flags: EventFlags) {
        let mut state = 0;
        if flags.intersects(EventFlags::IN) {
            state |= READABLE;
        }
        if flags.intersects(EventFlags::PRI) {
            state |= READABLE | URGENT;
        }
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            state |= READABLE | ENDED;
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            state |= WRITABLE;
        }
        if flags.intersects(EventFlags::ERR) {
            state |= BROKEN;
            self.breaking.wake();
        }
        self.set(state);
    }

    /// A read got `read` bytes where there was room for `room`: one that got less has emptied the kernel's buffer, and
    /// what comes later will be told. Not so where urgent data came, for each read ends before an urgent byte.
    pub(super) fn on_read(&self, read: usize, room: usize) {
        self.bulky.set(read > BULKY);
        if read < room && read > 0 && !self.is(ENDED | URGENT) {
            self.unset(READABLE);
        }
    }

    /// Whether bytes were received that nobody took yet.
    pub(super) fn holds_input(&self) -> bool {
        !self.inbox.borrow().is_empty() || !self.kept.borrow().is_empty()
    }

    /// The error that a receive brought, once.
    pub(super) fn take_read_failure(&self) -> Option<io::Error> {
        let number = self.read_failure.take();
        (number != 0).then(|| io::Error::from_raw_os_error(number))
    }

    /// Whether whoever waits to read would take what is received for him without having been asked.
    pub(super) fn may_receive_ahead(&self) -> bool {
        self.wants.get() > 0 && !self.bulky.get() && !self.holds_input()
    }

    /// Whether nothing that was written is still here.
    pub(super) fn is_flushed(&self) -> bool {
        self.staged.get() == 0 && self.unsent.borrow().is_empty()
    }

    pub(super) fn on_sent(&self, sent: usize) {
        self.passed.set(self.passed.get() + sent as u64);
    }

    /// What was written is lost. The kernel has told it to the send, and will tell nobody else.
    pub(super) fn on_send_failed(&self, error: &io::Error) {
        self.failure.set(Some(error.kind()));
        self.set(BROKEN);
        self.reader.wake();
        self.writer.wake();
        self.breaking.wake();
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Waiter {
    /// From now on `waker` waits.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waits.set(true);
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.waits.get()
    }

    /// Wakes whoever waits.
    pub(super) fn wake(&self) {
        if self.waits.replace(false)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}
