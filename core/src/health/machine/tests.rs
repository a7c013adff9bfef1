//! The whole table, the schedule beside it, and stories of whole lives.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::config::{Check, Health};

const START: Time = Time::from_millis(60_000);

fn health(interval_ms: u64, rise: u32, fall: u32) -> Health {
    let interval = Duration::from_millis(interval_ms);
    Health { check: Check::Tcp, interval, timeout: interval / 2, rise, fall }
}

/// rise 2, fall 3, joins after 2, every second.
fn machine(initial: Verdict) -> Machine {
    Machine::new(START, &health(1000, 2, 3), 2, initial, 1)
}

fn outputs(machine: &mut Machine) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

/// Wakes the machine when it wants to be, lets the probe take 1 ms, and returns what came of it.
fn probe(machine: &mut Machine, outcome: Outcome) -> (Time, Vec<Output>) {
    let due = machine.next_wakeup().expect("it waits");
    machine.handle(due, Input::Wakeup);
    assert_eq!(outputs(machine), [Output::Probe]);
    machine.handle(due + Duration::from_millis(1), Input::Probed(outcome));
    (due, outputs(machine))
}

fn failed() -> Outcome {
    Outcome::Failed(Reason::ProbeTimeout)
}

fn down(reason: Reason) -> Vec<Output> {
    vec![Output::Verdict(Verdict::Down(reason))]
}

#[test]
fn every_belief_answers_every_news_as_the_table_says() {
    let beliefs = [
        Belief::Unknown { passes: 0, fails: 0 },
        Belief::Unknown { passes: 1, fails: 0 },
        Belief::Unknown { passes: 0, fails: 2 },
        Belief::Up { fails: 0, unreached: false },
        Belief::Up { fails: 1, unreached: true },
        Belief::Up { fails: 2, unreached: false },
        Belief::Down { passes: 0, fails: 0 },
        Belief::Down { passes: 1, fails: 4 },
    ];
    let news =
        [News::Passed, News::Failed, News::Refused, News::RequestRefused, News::Unreached, News::Exited];
    let short = |belief| match belief {
        Belief::Unknown { passes, fails } => format!("unknown +{passes} -{fails}"),
        Belief::Up { fails, unreached: false } => format!("up -{fails}"),
        Belief::Up { fails, unreached: true } => format!("up -{fails} unreached"),
        Belief::Down { passes, fails } => format!("down +{passes} -{fails}"),
    };
    let rules = Rules { rise: 2, fall: 3, joins_after: 2 };
    let mut table = String::new();
    for belief in beliefs {
        for news in news {
            let (after, next) = rules.step(belief, news);
            let news = format!("{news:?}");
            writeln!(table, "{:16} {news:14} -> {:16} {next:?}", short(belief), short(after)).unwrap();
        }
    }
    assert_eq!(table, EVERY_STEP);
}

