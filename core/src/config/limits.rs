//! `[limits]`: how much the gateway takes on.

use std::time::Duration;

use super::kind::{duration, integer, memory, or_word, size};
use super::section::section;
use super::units::{GIB, KIB, MIB};

section! {
    /// How much the gateway takes on. What goes beyond a limit is refused or waits; what is within keeps working.
    pub struct Limits {
        /// The longest head (first line and header fields) of a request or an answer. A longer request is answered with 431.
        pub head_bytes: usize = memory(KIB..=MIB), default "16KiB",
            because "room for large cookies; every connection may cost that much memory while a head comes in";
        /// The longest time from the first byte of a request's head to its last. Then it is answered with 408.
        pub head_time: Duration = duration(100..=600_000), default "10s",
            because "a client that sends its head drop by drop holds a connection and no more";
        /// The longest body of a request. A longer one is answered with 413.
        pub body_bytes: Option<u64> = or_word("unlimited", size(1..=1024 * GIB)), default "unlimited",
            because "bodies stream through and take no memory; what is too much only the service knows";
        /// The most client connections at a time, over all listeners. Further ones wait in the queue of the
        /// kernel until one ends. Fewer, where the hard limit of open files (`ulimit -Hn`) has no room for so many.
        pub connections: usize = integer(1..=10_000_000), default 100_000,
            because "every connection takes file descriptors and memory; the bound keeps those who are in served";
        /// The most TLS handshakes under way at a time, over all listeners. Further connections to https listeners wait in
        /// the queue of the kernel. A handshake takes at most `head_time`.
        pub handshakes: usize = integer(1..=1_000_000), default 2000,
            because "a handshake costs the most CPU of all; a flood of them must leave room for those who are in";
    }
    later { body_rate, connections_per_client = "unlimited" }
}
