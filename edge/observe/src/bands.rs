//! Counts of values by a few fixed bounds, for histograms that are shown as they are: a handful of words, so that there may
//! be one for every route. Where quantiles are wanted, [`crate::Histogram`] is finer and larger.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Counter;

/// Counts of values at most `N` bounds, and above. One writer, any number of readers.
#[derive(Debug)]
pub struct Bands<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Counter; N],
    above: Counter,
    sum: AtomicU64,
}

impl<const N: usize> Bands<N> {
    /// None counted. The bounds grow.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        let counts = std::array::from_fn(|_| Counter::default());
        Self { bounds, counts, above: Counter::default(), sum: AtomicU64::new(0) }
    }

    /// Counts a value; tells in which band it lies, of `N` and the one above. Only the thread that owns the cell may
    /// call this.
    pub fn record(&self, value: u64) -> usize {
        let band = self.bounds.iter().position(|&bound| value <= bound).unwrap_or(N);
        self.counts.get(band).unwrap_or(&self.above).add(1);
        self.sum.store(self.sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
        band
    }

    /// What was counted so far.
    pub fn spread(&self) -> Spread {
        let counts = self.counts.iter().chain([&self.above]).map(Counter::value).collect();
        Spread { counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// Counts read from [`Bands`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// By band, the one above all bounds last; not cumulative. Empty: nothing was added yet.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Spread {
    /// Adds what was counted elsewhere by the same bounds.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_lies_below_it_and_one_above_all_in_the_last_band() {
        let bands = Bands::new(&[10, 20]);
        assert_eq!([0, 10, 11, 20, 21].map(|value| bands.record(value)), [0, 0, 1, 1, 2]);
        let spread = bands.spread();
        assert_eq!(spread, Spread { counts: vec![2, 2, 1], sum: 62 });
        assert_eq!(spread.clone().and(&spread).count(), 10);
        assert_eq!(Spread::default().and(&spread), spread);
    }
}
