//! A latency histogram of fixed size: 16 linear steps within each power of two of microseconds, so a quantile is
//! off by at most 1/16 (6.25 %). The idea is HdrHistogram's (Gil Tene); this one is fixed so that recording is an
//! index and an add. Values above about 134 seconds count as that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Linear steps within a power of two.
const STEPS: usize = 16;
/// `log2(STEPS)`.
const STEP_BITS: u32 = 4;
/// The largest power of two told apart: 2^27 us is about 134 s, beyond every timeout that makes sense.
const TOP_BIT: u32 = 27;
const BUCKETS: usize = STEPS * (TOP_BIT - STEP_BITS + 2) as usize;

/// Counts of durations. One writer, any number of readers.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64; BUCKETS]>,
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum_micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration. Only the thread that owns the cell may call this.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        bump(&self.counts[index(micros)], 1);
        bump(&self.sum_micros, micros);
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Buckets {
        Buckets {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
        }
    }
}

/// Counts read from one or several [`Histogram`]s at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    counts: Vec<u64>,
    sum_micros: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], sum_micros: 0 }
    }
}

impl Buckets {
    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.wrapping_add(other.sum_micros);
    }

    /// What was counted since `earlier` was read from the same histograms.
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        Self { counts: counts.collect(), sum_micros: self.sum_micros.wrapping_sub(earlier.sum_micros) }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// How many were at most `limit`, to the nearest bucket below.
    pub fn at_most(&self, limit: Duration) -> u64 {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        (0..BUCKETS).take_while(|&bucket| upper(bucket) <= micros).map(|bucket| self.counts[bucket]).sum()
    }

    /// The duration that a share of `q` (0 to 1) does not exceed, rounded up to its bucket; None if nothing was
    /// counted.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|bucket| {
            seen += bucket;
            seen >= rank
        });
        bucket.map(|bucket| Duration::from_micros(upper(bucket)))
    }
}

/// The bucket of `micros`.
fn index(micros: u64) -> usize {
    let micros = micros.min((1 << (TOP_BIT + 1)) - 1);
    let top = 63 - (micros | 1).leading_zeros();
    if top < STEP_BITS {
        return micros as usize;
    }
    let shift = top - STEP_BITS;
    let step = (micros >> shift) as usize - STEPS;
    STEPS * (shift as usize + 1) + step
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = (bucket / STEPS - 1) as u32;
    (((STEPS + bucket % STEPS) as u64 + 1) << shift) - 1
}

fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_a_sixteenth_wide() {
        let mut value = 1u64;
        while value < 1 << 27 {
            for probe in [value - 1, value, value + 1, value + value / 3] {
                let bucket = index(probe);
                assert!(upper(bucket) >= probe, "{probe}");
                assert!(upper(bucket) - probe <= probe / 16, "{probe}");
                assert!(bucket == 0 || upper(bucket - 1) < probe, "{probe}");
            }
            value *= 2;
        }
    }

    #[test]
    fn a_value_beyond_the_range_counts_in_the_last_bucket() {
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let buckets = histogram.snapshot();
        let median = buckets.quantile(0.5).expect("something was recorded");
        assert!((50..54).contains(&median.as_millis()), "{median:?}");
        let highest = buckets.quantile(1.0).expect("something was recorded");
        assert!((100..107).contains(&highest.as_millis()), "{highest:?}");
        assert_eq!(buckets.at_most(Duration::from_secs(1)), 100);
        assert_eq!(buckets.sum(), Duration::from_millis(5050));
    }

    #[test]
    fn a_window_is_the_difference_of_two_readings() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(5));
        let before = histogram.snapshot();
        histogram.record(Duration::from_millis(1));
        let window = histogram.snapshot().since(&before);
        assert_eq!(window.count(), 1);
        assert!(window.quantile(1.0) < Some(Duration::from_millis(2)));
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        assert_eq!(Buckets::default().quantile(0.5), None);
    }
}
