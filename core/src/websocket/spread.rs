//! When each of many WebSockets is closed, and when its client should come back: so that they come back no faster than
//! the instances that remain can take them, as far as the drain time allows.
//!
//! Places are dealt, not drawn: of N clients that choose a moment of W seconds by chance, many choose the same; of N that are
//! told one, each has its own. Clients that heed `retry=` are told one even where all are closed at once.

use std::time::Duration;

use crate::config::WebSockets;
use crate::hash::mix;

/// What one instance that remains may take of WebSockets that come back: one in this time. Behind each there is a handshake, a
/// session to be looked up, something to be subscribed to; ten a second are little for the smallest of programs, and a drain
/// of few is over soon.
pub const PACE: Duration = Duration::from_millis(100);

/// Where clients are told when to come back, it is spread over this at least (RFC 6455 section 7.2.3 calls up to 5 seconds a
/// reasonable first delay) ...
const BACK_AT_LEAST: Duration = Duration::from_secs(5);

/// ... and over this at most: what is registered with code 1012.
const BACK_AT_MOST: Duration = Duration::from_secs(30);

/// Who was closed by turns comes back at once, but for this much of chance.
const BACK_SOON: Duration = Duration::from_secs(1);

/// The place of one WebSocket among all that are to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number; any that was dealt to no other lately.
    pub number: u64,
    /// How many there are.
    pub of: u32,
    /// How many instances can take them.
    pub takers: u32,
}

/// What becomes of one WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// It is closed so long after the leave began.
    pub due: Duration,
    /// Then its client is to come back after this.
    pub retry: Duration,
}

/// The plan for one WebSocket. All are to be closed within `window`; `gone`: when everup itself will have ended, if it ends.
pub fn plan(how: WebSockets, place: Place, window: Duration, gone: Option<Duration>) -> Plan {
    let natural = PACE.saturating_mul(place.of) / place.takers.max(1);
    let back = || slot(place, natural.clamp(BACK_AT_LEAST, BACK_AT_MOST));
    let until_gone = |due| gone.map(|gone| gone.saturating_sub(due));
    match how {
        WebSockets::Stagger => {
            // If nobody takes them, they are best kept for as long as may be.
            let due = slot(place, if place.takers == 0 { window } else { natural.min(window) });
            let retry = until_gone(due).map_or_else(|| chance(place, BACK_SOON), |left| left + back());
            Plan { due, retry }
        }
        WebSockets::Close => Plan { due: window, retry: until_gone(window).unwrap_or_default() + back() },
    }
}

/// Its own part of `over`, and within that a moment by chance.
fn slot(place: Place, over: Duration) -> Duration {
    let of = place.of.max(1);
    let part = over / of;
    let number = u32::try_from(place.number % u64::from(of)).expect("below a u32");
    part * number + chance(place, part)
}

/// Some part of `within`; always the same for the same number.
fn chance(place: Place, within: Duration) -> Duration {
    let part = mix(place.number ^ 0x9e37_79b9_7f4a_7c15) >> 32;
    let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(nanos) * u128::from(part)) >> 32) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(26);

    fn plans(how: WebSockets, of: u32, takers: u32, gone: Option<Duration>) -> Vec<Plan> {
        // Numbers go on from drain to drain.
        (1000..1000 + u64::from(of))
            .map(|number| plan(how, Place { number, of, takers }, WINDOW, gone))
            .collect()
    }

    /// The most in any second.
    fn most_a_second(times: impl Iterator<Item = Duration>) -> usize {
        let mut counts = std::collections::HashMap::<u64, usize>::new();
        times.for_each(|time| *counts.entry(time.as_secs()).or_default() += 1);
        counts.into_values().max().unwrap_or_default()
    }

    #[test]
    fn few_go_as_fast_as_the_others_take_them() {
        let all = plans(WebSockets::Stagger, 20, 2, None);
        assert!(all.iter().all(|plan| plan.due < Duration::from_secs(1) && plan.retry < BACK_SOON));
        assert!(most_a_second(plans(WebSockets::Stagger, 200, 1, None).iter().map(|plan| plan.due)) <= 11);
    }

    #[test]
    fn many_are_spread_evenly_over_all_the_time_there_is() {
        let all = plans(WebSockets::Stagger, 26_000, 1, None);
        assert!(all.iter().all(|plan| plan.due < WINDOW));
        assert!(most_a_second(all.iter().map(|plan| plan.due)) <= 1010);
    }

    #[test]
    fn if_nobody_takes_them_they_stay_as_long_as_may_be() {
        let all = plans(WebSockets::Stagger, 2, 0, None);
        assert!(all.iter().any(|plan| plan.due > WINDOW / 2));
    }

    #[test]
    fn when_everup_ends_clients_come_back_after_that_and_not_together() {
        let gone = Duration::from_secs(30);
        for how in [WebSockets::Stagger, WebSockets::Close] {
            let all = plans(how, 100, 1, Some(gone));
            let back: Vec<_> = all.iter().map(|plan| plan.due + plan.retry).collect();
            assert!(back.iter().all(|back| (gone..gone + BACK_AT_MOST).contains(back)));
            assert!(most_a_second(back.into_iter()) <= 11);
        }
    }

    #[test]
    fn closed_together_they_come_back_one_by_one() {
        let all = plans(WebSockets::Close, 100, 1, None);
        assert!(all.iter().all(|plan| plan.due == WINDOW));
        assert!(most_a_second(all.iter().map(|plan| plan.retry)) <= 11);
    }

    #[test]
    fn nothing_overflows() {
        let place = Place { number: u64::MAX, of: u32::MAX, takers: 0 };
        for how in [WebSockets::Stagger, WebSockets::Close] {
            plan(how, place, Duration::from_secs(86_400), Some(Duration::from_secs(86_400)));
            plan(how, Place { of: 0, ..place }, Duration::ZERO, None);
        }
    }
}
