//! `[service.NAME.drain]`: how an instance is taken out.

use std::time::Duration;

use super::kind::duration;
use super::section::section;

section! {
    /// How an instance is taken out: it gets nothing new, and what it is at may end.
    pub struct Drain {
        /// How long its requests and connections may still take. Then they are cut; a process that everup started gets
        /// SIGTERM when they have ended, and SIGKILL if it outlives this time.
        pub time: Duration = duration(0..=86_400_000), default "30s",
            because "as long as a request may take (`timeout.request`)";
    }
    later { websockets }
}
