//! Counters that data-plane threads write without a lock and anyone may read: per-thread cells, summed on reading.
//!
//! Each cell has one writer, so adding is a plain load and store; a reader may see a value that is a moment old.
//! What is counted, and how it is shown to people, is decided elsewhere. Beside them, what every thread of the control side needs:
//! panics that are kept where they happen ([`contained`]).
#![warn(missing_docs)]

mod bands;
mod contain;
mod exemplar;
mod histogram;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

pub use bands::{Bands, Spread};
pub use contain::{contained, contained_future};
pub use exemplar::{Exemplar, Exemplars, NAME_BYTES};
pub use histogram::{Buckets, Histogram};

/// One `T` per data-plane thread, each on cache lines of its own.
#[derive(Debug)]
pub struct PerThread<T>(Box<[CachePadded<T>]>);

impl<T: Default> PerThread<T> {
    /// Cells for `threads` threads (at least one).
    pub fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| CachePadded::new(T::default())).collect())
    }
}

impl<T> PerThread<T> {
    /// The cell that only thread number `thread` writes.
    ///
    /// # Panics
    /// If there are not so many threads: the number of threads is fixed before the first counter is made.
    pub fn cell(&self, thread: usize) -> &T {
        &self.0[thread]
    }

    /// All cells, for reading.
    pub fn cells(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &**cell)
    }
}

impl PerThread<Counter> {
    /// The sum over all threads.
    pub fn total(&self) -> u64 {
        self.cells().map(Counter::value).sum()
    }
}

impl PerThread<Gauge> {
    /// The sum over all threads; never below zero.
    pub fn total(&self) -> u64 {
        u64::try_from(self.cells().map(Gauge::value).sum::<i64>()).unwrap_or(0)
    }
}

impl PerThread<Histogram> {
    /// The sum over all threads.
    pub fn total(&self) -> Buckets {
        let mut sum = Buckets::default();
        for cell in self.cells() {
            sum.merge(&cell.snapshot());
        }
        sum
    }
}

/// A number that only grows. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the cell may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative. Only the thread that owns the cell may call this.
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_the_sum_over_threads() {
        let counters = PerThread::<Counter>::new(3);
        for thread in 0..3 {
            counters.cell(thread).add(10 + thread as u64);
        }
        assert_eq!(counters.total(), 33);
    }

    #[test]
    fn a_gauge_goes_down_on_another_thread_than_up_and_the_total_holds() {
        let gauges = PerThread::<Gauge>::new(2);
        gauges.cell(0).add(5);
        gauges.cell(1).add(-2);
        assert_eq!(gauges.total(), 3);
    }
}
