//! The little of epoll that origin and load need: sockets told apart by a number, edge-triggered, registered once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Sockets are told apart by the number they were registered with.
pub(crate) struct Readiness {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
}

/// The number of the timer among the sockets.
const TIMER: usize = usize::MAX;

/// Shorter waits are measured by the timer.
const PRECISE_BELOW: Duration = Duration::from_millis(10);

/// Events taken per system call.
const BATCH: usize = 512;

impl Readiness {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let readiness = Self { epoll, timer, events: Vec::with_capacity(BATCH) };
        readiness.add(&readiness.timer, TIMER, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(readiness)
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
        // epoll counts in milliseconds: what is shorter wakes us by the timer.
        let milliseconds = if timeout < PRECISE_BELOW {
            self.set_timer(timeout)?;
            PRECISE_BELOW
        } else {
            Duration::from_millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
        };
        self.events.clear();
        let timeout = timespec(milliseconds);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let numbers = self.events.iter().map(|event| {
            let data = event.data;
            usize::try_from(data.u64()).expect("a number that was a usize")
        });
        Ok(numbers.filter(|number| *number != TIMER))
    }

    /// Edge-triggered: every expiry wakes once, and nobody needs to read it.
    fn set_timer(&self, timeout: Duration) -> io::Result<()> {
        // Zero would switch it off.
        let value = timespec(timeout.max(Duration::from_nanos(1)));
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_shorter_than_a_millisecond_ends_and_names_nobody() {
        let mut readiness = Readiness::new().unwrap();
        let begun = Instant::now();
        assert_eq!(readiness.wait(Duration::from_micros(200)).unwrap().count(), 0);
        assert!(begun.elapsed() >= Duration::from_micros(200));
    }
}
