//! How many retries are allowed: a share of the requests of the last ten seconds and a few per second besides, so
//! that retries cannot multiply the load on instances that fail because of it (the idea is Finagle's retry budget;
//! here with one-second slots so that it has a fixed size).

use std::time::Duration;

/// How far back requests and retries count.
pub const BUDGET_WINDOW: Duration = Duration::from_secs(SLOTS as u64);

/// Retries that are always allowed, per second and data-plane thread, so that a service with few requests is not
/// left without any.
pub const RETRIES_PER_SECOND: u64 = 3;

const SLOTS: usize = 10;

/// The retry budget of one service on one data-plane thread.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u64,
    slots: [Slot; SLOTS],
    second: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A budget of `percent` of the requests.
    pub fn new(percent: u32) -> Self {
        Self { percent: u64::from(percent), slots: [Slot::default(); SLOTS], second: 0 }
    }

    /// Another share from now on.
    pub fn set_percent(&mut self, percent: u32) {
        self.percent = u64::from(percent);
    }

    /// Counts a request. `now` is any monotonic time.
    pub fn on_request(&mut self, now: Duration) {
        self.slot(now).requests += 1;
    }

    /// Takes a retry out of the budget, or says that there is none left.
    pub fn try_retry(&mut self, now: Duration) -> bool {
        self.slot(now);
        let requests: u64 = self.slots.iter().map(|slot| slot.requests).sum();
        let retries: u64 = self.slots.iter().map(|slot| slot.retries).sum();
        let allowed = requests * self.percent / 100 + RETRIES_PER_SECOND * SLOTS as u64;
        if retries >= allowed {
            return false;
        }
        self.slot(now).retries += 1;
        true
    }

    /// The slot of this second; those in between are emptied.
    fn slot(&mut self, now: Duration) -> &mut Slot {
        let second = now.as_secs().max(self.second);
        let passed = (second - self.second).min(SLOTS as u64);
        for step in 1..=passed {
            self.slots[((self.second + step) % SLOTS as u64) as usize] = Slot::default();
        }
        self.second = second;
        &mut self.slots[(second % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    #[test]
    fn a_quiet_service_has_three_retries_per_second() {
        let mut budget = Budget::new(10);
        let allowed = (0..100).filter(|_| budget.try_retry(START)).count();
        assert_eq!(allowed, 30);
        assert!(!budget.try_retry(START + Duration::from_secs(9)));
        assert!(budget.try_retry(START + Duration::from_secs(10)));
    }

    #[test]
    fn a_tenth_of_the_requests_may_be_retried_besides() {
        let mut budget = Budget::new(10);
        for _ in 0..1000 {
            budget.on_request(START);
        }
        let allowed = (0..1000).filter(|_| budget.try_retry(START)).count();
        assert_eq!(allowed, 130);
    }

    #[test]
    fn requests_older_than_the_window_do_not_count() {
        let mut budget = Budget::new(100);
        for _ in 0..1000 {
            budget.on_request(START);
        }
        let later = START + BUDGET_WINDOW;
        assert_eq!((0..2000).filter(|_| budget.try_retry(later)).count(), 30);
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut budget = Budget::new(10);
        budget.on_request(START);
        budget.on_request(Duration::ZERO);
        assert!(budget.try_retry(Duration::ZERO));
    }
}
