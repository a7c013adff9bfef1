//! Every state with everything that can be seen in it.

use super::*;

const DRAIN: Duration = Duration::from_secs(30);

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// Due after 10 seconds.
fn waiting() -> Farewell {
    let plan = Plan { due: Duration::from_secs(10), retry: Duration::ZERO };
    Farewell::new(at(0), plan, DRAIN)
}

fn stops(to_client: Stop, to_instance: Stop) -> Stops {
    Stops { to_client, to_instance }
}

const SAID: Seen = Seen { closes: false, said: true, answered: false, parted: false };
const ANSWERED: Seen = Seen { answered: true, ..SAID };
const PARTED: Seen = Seen { parted: true, ..ANSWERED };

#[test]
fn the_longer_it_waits_the_less_it_asks_of_a_place() {
    let mut farewell = waiting();
    let mut now = 0;
    for (stop, wakeup) in
        [(Stop::Never, 10_000), (Stop::WhenQuiet, 11_000), (Stop::AtMessage, 12_000), (Stop::AtFrame, 30_000)]
    {
        assert_eq!(farewell.handle(at(now), Seen::default()), stops(stop, Stop::Never), "at {now}");
        assert_eq!(farewell.next_wakeup(at(now)), at(wakeup));
        now = wakeup;
    }
    assert!(!farewell.is_over() && !farewell.has_said());
    farewell.handle(at(now), Seen::default());
    assert!(farewell.is_over());
}

#[test]
fn a_farewell_that_is_answered_ends_when_the_instance_has_closed_too() {
    let mut farewell = waiting();
    assert_eq!(farewell.handle(at(10_010), SAID), stops(Stop::Never, Stop::AtClose));
    assert_eq!(farewell.next_wakeup(at(10_010)), at(12_010));
    assert_eq!(farewell.handle(at(10_020), ANSWERED), Stops::default());
    assert!(!farewell.is_over());
    farewell.handle(at(10_030), PARTED);
    assert!(farewell.is_over());
}

#[test]
fn an_instance_that_does_not_close_is_not_waited_for_long() {
    let mut farewell = waiting();
    farewell.handle(at(10_000), SAID);
    farewell.handle(at(11_000), ANSWERED);
    assert_eq!(farewell.next_wakeup(at(11_000)), at(13_000));
    farewell.handle(at(13_000), ANSWERED);
    assert!(farewell.is_over());
}

#[test]
fn a_client_that_does_not_answer_is_not_waited_for_long_and_the_instance_is_told() {
    for answered in [true, false] {
        let mut farewell = waiting();
        farewell.handle(at(10_000), SAID);
        assert_eq!(farewell.handle(at(12_000), SAID), stops(Stop::Never, Stop::AtFrame));
        if answered {
            assert_eq!(farewell.handle(at(12_001), ANSWERED), Stops::default());
            farewell.handle(at(12_002), PARTED);
        } else {
            farewell.handle(at(13_000), SAID);
        }
        assert!(farewell.is_over());
    }
}

#[test]
fn who_closes_by_himself_is_left_to_it_but_not_for_ever() {
    let mut farewell = waiting();
    let closes = Seen { closes: true, ..Seen::default() };
    assert_eq!(farewell.handle(at(29_000), closes), Stops::default());
    assert!(!farewell.is_over());
    farewell.handle(at(30_000), closes);
    assert!(farewell.is_over());
}

#[test]
fn nothing_is_waited_for_beyond_the_drain_time() {
    let mut farewell = waiting();
    farewell.handle(at(29_500), SAID);
    assert_eq!(farewell.next_wakeup(at(29_500)), at(30_000));
}

#[test]
fn a_short_drain_leaves_a_part_of_it_for_every_step() {
    for millis in [0, 1, 100, 1000, 4000, 86_400_000] {
        let drain = Duration::from_millis(millis);
        let plan = Plan { due: window(drain), retry: Duration::ZERO };
        let farewell = Farewell::new(at(0), plan, drain);
        let Farewell { due, insists, last, end, .. } = farewell;
        assert!(due <= insists && insists <= last && last <= end, "{farewell:?}");
    }
    assert_eq!(window(Duration::from_secs(30)), Duration::from_secs(26));
    assert_eq!(window(Duration::from_secs(1)), Duration::from_millis(500));
}
