//! `[service.NAME.queue]`: where requests wait while every instance is at its limit.

use std::time::Duration;

use super::kind::{duration, integer};
use super::section::section;

section! {
    /// While every instance that is up is at the service's `max_connections`, requests wait here, first come, first served.
    /// When no instance is up they are parked instead.
    pub struct Queue {
        /// The longest wait; then the request is answered with 503. One that would wait longer, as fast as the queue moves, is
        /// answered so at once.
        pub time: Duration = duration(0..=600_000), default "5s",
            because "who has waited longer has often gone: work for nobody";
        /// The most requests that wait at a time. Further ones are answered with 503 at once.
        pub requests: usize = integer(0..=1_000_000), default 1000,
            because "a longer queue only means that everybody waits longer";
    }
}
