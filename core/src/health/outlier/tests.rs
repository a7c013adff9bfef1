//! Every state against every input, each rule at its edge, and what holds whatever happens.

use proptest::prelude::*;

use super::*;

fn rules() -> config::Outlier {
    let text = "[[listener]]\nbind = [\"127.0.0.1:1\"]\nservice = \"shop\"\n[service.shop]\ninstances = [\"10.0.0.1:80\"]";
    let config = config::parse(text).expect("the test's configuration is valid");
    config.services[0].outlier.clone().expect("it is on by default")
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn well(good: u64) -> Seen {
    Seen { able: true, good, ..Seen::default() }
}

fn failing(streak: u32) -> Seen {
    Seen { able: true, streak, bad: streak.into(), ..Seen::default() }
}

const GONE: Seen = Seen { able: false, streak: 0, good: 0, bad: 0 };

fn machine(instances: usize) -> Machine {
    let mut machine = Machine::new(at(0), &rules(), instances);
    machine.handle(at(0), Input::Look(vec![well(0); instances]));
    assert_eq!(outputs(&mut machine), []);
    machine
}

fn outputs(machine: &mut Machine) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn look(machine: &mut Machine, now: u64, seen: &[Seen]) -> Vec<Output> {
    machine.handle(at(now), Input::Look(seen.into()));
    outputs(machine)
}

fn eject(instance: usize, cause: Cause, until: u64) -> Output {
    Output::Eject { instance, cause, until: at(until) }
}

fn back(instance: usize, why: Why) -> Output {
    Output::Return { instance, why }
}

/// The first instance of three: not ejected, or ejected at 6 s, when a new machine has settled, until 16 s.
fn state(ejected: bool) -> Machine {
    let mut machine = machine(3);
    look(&mut machine, 6, &[if ejected { failing(5) } else { well(9) }, well(9), well(9)]);
    machine
}

#[test]
fn every_state_meets_every_input() {
    let fine = || Input::Look(vec![well(10); 3]);
    let bad = || Input::Look(vec![failing(5), well(10), well(10)]);
    let alone = || Input::Look(vec![well(10), GONE, GONE]);
    type Row = (bool, u64, Input, Vec<Output>, bool);
    let rows: Vec<Row> = vec![
        (false, 7, fine(), vec![], false),
        (false, 7, bad(), vec![eject(0, Cause::Failures(5), 17)], true),
        (false, 7, alone(), vec![], false),
        (false, 7, Input::WentDown(0), vec![], false),
        (false, 7, Input::CameUp(0), vec![], false),
        (false, 7, Input::Replaced(0), vec![], false),
        (true, 7, fine(), vec![], true),
        (true, 16, fine(), vec![back(0, Why::Over)], false),
        (true, 7, bad(), vec![], true),
        (true, 7, alone(), vec![back(0, Why::Panic)], false),
        (true, 7, Input::WentDown(0), vec![], true),
        (true, 7, Input::CameUp(0), vec![], true),
        (true, 7, Input::Replaced(0), vec![back(0, Why::Replaced)], false),
    ];
    for (ejected, now, input, expected, after) in rows {
        let mut machine = state(ejected);
        machine.handle(at(now), input.clone());
        assert_eq!(outputs(&mut machine), expected, "{ejected} {now} {input:?}");
        assert_eq!(machine.ejected(0).is_some(), after, "{ejected} {now} {input:?}");
    }
}

#[test]
fn one_bad_answer_too_few_ejects_nobody() {
    assert_eq!(look(&mut machine(3), 1, &[failing(4), well(1), well(1)]), []);
}

#[test]
fn ejections_last_longer_each_time_up_to_the_longest() {
    let mut machine = machine(3);
    let mut now = 10;
    let lengths: Vec<u64> = (0..40)
        .map(|_| {
            look(&mut machine, now, &[failing(5), well(1), well(1)]);
            let (_, until) = machine.ejected(0).unwrap();
            let length = until.since(at(now)).as_secs();
            now += length;
            assert_eq!(look(&mut machine, now, &[well(1), well(1), well(1)]), [back(0, Why::Over)]);
            length
        })
        .collect();
    assert_eq!(lengths[..4], [10, 20, 30, 40]);
    assert_eq!(lengths[28..], [290, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300]);
}

#[test]
fn an_ejection_is_forgotten_after_behaving_as_long_as_it_lasted() {
    let mut machine = machine(3);
    let fine = [well(1); 3];
    look(&mut machine, 10, &[failing(5), well(1), well(1)]);
    look(&mut machine, 20, &fine);
    look(&mut machine, 20, &[failing(5), well(1), well(1)]);
    look(&mut machine, 40, &fine);
    let ejections = |machine: &Machine| machine.memory(at(40), 0).ejections;
    assert_eq!(ejections(&machine), 2);
    look(&mut machine, 59, &fine);
    assert_eq!(ejections(&machine), 2);
    look(&mut machine, 60, &fine);
    assert_eq!(ejections(&machine), 1);
    look(&mut machine, 70, &fine);
    assert_eq!(ejections(&machine), 0);
}

#[test]
fn who_is_far_below_the_others_is_ejected_at_the_end_of_a_window() {
    let mut machine = machine(5);
    let bad = Seen { able: true, good: 80, bad: 20, streak: 0 };
    let seen = [well(100), well(100), bad, well(100), well(100)];
    assert_eq!(look(&mut machine, 9, &seen), []);
    let cause = Cause::Share { good: 800, mean: 960 };
    assert_eq!(look(&mut machine, 10, &seen), [eject(2, cause, 20)]);
    assert_eq!(cause.to_string(), "80 % good answers, others 96 %");
}

#[test]
fn shares_are_not_compared_between_few_instances_or_answers_or_over_a_small_gap() {
    let mixed = |good, bad| Seen { able: true, good, bad, streak: 0 };
    let cases = [
        ("four instances", vec![well(100), well(100), well(100), mixed(50, 50)]),
        ("99 answers", vec![well(100), well(100), well(100), well(100), mixed(50, 49)]),
        ("a gap of 4 %", vec![well(100), well(100), well(100), well(100), mixed(96, 4)]),
        ("all alike", vec![mixed(50, 50); 5]),
    ];
    for (name, seen) in cases {
        assert_eq!(look(&mut machine(seen.len()), 10, &seen), [], "{name}");
    }
}

#[test]
fn only_the_answers_of_the_window_are_compared() {
    let mut machine = machine(5);
    let early = Seen { able: true, good: 0, bad: 99, streak: 0 };
    look(&mut machine, 10, &[well(100), well(100), well(100), well(100), early]);
    let later = Seen { good: 100, ..early };
    let seen = [well(200), well(200), well(200), well(200), later];
    assert_eq!(look(&mut machine, 20, &seen), []);
}

#[test]
fn counts_from_before_the_first_look_are_no_part_of_the_window() {
    let mut machine = Machine::new(at(0), &rules(), 5);
    let old = Seen { able: true, good: 0, bad: 500, streak: 0 };
    look(&mut machine, 0, &[well(500), well(500), well(500), well(500), old]);
    let now = Seen { good: 100, ..old };
    assert_eq!(look(&mut machine, 10, &[well(600), well(600), well(600), well(600), now]), []);
}

#[test]
fn when_all_answer_badly_nobody_is_ejected() {
    for count in 1..12 {
        assert_eq!(look(&mut machine(count), 6, &vec![failing(5); count]), [], "{count}");
    }
}

#[test]
fn when_the_rest_begins_to_fail_too_who_is_ejected_returns() {
    let mut machine = state(true);
    let seen = [well(0), failing(3), failing(4)];
    assert_eq!(look(&mut machine, 8, &seen), [back(0, Why::Panic)]);
}

#[test]
fn the_only_instance_is_never_ejected_whatever_the_settings() {
    let rules = config::Outlier { share: 100, panic: 0, ..rules() };
    let mut machine = Machine::new(at(0), &rules, 1);
    assert_eq!(look(&mut machine, 6, &[failing(100)]), []);
    let mut machine = Machine::new(at(0), &rules, 2);
    assert_eq!(look(&mut machine, 6, &[failing(100), GONE]), []);
}

#[test]
fn who_comes_and_goes_is_held_longer_each_time_and_a_calm_one_is_not() {
    let mut machine = machine(3);
    let mut held = Vec::new();
    for round in 0..7 {
        machine.handle(at(10 + round), Input::WentDown(0));
        machine.handle(at(10 + round), Input::CameUp(0));
        held.extend(outputs(&mut machine));
    }
    assert_eq!(held, [eject(0, Cause::Flaps(6), 25)]);
    assert_eq!(look(&mut machine, 25, &[well(0); 3]), [back(0, Why::Over)]);
    machine.handle(at(26), Input::WentDown(0));
    machine.handle(at(26), Input::CameUp(0));
    assert_eq!(outputs(&mut machine), [eject(0, Cause::Flaps(6), 46)]);
    for round in 0..7 {
        machine.handle(at(100 + 61 * round), Input::WentDown(1));
        machine.handle(at(100 + 61 * round), Input::CameUp(1));
        assert_eq!(outputs(&mut machine), []);
    }
}

#[test]
fn what_is_switched_off_ejects_nobody() {
    let rules = config::Outlier { failures: None, deviation: None, flaps: None, ..rules() };
    let mut machine = Machine::new(at(0), &rules, 5);
    look(&mut machine, 0, &[well(0); 5]);
    for round in 0..10 {
        machine.handle(at(round), Input::WentDown(1));
        machine.handle(at(round), Input::CameUp(1));
    }
    let bad = Seen { able: true, good: 0, bad: 1000, streak: 1000 };
    assert_eq!(look(&mut machine, 10, &[well(1000), well(1000), well(1000), well(1000), bad]), []);
}

#[test]
fn the_next_machine_knows_and_gives_probes_time_before_it_panics() {
    let old = state(true);
    let mut new = Machine::new(at(0), &rules(), 3);
    new.restore(at(0), 0, old.memory(at(10), 0));
    assert_eq!(new.ejected(0), Some((Cause::Failures(5), at(6))));
    assert_eq!(look(&mut new, 0, &[GONE; 3]), []);
    assert_eq!(look(&mut new, 1, &[well(0), GONE, GONE]), []);
    assert_eq!(new.next_wakeup(), at(5));
    assert_eq!(look(&mut new, 5, &[well(0), GONE, GONE]), [back(0, Why::Panic)]);
}

#[test]
fn it_wakes_for_the_window_and_for_the_end_of_an_ejection() {
    let mut machine = state(false);
    assert_eq!(machine.next_wakeup(), at(10));
    look(&mut machine, 10, &[well(1); 3]);
    look(&mut machine, 12, &[failing(5), well(1), well(1)]);
    assert_eq!(machine.next_wakeup(), at(20));
    look(&mut machine, 20, &[well(1); 3]);
    assert_eq!(machine.next_wakeup(), at(22));
}

#[derive(Clone, Debug)]
enum Event {
    Look(Vec<(bool, u32, u64, u64)>),
    WentDown(usize),
    CameUp(usize),
    Replaced(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let seen = (any::<bool>(), 0u32..8, 0u64..300, 0u64..300);
    prop_oneof![
        4 => prop::collection::vec(seen, 12).prop_map(Event::Look),
        1 => (0usize..12).prop_map(Event::WentDown),
        1 => (0usize..12).prop_map(Event::CameUp),
        1 => (0usize..12).prop_map(Event::Replaced),
    ]
}

proptest! {
    /// Whatever happens: the share is kept, one stays when somebody is ejected, times only grow until they are
    /// forgotten, outputs and state agree, and it is never asked to wake in the past.
    #[test]
    fn the_bounds_hold_whatever_happens(
        count in 1usize..12,
        share in 0u32..=100,
        panic in 0u32..=100,
        events in prop::collection::vec((0u64..20_000, event()), 1..60),
    ) {
        let rules = config::Outlier { share, panic, requests: 1, flaps: Some(2), ..rules() };
        let mut machine = Machine::new(at(0), &rules, count);
        let (mut now, mut totals, mut ejected) = (at(0), vec![(0, 0); count], vec![false; count]);
        for (pause, event) in events {
            now = now + Duration::from_millis(pause);
            let before: Vec<u32> = (0..count).map(|one| machine.memory(now, one).ejections).collect();
            let input = match event {
                Event::Look(seen) => Input::Look(seen.iter().zip(&mut totals).map(|(seen, total)| {
                    *total = (total.0 + seen.2, total.1 + seen.3);
                    Seen { able: seen.0, streak: seen.1, good: total.0, bad: total.1 }
                }).collect()),
                Event::WentDown(one) => Input::WentDown(one % count),
                Event::CameUp(one) => Input::CameUp(one % count),
                Event::Replaced(one) => Input::Replaced(one % count),
            };
            let is_look = matches!(input, Input::Look(_));
            machine.handle(now, input);
            for output in outputs(&mut machine) {
                match output {
                    Output::Eject { instance, until, .. } => {
                        prop_assert!(!std::mem::replace(&mut ejected[instance], true));
                        let left = (0..count).filter(|&one| !ejected[one]).count();
                        prop_assert!(left >= 1);
                        prop_assert!(ejected.iter().filter(|one| **one).count() * 100 <= share as usize * count);
                        prop_assert!(until.since(now) <= rules.longest && until > now);
                        let memory = machine.memory(now, instance);
                        prop_assert!(memory.ejections >= 1 && memory.ejections <= before[instance] + 1);
                        prop_assert_eq!(until.since(now), length(&rules, memory.ejections));
                    }
                    Output::Return { instance, .. } => {
                        prop_assert!(std::mem::replace(&mut ejected[instance], false));
                    }
                }
            }
            for (one, was) in ejected.iter().enumerate() {
                prop_assert_eq!(machine.ejected(one).is_some(), *was);
            }
            prop_assert!(!is_look || machine.next_wakeup() > now);
        }
    }
}
