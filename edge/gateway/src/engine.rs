//! What a data-plane thread runs on: its tasks, and the one place where it waits for the kernel.
//!
//! ```text
//! turn:  wait (epoll) -> receive for everyone who became readable and waits -> run the tasks that were woken
//!        -> send what they wrote
//! ```
//!
//! Receiving and sending are one io_uring call each when there is enough of it in a turn, for a system call of its own
//! costs each message more than its share of a batch; see docs/design/0007-engine-io.md. Nothing of a request is known
//! here, and nothing is shared with other threads but the list of tasks they wake.

#[expect(unsafe_code, reason = "the kernel is given pointers: io_uring knows no other way")]
mod batch;
mod entry;
mod moving;
mod reactor;
mod receives;
mod sends;
mod socket;
mod tasks;
mod timers;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::reactor::Reactor;
use self::tasks::Tasks;
use self::timers::Timers;

pub(crate) use self::socket::{Listener, Socket};
pub(crate) use self::timers::Elapsed;

/// When the system calls of a turn are made together, through io_uring. Where the kernel does not let us, never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// Every call is made by itself.
    Never,
    /// When there are so many that it costs less.
    #[default]
    WhenItPays,
    /// Even a single one: for tests.
    Always,
}

/// One thread's engine.
#[derive(Debug)]
pub(crate) struct Engine {
    tasks: Tasks,
    reactor: Rc<Reactor>,
    timers: Timers,
}

impl Engine {
    /// An engine for the thread that calls.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub(crate) fn new(batching: Batching) -> io::Result<Self> {
        let reactor = Rc::new(Reactor::new(batching)?);
        let tasks = Tasks::new()?;
        reactor.watch_bell(tasks.bell())?;
        Ok(Self { tasks, reactor, timers: Timers::default() })
    }

    /// Whether calls are made together.
    pub(crate) fn is_batching(&self) -> bool {
        self.reactor.is_batching()
    }

    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(Box::pin(task));
    }

    /// Runs everything that was spawned until `main` has ended; then all other tasks are dropped.
    pub(crate) fn run(&self, main: impl Future<Output = ()> + 'static) {
        let over = Rc::new(Cell::new(false));
        let ended = Over(Rc::clone(&over));
        self.spawn(async move {
            let _ended = ended;
            main.await;
        });
        while !over.get() {
            self.turn();
        }
        self.tasks.drop_all();
    }

    /// Makes a socket of a listening descriptor.
    ///
    /// # Errors
    /// The kernel refuses to watch it.
    pub(crate) fn listener(&self, fd: OwnedFd) -> io::Result<Listener> {
        Listener::new(&self.reactor, fd)
    }

    /// What connections are made on.
    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// Waits that long.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.timers.sleep_until(Instant::now() + time).await;
    }

    /// Waits for `future`, but not longer than `time`.
    ///
    /// # Errors
    /// The time is over.
    pub(crate) async fn timeout<T>(
        &self,
        time: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        self.timers.timeout(time, future).await
    }

    /// Lets others go on first if the task has done its share for this turn: for one that may look again without waiting.
    pub(crate) async fn spend(&self) {
        poll_fn(|cx| self.reactor.poll_spend(cx)).await;
    }

    fn turn(&self) {
        let timeout = match self.tasks.is_idle() {
            true => self.timers.until_next(),
            false => Some(Duration::ZERO),
        };
        if self.reactor.wait(timeout) {
            self.tasks.answer_bell();
        }
        self.timers.wake_due();
        // Who is woken from now on has the next turn: no one keeps the thread from its sockets.
        for _ in 0..self.tasks.waiting() {
            self.reactor.renew_budget();
            self.tasks.run_one();
        }
        self.reactor.send_all();
    }
}

/// Set when dropped: a task that ends by a panic has ended, too.
struct Over(Rc<Cell<bool>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[cfg(test)]
mod tests;