/// rise 2, fall 3, joins after 2.
const EVERY_STEP: &str = r#"unknown +0 -0    Passed         -> unknown +1 -0    Scheduled
unknown +0 -0    Failed         -> unknown +0 -1    Scheduled
unknown +0 -0    Refused        -> down +0 -0       Scheduled
unknown +0 -0    RequestRefused -> down +0 -0       AtOnce
unknown +0 -0    Unreached      -> unknown +0 -0    Unchanged
unknown +0 -0    Exited         -> down +0 -0       Afresh
unknown +1 -0    Passed         -> up -0            Scheduled
unknown +1 -0    Failed         -> unknown +0 -1    Scheduled
unknown +1 -0    Refused        -> down +0 -0       Scheduled
unknown +1 -0    RequestRefused -> down +0 -0       AtOnce
unknown +1 -0    Unreached      -> unknown +1 -0    Unchanged
unknown +1 -0    Exited         -> down +0 -0       Afresh
unknown +0 -2    Passed         -> unknown +1 -0    Scheduled
unknown +0 -2    Failed         -> down +0 -0       Scheduled
unknown +0 -2    Refused        -> down +0 -0       Scheduled
unknown +0 -2    RequestRefused -> down +0 -0       AtOnce
unknown +0 -2    Unreached      -> unknown +0 -2    Unchanged
unknown +0 -2    Exited         -> down +0 -0       Afresh
up -0            Passed         -> up -0            Scheduled
up -0            Failed         -> up -1            Scheduled
up -0            Refused        -> down +0 -0       Scheduled
up -0            RequestRefused -> down +0 -0       AtOnce
up -0            Unreached      -> up -1 unreached  UnlessProbing
up -0            Exited         -> down +0 -0       Afresh
up -1 unreached  Passed         -> up -0            Scheduled
up -1 unreached  Failed         -> up -2            Scheduled
up -1 unreached  Refused        -> down +0 -0       Scheduled
up -1 unreached  RequestRefused -> down +0 -0       AtOnce
up -1 unreached  Unreached      -> up -1 unreached  Unchanged
up -1 unreached  Exited         -> down +0 -0       Afresh
up -2            Passed         -> up -0            Scheduled
up -2            Failed         -> down +0 -0       Scheduled
up -2            Refused        -> down +0 -0       Scheduled
up -2            RequestRefused -> down +0 -0       AtOnce
up -2            Unreached      -> down +0 -0       UnlessProbing
up -2            Exited         -> down +0 -0       Afresh
down +0 -0       Passed         -> down +1 -0       Scheduled
down +0 -0       Failed         -> down +0 -1       Scheduled
down +0 -0       Refused        -> down +0 -1       Scheduled
down +0 -0       RequestRefused -> down +0 -0       Unchanged
down +0 -0       Unreached      -> down +0 -0       Unchanged
down +0 -0       Exited         -> down +0 -0       Afresh
down +1 -4       Passed         -> up -0            Scheduled
down +1 -4       Failed         -> down +0 -5       Scheduled
down +1 -4       Refused        -> down +0 -5       Scheduled
down +1 -4       RequestRefused -> down +0 -4       Unchanged
down +1 -4       Unreached      -> down +1 -4       Unchanged
down +1 -4       Exited         -> down +0 -0       Afresh
"#;

