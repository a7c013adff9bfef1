//! One instance's health: when it is probed next and what is believed of it. It sends no probe, keeps no clock and
//! knows no other instance; it decides from probes, from what requests met, and from the end of the process.
//!
//! ```text
//!                       joins_after passes
//!              ┌──────────────────────────────────────┐
//!              │                                      ▼
//!          ┌───┴─────┐                             ┌──────┐  pass: failures forgotten
//!  new ──▶ │ Unknown │                             │  Up  │  failure or unreached: in doubt
//!          └───┬─────┘                             └─┬──▲─┘
//!              │ fall failures,        fall failures,│  │ rise passes in a row
//!              │ refused, exited     refused, exited │  │
//!              │                                   ┌─▼──┴─┐
//!              └─────────────────────────────────▶ │ Down │  failure: passes forgotten
//!                                                  └──────┘
//! ```
//!
//! "Failure" is one failed probe. Refused is more than a failure, whoever met it: nothing listens there, and it takes
//! no second look to know. "Unreached" is a request that could not connect in some other way (mostly a timeout): it
//! counts as one failure between two probes however many requests meet it, because they meet one cause.
//!
//! Beside the belief runs the schedule: *Waiting* until a time, or *Probing*. A new [`Output::Probe`] replaces the
//! one under way, whose outcome is then worth nothing: it is from before the news.
//!
//! | belief | next probe, from the start of the last one |
//! | --- | --- |
//! | Up, last probe passed | `interval` |
//! | Up in doubt, Unknown, Down with passes | `interval` / 4, at least 50 ms |
//! | Down, n failed probes since | `interval` / 4 * 2^n up to `interval`: most instances return soon or late |
//!
//! Every wait is shortened by up to an eighth, so that instances watched since the same moment spread out.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Reason, Verdict};
use crate::config;
use crate::hash::Random;
use crate::time::Time;

/// The shortest time between two probes of an instance in doubt, and the pause after an inconclusive one.
pub const SOON: Duration = Duration::from_millis(50);

/// What a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instance answered as it should.
    Passed,
    /// It did not.
    Failed(Reason),
    /// No evidence either way: we were too late to judge (our own threads starved).
    Inconclusive,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The newest probe ended. Outcomes of probes it replaced must not be handed in while it runs.
    Probed(Outcome),
    /// A request could not connect.
    ConnectFailed(Reason),
    /// The instance's process ended; how, in words.
    Exited(String),
    /// It is `next_wakeup` or later.
    Wakeup,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Probe now; drop the probe that may be under way. Exactly one [`Input::Probed`] is owed for the newest.
    Probe,
    /// The verdict is this from now on (only said when it or its reason changed).
    Verdict(Verdict),
}

/// One instance's health.
#[derive(Clone, Debug)]
pub struct Machine {
    rules: Rules,
    pace: Pace,
    belief: Belief,
    verdict: Verdict,
    schedule: Schedule,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schedule {
    Waiting { due: Time },
    Probing { started: Time },
}

impl Machine {
    /// Wants its first probe at `now`. `joins_after` passes in a row make an unknown instance Up for the first time;
    /// `initial` is believed, and not told, until there is news. `seed` decides the jitter.
    pub fn new(now: Time, health: &config::Health, joins_after: u32, initial: Verdict, seed: u64) -> Self {
        let config::Health { check: _, interval, timeout: _, rise, fall } = health;
        let belief = match initial {
            Verdict::Unknown => Belief::Unknown { passes: 0, fails: 0 },
            Verdict::Up => Belief::Up { fails: 0, unreached: false },
            Verdict::Down(_) => Belief::Down { passes: 0, fails: 0 },
        };
        Self {
            rules: Rules { rise: *rise, fall: *fall, joins_after },
            pace: Pace { interval: *interval, random: Random::new(seed) },
            belief,
            verdict: initial,
            schedule: Schedule::Waiting { due: now },
            outputs: VecDeque::new(),
        }
    }

    /// What is believed now.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// When to hand in [`Input::Wakeup`]; None while a probe is under way, which ends by itself.
    pub fn next_wakeup(&self) -> Option<Time> {
        match self.schedule {
            Schedule::Waiting { due } => Some(due),
            Schedule::Probing { .. } => None,
        }
    }

