//! The data plane against scripted instances and raw clients, on ports that the kernel chooses: what the wire shows,
//! byte for byte. The parts that it is made of have their own tests; the whole binary has e2e.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are tests")]

pub(crate) mod stage;
pub(crate) mod wire;

mod access_log;
mod acknowledge;
mod bodies;
mod connections;
mod continues;
mod custody;
mod early;
mod edits;
mod handover;
mod limits;
mod malformed;
mod measures;
mod outlier;
mod parking;
mod passthrough;
mod pipelining;
mod proxy_protocol;
mod queue;
pub(crate) mod random;
mod rearranged;
mod shutdown;
mod slow;
mod sticky;
mod tcp;
pub(crate) mod tls;
pub(crate) mod tls_instances;
mod trace;
mod trails;
mod upgrades;
pub(crate) mod websockets;
