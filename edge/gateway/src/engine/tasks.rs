//! The tasks of a thread and who of them is to run. Wakers made here may be used from any thread; on their own they cost
//! an entry in a queue, from elsewhere a lock and the bell that ends the thread's wait.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::EventfdFlags;

type Future_ = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static HERE: Here = const { Here { home: Cell::new(0), ready: RefCell::new(VecDeque::new()) } };
}

/// What a waker needs to know of the thread that it is used on.
struct Here {
    /// The address of the thread's [`Home`]; 0: it has none.
    home: Cell<usize>,
    ready: RefCell<VecDeque<Id>>,
}

/// A task's place, and how many had the place before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    place: u32,
    generation: u32,
}

/// Where other threads leave word.
#[derive(Debug)]
struct Home {
    woken: Mutex<Vec<Id>>,
    bell: OwnedFd,
}

/// What a waker wakes.
struct Mark {
    id: Id,
    /// It waits to be run already.
    queued: AtomicBool,
    home: Arc<Home>,
}

struct Task {
    future: Future_,
    waker: Waker,
    mark: Arc<Mark>,
}

#[derive(Default)]
struct Place {
    generation: u32,
    /// None: free, or being run.
    task: Option<Task>,
}

/// The tasks of one thread.
pub(super) struct Tasks {
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<u32>>,
    home: Arc<Home>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Tasks {
    /// The tasks of the thread that calls.
    pub(super) fn new() -> io::Result<Self> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let home = Arc::new(Home { woken: Mutex::default(), bell });
        HERE.with(|here| {
            here.home.set(address(&home));
            here.ready.borrow_mut().clear();
        });
        Ok(Self { places: RefCell::default(), free: RefCell::default(), home })
    }

    /// Becomes readable when another thread has woken a task.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.home.bell.as_fd()
    }

    pub(super) fn spawn(&self, future: Future_) {
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(Place::default());
            u32::try_from(places.len() - 1).expect("there are fewer tasks than descriptors")
        });
        let slot = &mut places[place as usize];
        let id = Id { place, generation: slot.generation };
        let mark = Arc::new(Mark { id, queued: AtomicBool::new(false), home: Arc::clone(&self.home) });
        let waker = Waker::from(Arc::clone(&mark));
        waker.wake_by_ref();
        slot.task = Some(Task { future, waker, mark });
    }

    /// Whether nothing is to be run.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting() == 0
    }

    /// How many are to be run.
    pub(super) fn waiting(&self) -> usize {
        HERE.with(|here| here.ready.borrow().len())
    }

    /// Takes in what other threads have woken.
    pub(super) fn answer_bell(&self) {
        let mut count = [0; 8];
        // Nothing there: someone rang for what was taken in already.
        let _ = rustix::io::read(&self.home.bell, &mut count);
        let mut woken = self.home.woken.lock().unwrap_or_else(PoisonError::into_inner);
        HERE.with(|here| here.ready.borrow_mut().extend(woken.drain(..)));
    }

    /// Runs the one that waits longest, if one does.
    pub(super) fn run_one(&self) {
        let next = HERE.with(|here| here.ready.borrow_mut().pop_front());
        // One that has ended may still be woken.
        let Some((id, mut task)) = next.and_then(|id| Some((id, self.take(id)?))) else { return };
        // From here on whoever wakes it wants it run again.
        task.mark.queued.swap(false, Ordering::AcqRel);
        let mut cx = Context::from_waker(&task.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => self.places.borrow_mut()[id.place as usize].task = Some(task),
            Ok(Poll::Ready(())) => self.end(id, task),
            Err(panic) => {
                tracing::error!("a connection ended by a panic: {}", what(&*panic));
                self.end(id, task);
            }
        }
    }

    /// Ends every task where it stands.
    pub(super) fn drop_all(&self) {
        // Dropping one may wake others, or, in theory, start some.
        loop {
            let places = std::mem::take(&mut *self.places.borrow_mut());
            self.free.borrow_mut().clear();
            if places.is_empty() {
                break;
            }
        }
        HERE.with(|here| here.ready.borrow_mut().clear());
    }

    fn take(&self, id: Id) -> Option<Task> {
        let mut places = self.places.borrow_mut();
        let place = places.get_mut(id.place as usize).filter(|place| place.generation == id.generation)?;
        place.task.take()
    }

    fn end(&self, id: Id, task: Task) {
        // What it held may wake or start others when it goes.
        drop(task);
        let mut places = self.places.borrow_mut();
        let place = &mut places[id.place as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.borrow_mut().push(id.place);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.drop_all();
        let home = address(&self.home);
        let _ = HERE.try_with(|here| {
            if here.home.get() == home {
                here.home.set(0);
            }
        });
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let at_home = HERE.try_with(|here| {
            let at_home = here.home.get() == address(&self.home);
            if at_home {
                here.ready.borrow_mut().push_back(self.id);
            }
            at_home
        });
        if at_home != Ok(true) {
            self.home.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
            // The counter is full only when it rings already.
            let _ = rustix::io::write(&self.home.bell, &1u64.to_ne_bytes());
        }
    }
}

fn address(home: &Arc<Home>) -> usize {
    Arc::as_ptr(home).addr()
}

fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
