//! Whole-binary tests: a real `everup`, real connections, real signals. This crate is the stage (a running everup,
//! origins that misbehave on demand, clients that send exactly what they are told); the stories are in `tests/`, one
//! file per feature.
//!
//! Rules of the stage: every port is free when asked for, nothing waits a fixed time (conditions with a generous
//! deadline instead), nothing outlives its test, and a timing is never what decides. A harness function that cannot
//! do its work panics with what it saw: it is only ever called by a test.

mod binary;
mod certificate;
pub mod chance;
mod client;
mod config;
mod everup;
mod origin;
mod peer;
mod process;
pub mod reloads;
mod sample;
mod tcp_origin;
mod terminal;
mod until;
mod websocket;
mod wire;

pub use binary::{Said, everup, everup_binary, repository};
pub use certificate::Certificate;
pub use client::{Connection, Response, get, request};
pub use config::Config;
pub use everup::{Everup, Start, Stopped};
pub use everup_admin::api;
pub use everup_drill::{Entry, Ledger, Load, Loss, Mode, Outcome};
pub use origin::{Behaviour, Origin, Recorded};
pub use peer::Peer;
pub use process::{Process, descendants, private_memory};
pub use sample::Sample;
pub use tcp_origin::TcpOrigin;
pub use terminal::Terminal;
pub use until::{PATIENCE, until, until_some};
pub use websocket::WebSocket;
