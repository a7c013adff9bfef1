//! `[service.NAME.park]`: where requests wait while no instance can take them.

use std::time::Duration;

use super::kind::{duration, integer, memory};
use super::section::section;
use super::units::{GIB, KIB};

section! {
    /// While no instance can take a request it waits here, and goes to the first that can. Only then it is answered with 503.
    pub struct Park {
        /// The longest wait; `"0s"` parks nothing.
        pub time: Duration = duration(0..=600_000), default "10s",
            because "longer than a restart takes, shorter than people wait";
        /// The most requests that wait at a time. Further ones are answered with 503 at once.
        pub requests: usize = integer(1..=1_000_000), default 1000,
            because "each waits with its connection; when an instance comes back, it gets all of them";
        /// The most memory that the requests that wait hold at a time, here or in the queue: their heads, and what was read of
        /// their bodies, at most 256 KiB each. Further ones are answered with 503 at once.
        pub bytes: usize = memory(64 * KIB..=64 * GIB), default "64MiB",
            because "room for all of them if they are like most; the rest of a body waits with the client";
    }
}
