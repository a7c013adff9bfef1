//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` is then what was waited for.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` is then what was waited for.
#[track_caller]
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up after {PATIENCE:?} waiting until {what}");
        std::thread::sleep(LOOK);
    }
}
