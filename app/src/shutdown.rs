//! The order in which everything ends.
//!
//! ```text
//! Serving ──Begin──▶ Finishing ──nothing in flight, time over, or hastened──▶ Stopping ──no process left──▶ Ended
//! ```
//!
//! In Finishing the node is not ready any more, the data plane finishes what it has, tells every client with its next answer that the
//! connection ends, closes WebSockets by turns, and the instances still answer. Clients that are connected and ask nothing get
//! [`SILENCE`] for a last request: closing at once would cross with one. In Stopping instances end, and who asks is told so (503);
//! only at the very end nobody listens any more.

use std::time::Duration;

use everup_core::time::Time;

/// What instances may take after SIGTERM when the operator asked twice.
const HASTY_GRACE: Duration = Duration::from_secs(1);

/// How long connected clients may be silent before the end goes on without them. Those that keep connections for use are
/// back within it; a browser's spare connection is not worth more.
const SILENCE: Duration = Duration::from_secs(2);

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Nobody asked.
    #[default]
    Serving,
    /// Requests in flight are waited for.
    Finishing {
        /// No longer than this.
        until: Time,
        /// And clients without a request no longer than this.
        silent_until: Time,
    },
    /// Instances end.
    Stopping {
        /// What each may take after SIGTERM.
        grace: Duration,
    },
    /// Nothing is left.
    Ended,
}

/// What is to be done at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Tell the data plane that the end has come.
    FinishRequests,
    /// Have the data plane refuse what comes, and stop the instances.
    StopInstances {
        /// What each may take after SIGTERM.
        grace: Duration,
        /// Requests are in flight, and are cut off.
        cut: bool,
    },
    /// Everything is stopped: exit.
    Exit,
}

impl Shutdown {
    /// The operator asked; `patience` is the longest `drain.time`. Asked again, `hasten` waits for nothing.
    pub(crate) fn begin(&mut self, now: Time, patience: Duration, hasten: bool) -> Option<Step> {
        match (*self, hasten) {
            (Self::Serving, false) => {
                *self = Self::Finishing { until: now + patience, silent_until: now + SILENCE.min(patience) };
                Some(Step::FinishRequests)
            }
            (Self::Serving | Self::Finishing { .. } | Self::Stopping { .. }, true) => {
                *self = Self::Stopping { grace: HASTY_GRACE };
                Some(Step::StopInstances { grace: HASTY_GRACE, cut: true })
            }
            (Self::Finishing { .. } | Self::Stopping { .. } | Self::Ended, false) | (Self::Ended, true) => {
                None
            }
        }
    }

    /// Looks whether the next step has come. `clients` are connected, with or without a request.
    pub(crate) fn look(
        &mut self,
        now: Time,
        in_flight: u64,
        clients: u64,
        all_stopped: bool,
    ) -> Option<Step> {
        match *self {
            Self::Finishing { until, silent_until }
                if in_flight == 0 && (clients == 0 || now >= silent_until) || now >= until =>
            {
                *self = Self::Stopping { grace: Duration::MAX };
                Some(Step::StopInstances { grace: Duration::MAX, cut: in_flight > 0 })
            }
            Self::Stopping { .. } if all_stopped => {
                *self = Self::Ended;
                Some(Step::Exit)
            }
            Self::Serving | Self::Finishing { .. } | Self::Stopping { .. } | Self::Ended => None,
        }
    }

    /// Somebody asked.
    pub(crate) fn is_under_way(&self) -> bool {
        *self != Self::Serving
    }

    /// What instances may take, once they were told to end.
    pub(crate) fn grace(&self) -> Option<Duration> {
        match *self {
            Self::Stopping { grace } => Some(grace),
            Self::Serving | Self::Finishing { .. } | Self::Ended => None,
        }
    }

    /// Nothing is left to be stopped.
    pub(crate) fn is_over(&self) -> bool {
        *self == Self::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    const STOP: Step = Step::StopInstances { grace: Duration::MAX, cut: false };
    const CUT: Step = Step::StopInstances { grace: Duration::MAX, cut: true };

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn requests_finish_before_instances_are_stopped_and_instances_before_the_exit() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.look(at(0), 0, 0, true), None);
        assert_eq!(shutdown.begin(at(1), PATIENCE, false), Some(Step::FinishRequests));
        assert_eq!(shutdown.look(at(2), 1, 1, false), None);
        assert_eq!(shutdown.look(at(3), 0, 0, false), Some(STOP));
        assert_eq!(shutdown.look(at(4), 0, 0, false), None);
        assert_eq!(shutdown.look(at(5), 0, 0, true), Some(Step::Exit));
        assert_eq!(shutdown.look(at(6), 0, 0, true), None);
    }

    #[test]
    fn who_takes_over_while_instances_end_knows_how_long_they_may_take() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.grace(), None);
        shutdown.begin(at(0), PATIENCE, false);
        assert_eq!(shutdown.grace(), None);
        shutdown.begin(at(1), PATIENCE, true);
        assert_eq!(shutdown.grace(), Some(HASTY_GRACE));
    }

    #[test]
    fn requests_are_waited_for_only_so_long() {
        let mut shutdown = Shutdown::default();
        shutdown.begin(at(0), PATIENCE, false);
        assert_eq!(shutdown.look(at(29), 5, 5, false), None);
        assert_eq!(shutdown.look(at(30), 5, 5, false), Some(CUT));
    }

    #[test]
    fn who_asks_twice_waits_for_nothing() {
        for asked_before in [false, true] {
            let mut shutdown = Shutdown::default();
            if asked_before {
                shutdown.begin(at(0), PATIENCE, false);
            }
            assert_eq!(
                shutdown.begin(at(1), PATIENCE, true),
                Some(Step::StopInstances { grace: HASTY_GRACE, cut: true })
            );
            assert_eq!(shutdown.look(at(1), 5, 5, true), Some(Step::Exit));
        }
    }

    #[test]
    fn asking_again_without_haste_changes_nothing() {
        let mut shutdown = Shutdown::default();
        shutdown.begin(at(0), PATIENCE, false);
        assert_eq!(shutdown.begin(at(20), PATIENCE, false), None);
        assert_eq!(shutdown, Shutdown::Finishing { until: at(30), silent_until: at(2) });
    }

    #[test]
    fn clients_without_a_request_are_waited_for_a_moment_and_not_longer_than_anything() {
        let mut shutdown = Shutdown::default();
        shutdown.begin(at(0), PATIENCE, false);
        assert_eq!(shutdown.look(at(1), 0, 3, false), None);
        assert_eq!(shutdown.look(at(2), 0, 3, false), Some(STOP));
        let mut shutdown = Shutdown::default();
        shutdown.begin(at(0), Duration::from_secs(1), false);
        assert_eq!(shutdown.look(at(1), 0, 3, false), Some(STOP));
    }
}
