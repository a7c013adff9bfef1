//! `[service.NAME.retry]`: when a request is sent again.

use super::kind::{integer, percent};
use super::section::section;

section! {
    /// When a request is sent again, to another instance. Never if it may have been carried out and is not idempotent.
    pub struct Retry {
        /// How often a request is sent, the first time included; 1 means never again. Attempts that ended before a byte of the
        /// request was written, and rescues from an instance that was judged down, do not count.
        pub attempts: u32 = integer(1..=16), default 3,
            because "two instances can fail at once; when more do, more attempts only add load";
        /// How many retries there may be, beside 3 a second, as a share of the requests of the last 10 seconds. Beyond
        /// that a request is parked. What does not count as an attempt costs no budget either.
        pub budget_percent as budget: u32 = percent(0..=100), default "10%",
            because "when all instances are slow, retries must not double the load";
    }
}
