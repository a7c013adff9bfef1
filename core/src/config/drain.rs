//! `[service.NAME.drain]`: how an instance is taken out.

use std::time::Duration;

use super::kind::{choice, duration};
use super::section::section;

section! {
    /// How an instance is taken out: it gets nothing new, and what it is at may end.
    pub struct Drain {
        /// How long its requests and connections may still take. Then they are cut; a process that everup started gets
        /// SIGTERM when they have ended, and SIGKILL if it outlives this time.
        pub time: Duration = duration(0..=86_400_000), default "30s",
            because "as long as a request may take (`timeout.request`)";
        /// How its WebSockets are closed, each between two messages, with code 1012 and the reason `retry=MS`. `stagger`: by
        /// turns, ten a second for every instance that can take their clients, and faster only if `time` would not do. `close`:
        /// all together shortly before `time` is over, the clients being told different times to come back.
        pub websockets: WebSockets = choice(WEBSOCKETS, &[]), default "stagger",
            because "clients that are all cut at once all come back at once";
    }
}

const WEBSOCKETS: &[(&str, WebSockets)] = &[("stagger", WebSockets::Stagger), ("close", WebSockets::Close)];

/// How the WebSockets of an instance that leaves are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSockets {
    /// By turns.
    Stagger,
    /// All at the end of the time.
    Close,
}
