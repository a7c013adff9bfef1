//! everup-app: a running worker, made of the crates under `edge/`. The only crate that knows all of them.
//!
//! It starts the data plane, health checks, instances and the admin API from what the keeper hands over, and runs
//! the one loop in which news become decisions ([`run_worker`]). It binds no socket and forks no process: the keeper
//! does. `worker.rs` is the life of the process, `controller.rs` the truth about services, and each of the other
//! files one thing that either of them needs.
#![warn(missing_docs)]

mod begin;
mod bequest;
mod clock;
mod controller;
mod deployer;
mod descriptors;
mod drain;
mod error;
mod estate;
mod explain;
mod hooks;
mod journal;
mod keeper_line;
mod keeperless;
mod metrics;
mod notes;
mod orphans;
mod outliers;
mod pulse;
mod rates;
mod reload;
mod service;
mod shutdown;
mod state_file;
mod status;
mod sticky_key;
mod succession;
mod table;
mod tls_files;
mod worker;

pub use error::AppError;
pub use everup_link::Link;
pub use worker::{Notice, Presenter, run_worker};
