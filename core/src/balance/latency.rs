//! How long an instance lately took, as one number that many threads keep: a peak-sensitive, exponentially weighted moving
//! average. A slower answer counts at once and wholly, a faster one only as time passes, and without answers the estimate
//! fades, so that an instance that was slow once is tried again.
//!
//! Finagle's `PeakEwma` (Twitter). An estimate is 64 bits, so that threads share it in an atomic without a lock: 28 bits
//! of microseconds (268 s at most) and 36 bits of time in steps of 64 us (it wraps after 50 days, and an instance that was
//! not asked for so long has a wrong estimate for one answer). Threads may overwrite each other's sample: an average
//! stands that.

use std::time::Duration;

/// How quickly the past fades: after so long an old value counts 1/e. Finagle's default.
pub const DECAY: Duration = Duration::from_secs(10);

/// An attempt without an answer counts at least so long: an instance that fails at once must not look like the fastest.
pub const FAILED: Duration = Duration::from_secs(1);

const VALUE_BITS: u32 = 28;
const VALUE_MOST: u64 = (1 << VALUE_BITS) - 1;
const STAMP_MICROS: u64 = 64;
const STAMP_MASK: u64 = (1 << (64 - VALUE_BITS)) - 1;

/// An estimate at one moment. [`Latency::default`]: nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency(u64);

impl Latency {
    /// From [`Latency::bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// To be kept in an atomic.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The estimate with one more answer, which took `took`. `now` counts from any moment, the same for all. Returns the
    /// same bits when too little time has passed to change the value by a microsecond: then nothing need be written, and
    /// the time is not lost.
    #[must_use]
    pub fn observe(self, now: Duration, took: Duration) -> Self {
        let took = u64::try_from(took.as_micros()).unwrap_or(VALUE_MOST).clamp(1, VALUE_MOST);
        let known = self.0 >> (64 - VALUE_BITS);
        let value = if took >= known {
            took
        } else {
            let weight = self.fading(now);
            (known as f64 * weight + took as f64 * (1.0 - weight)).round() as u64
        };
        if value == known { self } else { Self(value << (64 - VALUE_BITS) | stamp(now)) }
    }

    /// The estimate now; zero if nothing is known (any more).
    pub fn at(self, now: Duration) -> Duration {
        let known = self.0 >> (64 - VALUE_BITS);
        Duration::from_micros((known as f64 * self.fading(now)) as u64)
    }

    /// How much of the value is left, 0 to 1.
    fn fading(self, now: Duration) -> f64 {
        let steps = stamp(now).wrapping_sub(self.0) & STAMP_MASK;
        // Another thread's clock reading may be a little behind the stamp.
        let steps = if steps > STAMP_MASK / 2 { 0 } else { steps };
        (-((steps * STAMP_MICROS) as f64) / DECAY.as_micros() as f64).exp()
    }
}

fn stamp(now: Duration) -> u64 {
    (now.as_micros() as u64 / STAMP_MICROS) & STAMP_MASK
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_peak_counts_at_once_and_wholly() {
        let calm = Latency::default().observe(ms(1), ms(2));
        assert_eq!(calm.at(ms(1)), ms(2));
        assert_eq!(calm.observe(ms(5), ms(300)).at(ms(5)), ms(300));
    }

    #[test]
    fn the_past_fades_to_1_over_e_in_the_decay_time() {
        let peak = Latency::default().observe(ms(0), ms(1000));
        let left = peak.at(DECAY).as_secs_f64();
        assert!((left - (-1.0_f64).exp()).abs() < 0.001, "{left}");
        assert_eq!(peak.at(ms(1_000_000)), Duration::ZERO);
    }

    #[test]
    fn frequent_answers_fade_the_past_as_fast_as_rare_ones() {
        let peak = Latency::default().observe(ms(0), ms(1000));
        let often = (1..=1_000_000_u64).fold(peak, |now_known, n| {
            now_known.observe(Duration::from_micros(10 * n), Duration::from_micros(500))
        });
        let at_once = peak.observe(DECAY, Duration::from_micros(500));
        let (often, at_once) = (often.at(DECAY).as_secs_f64(), at_once.at(DECAY).as_secs_f64());
        assert!((often - at_once).abs() < 0.02 * at_once, "{often} {at_once}");
    }

    #[test]
    fn a_clock_that_is_a_little_behind_does_no_harm() {
        let known = Latency::default().observe(ms(100), ms(50));
        assert_eq!(known.at(ms(99)), ms(50));
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_the_answer_and_what_was_known(
            first in 1..10_000_000_u64, second in 1..10_000_000_u64, passed in 0..100_000_000_u64,
        ) {
            let micros = Duration::from_micros;
            let known = Latency::default().observe(micros(1000), micros(first));
            let now = micros(1000 + passed);
            let next = known.observe(now, micros(second)).at(now);
            prop_assert!(next >= micros(second.min(first) / 2).min(micros(first)) || passed > 0);
            prop_assert!(next <= micros(first.max(second)));
        }
    }
}
