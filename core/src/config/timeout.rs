//! `[service.NAME.timeout]`: how long anything may take.

use std::time::Duration;

use super::kind::{duration, or_word};
use super::reading::{Reading, Table};
use super::section::section;

section! {
    /// How long anything may take.
    pub struct Timeout {
        /// Connecting to an instance.
        pub connect: Duration = duration(1..=60_000), default "1s",
            because "an instance in reach answers within milliseconds; one that does not is tried again elsewhere";
        /// One attempt of an idempotent request, from sending it to the first byte of the answer; then it is tried on
        /// another instance. Others are not ended by it, since nothing could be gained.
        pub attempt: Option<Duration> = or_word("off", duration(1..=3_600_000)), default "off",
            because "how slow is too slow, only the service knows";
        /// From the end of a request to the first byte of its answer, over all attempts; time in which it is parked does not
        /// count. Then the client gets 504.
        pub request: Duration = duration(1..=86_400_000), default "30s",
            because "longer than people wait; long polls need more";
        /// Silence in the middle of a body or a tunnel, and between two requests of a connection.
        pub idle: Duration = duration(100..=86_400_000), default "60s",
            because "browsers send their next request within a minute; websockets send pings more often";
    }
}

pub(super) fn build(timeout: Timeout, table: &Table<'_>, reading: &mut Reading) -> Option<Timeout> {
    if timeout.attempt.is_some_and(|attempt| attempt >= timeout.request) {
        reading.mistake(
            table.span_of("attempt"),
            "`attempt` must be shorter than `request`",
            format!("`request` is {:?}", timeout.request),
            "a request that has used up its time is not tried again: shorten attempt, or lengthen request",
        );
    }
    Some(timeout)
}
