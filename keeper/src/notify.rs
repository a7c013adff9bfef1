//! What the init system is told of us, by the protocol of sd_notify(3): when everup serves, reloads and stops, a line
//! for `systemctl status`, and a sign of life as often as it asks for one.
//!
//! Only how it is said stands here. It is said by level: [`Notifier::tell`] is given how things are, after every turn
//! of the keeper's loop, and says what differs from what was said before. Nothing waits: a message that does not fit
//! into the init system's queue is sent with the next turn.
//!
//! Without NOTIFY_SOCKET in the environment nothing is said at all.

use std::env;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::log;

/// Variables that are for the keeper alone: who else had them could speak or listen in its name. (The keeper keeps them
/// in its own environment, for the binary that takes its place.)
pub(crate) const PRIVATE: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// Signs of life within the time that the init system waits for one: more than two, because there is none while a
/// worker is replaced.
const BEATS: u32 = 4;
/// After this time a message is sent again that the init system had no room for.
const RETRY: Duration = Duration::from_millis(100);

/// How everup is. It serves or does not; all the rest is about what else there is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// A worker serves.
    pub(crate) serves: bool,
    /// How often somebody wanted the configuration read.
    pub(crate) asked: u64,
    /// Such a wish is not fulfilled or refused yet.
    pub(crate) reloads: bool,
    /// Everything is being stopped, within this time.
    pub(crate) ends_within: Option<Duration>,
    /// One line for the operator.
    pub(crate) status: String,
}

/// The line to the init system.
#[derive(Debug)]
pub(crate) struct Notifier {
    to: Option<Receiver>,
    beat: Option<Beat>,
    said: Said,
    /// Something did not fit into the init system's queue.
    again: Option<Instant>,
}

#[derive(Debug)]
struct Receiver {
    socket: UnixDatagram,
    address: SocketAddr,
    /// It did not take a message, and the operator was told so.
    complained: bool,
}

/// Signs of life.
#[derive(Debug)]
struct Beat {
    every: Duration,
    next: Instant,
    /// One was due while nobody served.
    missed: bool,
}

/// What the init system knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    ready: bool,
    reloading: bool,
    asked: u64,
    stopping: bool,
    status: String,
}

impl Notifier {
    /// By what the init system left in the environment.
    pub(crate) fn from_environment() -> Self {
        let to = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let receiver = Receiver::new(name.as_bytes());
            if let Err(error) = &receiver {
                log(&format!("the init system is told nothing: NOTIFY_SOCKET cannot be used: {error}"));
            }
            receiver.ok()
        });
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let within = number("WATCHDOG_USEC").filter(|usec| for_us && *usec > 0);
        Self::new(to, within.map(Duration::from_micros))
    }

    fn new(to: Option<Receiver>, watchdog: Option<Duration>) -> Self {
        let beat = watchdog.filter(|_| to.is_some()).map(|within| {
            let every = within / BEATS;
            Beat { every, next: Instant::now() + every, missed: false }
        });
        Self { to, beat, said: Said::default(), again: None }
    }

    /// When to tell again though nothing else happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.again.into_iter().chain(self.beat.as_ref().map(|beat| beat.next)).min()
    }

    /// Says what is new.
    pub(crate) fn tell(&mut self, condition: &Condition) {
        if self.to.is_none() {
            return;
        }
        self.again = None;
        // A reload that began and ended between two calls is still a beginning and an end.
        for _ in 0..3 {
            let Some((text, said)) = self.said.next(condition) else { break };
            if !self.send(&text) {
                self.again = Some(Instant::now() + RETRY);
                return;
            }
            self.said = said;
        }
        self.beat(condition.serves || condition.ends_within.is_some());
    }

    /// The watchdog is for the keeper and its worker: while nobody serves, there is no sign of life, and if that lasts,
    /// the init system begins anew.
    fn beat(&mut self, alive: bool) {
        let now = Instant::now();
        let Some(beat) = &mut self.beat else { return };
        let due = now >= beat.next;
        if due {
            beat.next = now + beat.every;
        }
        let send = alive && (due || beat.missed);
        beat.missed = !alive && (due || beat.missed);
        if send {
            // There are several in the time that counts: one that is lost does no harm.
            self.send("WATCHDOG=1");
        }
    }

    /// False: it should be tried again.
    fn send(&mut self, text: &str) -> bool {
        let Some(to) = &mut self.to else { return true };
        match to.socket.send_to_addr(text.as_bytes(), &to.address) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => false,
            Err(error) => {
                if !to.complained {
                    log(&format!("the init system takes no messages: {error}"));
                    to.complained = true;
                }
                true
            }
        }
    }
}

impl Said {
    /// The next message, and what the init system knows after it.
    fn next(&self, condition: &Condition) -> Option<(String, Self)> {
        let Condition { serves, asked, reloads, ends_within, status } = condition;
        let with_status = |words: String| {
            if *status == self.status { words } else { format!("{words}\nSTATUS={status}") }
        };
        let known = Self { status: status.clone(), ..self.clone() };
        if let Some(within) = ends_within {
            // Draining may take longer than the unit file grants.
            if self.stopping {
                return self.status_alone(status);
            }
            let words = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros());
            return Some((with_status(words), Self { stopping: true, ..known }));
        }
        if !self.ready && *serves {
            return Some((with_status("READY=1".to_owned()), Self { ready: true, ..known }));
        }
        if self.ready && *asked != self.asked {
            let words = format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec());
            return Some((with_status(words), Self { reloading: true, asked: *asked, ..known }));
        }
        if self.reloading && !reloads {
            return Some((with_status("READY=1".to_owned()), Self { reloading: false, ..known }));
        }
        self.status_alone(status)
    }

    fn status_alone(&self, status: &str) -> Option<(String, Self)> {
        let known = Self { status: status.to_owned(), ..self.clone() };
        (status != self.status).then(|| (format!("STATUS={status}"), known))
    }
}

impl Receiver {
    /// A path, or `@` and a name in the abstract namespace.
    fn new(name: &[u8]) -> io::Result<Self> {
        let address = match name {
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => {
                return Err(io::Error::new(
                    ErrorKind::Unsupported,
                    "it is neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, complained: false })
    }
}

/// The clock that the init system compares with its own.
fn monotonic_usec() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(test)]
mod tests;
