//! Whether a sender keeps up a rate on average: what tells a slow connection from one that only holds a place. It knows
//! no sockets: whoever reads says what came and when, and that it waited for somebody else meanwhile.

use std::time::Duration;

/// The span over which the rate is averaged. A sender that stops ends after one to two of them.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A sender's pace in the current window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes that each window must bring; None: any pace will do.
    least: Option<u64>,
    window: Duration,
    begun: Duration,
    bytes: u64,
}

impl Pace {
    /// Watches from `now` on for `rate` bytes per second (None: no rate is asked for).
    pub fn new(now: Duration, rate: Option<u64>) -> Self {
        Self::over(WINDOW, now, rate)
    }

    /// The same with another window, of whole seconds.
    pub fn over(window: Duration, now: Duration, rate: Option<u64>) -> Self {
        let least = rate.map(|rate| rate.saturating_mul(window.as_secs()));
        Self { least, window, begun: now, bytes: 0 }
    }

    /// So many bytes came.
    pub fn on_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The sender could not send, because nobody took anything from it until `now`.
    pub fn on_held_up(&mut self, now: Duration) {
        self.begun = now;
        self.bytes = 0;
    }

    /// For so long it had nothing to do, which does not count.
    pub fn on_pause(&mut self, pause: Duration) {
        self.begun += pause;
    }

    /// When [`Self::is_too_slow`] is to be asked.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.least.map(|_| self.begun + self.window)
    }

    /// Whether a window is over in which too little came. If enough did, the next one begins.
    pub fn is_too_slow(&mut self, now: Duration) -> bool {
        let Some(least) = self.least else { return false };
        if now < self.begun + self.window {
            return false;
        }
        if self.bytes < least {
            return true;
        }
        self.on_held_up(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When a sender of so many bytes each second is found too slow, within five minutes.
    fn ended(rate: u64, mut bytes: impl FnMut(u32) -> u64) -> Option<Duration> {
        let mut pace = Pace::new(Duration::ZERO, Some(rate));
        (1..=300).find_map(|second| {
            pace.on_bytes(bytes(second));
            pace.is_too_slow(SECOND * second).then_some(SECOND * second)
        })
    }

    #[test]
    fn exactly_the_rate_is_fast_enough_and_less_is_not() {
        assert_eq!(ended(1024, |_| 1024), None);
        assert_eq!(ended(1024, |_| 1023), Some(WINDOW));
    }

    #[test]
    fn bursts_count_on_average() {
        assert_eq!(ended(1024, |second| if second % 10 == 1 { 10_240 } else { 0 }), None);
    }

    #[test]
    fn a_sender_that_stops_ends_within_two_windows() {
        assert_eq!(ended(1024, |second| if second == 1 { 1 << 30 } else { 0 }), Some(2 * WINDOW));
    }

    #[test]
    fn a_sender_that_was_held_up_begins_anew() {
        let mut pace = Pace::new(Duration::ZERO, Some(1));
        pace.on_held_up(9 * SECOND);
        assert!(!pace.is_too_slow(18 * SECOND));
        assert_eq!(pace.next_wakeup(), Some(19 * SECOND));
        assert!(pace.is_too_slow(19 * SECOND));
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut pace = Pace::over(5 * SECOND, Duration::ZERO, Some(1));
        pace.on_pause(100 * SECOND);
        assert!(!pace.is_too_slow(104 * SECOND));
        assert_eq!(pace.next_wakeup(), Some(105 * SECOND));
        pace.on_bytes(4);
        assert!(pace.is_too_slow(105 * SECOND));
    }

    #[test]
    fn without_a_rate_nobody_is_too_slow() {
        let mut pace = Pace::new(Duration::ZERO, None);
        assert_eq!(pace.next_wakeup(), None);
        assert!(!pace.is_too_slow(Duration::MAX));
    }
}
