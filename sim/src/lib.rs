//! everup-sim: health, balancing and request custody together, in one thread, in virtual time, with seeded faults.
//!
//! Real: the health machines, the pickers, the exchange and its retry budget, all of `everup_core`. Invented: time,
//! the instances (they die, freeze, vanish from the network, fall ill, get slow, and return), the network between,
//! and the gateway's driving of a request (`request`), which is the same recipe as in `everup_gateway` without its
//! bytes. After every step the [`rules`] are checked. One number, the seed, decides everything: the same seed is the
//! same run.
//!
//! It measures nothing and opens no socket. `tests/seeds.rs` runs it.
#![warn(missing_docs)]

mod health;
mod instance;
mod queue;
mod request;
pub mod rules;
mod setting;
mod world;

pub use rules::Broken;
pub use setting::Setting;
pub use world::{Summary, World};
