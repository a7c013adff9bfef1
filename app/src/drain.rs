//! Drains that are waited for: an instance is drained when every data-plane thread has acknowledged a table in which
//! it takes nothing, and nothing is in flight on it. Whoever asked is answered then, or when the time is over.

use everup_admin::DrainOutcome;
use everup_core::ids::{Generation, InstanceId};
use everup_core::time::Time;

/// Waits for one drain. `R` is where the answer goes.
#[derive(Debug)]
pub(crate) struct Waiting<R> {
    pub(crate) id: InstanceId,
    /// The first table in which the instance takes nothing.
    pub(crate) generation: Generation,
    pub(crate) began: Time,
    /// Answer at the latest now.
    pub(crate) deadline: Time,
    pub(crate) reply: R,
}

/// What an instance has still to finish.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// Requests, tunnels and relays.
    pub(crate) in_flight: u64,
    /// Tunnels and relays alone.
    pub(crate) tunnels: u64,
}

/// Takes out what can be answered at `now`, given what the threads have acknowledged and what is left.
pub(crate) fn finished<R>(
    waiting: &mut Vec<Waiting<R>>,
    now: Time,
    acknowledged: Generation,
    left: impl Fn(&InstanceId) -> Left,
) -> Vec<(R, DrainOutcome)> {
    let mut done = Vec::new();
    for one in std::mem::take(waiting) {
        match outcome(&one, now, acknowledged, left(&one.id)) {
            Some(outcome) => done.push((one.reply, outcome)),
            None => waiting.push(one),
        }
    }
    done
}

fn outcome<R>(one: &Waiting<R>, now: Time, acknowledged: Generation, left: Left) -> Option<DrainOutcome> {
    let waited = now.since(one.began);
    let Left { in_flight, tunnels } = left;
    if acknowledged >= one.generation && in_flight == 0 {
        return Some(DrainOutcome { in_flight: 0, tunnels: 0, waited });
    }
    // Not acknowledged: somebody may be about to send something there, so it is never told as drained.
    (now >= one.deadline).then(|| DrainOutcome {
        in_flight: in_flight.max(1),
        tunnels: tunnels.min(in_flight),
        waited,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(now: u64, acknowledged: u64, in_flight: u64) -> Option<u64> {
        let mut waiting = vec![Waiting {
            id: InstanceId::new("shop", "shop-1"),
            generation: Generation(5),
            began: Time::from_millis(1000),
            deadline: Time::from_millis(2000),
            reply: (),
        }];
        let done = finished(&mut waiting, Time::from_millis(now), Generation(acknowledged), |_| Left {
            in_flight,
            tunnels: 0,
        });
        assert_eq!(done.len() + waiting.len(), 1);
        done.first().map(|(_, outcome)| outcome.in_flight)
    }

    #[test]
    fn drained_is_acknowledged_and_empty() {
        assert_eq!(answered(1100, 5, 0), Some(0));
        assert_eq!(answered(1100, 6, 0), Some(0));
    }

    #[test]
    fn an_empty_instance_is_not_drained_while_a_thread_may_still_choose_it() {
        assert_eq!(answered(1100, 4, 0), None);
        assert_eq!(answered(2000, 4, 0), Some(1));
    }

    #[test]
    fn what_is_in_flight_is_waited_for_until_the_time_is_over() {
        assert_eq!(answered(1999, 5, 3), None);
        assert_eq!(answered(2000, 5, 3), Some(3));
    }
}
