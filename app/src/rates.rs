//! Rates and quantiles over sliding windows, from counters that only grow.

use std::collections::VecDeque;
use std::time::Duration;

use everup_core::time::Time;
use everup_observe::Buckets;

/// Requests per second are averaged over this.
pub(crate) const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Quantiles are of this window.
pub(crate) const LATENCY_WINDOW: Duration = Duration::from_secs(30);

/// Latencies are sampled this often at most: each sample of a service is a few KiB.
const LATENCY_SAMPLES: Duration = Duration::from_secs(2);

/// What was counted for one service, over time.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    requests: VecDeque<(Time, u64)>,
    latencies: VecDeque<(Time, Buckets)>,
}

impl Rates {
    /// Notes where the counters stand. To be called about once a second.
    pub(crate) fn sample(&mut self, now: Time, requests: u64, latencies: impl FnOnce() -> Buckets) {
        self.requests.push_back((now, requests));
        forget(&mut self.requests, now, RATE_WINDOW);
        if self.latencies.back().is_none_or(|(last, _)| now.since(*last) >= LATENCY_SAMPLES) {
            self.latencies.push_back((now, latencies()));
            forget(&mut self.latencies, now, LATENCY_WINDOW);
        }
    }

    /// Requests per second between the oldest sample in the window and now.
    pub(crate) fn requests_per_second(&self, now: Time, requests: u64) -> f64 {
        let Some((then, before)) = self.requests.front() else { return 0.0 };
        let seconds = now.since(*then).as_secs_f64();
        // Over a moment, one request would look like a thousand per second.
        if seconds < 0.1 { 0.0 } else { requests.saturating_sub(*before) as f64 / seconds }
    }

    /// What was counted since the oldest sample in the window.
    pub(crate) fn recent(&self, latencies: &Buckets) -> Buckets {
        match self.latencies.front() {
            Some((_, before)) => latencies.since(before),
            None => latencies.clone(),
        }
    }
}

/// Keeps one sample that is as old as the window: the window begins there.
fn forget<T>(samples: &mut VecDeque<(Time, T)>, now: Time, window: Duration) {
    while samples.get(1).is_some_and(|(second, _)| now.since(*second) >= window) {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use everup_observe::Histogram;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn the_rate_is_that_of_the_last_five_seconds() {
        let mut rates = Rates::default();
        for second in 0..20 {
            // 10 a second for ten seconds, then 100 a second.
            let requests = if second <= 10 { second * 10 } else { 100 + (second - 10) * 100 };
            rates.sample(at(second), requests, Buckets::default);
        }
        assert!((rates.requests_per_second(at(19), 1000) - 100.0).abs() < 1.0);
        assert!((rates.requests_per_second(at(24), 1000) - 50.0).abs() < 1.0);
    }

    #[test]
    fn nothing_sampled_is_no_rate() {
        assert_eq!(Rates::default().requests_per_second(at(1), 100), 0.0);
    }

    #[test]
    fn a_slow_request_is_forgotten_after_the_window() {
        let (mut rates, histogram) = (Rates::default(), Histogram::default());
        histogram.record(Duration::from_secs(9));
        for second in 1..=40 {
            rates.sample(at(second), 0, || histogram.snapshot());
            histogram.record(Duration::from_millis(1));
        }
        let recent = rates.recent(&histogram.snapshot());
        assert!(recent.quantile(1.0) < Some(Duration::from_millis(2)));
        assert!((29..=34).contains(&recent.count()), "{}", recent.count());
    }
}
