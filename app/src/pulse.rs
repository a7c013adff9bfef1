//! Signs of life. The control loop tells the keeper that it turns, and which data-plane thread stands still: each counts its
//! sweeps, and one that hangs counts no more. What follows from that, the keeper decides (`keeper/src/watchdog.rs`).
//!
//! A look that comes late says that the loop itself was held up: then the threads may have been, too, and what lies in between
//! counts as one second at most.

use std::time::Duration;

use everup_core::keeper::{Quiet, ToKeeper};
use everup_core::time::Time;

/// The time between two signs of life, at least.
const PULSE: Duration = Duration::from_millis(500);

/// More than this between two looks is not held against a thread.
const AT_MOST: Duration = Duration::from_secs(1);

/// What was seen of the threads.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    looked: Option<Time>,
    threads: Vec<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u64,
    quiet: Duration,
}

impl Pulse {
    /// Some when it is time to show life. `counts` are the threads' own.
    pub(crate) fn look(&mut self, now: Time, counts: impl FnOnce() -> Vec<u64>) -> Option<ToKeeper> {
        if self.looked.is_some_and(|looked| now < looked + PULSE) {
            return None;
        }
        let passed = self.looked.map_or(Duration::ZERO, |looked| now.since(looked)).min(AT_MOST);
        self.looked = Some(now);
        let counts = counts();
        self.threads.resize(counts.len(), Seen::default());
        for (seen, count) in self.threads.iter_mut().zip(counts) {
            seen.quiet = if seen.count == count { seen.quiet + passed } else { Duration::ZERO };
            seen.count = count;
        }
        let longest = self.threads.iter().enumerate().max_by_key(|(_, seen)| seen.quiet);
        let quiet = longest.filter(|(_, seen)| !seen.quiet.is_zero()).map(|(thread, seen)| Quiet {
            thread,
            for_ms: u64::try_from(seen.quiet.as_millis()).unwrap_or(u64::MAX),
        });
        Some(ToKeeper::Alive { quiet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn quiet(pulse: &mut Pulse, ms: u64, counts: &[u64]) -> Option<Option<(usize, u64)>> {
        let said = pulse.look(at(ms), || counts.to_vec())?;
        let ToKeeper::Alive { quiet } = said else { panic!("{said:?}") };
        Some(quiet.map(|quiet| (quiet.thread, quiet.for_ms)))
    }

    #[test]
    fn a_thread_that_stands_still_is_named_with_the_time() {
        let mut pulse = Pulse::default();
        assert_eq!(quiet(&mut pulse, 0, &[1, 1]), Some(None));
        assert_eq!(quiet(&mut pulse, 499, &[2, 1]), None);
        assert_eq!(quiet(&mut pulse, 500, &[2, 1]), Some(Some((1, 500))));
        assert_eq!(quiet(&mut pulse, 1300, &[3, 1]), Some(Some((1, 1300))));
        assert_eq!(quiet(&mut pulse, 2000, &[4, 2]), Some(None));
    }

    #[test]
    fn what_the_loop_was_not_there_to_see_counts_as_a_second() {
        let mut pulse = Pulse::default();
        quiet(&mut pulse, 0, &[1]);
        assert_eq!(quiet(&mut pulse, 60_000, &[1]), Some(Some((0, 1000))));
    }
}
