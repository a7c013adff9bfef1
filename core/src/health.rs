//! When to probe an instance, and what to believe of it: the words. The machine that decides is in
//! `health/machine.rs`; the probes themselves are edge work.

use serde::{Deserialize, Serialize};

pub mod machine;
pub mod outlier;

/// What is believed of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing is known yet; it gets no request.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer; it gets no request, even if it is the last one.
    Down(Reason),
}

/// Why an instance is believed to be down. `Display` gives the words that `everup status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing listens at its address.
    ConnectRefused,
    /// Connecting failed otherwise or took too long.
    ConnectFailed(String),
    /// It took the connection, and TLS was not agreed on.
    HandshakeFailed(String),
    /// A probe got no answer in time.
    ProbeTimeout,
    /// A probe was answered with this status (wanted: 200-399).
    ProbeStatus(u16),
    /// A probe failed otherwise: broken answer, command's exit code and so on.
    ProbeFailed(String),
    /// Its process ended.
    Exited(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnectRefused => write!(f, "connection refused"),
            Self::ConnectFailed(why) => write!(f, "cannot connect: {why}"),
            Self::HandshakeFailed(why) => write!(f, "TLS handshake failed: {why}"),
            Self::ProbeTimeout => write!(f, "probe timed out"),
            Self::ProbeStatus(status) => write!(f, "probe answered {status}"),
            Self::ProbeFailed(why) => write!(f, "probe failed: {why}"),
            Self::Exited(how) => write!(f, "{how}"),
        }
    }
}
