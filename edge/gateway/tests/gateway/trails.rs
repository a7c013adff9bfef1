//! What is remembered of requests that went uncommon ways, verdict by verdict.

use std::time::Duration;

use everup_core::exchange::Failure;
use everup_gateway::Availability::{Down, Takes};
use everup_gateway::{Tale, Verdict, What};

use crate::stage::{Gate, Origin, Stage, before, until};
use crate::wire::Wire;

fn get(id: &str) -> String {
    format!("GET /path?query HTTP/1.1\r\nHost: app\r\nX-Request-Id: {id}\r\n\r\n")
}

/// What is remembered of this request, as soon as something is.
fn tale(stage: &Stage, id: &str) -> Tale {
    until("it is remembered", || !stage.gateway().recall(id).is_empty());
    let mut tales = stage.gateway().recall(id);
    assert_eq!(tales.len(), 1);
    let tale = tales.remove(0);
    assert_eq!((&*tale.method, &*tale.host, &*tale.path, &*tale.service), ("GET", "app", "/path", "app"));
    tale
}

fn ask(client: &mut Wire, id: &str) -> u16 {
    client.send(get(id));
    client.answer().status()
}

#[test]
fn an_answer_at_once_is_not_remembered() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    assert_eq!(ask(&mut client, "one"), 200);
    // The connection's next request comes after the first one was told.
    assert_eq!(ask(&mut client, "two"), 200);
    assert_eq!(stage.gateway().recall("one"), []);
    until("both are counted", || stage.service.statuses.cells().map(|cell| cell.value(2)).sum::<u64>() == 2);
}

#[test]
fn a_retried_request_names_both_instances_and_what_the_first_did() {
    let (refusing, fine) = (Origin::refusing(), Origin::named("fine"));
    let stage = before([&refusing, &fine]).service("balance = \"round-robin\"").start();
    let mut client = stage.connect();
    let met = (0..4).map(|number| {
        assert_eq!(ask(&mut client, &format!("r{number}")), 200);
        assert_eq!(ask(&mut client, "next"), 200);
        stage.gateway().recall(&format!("r{number}"))
    });
    let tale = met.flatten().next().or_else(|| stage.gateway().recall("next").pop()).unwrap();
    assert_eq!((tale.verdict, tale.status, tale.attempts), (Verdict::Retried, 200, 2));
    assert_eq!(tale.instance, Some(fine.address.to_string()));
    let [first, second] = &tale.events[..] else { panic!("{tale:?}") };
    let expected = What::Failed {
        instance: refusing.address.to_string().into(),
        failure: Failure::ConnectRefused,
        written: false,
        answered: false,
    };
    assert_eq!((&first.what, first.attempt, first.generation.0), (&expected, 1, 1));
    let expected = What::Answered { instance: fine.address.to_string().into(), status: 200 };
    assert_eq!((&second.what, second.attempt), (&expected, 2));
    assert!(second.at >= first.at + first.lasted, "{tale:?}");
}

#[test]
fn a_parked_request_tells_how_long_it_waited_and_by_which_table_it_went() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).states(&[Down]).start();
    let mut client = stage.connect();
    client.send(get("p"));
    until("it is parked", || stage.service.parked.total() == 1);
    stage.publish(&[Takes]);
    assert_eq!(client.answer().status(), 200);
    let tale = tale(&stage, "p");
    assert_eq!((tale.verdict, tale.status, tale.attempts, tale.generation.0), (Verdict::Parked, 200, 1, 2));
    assert!(matches!(tale.events[0].what, What::Parked), "{tale:?}");
    assert_eq!((tale.events[0].generation.0, tale.events[1].generation.0), (1, 2));
    assert!(tale.phases.parked > Duration::ZERO && tale.phases.parked <= tale.phases.total(), "{tale:?}");
}

#[test]
fn a_request_that_everup_answers_itself_is_refused() {
    let origin = Origin::named("a");
    let stage = before([&origin]).states(&[Down]).service("park = { time = \"50ms\" }").start();
    assert_eq!(ask(&mut stage.connect(), "r"), 503);
    let tale = tale(&stage, "r");
    assert_eq!((tale.verdict, tale.status, tale.attempts), (Verdict::Refused, 503, 0));
    assert_eq!(tale.instance, None);
    assert!(tale.phases.parked >= Duration::from_millis(50), "{tale:?}");
    assert!(tale.bytes_out > 0);
    assert_eq!(stage.service.statuses.cells().map(|cell| cell.value(5)).sum::<u64>(), 1);
}

#[test]
fn an_answer_that_breaks_off_is_cut() {
    let origin = Origin::start(|visit| {
        if visit.request().is_some() {
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(get("c"));
    client.rest();
    let tale = tale(&stage, "c");
    assert_eq!((tale.verdict, tale.status, tale.attempts), (Verdict::Cut, 200, 1));
    let [event] = &tale.events[..] else { panic!("{tale:?}") };
    assert!(
        matches!(event.what, What::Failed { failure: Failure::Lost, written: true, answered: true, .. }),
        "{tale:?}"
    );
}

#[test]
fn a_client_that_leaves_after_a_retry_is_told_as_gone() {
    let gate = Gate::default();
    let held = gate.clone();
    let slow = Origin::start(move |visit| {
        if visit.request().is_some() {
            held.pass();
            // Larger than all buffers between: the gateway must notice.
            visit.wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            while visit.wire.try_send(vec![b'x'; 1 << 20]) {}
        }
    });
    let refusing = Origin::refusing();
    let stage = before([&refusing, &slow]).service("balance = \"round-robin\"").start();
    // Whoever is first: one of two requests meets the instance that refuses.
    let mut clients: Vec<_> = (0..2).map(|_| stage.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(get("g")));
    until("both are with the instance", || slow.count() == 2);
    clients.into_iter().for_each(Wire::reset);
    gate.open();
    until("it is remembered", || !stage.gateway().recall("g").is_empty());
    let tale = stage.gateway().recall("g").remove(0);
    assert_eq!((tale.verdict, tale.attempts), (Verdict::ClientGone, 2));
}

#[test]
fn a_request_that_fails_again_and_again_is_told_in_bounded_space() {
    let origin = Origin::refusing();
    let mut stage = before([&origin]).service("park = { time = \"3s\" }").start();
    let mut client = stage.connect();
    client.send(get("m"));
    for round in 1..=12 {
        until("it was tried", || stage.instances[0].failures.total() >= round);
        stage.publish(&[Takes]);
    }
    // It waits for as long as it may, then it is told.
    assert_eq!(client.answer().status(), 503);
    let tale = tale(&stage, "m");
    assert!(tale.events.len() <= 17 && tale.left_out > 0, "{tale:?}");
    assert_eq!(tale.events[0].attempt, 1);
}
