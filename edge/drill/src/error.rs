//! What keeps a drill from starting. What goes wrong with a request is no error: it is a line of the ledger.

use std::net::IpAddr;

/// Why a drill did not take place.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The caller's mistake: only `http://ADDRESS[:PORT][/PATH]` is understood.
    #[error("cannot send load to `{url}`: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The caller's mistake: load goes to this machine and to private networks only.
    #[error("{0} is neither a loopback nor a private address; a drill sends load only to those")]
    NotLocal(IpAddr),
    /// The caller's mistake: a number outside its range.
    #[error("{what} must be within {range}")]
    Range {
        /// Which setting.
        what: &'static str,
        /// What is possible.
        range: &'static str,
    },
    /// The caller's mistake: a header or method that would break the request's framing.
    #[error("`{0}` cannot be part of a request's head")]
    Head(String),
    /// The machine gave no thread or no runtime for the load.
    #[error("cannot start the load: {0}")]
    Start(#[from] std::io::Error),
    /// The event of a game day (killing an instance) did not succeed.
    #[error("{0}")]
    Event(String),
    /// Our fault: the thread that sends the load panicked.
    #[error("the load's thread ended unexpectedly")]
    ThreadLost,
}
