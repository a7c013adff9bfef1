//! everup-core: everything that everup *decides*, and nothing that it does.
//!
//! No socket, file, thread, clock, randomness, environment or async lives here: bytes, events and the time come in
//! as arguments, decisions go out as values. That makes every decision testable in a table and the whole of everup
//! simulable in one thread. The crates under `edge/` carry the decisions out.
#![warn(missing_docs)]

pub mod affinity;
pub mod balance;
pub mod calendar;
pub mod certificate;
pub mod client_hello;
pub mod config;
pub mod deploy;
pub mod exchange;
pub mod handover;
pub mod hash;
pub mod health;
pub mod http;
pub mod ids;
pub mod instance;
pub mod keeper;
pub mod network;
pub mod pace;
pub mod proxy_protocol;
pub mod reload;
pub mod route;
pub mod succession;
pub mod time;
pub mod upgrade;
pub mod websocket;