#[test]
fn every_schedule_answers_every_input_as_the_table_says() {
    type Case = (&'static str, fn() -> Input, u64);
    let inputs: [Case; 9] = [
        ("wakeup, early", || Input::Wakeup, 10),
        ("wakeup, due", || Input::Wakeup, 5000),
        ("passed", || Input::Probed(Outcome::Passed), 10),
        ("failed", || Input::Probed(failed()), 10),
        ("refused", || Input::Probed(Outcome::Failed(Reason::ConnectRefused)), 10),
        ("inconclusive", || Input::Probed(Outcome::Inconclusive), 10),
        ("request refused", || Input::ConnectFailed(Reason::ConnectRefused), 10),
        ("unreached", || Input::ConnectFailed(Reason::ConnectFailed("timed out".into())), 10),
        ("exited", || Input::Exited("killed by signal 9".into()), 10),
    ];
    let mut table = String::new();
    for initial in [Verdict::Unknown, Verdict::Up, Verdict::Down(Reason::ProbeTimeout)] {
        for probing in [false, true] {
            for (name, input, after_ms) in inputs {
                let mut machine = machine(initial.clone());
                probe(&mut machine, Outcome::Inconclusive);
                let mut now = machine.next_wakeup().unwrap() - Duration::from_millis(40);
                if probing {
                    now = machine.next_wakeup().unwrap();
                    machine.handle(now, Input::Wakeup);
                    outputs(&mut machine);
                }
                let now = now + Duration::from_millis(after_ms);
                machine.handle(now, input());
                let state = if probing { "probing" } else { "waiting" };
                let belief = format!("{initial:?}").chars().take_while(|c| *c != '(').collect::<String>();
                let wait = match machine.next_wakeup() {
                    None => "probing".to_owned(),
                    // Jitter aside: to the nearest of the waits there are.
                    Some(due) => match due.since(now).as_millis() {
                        0..=60 => "soon".to_owned(),
                        61..=250 => "in doubt".to_owned(),
                        251..=500 => "doubled".to_owned(),
                        501.. => "settled".to_owned(),
                    },
                };
                let outputs = outputs(&mut machine);
                writeln!(table, "{belief:7} {state} {name:15} -> {wait:8} {outputs:?}").unwrap();
            }
        }
    }
    assert_eq!(table, EVERY_INPUT);
}

const EVERY_INPUT: &str = r#"Unknown waiting wakeup, early   -> soon     []
Unknown waiting wakeup, due     -> probing  [Probe]
Unknown waiting passed          -> soon     []
Unknown waiting failed          -> soon     []
Unknown waiting refused         -> soon     []
Unknown waiting inconclusive    -> soon     []
Unknown waiting request refused -> probing  [Verdict(Down(ConnectRefused)), Probe]
Unknown waiting unreached       -> soon     []
Unknown waiting exited          -> in doubt [Verdict(Down(Exited("killed by signal 9")))]
Unknown probing wakeup, early   -> probing  []
Unknown probing wakeup, due     -> probing  []
Unknown probing passed          -> in doubt []
Unknown probing failed          -> in doubt []
Unknown probing refused         -> in doubt [Verdict(Down(ConnectRefused))]
Unknown probing inconclusive    -> soon     []
Unknown probing request refused -> probing  [Verdict(Down(ConnectRefused)), Probe]
Unknown probing unreached       -> probing  []
Unknown probing exited          -> in doubt [Verdict(Down(Exited("killed by signal 9")))]
Up      waiting wakeup, early   -> soon     []
Up      waiting wakeup, due     -> probing  [Probe]
Up      waiting passed          -> soon     []
Up      waiting failed          -> soon     []
Up      waiting refused         -> soon     []
Up      waiting inconclusive    -> soon     []
Up      waiting request refused -> probing  [Verdict(Down(ConnectRefused)), Probe]
Up      waiting unreached       -> probing  [Probe]
Up      waiting exited          -> in doubt [Verdict(Down(Exited("killed by signal 9")))]
Up      probing wakeup, early   -> probing  []
Up      probing wakeup, due     -> probing  []
Up      probing passed          -> settled  []
Up      probing failed          -> in doubt []
Up      probing refused         -> in doubt [Verdict(Down(ConnectRefused))]
Up      probing inconclusive    -> soon     []
Up      probing request refused -> probing  [Verdict(Down(ConnectRefused)), Probe]
Up      probing unreached       -> probing  []
Up      probing exited          -> in doubt [Verdict(Down(Exited("killed by signal 9")))]
Down    waiting wakeup, early   -> soon     []
Down    waiting wakeup, due     -> probing  [Probe]
Down    waiting passed          -> soon     []
Down    waiting failed          -> soon     []
Down    waiting refused         -> soon     []
Down    waiting inconclusive    -> soon     []
Down    waiting request refused -> soon     []
Down    waiting unreached       -> soon     []
Down    waiting exited          -> in doubt [Verdict(Down(Exited("killed by signal 9")))]
Down    probing wakeup, early   -> probing  []
Down    probing wakeup, due     -> probing  []
Down    probing passed          -> in doubt []
Down    probing failed          -> doubled  []
Down    probing refused         -> doubled  [Verdict(Down(ConnectRefused))]
Down    probing inconclusive    -> soon     []
Down    probing request refused -> probing  []
Down    probing unreached       -> probing  []
Down    probing exited          -> in doubt [Verdict(Down(Exited("killed by signal 9")))]
"#;

#[test]
fn a_new_instance_joins_after_its_good_checks_and_no_sooner() {
    let mut machine = Machine::new(START, &health(1000, 2, 3), 3, Verdict::Unknown, 1);
    assert_eq!(machine.next_wakeup(), Some(START), "the first probe is at once");
    assert_eq!(probe(&mut machine, Outcome::Passed).1, []);
    assert_eq!(probe(&mut machine, Outcome::Passed).1, []);
    let (joined, outputs) = probe(&mut machine, Outcome::Passed);
    assert_eq!(outputs, [Output::Verdict(Verdict::Up)]);
    assert!(
        joined.since(START) <= Duration::from_millis(500),
        "doubt probes come at a quarter of the interval"
    );
}

#[test]
fn a_failure_among_passes_starts_the_count_anew() {
    let mut machine = machine(Verdict::Down(Reason::ProbeTimeout));
    probe(&mut machine, Outcome::Passed);
    assert_eq!(probe(&mut machine, failed()).1, []);
    assert_eq!(probe(&mut machine, Outcome::Passed).1, []);
    assert_eq!(probe(&mut machine, Outcome::Passed).1, [Output::Verdict(Verdict::Up)]);
}

#[test]
fn a_pass_among_failures_starts_the_count_anew() {
    let mut machine = machine(Verdict::Up);
    for outcome in [failed(), failed(), Outcome::Passed, failed(), failed()] {
        assert_eq!(probe(&mut machine, outcome).1, []);
    }
    assert_eq!(probe(&mut machine, failed()).1, down(Reason::ProbeTimeout));
}

#[test]
fn a_refused_request_means_down_at_once_and_a_probe_at_once() {
    let mut machine = machine(Verdict::Up);
    probe(&mut machine, Outcome::Passed);
    let now = START + Duration::from_millis(300);
    machine.handle(now, Input::ConnectFailed(Reason::ConnectRefused));
    let verdict = Output::Verdict(Verdict::Down(Reason::ConnectRefused));
    assert_eq!(outputs(&mut machine), [verdict, Output::Probe]);
    // A thousand more of them say nothing new.
    (0..1000).for_each(|_| machine.handle(now, Input::ConnectFailed(Reason::ConnectRefused)));
    assert_eq!(outputs(&mut machine), []);
    assert_eq!(machine.next_wakeup(), None, "the probe is still owed");
}

#[test]
fn many_requests_that_time_out_together_count_as_one_failure() {
    let mut machine = machine(Verdict::Up);
    probe(&mut machine, Outcome::Passed);
    let now = START + Duration::from_millis(300);
    let timed_out = || Input::ConnectFailed(Reason::ConnectFailed("timed out".into()));
    (0..1000).for_each(|_| machine.handle(now, timed_out()));
    assert_eq!(outputs(&mut machine), [Output::Probe], "and a probe looks at once");
    machine.handle(now, Input::Probed(failed()));
    assert_eq!(outputs(&mut machine), []);
    assert_eq!(probe(&mut machine, failed()).1, down(Reason::ProbeTimeout), "1 + 2 = fall");
}

#[test]
fn the_outcome_of_a_replaced_probe_is_worth_nothing() {
    let mut machine = Machine::new(START, &health(1000, 1, 3), 1, Verdict::Up, 1);
    machine.handle(START, Input::Wakeup);
    machine.handle(START, Input::Exited("killed by signal 9".into()));
    outputs(&mut machine);
    machine.handle(START, Input::Probed(Outcome::Passed));
    assert_eq!(outputs(&mut machine), []);
    assert_eq!(machine.verdict(), &Verdict::Down(Reason::Exited("killed by signal 9".into())));
}

#[test]
fn how_it_ended_says_more_than_that_it_refuses_and_less_than_what_it_answers() {
    let mut machine = machine(Verdict::Up);
    machine.handle(START, Input::Exited("exited with code 1".into()));
    assert_eq!(outputs(&mut machine), down(Reason::Exited("exited with code 1".into())));
    assert_eq!(probe(&mut machine, Outcome::Failed(Reason::ConnectRefused)).1, []);
    assert_eq!(
        probe(&mut machine, Outcome::Failed(Reason::ProbeStatus(500))).1,
        down(Reason::ProbeStatus(500))
    );
}

#[test]
fn probes_of_a_dead_instance_come_quickly_first_and_settle_at_the_interval() {
    let mut machine = machine(Verdict::Up);
    machine.handle(START, Input::Exited("killed by signal 9".into()));
    outputs(&mut machine);
    let starts: Vec<_> =
        (0..6).map(|_| probe(&mut machine, Outcome::Failed(Reason::ConnectRefused)).0).collect();
    let waits: Vec<_> = starts.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    for (wait, nominal) in waits.iter().zip([500, 1000, 1000, 1000, 1000]) {
        assert!((nominal * 7 / 8..=nominal).contains(wait), "{waits:?}");
    }
}

#[test]
fn an_inconclusive_probe_is_repeated_and_not_counted() {
    let mut machine = machine(Verdict::Up);
    for _ in 0..20 {
        let (due, outputs) = probe(&mut machine, Outcome::Inconclusive);
        assert_eq!(outputs, []);
        assert_eq!(machine.next_wakeup(), Some(due + Duration::from_millis(1) + SOON));
    }
    assert_eq!(machine.verdict(), &Verdict::Up);
}

#[test]
fn machines_with_different_seeds_drift_apart_and_the_same_seed_repeats() {
    let due = |seed| {
        let mut machine = Machine::new(START, &health(1000, 2, 3), 1, Verdict::Up, seed);
        (0..5).for_each(|_| drop(probe(&mut machine, Outcome::Passed)));
        machine.next_wakeup().unwrap()
    };
    assert_eq!(due(1), due(1));
    let mut all: Vec<_> = (0..50).map(due).collect();
    all.sort();
    assert!(all[49].since(all[0]) > Duration::from_millis(100), "spread over the interval");
}

fn any_input() -> impl Strategy<Value = Input> {
    let reason = prop_oneof![
        Just(Reason::ConnectRefused),
        Just(Reason::ConnectFailed("timed out".into())),
        Just(Reason::ProbeTimeout),
        Just(Reason::ProbeStatus(503)),
    ];
    prop_oneof![
        4 => Just(Input::Wakeup),
        4 => Just(Input::Probed(Outcome::Passed)),
        2 => reason.clone().prop_map(|reason| Input::Probed(Outcome::Failed(reason))),
        1 => Just(Input::Probed(Outcome::Inconclusive)),
        1 => reason.prop_map(Input::ConnectFailed),
        1 => Just(Input::Exited("exited with code 0".into())),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_the_machine_keeps_its_word(
        steps in prop::collection::vec((any_input(), 0..2000_u64), 0..200),
        interval_ms in 1..5000_u64, rise in 1..5_u32, fall in 1..5_u32, joins_after in 1..5_u32, seed: u64,
    ) {
        let health = health(interval_ms, rise, fall);
        let mut machine = Machine::new(START, &health, joins_after, Verdict::Unknown, seed);
        let (mut now, mut told, mut passes) = (START, Verdict::Unknown, 0_u32);
        for (input, later_ms) in steps {
            now = now + Duration::from_millis(later_ms);
            let probing = machine.next_wakeup().is_none();
            match &input {
                Input::Probed(Outcome::Passed) if probing => passes += 1,
                Input::Probed(Outcome::Failed(_)) if probing => passes = 0,
                Input::ConnectFailed(Reason::ConnectRefused) | Input::Exited(_) => passes = 0,
                _ => {}
            }
            machine.handle(now, input);
            for output in outputs(&mut machine) {
                let Output::Verdict(verdict) = output else { continue };
                prop_assert_ne!(&verdict, &told, "only changes are told");
                if verdict == Verdict::Up {
                    let needed = if told == Verdict::Unknown { joins_after } else { rise };
                    prop_assert!(passes >= needed, "up after {passes} of {needed} passes");
                }
                prop_assert_ne!(&verdict, &Verdict::Unknown, "what is known stays known");
                told = verdict;
            }
            prop_assert_eq!(&told, machine.verdict());
            let longest = health.interval.max(SOON);
            prop_assert!(machine.next_wakeup().is_none_or(|due| due <= now + longest), "it never falls asleep");
        }
    }
}
