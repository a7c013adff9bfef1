//! What keeps a drill from taking place. What goes wrong with a request is no error: it is a line of the ledger.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why a drill did not take place.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The caller's mistake: only `http[s]://HOST[:PORT][/PATH]` is understood.
    #[error("cannot send load to `{url}`: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name has no address.
    #[error("cannot look up `{name}`: {source}")]
    Unknown {
        /// What was looked up.
        name: String,
        /// The system's reason.
        source: io::Error,
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
        range: String,
    },
    /// The caller's mistake: a header or method that would break the request's framing.
    #[error("`{0}` cannot be part of a request's head")]
    Head(String),
    /// The caller's mistake: nobody can have a certificate for that.
    #[error("`{0}` is no name that a certificate can be for")]
    ServerName(String),
    /// The file with the authorities to believe cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The system knows no authority that could vouch for a certificate.
    #[error("the system has no certificate authorities: name the one to believe, or believe anybody")]
    NoAuthorities,
    /// TLS cannot be set up; nothing that the caller could change.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The machine gave no thread or no runtime for the load.
    #[error("cannot start the load: {0}")]
    Start(#[from] io::Error),
    /// Nothing was answered before anything was done: what is lost later would say nothing.
    #[error(
        "none of {sent} requests was answered before the drill did anything ({losses}): nothing was done"
    )]
    Deaf {
        /// How many were sent.
        sent: u64,
        /// How they were lost.
        losses: String,
    },
    /// Our fault: the thread that sends the load panicked.
    #[error("the load's thread ended unexpectedly")]
    ThreadLost,
}