    /// The next thing to do, until None.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match (self.schedule, input) {
            (Schedule::Waiting { due }, Input::Wakeup) if now >= due => self.probe(now),
            (Schedule::Waiting { .. } | Schedule::Probing { .. }, Input::Wakeup) => {}
            // Replaced by news that came while it ran.
            (Schedule::Waiting { .. }, Input::Probed(_)) => {}
            (Schedule::Probing { .. }, Input::Probed(Outcome::Inconclusive)) => {
                self.schedule = Schedule::Waiting { due: now + SOON };
            }
            (Schedule::Probing { .. }, Input::Probed(Outcome::Passed)) => {
                self.learn(now, News::Passed, None);
            }
            (Schedule::Probing { .. }, Input::Probed(Outcome::Failed(reason))) => {
                let refused = reason == Reason::ConnectRefused;
                self.learn(now, if refused { News::Refused } else { News::Failed }, Some(reason));
            }
            (Schedule::Waiting { .. } | Schedule::Probing { .. }, Input::ConnectFailed(reason)) => {
                let refused = reason == Reason::ConnectRefused;
                self.learn(now, if refused { News::RequestRefused } else { News::Unreached }, Some(reason));
            }
            (Schedule::Waiting { .. } | Schedule::Probing { .. }, Input::Exited(how)) => {
                self.learn(now, News::Exited, Some(Reason::Exited(how)));
            }
        }
    }

    fn learn(&mut self, now: Time, news: News, reason: Option<Reason>) {
        let (belief, next) = self.rules.step(self.belief, news);
        self.belief = belief;
        self.judge(news, reason);
        match (next, self.schedule) {
            (Next::Scheduled, Schedule::Probing { started }) => {
                self.schedule = Schedule::Waiting { due: now.max(started + self.pace.wait(belief)) };
            }
            (Next::Scheduled, Schedule::Waiting { .. }) => {
                self.schedule = Schedule::Waiting { due: now + self.pace.wait(belief) };
            }
            (Next::Afresh, Schedule::Waiting { .. } | Schedule::Probing { .. }) => {
                self.schedule = Schedule::Waiting { due: now + self.pace.wait(belief) };
            }
            (Next::AtOnce, Schedule::Waiting { .. } | Schedule::Probing { .. })
            | (Next::UnlessProbing, Schedule::Waiting { .. }) => self.probe(now),
            (Next::UnlessProbing, Schedule::Probing { .. })
            | (Next::Unchanged, Schedule::Waiting { .. } | Schedule::Probing { .. }) => {}
        }
    }

    fn probe(&mut self, now: Time) {
        self.schedule = Schedule::Probing { started: now };
        self.outputs.push_back(Output::Probe);
    }

    /// Says the verdict if it changed. Of an instance that is down, only probes and the end of its process give a
    /// newer reason, and that it refuses connections says less than how it ended.
    fn judge(&mut self, news: News, reason: Option<Reason>) {
        let verdict = match (self.belief, &self.verdict, reason) {
            (Belief::Unknown { .. }, _, _) => Verdict::Unknown,
            (Belief::Up { .. }, _, _) => Verdict::Up,
            (Belief::Down { .. }, Verdict::Down(Reason::Exited(_)), _) if news == News::Refused => return,
            (Belief::Down { .. }, Verdict::Down(_), _)
                if matches!(news, News::Passed | News::RequestRefused | News::Unreached) =>
            {
                return;
            }
            (Belief::Down { .. }, _, Some(reason)) => Verdict::Down(reason),
            (Belief::Down { .. }, _, None) => unreachable!("a pass makes nobody down"),
        };
        if verdict != self.verdict {
            self.verdict = verdict.clone();
            self.outputs.push_back(Output::Verdict(verdict));
        }
    }
}

/// What is believed, with the evidence that has gathered against it. Counts stop at their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// Passes and failures in a row: one of them is 0.
    Unknown { passes: u32, fails: u32 },
    /// Failures in a row, and whether one of them since the last probe is a request that could not connect.
    Up { fails: u32, unreached: bool },
    /// Passes in a row, and failed probes since it is down.
    Down { passes: u32, fails: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A probe passed.
    Passed,
    /// A probe failed.
    Failed,
    /// A probe found nothing listening.
    Refused,
    /// A request found nothing listening.
    RequestRefused,
    /// A request could not connect otherwise.
    Unreached,
    /// The process ended.
    Exited,
}

