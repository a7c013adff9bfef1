//! The life of one instance that everup runs: when to start its process, when to try again, how to end it.
//!
//! ```text
//!               Start                 Started                Stop: Terminate
//!   ┌─────────┐ ─────▶ ┌──────────┐ ──────────▶ ┌─────────┐ ─────────────▶ ┌──────────┐
//!   │ Stopped │        │ Starting │             │ Running │                │ Stopping │
//!   └─────────┘ ◀──┐   └──────────┘ ◀────────── └─────────┘                └──────────┘
//!        ▲         │     │  ▲    │   Exited, first     │                     │      │ grace over,
//!        │    Stop │     │  │    │ Stop                │ Exited, quick       │      ▼ Kill
//!        │         │     ▼  │    └──▶ Cancelling       ▼                     │  ┌─────────┐
//!        │      StartFailed │ Wakeup    (as Stopping,  │                     │  │ Killing │
//!        │         └─▶ ┌─────────┐       once Started) │                     │  └─────────┘
//!        │             │ Backoff │ ◀───────────────────┘                     │      │
//!        │             └─────────┘                                     Exited ▼      ▼ Exited
//!        └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! | | Start | Started | StartFailed | Exited | Stop | Kill | BecameUp | Wakeup (when due) |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | Stopped | Starting | Killing | - | - | - | - | - | - |
//! | Starting | - | Running | Backoff | - | Cancelling | - | - | - |
//! | Running | - | - | - | Starting or Backoff | Stopping | kills, stays | is up | is stable |
//! | Backoff | - | Killing | - | - | Stopped | - | - | Starting |
//! | Cancelling | Starting | Stopping | Stopped | - | shortens | no grace | - | - |
//! | Stopping | starts again after | - | - | Stopped | shortens | Killing | - | Killing |
//! | Killing | starts again after | - | - | Stopped | not again | - | - | - |
//!
//! `Adopt` (a process from before this worker) makes Running out of Stopped and is ignored elsewhere. A dash means:
//! it cannot come or changes nothing. A process that reports itself where none is wanted is killed.
//!
//! A death is *quick* if the process lived less than [`STABLE`] or was never up. The first death of a stable process
//! is answered at once; quick ones after 200 ms, doubling to 30 s; three in a row are a crash loop, until the
//! instance is up and stable again.
//!
//! The machine knows no process id, port or file: `edge/instance` does.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::keeper::{ExitStatus, StopSignal};
use crate::time::Time;

/// A process that was up and lived this long has proved itself.
pub const STABLE: Duration = Duration::from_secs(10);
/// The pause after the first quick death; each further one doubles it.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest pause: an operator who repaired something waits no longer than this.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(30);
/// So many quick deaths in a row are called a crash loop.
pub const CRASH_LOOP: u32 = 3;

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The instance is wanted.
    Start,
    /// Its process runs since before this worker; it counts as up and stable.
    Adopt,
    /// The process was started.
    Started,
    /// It could not be started, for this reason.
    StartFailed(String),
    /// The process ended and was reaped.
    Exited(ExitStatus),
    /// The instance is not wanted: terminate its process, kill it after `grace`.
    Stop {
        /// How long the process may take after SIGTERM. A second Stop can only shorten it.
        grace: Duration,
    },
    /// Kill the process now. The instance stays wanted if it was.
    Kill,
    /// Health checks pass.
    BecameUp,
    /// [`Machine::next_wakeup`] has come.
    Wakeup,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start a process.
    StartProcess,
    /// Signal the process's group.
    Signal(StopSignal),
    /// What the machine shows ([`Machine::phase`] and so on) is new.
    Changed,
}

/// What the machine expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Starting,
    Running { stable_at: Time, up: bool },
    Backoff { until: Time },
    Cancelling { grace: Duration },
    Stopping { kill_at: Time },
    Killing,
}

/// The state as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No process, none wanted.
    Stopped,
    /// A process was asked for.
    Starting,
    /// A process runs.
    Running,
    /// It ended and is started again after a pause.
    Backoff,
    /// It is being ended.
    Stopping,
}

/// Why there was no process at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastExit {
    /// It ended like this.
    Exited(ExitStatus),
    /// It could not be started, for this reason.
    NotStarted(String),
}

