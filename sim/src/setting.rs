//! What one run is like: everything that a configuration would say, drawn from the seed.

use std::time::Duration;

use everup_core::config::{Balance, Check, Health};
use everup_core::hash::Random;

/// The configuration and the size of a run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// One instance per entry.
    pub weights: Vec<u32>,
    /// How instances are checked.
    pub health: Health,
    /// How they are chosen.
    pub balance: Balance,
    /// everup runs the instances itself, so it learns at once that one died.
    pub runs_them: bool,
    /// Data-plane threads.
    pub threads: usize,
    /// Mean time between two requests.
    pub request_every: Duration,
    /// `timeout.connect`.
    pub connect_timeout: Duration,
    /// `timeout.attempt`.
    pub attempt_timeout: Option<Duration>,
    /// `timeout.request`.
    pub request_timeout: Duration,
    /// `retry.attempts`.
    pub attempts: u32,
    /// `park.time`.
    pub park_time: Duration,
    /// Mean time for which an instance serves between two faults.
    pub serves_for: Duration,
    /// Mean time for which a fault lasts.
    pub fails_for: Duration,
    /// Percent of the probes that end by time of which the health thread says that it was itself too late.
    pub starving_percent: usize,
    /// Faults and requests go on for this long; then everybody recovers and the last requests end.
    pub duration: Duration,
}

/// After the duration: longer than any request may take.
pub(crate) const EPILOGUE: Duration = Duration::from_secs(40);

/// How long news takes from the health thread to a data-plane thread, at most.
pub(crate) const TABLE_LAG: Duration = Duration::from_millis(5);

impl Setting {
    /// A setting by lot.
    pub fn draw(random: &mut Random) -> Self {
        const BALANCES: [Balance; 5] = [
            Balance::RoundRobin,
            Balance::WeightedRoundRobin,
            Balance::LeastConnections,
            Balance::WeightedLeastConnections,
            Balance::IpHash,
        ];
        let instances = 1 + random.below(6);
        let interval = Duration::from_millis([200, 1000, 2000][random.below(3)]);
        Self {
            weights: (0..instances).map(|_| 1 + random.below(4) as u32).collect(),
            health: Health {
                check: Check::Tcp,
                interval,
                timeout: interval / 2,
                rise: 1 + random.below(3) as u32,
                // From 2 on: one late connect timeout must not be enough to judge an instance that is back.
                fall: 2 + random.below(2) as u32,
            },
            balance: BALANCES[random.below(BALANCES.len())],
            runs_them: random.below(2) == 0,
            threads: 1 + random.below(3),
            request_every: Duration::from_millis([10, 20, 50][random.below(3)]),
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: (random.below(2) == 0).then_some(Duration::from_secs(2)),
            request_timeout: Duration::from_secs(30),
            attempts: 1 + random.below(4) as u32,
            park_time: Duration::from_secs(10),
            serves_for: Duration::from_secs([5, 10, 30][random.below(3)]),
            fails_for: Duration::from_millis([300, 2000, 6000][random.below(3)]),
            starving_percent: [0, 20][random.below(2)],
            duration: Duration::from_secs(60),
        }
    }

    /// The time between two probes in doubt.
    pub fn doubt(&self) -> Duration {
        (self.health.interval / 4).max(Duration::from_millis(50)).min(self.health.interval)
    }

    /// An instance that answers probes for this long is up: the probe that hangs over from before times out, the next
    /// is an interval away, then come the other passes in a row. 100 ms for what the probes themselves take.
    pub fn returns_within(&self) -> Duration {
        let Health { interval, timeout, rise, .. } = self.health;
        timeout + interval + self.doubt() * rise + Duration::from_millis(100)
    }

    /// An instance that answers no probe for this long is not up. Each failure may come after two inconclusive ones.
    pub fn falls_within(&self) -> Duration {
        let Health { interval, timeout, fall, .. } = self.health;
        interval + (timeout + self.doubt()) * (3 * fall) + Duration::from_millis(100)
    }
}
