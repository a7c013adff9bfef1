//! `[trace]`: what everup does for distributed tracing.

use super::kind::choice;
use super::section::section;

section! {
    /// Distributed tracing by W3C Trace Context. Everup sends no spans of its own.
    pub struct Trace {
        /// `forward` passes `traceparent` on as it came. `make` gives one, not sampled, to every request that has none, or
        /// a malformed one.
        pub parent: TraceParent = choice(PARENTS, &[]), default "forward",
            because "to many libraries a parent that is not sampled means: do not trace this request";
    }
}

const PARENTS: &[(&str, TraceParent)] = &[("forward", TraceParent::Forward), ("make", TraceParent::Make)];

/// What happens to `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceParent {
    /// It goes on as it came.
    Forward,
    /// A request without a valid one gets one.
    Make,
}
