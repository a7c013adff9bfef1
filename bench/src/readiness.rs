//! The little of epoll that origin and load need: sockets told apart by a number, edge-triggered, registered once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// Sockets are told apart by the number they were registered with.
pub(crate) struct Readiness {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// Events taken per system call.
const BATCH: usize = 512;

impl Readiness {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(BATCH) })
    }

    /// For connections: told once per change, readable and writable.
    pub(crate) fn watch(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        self.add(socket, number, epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET)
    }

    /// For listeners: told as long as someone waits.
    pub(crate) fn watch_listener(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        self.add(socket, number, epoll::EventFlags::IN)
    }

    fn add(&self, socket: impl AsFd, number: usize, flags: epoll::EventFlags) -> io::Result<()> {
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number as u64), flags)?;
        Ok(())
    }

    /// The numbers of those that became readable, writable or broken; reading and writing tell which. Waits at most
    /// `timeout`; then there may be none.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = usize> + use<'_>> {
        let nanos = i64::from(timeout.subsec_nanos());
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: nanos };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().map(|event| {
            let data = event.data;
            usize::try_from(data.u64()).expect("a number that was a usize")
        }))
    }
}
