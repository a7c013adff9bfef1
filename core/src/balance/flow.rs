//! How quickly a queue moves, and so how long a newcomer would wait in it: as many as stand before it, at the rate at which
//! those before were served (Little's law). Who would only wait until its time is over is better refused at once: it can
//! try elsewhere, and the queue stays as long as makes sense.
//!
//! The rate is that of the last whole window, or of this one if that is better: a queue that begins to move faster lets
//! in more at once. One that stands still says nothing about when it will move, and refuses nobody for it.

use std::time::Duration;

/// Long enough for some to be served, short enough to follow what happens.
const WINDOW: Duration = Duration::from_millis(250);

/// Fewer say nothing.
const ENOUGH: u32 = 8;

/// How many were served of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    since: Duration,
    served: u32,
    /// Of the window before: how many, in which time.
    before: Option<(u32, Duration)>,
}

impl Flow {
    /// One more was served.
    pub(super) fn on_served(&mut self, now: Duration) {
        self.turn(now);
        self.served = self.served.saturating_add(1);
    }

    /// How long a newcomer waits behind so many others. None: nobody knows.
    pub(super) fn expected(&mut self, now: Duration, others: usize) -> Option<Duration> {
        self.turn(now);
        let current = (self.served, now.saturating_sub(self.since));
        let telling =
            [Some(current), self.before].into_iter().flatten().filter(|(served, _)| *served >= ENOUGH);
        let waits = telling.map(|(served, time)| time.mul_f64(others as f64 / f64::from(served)));
        waits.min()
    }

    fn turn(&mut self, now: Duration) {
        let lasted = now.saturating_sub(self.since);
        if lasted >= WINDOW {
            // One that ended long ago is no neighbour.
            self.before = (lasted < WINDOW * 4).then_some((self.served, lasted));
            (self.since, self.served) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One is served every `gap`, from `from` to `to` (ms).
    fn serve(flow: &mut Flow, from: u64, to: u64, gap: u64) {
        (from..to).step_by(gap as usize).for_each(|ms| flow.on_served(Duration::from_millis(ms)));
    }

    fn expected(flow: &mut Flow, now: u64, others: usize) -> Option<u128> {
        flow.expected(Duration::from_millis(now), others).map(|wait| wait.as_millis())
    }

    #[test]
    fn the_wait_is_the_queue_by_the_rate_at_which_it_moves() {
        let mut flow = Flow::default();
        serve(&mut flow, 1_000, 2_000, 2);
        let wait = expected(&mut flow, 2_000, 1_000).unwrap();
        assert!((1_900..=2_100).contains(&wait), "1,000 at 500 a second: {wait} ms");
        assert_eq!(expected(&mut flow, 2_000, 0), Some(0));
    }

    #[test]
    fn a_queue_that_stands_still_or_has_only_begun_tells_nothing() {
        let mut flow = Flow::default();
        assert_eq!(expected(&mut flow, 0, 1_000), None);
        serve(&mut flow, 1_000, 1_014, 2);
        assert_eq!(expected(&mut flow, 1_014, 1_000), None, "seven are not enough");
        serve(&mut flow, 1_014, 2_000, 2);
        assert!(expected(&mut flow, 2_100, 1_000).is_some());
        assert_eq!(expected(&mut flow, 4_000, 1_000), None, "two seconds of nothing");
    }

    #[test]
    fn a_queue_that_begins_to_move_faster_counts_at_once() {
        let mut flow = Flow::default();
        serve(&mut flow, 1_000, 2_000, 20);
        let slow = expected(&mut flow, 2_000, 100).unwrap();
        serve(&mut flow, 2_000, 2_100, 1);
        let fast = expected(&mut flow, 2_100, 100).unwrap();
        assert!(fast * 10 < slow, "{fast} ms, before {slow} ms");
    }
}
