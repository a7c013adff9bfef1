//! The health thread against real sockets and real programs, on ports that the kernel chooses.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are tests")]

mod instances;
mod verdicts;

mod commands;
mod secured;
mod sockets;
mod under_load;
