//! The admin API: how the command line, and whoever the operator trusts with the socket, asks a running everup and
//! tells it what to do; and the read-only metrics address.
//!
//! This crate carries questions to the controller and answers back ([`Command`]). It decides nothing, knows no
//! instance and renders no table. The API is versioned by its path (`/v1`) and described in
//! `docs/reference/admin-api.json`; a test keeps description and router equal.

mod accept;
pub mod api;
mod client;
mod command;
mod deploy_routes;
mod deployment;
mod event;
mod explanation;
mod reloading;
mod router;
mod serve;
mod upgrade;

pub use accept::Format;
pub use client::{Client, ClientError};
pub use command::{Command, Commands, DrainOutcome, NotReady, Refusal};
pub use reloading::NotReloaded;
pub use router::{ADMIN_ROUTES, METRICS_ROUTES};
pub use serve::{AdminError, serve_admin, serve_metrics};
