//! Slow start: an instance that has just come up gets a tenth of its share at first and all of it after a while, so that
//! cold caches and unfilled pools do not meet full load. A pure function of time; who counts as having come up is decided
//! where instances are known.

use std::time::Duration;

/// The whole share, in percent.
pub const WHOLE: u32 = 100;
/// The share at the beginning, in percent: enough to warm up by.
pub const FIRST: u32 = 10;

/// The share, in percent of the weight, of an instance that came up `since` ago: a straight line from [`FIRST`] to
/// [`WHOLE`] over `time`.
pub fn share(since: Duration, time: Duration) -> u32 {
    if since >= time {
        return WHOLE;
    }
    let passed = since.as_secs_f64() / time.as_secs_f64();
    FIRST + (f64::from(WHOLE - FIRST) * passed) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_in_a_straight_line() {
        let time = Duration::from_secs(10);
        let at = |ms| share(Duration::from_millis(ms), time);
        assert_eq!(
            [at(0), at(1000), at(5000), at(9999), at(10_000), at(u64::MAX)],
            [10, 19, 55, 99, 100, 100]
        );
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 100);
    }
}
