//! `[limits]`: how much the gateway takes on.

use std::time::Duration;

use super::kind::{duration, integer, memory, or_word, rate, size};
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
        /// The slowest that the body of a request may come, averaged over 10 s in which the client could send. A slower one is
        /// answered with 408, or cut if an answer has begun.
        pub body_rate: Option<u64> = or_word("off", rate(1..=GIB)), default "1KiB/s",
            because "far below any real connection; a client that trickles its body holds an instance and no more";
        /// The slowest that a client may take an answer, averaged over 13 s in which there was something to take. A slower one
        /// is cut.
        pub answer_rate: Option<u64> = or_word("off", rate(1..=GIB)), default "1KiB/s",
            because "far below any real connection; a client that takes its answer drop by drop holds an instance and memory";
        /// The most connections at a time from one client: one IPv4 address, or one /64 of IPv6, by the address that a PROXY
        /// header names if there is one. A further one is answered with 429 (closed at once on a tcp listener).
        pub connections_per_client: Option<usize> = or_word("unlimited", integer(1..=10_000_000)),
            default "unlimited",
            because "many users may share an address (an office, a mobile network): only you know how many";
        /// The most TLS handshakes under way at a time, over all listeners. Further connections to https listeners wait in
        /// the queue of the kernel, and a client that is silent for 1 s in its handshake is not waited for. A handshake takes
        /// at most `head_time`.
        pub handshakes: usize = integer(1..=1_000_000), default 2000,
            because "a handshake costs the most CPU of all; a flood of them must leave room for those who are in";
    }
}
