//! The life of one request, as far as it is decided: retry, park, or give up (request custody, the promise that a
//! request is not lost because an instance is).
//!
//! ```text
//!             pick            connect + write         head of the answer
//!   Waiting ───────► Trying ─────────────────► Sent ───────────────────► Answering ──► done
//!      ▲ │              │ failed                 │ failed                   │ failed
//!      │ └ no instance  ▼                        ▼                          ▼
//!      └── Park ◄─── on_failure(): Retry | Park | Answer(status)          Cut
//! ```
//!
//! The rule: a request that is not idempotent is tried again only if no byte of it was written to an instance. An
//! idempotent one is, until a byte of an answer was forwarded. Always on another instance if there is one. Refused
//! connects, and rescues from an instance that was judged down, cost no budget; other retries obey one, and wait
//! for it rather than fail. Finding instances, writing and waiting are the gateway's.

mod budget;

use std::time::Duration;

pub use budget::{BUDGET_WINDOW, Budget, RETRIES_PER_SECOND};

/// Why an attempt ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing listens there.
    ConnectRefused,
    /// Connecting failed otherwise.
    ConnectFailed,
    /// Connecting took longer than `timeout.connect`.
    ConnectTimeout,
    /// The connection was there, and TLS was not agreed on.
    HandshakeFailed,
    /// The connection ended before the answer's head was whole.
    Lost,
    /// A connection that had been used before ended without a byte of an answer, or before a byte of the request was
    /// written: most likely the instance had closed it for being idle, just before we used it.
    Stale,
    /// The instance was judged down while we waited for it.
    JudgedDown,
    /// No answer within `timeout.attempt`.
    AttemptTimeout,
    /// The answer is malformed.
    BadAnswer,
    /// `timeout.request` is over.
    RequestTimeout,
}

/// How far the request had come when an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// At least one byte of it may have reached the instance.
    pub written: bool,
    /// All that was read of it from the client is still held, so it can be sent again from its start.
    pub replayable: bool,
    /// At least one byte of an answer went to the client.
    pub answered: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Pick again; the instance that failed only if there is no other (`reuse`), or not at all in this table.
    Retry {
        /// The instance may be picked again if no other is left.
        reuse: bool,
    },
    /// Wait for the routing table to change or the budget to recover, then pick again.
    Park,
    /// Answer the client with this status.
    Answer(u16),
    /// Too late for a status: close the client's connection, so that it sees the answer is not whole.
    Cut,
}

/// The attempts of one request so far.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    idempotent: bool,
    attempts_left: u32,
    met_stale: bool,
}

impl Exchange {
    /// A request that may be sent to instances `attempts` times in all (at least once). Attempts that ended before a
    /// byte was written, rescues, and the first stale connection do not count.
    pub fn new(idempotent: bool, attempts: u32) -> Self {
        Self { idempotent, attempts_left: attempts.max(1), met_stale: false }
    }

    /// Decides after a failed attempt.
    pub fn on_failure(
        &mut self,
        now: Duration,
        failure: Failure,
        progress: Progress,
        budget: &mut Budget,
    ) -> Decision {
        if progress.answered {
            return Decision::Cut;
        }
        let repeatable = progress.replayable && (self.idempotent || !progress.written);
        match failure {
            Failure::RequestTimeout => Decision::Answer(504),
            _ if !repeatable => Decision::Answer(status_for(failure)),
            Failure::ConnectRefused
            | Failure::ConnectFailed
            | Failure::ConnectTimeout
            | Failure::HandshakeFailed
            | Failure::JudgedDown => Decision::Retry { reuse: false },
            // It takes connections and ends them at once, as relays do whose target is gone: as good as refused. What costs
            // nothing must not be tried there over and over.
            Failure::Lost if !progress.written => Decision::Retry { reuse: false },
            // No fault of the instance's, and the next attempt takes a new connection.
            Failure::Stale if !std::mem::replace(&mut self.met_stale, true) => {
                Decision::Retry { reuse: true }
            }
            Failure::Lost | Failure::Stale | Failure::AttemptTimeout | Failure::BadAnswer => {
                self.on_costly_failure(now, failure, budget)
            }
        }
    }

    /// What to answer when a request was parked for too long, or too many are.
    pub fn on_park_over() -> Decision {
        Decision::Answer(503)
    }

    fn on_costly_failure(&mut self, now: Duration, failure: Failure, budget: &mut Budget) -> Decision {
        self.attempts_left -= 1;
        if self.attempts_left == 0 {
            return Decision::Answer(status_for(failure));
        }
        if budget.try_retry(now) { Decision::Retry { reuse: true } } else { Decision::Park }
    }
}

/// The status that tells the client what the last attempt met.
fn status_for(failure: Failure) -> u16 {
    match failure {
        Failure::AttemptTimeout | Failure::RequestTimeout | Failure::ConnectTimeout => 504,
        Failure::ConnectRefused
        | Failure::ConnectFailed
        | Failure::HandshakeFailed
        | Failure::Lost
        | Failure::Stale
        | Failure::JudgedDown
        | Failure::BadAnswer => 502,
    }
}

#[cfg(test)]
mod tests;
