//! Whether a worker still lives: it says so at least once a second, and which of its data-plane threads stands still. One that is
//! silent for `node.watchdog` hangs (a deadlock, an endless loop, SIGSTOP), and nothing but another worker helps its clients.
//!
//! No clock decides that alone: the keeper counts silence only while it is there to hear. A keeper that was stopped, a host that was
//! suspended or has no CPU to give, makes the next look late, and a late look counts as one. So a worker that had no chance to speak is
//! not killed for it.

use std::time::{Duration, Instant};

use everup_core::keeper::Quiet;

/// How often the keeper looks, and what one look counts at most.
const LOOK: Duration = Duration::from_secs(1);

/// What a worker may take from its birth until it serves: it may read certificates, open a store and wait for a slow disk.
const BIRTH: Duration = Duration::from_secs(60);

/// What was heard of one worker.
#[derive(Debug)]
pub(crate) struct Watchdog {
    looked: Instant,
    heard: bool,
    silent: Duration,
    quiet: Option<Quiet>,
}

impl Watchdog {
    /// Of a worker that was just born, or adopted.
    pub(crate) fn new() -> Self {
        Self { looked: Instant::now(), heard: true, silent: Duration::ZERO, quiet: None }
    }

    /// It showed life.
    pub(crate) fn on_alive(&mut self, quiet: Option<Quiet>) {
        (self.heard, self.quiet) = (true, quiet);
    }

    /// When to look.
    pub(crate) fn next_look(&self) -> Instant {
        self.looked + LOOK
    }

    /// Looks, if it is time and everything that was said is heard. Some: it hangs, in words. None for `limit`: it may.
    pub(crate) fn look(&mut self, now: Instant, serves: bool, limit: Option<Duration>) -> Option<String> {
        if now < self.next_look() {
            return None;
        }
        self.looked = now;
        self.silent = if std::mem::take(&mut self.heard) { Duration::ZERO } else { self.silent + LOOK };
        let limit = limit.map(|limit| if serves { limit } else { limit.max(BIRTH) })?;
        if self.silent >= limit {
            return Some(format!("it has shown no life for {} s", self.silent.as_secs()));
        }
        let Quiet { thread, for_ms } = self.quiet?;
        (Duration::from_millis(for_ms) >= limit)
            .then(|| format!("its data-plane thread {thread} has not moved for {} s", for_ms / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Option<Duration> = Some(Duration::from_secs(3));

    /// Looks every second for so long.
    fn looks(watchdog: &mut Watchdog, seconds: u64, serves: bool, limit: Option<Duration>) -> Option<String> {
        (0..seconds).find_map(|_| watchdog.look(watchdog.next_look(), serves, limit))
    }

    #[test]
    fn who_is_silent_for_too_long_hangs() {
        let mut watchdog = Watchdog::new();
        assert_eq!(looks(&mut watchdog, 3, true, LIMIT), None);
        watchdog.on_alive(None);
        assert_eq!(looks(&mut watchdog, 3, true, LIMIT), None);
        assert_eq!(looks(&mut watchdog, 1, true, LIMIT).unwrap(), "it has shown no life for 3 s");
    }

    #[test]
    fn time_in_which_the_keeper_did_not_run_counts_as_one_look() {
        let mut watchdog = Watchdog::new();
        for hours in 1..=2 {
            let late = watchdog.next_look() + hours * Duration::from_secs(3600);
            assert_eq!(watchdog.look(late, true, LIMIT), None);
        }
    }

    #[test]
    fn a_thread_that_stands_still_is_a_hang_though_the_loop_turns() {
        let mut watchdog = Watchdog::new();
        watchdog.on_alive(Some(Quiet { thread: 1, for_ms: 2999 }));
        assert_eq!(looks(&mut watchdog, 1, true, LIMIT), None);
        watchdog.on_alive(Some(Quiet { thread: 1, for_ms: 3000 }));
        let why = looks(&mut watchdog, 1, true, LIMIT).unwrap();
        assert_eq!(why, "its data-plane thread 1 has not moved for 3 s");
    }

    #[test]
    fn a_birth_may_take_longer_and_without_a_limit_nobody_hangs() {
        assert_eq!(looks(&mut Watchdog::new(), 60, false, LIMIT), None);
        assert!(looks(&mut Watchdog::new(), 61, false, LIMIT).is_some());
        assert_eq!(looks(&mut Watchdog::new(), 10_000, true, None), None);
    }
}
