//! How one WebSocket is closed whose instance leaves, or which everup itself has to leave.
//!
//! ```text
//!  Waits ── Close went to the client ──▶ Said ── its Close came, the instance got one ──▶ Answered
//!    │                                    │                                                  │
//!    │                                    └── no Close came in time ──▶ Unanswered           │ the instance closed,
//!    │                                                                      │                │ or took too long
//!    └── the time is over ──────────────────────────────────────────────────┴────────────────┴──▶ Over
//! ```
//! In Waits it looks for a place for the Close: first for a moment in which nothing is under way to the client, then between any
//! two messages, at last between any two frames. In Said the client's messages still go to the instance, for it sent them
//! before it knew; what the instance says after the Close can reach nobody. A WebSocket that its peers close by themselves is
//! left to them.

use std::time::Duration;

use super::frames::Stop;
use super::spread::Plan;
use crate::time::Time;

/// What a peer may take for its part of the end ...
const PEER_TIME: Duration = Duration::from_secs(2);

/// ... but no more than this part of the drain time.
const PEER_SHARE: u32 = 4;

/// What is known of the WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A peer has sent a Close before we did.
    pub closes: bool,
    /// What goes to the client has stopped, with our Close.
    pub said: bool,
    /// What goes to the instance has stopped, with our Close.
    pub answered: bool,
    /// The instance has sent its Close, or its end.
    pub parted: bool,
}

/// Where each direction may stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// What goes to the client.
    pub to_client: Stop,
    /// What goes to the instance.
    pub to_instance: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Said { until: Time },
    Answered { until: Time },
    Unanswered { until: Time },
    Over,
}

/// See the head of this file.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    state: State,
    /// Where [`Stop::WhenQuiet`], [`Stop::AtMessage`] and [`Stop::AtFrame`] begin, and the end of all.
    due: Time,
    insists: Time,
    last: Time,
    end: Time,
    peer_time: Duration,
}

/// In how much of the drain time WebSockets can be told to go: the rest is for their ends.
pub fn window(drain: Duration) -> Duration {
    drain.saturating_sub(peer_time(drain) * 2)
}

fn peer_time(drain: Duration) -> Duration {
    PEER_TIME.min(drain / PEER_SHARE)
}

impl Farewell {
    /// For a leave that began at `began` and takes `drain` at most.
    pub fn new(began: Time, plan: Plan, drain: Duration) -> Self {
        let peer_time = peer_time(drain);
        let due = began + plan.due;
        let end = began + drain;
        Self {
            state: State::Waits,
            due,
            insists: due + peer_time / 2,
            last: (due + peer_time).min(end - peer_time).max(due),
            end,
            peer_time,
        }
    }

    /// Looks at what has become of it.
    pub fn handle(&mut self, now: Time, seen: Seen) -> Stops {
        self.state = match self.state {
            State::Waits if seen.said => State::Said { until: self.within(now) },
            State::Waits if now >= self.end => State::Over,
            State::Said { .. } if seen.answered => State::Answered { until: self.within(now) },
            State::Said { until } if now >= until => State::Unanswered { until: now + self.peer_time / 2 },
            State::Unanswered { .. } if seen.answered => State::Answered { until: self.within(now) },
            State::Answered { until } if seen.parted || now >= until => State::Over,
            State::Unanswered { until } if now >= until => State::Over,
            state @ (State::Waits
            | State::Said { .. }
            | State::Answered { .. }
            | State::Unanswered { .. }
            | State::Over) => state,
        };
        let (to_client, to_instance) = match self.state {
            State::Waits if seen.closes => (Stop::Never, Stop::Never),
            State::Waits => (self.place(now), Stop::Never),
            State::Said { .. } => (Stop::Never, Stop::AtClose),
            State::Unanswered { .. } => (Stop::Never, Stop::AtFrame),
            State::Answered { .. } | State::Over => (Stop::Never, Stop::Never),
        };
        Stops { to_client, to_instance }
    }

    /// When it is to be looked at again if nothing happens.
    pub fn next_wakeup(&self, now: Time) -> Time {
        match self.state {
            State::Waits => {
                let next = [self.due, self.insists, self.last].into_iter().find(|at| *at > now);
                next.map_or(self.end, |next| next.min(self.end))
            }
            State::Said { until } | State::Answered { until } | State::Unanswered { until } => until,
            State::Over => now,
        }
    }

    /// Both connections may be closed.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The client was told: there is no way back.
    pub fn has_said(&self) -> bool {
        self.state != State::Waits
    }

    fn place(&self, now: Time) -> Stop {
        if now < self.due {
            Stop::Never
        } else if now < self.insists {
            Stop::WhenQuiet
        } else if now < self.last {
            Stop::AtMessage
        } else {
            Stop::AtFrame
        }
    }

    fn within(&self, now: Time) -> Time {
        (now + self.peer_time).min(self.end)
    }
}

#[cfg(test)]
mod tests;
