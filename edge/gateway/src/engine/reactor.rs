//! The thread's one wait for the kernel: it learns which sockets can be read or written, and wakes who waits for that.
//! What can be done for many sockets in one call is done here: `receives`, `sends`.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::Batching;
use super::batch::{self, Batch};
use super::entry::{Entry, FROZEN, READABLE, WRITABLE};
use super::receives::Receives;
use super::sends::Sends;

/// Sockets that are looked at in a turn. More would not make the batches cheaper, but those at the end would wait longer.
const EVENTS: usize = batch::MOST;

/// With fewer, plain calls cost less.
const SMALLEST_BATCH: usize = 4;

/// Reads and writes that a task may make before others have their turn.
const BUDGET: u32 = 64;

/// The bell's name among the events.
const BELL: u64 = u64::MAX;

/// A thread's sockets.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<u32>>,
    events: RefCell<Vec<Event>>,
    /// None: every call is made by itself.
    batch: Option<RefCell<Batch>>,
    pub(super) receives: Receives,
    pub(super) sends: Sends,
    /// So much is going on that it pays to make calls together.
    gathers: Cell<bool>,
    budget: Cell<u32>,
}

/// What an event names. A socket is watched until its last descriptor is closed, and a process that is being started has
/// a copy of each until it runs its program: so what came of a socket that has left may be told for a while, and must
/// not be taken for news of the next one.
#[derive(Default)]
struct Place {
    /// How many had the place before.
    generation: u32,
    entry: Option<Rc<Entry>>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reactor").field("batching", &self.is_batching()).finish_non_exhaustive()
    }
}

impl Reactor {
    pub(super) fn new(batching: Batching) -> io::Result<Self> {
        let smallest = if batching == Batching::Always { 1 } else { SMALLEST_BATCH };
        let batch = if batching == Batching::Never { None } else { Batch::new(smallest) };
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            places: RefCell::default(),
            free: RefCell::default(),
            events: RefCell::new(Vec::with_capacity(EVENTS)),
            receives: Receives::new(if batch.is_some() { EVENTS } else { 0 }),
            sends: Sends::default(),
            batch: batch.map(RefCell::new),
            gathers: Cell::new(false),
            budget: Cell::new(BUDGET),
        })
    }

    pub(super) fn is_batching(&self) -> bool {
        self.batch.is_some()
    }

    /// From now on waits end when `bell` can be read.
    pub(super) fn watch_bell(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, bell, EventData::new_u64(BELL), EventFlags::IN)?)
    }

    /// Watches a descriptor, both ways, from now on until [`Self::leave`].
    pub(super) fn enter(&self, fd: OwnedFd, ready: u8) -> io::Result<Rc<Entry>> {
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(Place::default());
            u32::try_from(places.len() - 1).expect("there are fewer sockets than descriptors")
        });
        let slot = &mut places[place as usize];
        let name = u64::from(slot.generation) << 32 | u64::from(place);
        let flags = EventFlags::IN | EventFlags::PRI | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, &fd, EventData::new_u64(name), flags) {
            self.free.borrow_mut().push(place);
            return Err(error.into());
        }
        let entry = Rc::new(Entry::new(fd, place, ready));
        slot.entry = Some(Rc::clone(&entry));
        Ok(entry)
    }

    /// The socket is given up; closing it ends the watch.
    pub(super) fn leave(&self, entry: &Entry) {
        let mut places = self.places.borrow_mut();
        let slot = &mut places[entry.place as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.borrow_mut().extend(slot.entry.take().map(|entry| entry.place));
    }

    /// The same where closing does not end the watch, because another process keeps the socket: this thread would be woken
    /// for it ever after.
    pub(super) fn leave_shared(&self, entry: &Entry) {
        // It was entered, and is open: there is no way for this to fail.
        let _ = epoll::delete(&self.epoll, entry);
        self.leave(entry);
    }

    pub(super) fn renew_budget(&self) {
        self.budget.set(BUDGET);
    }

    /// Ready if the task that runs may do one more read or write; else it will be run again in the next turn.
    pub(super) fn poll_spend(&self, cx: &Context<'_>) -> Poll<()> {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        if left > 0 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether writes are to be left for the end of the turn.
    pub(super) fn gathers(&self) -> bool {
        self.gathers.get()
    }

    /// Waits for news of the sockets, not longer than `timeout`, and wakes whom they concern. Whether the bell rang.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> bool {
        self.receives.keep();
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut events = self.events.borrow_mut();
        events.clear();
        // An interrupted wait has no news.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
        self.gathers.set(self.batch.as_ref().is_some_and(|batch| batch.borrow().pays_for(events.len())));
        let places = self.places.borrow();
        let mut rang = false;
        for event in events.iter() {
            let name = event.data.u64();
            rang |= name == BELL;
            let (generation, place) = ((name >> 32) as u32, name as u32);
            let slot = places.get(place as usize).filter(|slot| slot.generation == generation);
            if let Some(entry) = slot.and_then(|slot| slot.entry.as_ref()) {
                self.on_event(entry, event.flags);
            }
        }
        self.receives.receive_all(self.batch.as_ref());
        rang
    }

    /// Makes the sends that the turn's tasks have left for its end.
    pub(super) fn send_all(&self) {
        self.sends.send_all(self.batch.as_ref());
    }

    fn on_event(&self, entry: &Rc<Entry>, flags: EventFlags) {
        entry.on_event(flags);
        if entry.is(FROZEN) {
            return;
        }
        if entry.is(WRITABLE) {
            self.sends.on_writable(entry);
        }
        if entry.is(READABLE) && entry.reader.waits() {
            if self.gathers.get() && entry.may_receive_ahead() {
                self.receives.enter(entry);
            } else {
                entry.reader.wake();
            }
        }
    }
}
