//! How the data plane counts answers, when it says that an instance fails, and what it does with one that is ejected.

use everup_gateway::Availability::{Down, Draining, Ejected, Takes};
use everup_gateway::{GatewayEvent, InstanceShared};

use crate::stage::{Origin, Stage, before, until};
use crate::wire::{get, ok};

fn status(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// Answers with the status that the path names.
fn obedient() -> Origin {
    Origin::answering(|request| {
        let path = request.start.split(' ').nth(1).unwrap().trim_start_matches('/');
        path.parse().map_or_else(|_| ok("fine"), status)
    })
}

fn counted(shared: &InstanceShared) -> (u64, u64, u64, u32) {
    (shared.good(), shared.errors(), shared.broken(), shared.streak())
}

fn is_failing(stage: &mut Stage) -> bool {
    match stage.next_event() {
        Some(GatewayEvent::Failing { .. }) => true,
        Some(GatewayEvent::ConnectFailed { .. } | GatewayEvent::ThreadEnded) | None => false,
    }
}

#[test]
fn answers_are_counted_by_kind_and_bad_ones_in_a_row() {
    let origin = obedient();
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    let steps = [
        ("/200", (1, 0, 0, 0)),
        ("/500", (1, 1, 0, 1)),
        ("/503", (1, 2, 0, 2)),
        ("/501", (1, 2, 0, 2)),
        ("/505", (1, 2, 0, 2)),
        ("/404", (2, 2, 0, 0)),
        ("/599", (2, 3, 0, 1)),
    ];
    for (path, expected) in steps {
        client.get(path);
        until(path, || counted(&stage.instances[0]) == expected);
    }
}

#[test]
fn so_many_bad_answers_in_a_row_are_told_and_every_multiple_again() {
    let origin = obedient();
    let mut stage = before([&origin]).service("outlier = { failures = 3 }").start();
    let mut client = stage.connect();
    for round in 1..=9 {
        client.get("/500");
        until("counted", || stage.instances[0].streak() == round);
        until("told or not", || round % 3 != 0 || is_failing(&mut stage));
        assert!(stage.next_event().is_none(), "{round}");
    }
    stage.instances[0].forgive();
    client.get("/500");
    assert!(stage.next_event().is_none());
}

#[test]
fn a_lost_connection_is_a_bad_answer_and_a_slow_upload_is_not() {
    let origin = Origin::start(|visit| {
        visit.head();
    });
    let stage = before([&origin]).http_only().service("retry = { attempts = 1 }").start();
    let mut client = stage.connect();
    client.send(get("/"));
    assert_eq!(client.answer().status(), 502);
    assert_eq!(counted(&stage.instances[0]), (0, 0, 1, 1));
    let mut client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(client.answer().status(), 502);
    assert_eq!(counted(&stage.instances[0]), (0, 0, 1, 1));
}

#[test]
fn an_ejected_instance_gets_requests_only_while_no_other_takes_any() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut stage = before([&a, &b]).states(&[Ejected, Takes]).start();
    let mut client = stage.connect();
    let mut answers = |stage: &mut Stage, states: &[_]| {
        stage.publish(states);
        (0..4).map(|_| client.get("/").text()).collect::<Vec<_>>()
    };
    assert_eq!(answers(&mut stage, &[Ejected, Takes]), ["b"; 4]);
    assert_eq!(answers(&mut stage, &[Ejected, Down]), ["a"; 4]);
    assert_eq!(answers(&mut stage, &[Ejected, Draining]), ["a"; 4]);
    assert!(answers(&mut stage, &[Ejected, Ejected]).contains(&"a".to_owned()));
    assert_eq!(answers(&mut stage, &[Takes, Ejected]), ["a"; 4]);
}

#[test]
fn a_request_that_an_ejected_instance_has_is_left_to_it() {
    let gate = crate::stage::Gate::default();
    let held = gate.clone();
    let slow = Origin::answering(move |_| {
        held.pass();
        ok("slow")
    });
    let other = Origin::named("other");
    let mut stage = before([&slow, &other]).states(&[Takes, Down]).start();
    let mut client = stage.connect();
    client.send(get("/"));
    until("it has arrived", || slow.count() == 1);
    stage.publish(&[Ejected, Takes]);
    gate.open();
    assert_eq!(client.answer().text(), "slow");
    assert_eq!(other.count(), 0);
}
