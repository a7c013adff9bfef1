//! What is noted when what is known of instances changes; the tests change it.

use std::time::Duration;

use everup_core::health::{Reason, Verdict};
use everup_core::instance::LastExit;
use everup_core::instance::Phase;
use everup_core::keeper::ExitStatus;
use everup_core::time::Time;
use everup_instance::Change;

use super::*;
use crate::controller::tests::services;

fn wall(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// `shop` has two fixed instances, `api` two that everup runs.
fn stage() -> (Vec<Service>, Journal) {
    let services = services();
    let journal = Journal::new(&services, Generation(1), 0, wall(1000));
    (services, journal)
}

fn process(instance: &mut Instance, phase: Phase, restarts: u32, last_exit: Option<LastExit>) {
    instance.process = Some(Change {
        id: instance.id.clone(),
        phase,
        pid: Some(7),
        port: Some(20000),
        revision: "v1".into(),
        restarts,
        crash_loop: false,
        last_exit,
        since: Time::ZERO,
    });
}

/// Looks again, and gives what is new as `instance kind text`.
fn told(journal: &mut Journal, services: &[Service]) -> Vec<String> {
    let before = journal.last;
    journal.look(wall(1001), Generation(2), services);
    let line = |event: &Event| {
        let kind = serde_json::to_value(event.kind).unwrap();
        format!("{} {} {}", event.instance.as_deref().unwrap(), kind.as_str().unwrap(), event.text)
    };
    journal.after(before).events.iter().map(line).collect()
}

#[test]
fn the_first_event_is_that_everup_serves() {
    let (_, journal) = stage();
    let Events { last, events } = journal.after(0);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.kind, event.number), (EventKind::WorkerStarted, last));
    assert_eq!(event.time, "1970-01-01T00:16:40.000Z");
}

#[test]
fn a_worker_that_took_the_place_of_another_says_so_with_higher_numbers() {
    let (services, first) = stage();
    let second = Journal::new(&services, Generation(9), 2, wall(1001));
    let events = second.after(first.last).events;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, EventKind::WorkerReplaced);
    assert!(events[0].text.contains("2 times by now"), "{}", events[0].text);
}

#[test]
fn an_instance_that_fails_and_returns_is_told_twice_with_the_reason() {
    let (mut services, mut journal) = stage();
    services[0].instances[1].verdict = Verdict::Down(Reason::ConnectRefused);
    let reason = Reason::ConnectRefused.to_string();
    assert_eq!(told(&mut journal, &services), [format!("10.0.0.2:9001 down down: {reason}")]);
    assert_eq!(told(&mut journal, &services), [""; 0], "nothing changed since");
    services[0].instances[1].verdict = Verdict::Up;
    assert_eq!(told(&mut journal, &services), ["10.0.0.2:9001 up up"]);
    assert_eq!(journal.after(0).events.last().unwrap().table, 2);
}

#[test]
fn a_drain_and_its_end_are_told() {
    let (mut services, mut journal) = stage();
    services[0].instances[0].verdict = Verdict::Up;
    told(&mut journal, &services);
    services[0].instances[0].draining = true;
    assert_eq!(told(&mut journal, &services), ["10.0.0.1:9001 drained drained: nothing is in flight"]);
    services[0].instances[0].draining = false;
    assert_eq!(told(&mut journal, &services), ["10.0.0.1:9001 up up: drained no more"]);
}

#[test]
fn another_weight_is_told() {
    let (mut services, mut journal) = stage();
    services[0].instances[1].weighed = Some(1);
    assert_eq!(told(&mut journal, &services), ["10.0.0.2:9001 weighed has weight 1 instead of 3"]);
}

#[test]
fn a_process_that_died_and_was_started_at_once_is_one_event() {
    let (mut services, mut journal) = stage();
    let instance = &mut services[1].instances[0];
    process(instance, Phase::Running, 0, None);
    instance.verdict = Verdict::Up;
    assert_eq!(told(&mut journal, &services), ["api-1 up up"]);
    let exit = LastExit::Exited(ExitStatus::Signal(9));
    process(&mut services[1].instances[0], Phase::Starting, 1, Some(exit.clone()));
    services[1].instances[0].verdict = Verdict::Unknown;
    assert_eq!(told(&mut journal, &services), [format!("api-1 restarted {exit}; started again")]);
}

#[test]
fn how_a_process_ended_that_waits_for_its_start_is_told_once() {
    let (mut services, mut journal) = stage();
    process(&mut services[1].instances[0], Phase::Running, 0, None);
    told(&mut journal, &services);
    let exit = LastExit::Exited(ExitStatus::Code(1));
    process(&mut services[1].instances[0], Phase::Backoff, 0, Some(exit.clone()));
    let waits = format!("api-1 backoff {exit}; waits before it is started again");
    assert_eq!(told(&mut journal, &services), [waits]);
    process(&mut services[1].instances[0], Phase::Starting, 1, Some(exit));
    assert_eq!(told(&mut journal, &services), ["api-1 restarted started again"]);
}

#[test]
fn only_so_many_events_are_remembered() {
    let (_, mut journal) = stage();
    for n in 0..REMEMBERED {
        journal.of_everup(wall(1001), EventKind::Stopping, n.to_string());
    }
    let Events { last, events } = journal.after(0);
    assert_eq!((events.len(), events[0].text.as_str()), (REMEMBERED, "0"));
    assert!(events.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    assert_eq!(journal.after(last - 1).events.len(), 1);
    assert_eq!(journal.after(last).events, []);
    assert_eq!(journal.after(last + 1).events.len(), REMEMBERED, "a number from another clock");
}