impl fmt::Display for LastExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => status.fmt(f),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
        }
    }
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    /// Entered the shown phase.
    since: Time,
    /// Start was asked while the process was being ended.
    again: bool,
    quick_deaths: u32,
    restarts: u32,
    last_exit: Option<LastExit>,
    outputs: VecDeque<Output>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Machine {
    /// A stopped instance that has been restarted so many times before (by an earlier worker).
    pub fn new(restarts: u32) -> Self {
        Self {
            state: State::Stopped,
            since: Time::ZERO,
            again: false,
            quick_deaths: 0,
            restarts,
            last_exit: None,
            outputs: VecDeque::new(),
        }
    }

    /// Tells the machine something. See the table at the top of this file.
    pub fn handle(&mut self, now: Time, input: Input) {
        match self.state {
            State::Stopped => self.in_stopped(now, input),
            State::Starting => self.in_starting(now, input),
            State::Running { stable_at, up } => self.in_running(now, input, stable_at, up),
            State::Backoff { until } => self.in_backoff(now, input, until),
            State::Cancelling { grace } => self.in_cancelling(now, input, grace),
            State::Stopping { kill_at } => self.in_stopping(now, input, kill_at),
            State::Killing => self.in_killing(now, input),
        }
    }

    /// What is to be done, oldest first; None when everything was taken.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Wakeup`]. Saying it earlier or more often does no harm.
    pub fn next_wakeup(&self) -> Option<Time> {
        match self.state {
            State::Running { stable_at, up: true } if self.quick_deaths > 0 => Some(stable_at),
            State::Backoff { until } => Some(until),
            State::Stopping { kill_at } => Some(kill_at),
            State::Running { .. }
            | State::Stopped
            | State::Starting
            | State::Cancelling { .. }
            | State::Killing => None,
        }
    }

    /// The state as others see it.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Stopped => Phase::Stopped,
            State::Starting => Phase::Starting,
            State::Running { .. } => Phase::Running,
            State::Backoff { .. } => Phase::Backoff,
            State::Cancelling { .. } | State::Stopping { .. } | State::Killing => Phase::Stopping,
        }
    }

    /// When the phase began.
    pub fn since(&self) -> Time {
        self.since
    }

    /// How often a process took the place of a dead one.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// It dies again and again.
    pub fn crash_loop(&self) -> bool {
        self.quick_deaths >= CRASH_LOOP
    }

    /// How the last process ended.
    pub fn last_exit(&self) -> Option<&LastExit> {
        self.last_exit.as_ref()
    }

    fn in_stopped(&mut self, now: Time, input: Input) {
        match input {
            Input::Start => self.start(now),
            Input::Adopt => self.go(now, State::Running { stable_at: now, up: true }),
            Input::Started => self.kill(now),
            Input::StartFailed(_)
            | Input::Exited(_)
            | Input::Stop { .. }
            | Input::Kill
            | Input::BecameUp
            | Input::Wakeup => {}
        }
    }

    fn in_starting(&mut self, now: Time, input: Input) {
        match input {
            Input::Started => self.go(now, State::Running { stable_at: now + STABLE, up: false }),
            Input::StartFailed(reason) => self.quick_death(now, LastExit::NotStarted(reason)),
            Input::Stop { grace } => self.go(now, State::Cancelling { grace }),
            Input::Start
            | Input::Adopt
            | Input::Exited(_)
            | Input::Kill
            | Input::BecameUp
            | Input::Wakeup => {}
        }
    }

    fn in_running(&mut self, now: Time, input: Input, stable_at: Time, up: bool) {
        let stable = |up| up && now >= stable_at;
        match input {
            Input::Exited(status) if stable(up) => {
                self.last_exit = Some(LastExit::Exited(status));
                self.quick_deaths = 0;
                self.restart(now);
            }
            Input::Exited(status) => self.quick_death(now, LastExit::Exited(status)),
            Input::Stop { grace } => self.terminate(now, grace),
            Input::Kill => self.outputs.push_back(Output::Signal(StopSignal::Kill)),
            Input::BecameUp => {
                self.state = State::Running { stable_at, up: true };
                self.settle(stable(true));
            }
            Input::Wakeup => self.settle(stable(up)),
            Input::Start | Input::Adopt | Input::Started | Input::StartFailed(_) => {}
        }
    }

    fn in_backoff(&mut self, now: Time, input: Input, until: Time) {
        match input {
            Input::Wakeup if now >= until => self.restart(now),
            Input::Stop { .. } => self.stopped(now),
            Input::Started => self.kill(now),
            Input::Wakeup
            | Input::Start
            | Input::Adopt
            | Input::StartFailed(_)
            | Input::Exited(_)
            | Input::Kill
            | Input::BecameUp => {}
        }
    }

    fn in_cancelling(&mut self, now: Time, input: Input, grace: Duration) {
        match input {
            Input::Start => self.go(now, State::Starting),
            Input::Started => self.terminate(now, grace),
            Input::StartFailed(reason) => {
                self.last_exit = Some(LastExit::NotStarted(reason));
                self.stopped(now);
            }
            Input::Stop { grace: other } => self.state = State::Cancelling { grace: grace.min(other) },
            Input::Kill => self.state = State::Cancelling { grace: Duration::ZERO },
            Input::Adopt | Input::Exited(_) | Input::BecameUp | Input::Wakeup => {}
        }
    }

    fn in_stopping(&mut self, now: Time, input: Input, kill_at: Time) {
        match input {
            Input::Start => self.again = true,
            Input::Exited(status) => self.ended(now, status),
            Input::Stop { grace } => {
                self.again = false;
                self.state = State::Stopping { kill_at: kill_at.min(now + grace) };
            }
            Input::Kill => self.kill(now),
            Input::Wakeup if now >= kill_at => self.kill(now),
            Input::Wakeup | Input::Adopt | Input::Started | Input::StartFailed(_) | Input::BecameUp => {}
        }
    }

    fn in_killing(&mut self, now: Time, input: Input) {
        match input {
            Input::Start => self.again = true,
            Input::Exited(status) => self.ended(now, status),
            Input::Stop { .. } => self.again = false,
            Input::Adopt
            | Input::Started
            | Input::StartFailed(_)
            | Input::Kill
            | Input::BecameUp
            | Input::Wakeup => {}
        }
    }

    /// Enters a state; the shown time is that of the phase, which can span several states.
    fn go(&mut self, now: Time, state: State) {
        let before = self.phase();
        self.state = state;
        if self.phase() != before {
            self.since = now;
        }
        self.outputs.push_back(Output::Changed);
    }

    fn start(&mut self, now: Time) {
        self.go(now, State::Starting);
        self.outputs.push_back(Output::StartProcess);
    }

    fn restart(&mut self, now: Time) {
        self.restarts = self.restarts.saturating_add(1);
        self.start(now);
    }

    fn terminate(&mut self, now: Time, grace: Duration) {
        self.go(now, State::Stopping { kill_at: now + grace });
        self.outputs.push_back(Output::Signal(StopSignal::Terminate));
    }

    fn kill(&mut self, now: Time) {
        self.go(now, State::Killing);
        self.outputs.push_back(Output::Signal(StopSignal::Kill));
    }

    fn quick_death(&mut self, now: Time, how: LastExit) {
        self.last_exit = Some(how);
        self.quick_deaths = self.quick_deaths.saturating_add(1);
        self.go(now, State::Backoff { until: now + pause_after(self.quick_deaths) });
    }

    /// The end of a process that was told to end.
    fn ended(&mut self, now: Time, status: ExitStatus) {
        self.last_exit = Some(LastExit::Exited(status));
        self.stopped(now);
        if std::mem::take(&mut self.again) {
            self.start(now);
        }
    }

    /// Whoever wants it again begins without its past.
    fn stopped(&mut self, now: Time) {
        self.quick_deaths = 0;
        self.go(now, State::Stopped);
    }

    fn settle(&mut self, stable: bool) {
        if stable && self.quick_deaths > 0 {
            self.quick_deaths = 0;
            self.outputs.push_back(Output::Changed);
        }
    }
}

/// 200 ms after the first quick death, doubling to 30 s.
fn pause_after(quick_deaths: u32) -> Duration {
    let doublings = quick_deaths.saturating_sub(1).min(16);
    BACKOFF_LONGEST.min(BACKOFF_FIRST * 2u32.pow(doublings))
}

#[cfg(test)]
mod tests;