/// What becomes of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The probe is done: wait as long as the belief asks, from its start.
    Scheduled,
    /// Drop the probe under way; wait as long as the belief asks, from now.
    Afresh,
    /// Drop the probe under way and probe now.
    AtOnce,
    /// Probe now, unless a probe is under way.
    UnlessProbing,
    /// Nothing.
    Unchanged,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    rise: u32,
    fall: u32,
    joins_after: u32,
}

impl Rules {
    /// The table: what to believe next, and what becomes of the schedule.
    fn step(self, belief: Belief, news: News) -> (Belief, Next) {
        const UP: Belief = Belief::Up { fails: 0, unreached: false };
        const DOWN: Belief = Belief::Down { passes: 0, fails: 0 };
        let Self { rise, fall, joins_after } = self;
        match (belief, news) {
            (Belief::Unknown { passes, .. }, News::Passed) if passes + 1 >= joins_after => {
                (UP, Next::Scheduled)
            }
            (Belief::Unknown { passes, .. }, News::Passed) => {
                (Belief::Unknown { passes: passes + 1, fails: 0 }, Next::Scheduled)
            }
            (Belief::Unknown { fails, .. }, News::Failed) if fails + 1 >= fall => (DOWN, Next::Scheduled),
            (Belief::Unknown { fails, .. }, News::Failed) => {
                (Belief::Unknown { passes: 0, fails: fails + 1 }, Next::Scheduled)
            }
            (Belief::Unknown { .. }, News::Unreached) => (belief, Next::Unchanged),

            (Belief::Up { .. }, News::Passed) => (UP, Next::Scheduled),
            (Belief::Up { fails, .. }, News::Failed) if fails + 1 >= fall => (DOWN, Next::Scheduled),
            (Belief::Up { fails, .. }, News::Failed) => {
                (Belief::Up { fails: fails + 1, unreached: false }, Next::Scheduled)
            }
            (Belief::Up { unreached: true, .. }, News::Unreached) => (belief, Next::Unchanged),
            (Belief::Up { fails, .. }, News::Unreached) if fails + 1 >= fall => (DOWN, Next::UnlessProbing),
            (Belief::Up { fails, .. }, News::Unreached) => {
                (Belief::Up { fails: fails + 1, unreached: true }, Next::UnlessProbing)
            }

            (Belief::Unknown { .. } | Belief::Up { .. }, News::Refused) => (DOWN, Next::Scheduled),
            (Belief::Unknown { .. } | Belief::Up { .. }, News::RequestRefused) => (DOWN, Next::AtOnce),

            (Belief::Down { passes, .. }, News::Passed) if passes + 1 >= rise => (UP, Next::Scheduled),
            (Belief::Down { passes, fails }, News::Passed) => {
                (Belief::Down { passes: passes + 1, fails }, Next::Scheduled)
            }
            (Belief::Down { fails, .. }, News::Failed | News::Refused) => {
                (Belief::Down { passes: 0, fails: fails.saturating_add(1) }, Next::Scheduled)
            }
            (Belief::Down { fails, .. }, News::RequestRefused) => {
                (Belief::Down { passes: 0, fails }, Next::Unchanged)
            }
            (Belief::Down { .. }, News::Unreached) => (belief, Next::Unchanged),

            (Belief::Unknown { .. } | Belief::Up { .. } | Belief::Down { .. }, News::Exited) => {
                (DOWN, Next::Afresh)
            }
        }
    }
}

/// How long to wait for the next probe.
#[derive(Clone, Debug)]
struct Pace {
    interval: Duration,
    random: Random,
}

impl Pace {
    fn wait(&mut self, belief: Belief) -> Duration {
        let doubt = (self.interval / 4).max(SOON).min(self.interval);
        let wait = match belief {
            Belief::Up { fails: 0, .. } => self.interval,
            Belief::Down { passes: 0, fails } => {
                doubt.saturating_mul(2_u32.saturating_pow(fails)).min(self.interval)
            }
            Belief::Up { .. } | Belief::Unknown { .. } | Belief::Down { .. } => doubt,
        };
        wait - wait / 8 * self.random.below(1024) as u32 / 1024
    }
}

#[cfg(test)]
mod tests;
