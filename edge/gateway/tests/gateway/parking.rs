//! While no instance can take a request it waits, for so long and with so many.

use std::time::{Duration, Instant};

use everup_gateway::Availability::{Down, Draining, Takes};

use crate::stage::{Origin, before, until};
use crate::wire::{Wire, get, ok, post};

#[test]
fn parked_requests_go_to_the_first_instance_that_can_take_them() {
    let origin = Origin::named("a");
    for state in [Down, Draining] {
        let mut stage = before([&origin]).threads(2).states(&[state]).start();
        let mut clients: Vec<_> = (0..20).map(|_| stage.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(if number % 2 == 0 { get("/") } else { post("/", "body") });
        }
        until("all are parked", || stage.service.parked.total() == 20);
        stage.publish(&[Takes]);
        for client in &mut clients {
            assert_eq!(client.answer().text(), "a");
        }
        assert_eq!(stage.service.parked.total(), 0);
        stage.settles();
    }
}

#[test]
fn a_request_that_was_parked_too_long_is_503_and_says_when_to_come_again() {
    let origin = Origin::named("a");
    let stage = before([&origin]).states(&[Down]).service("park = { time = \"300ms\" }").start();
    let mut client = stage.connect();
    let started = Instant::now();
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("1")));
    assert!(answer.header("X-Request-Id").is_some_and(|id| answer.text().contains(id)));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(5), "{waited:?}");
    // The connection lives on; a HEAD gets no body.
    client.send("HEAD / HTTP/1.1\r\nHost: app\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").status(), 503);
    assert_eq!(client.get("/").status(), 503);
}

#[test]
fn a_service_that_parks_nothing_says_503_at_once() {
    let origin = Origin::named("a");
    let stage = before([&origin]).states(&[Down]).service("park = { time = \"0s\" }").start();
    assert_eq!(stage.connect().get("/").status(), 503);
    assert_eq!(stage.service.errors.total(), 1);
}

#[test]
fn only_so_many_are_parked_and_the_next_is_503_at_once() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).states(&[Down]).service("park = { requests = 3 }").start();
    let mut parked: Vec<_> = (0..3).map(|_| stage.connect()).collect();
    for client in &mut parked {
        client.send(get("/"));
    }
    until("all are parked", || stage.service.parked.total() == 3);
    // Also after they have looked again, which they do twice a second.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(700) {
        assert_eq!(stage.connect().get("/").status(), 503);
    }
    // A table that changes nothing for them wakes them, and they wait on.
    stage.publish(&[Draining]);
    assert_eq!(stage.connect().get("/").status(), 503);
    assert_eq!(stage.service.parked.total(), 3);
    stage.publish(&[Takes]);
    for client in &mut parked {
        assert_eq!(client.answer().text(), "a");
    }
}

#[test]
fn only_so_much_memory_is_held_by_parked_requests_and_the_next_is_503_at_once() {
    let origin = Origin::answering(|request| ok(request.body.len().to_string()));
    let mut stage = before([&origin]).states(&[Down]).service("park = { bytes = \"128KiB\" }").start();
    let mut clients: Vec<_> = (0..20).map(|_| stage.connect()).collect();
    let request = post("/", &"x".repeat(100_000));
    for client in &mut clients {
        client.send(&request);
    }
    let refused = || usize::try_from(stage.service.errors.total()).unwrap();
    let parked = || usize::try_from(stage.service.parked.total()).unwrap();
    until("each has its way", || refused() + parked() == clients.len());
    assert!(refused() > 0 && parked() > 0, "{} refused", refused());
    stage.publish(&[Takes]);
    let served = clients.iter_mut().map(Wire::answer).filter(|answer| answer.text() == "100000").count();
    assert!(served > 0);
    // Everything was given back: as many fit again.
    stage.publish(&[Down]);
    let mut again = stage.connect();
    again.send(&request);
    until("it is parked", || stage.service.parked.total() == 1);
    stage.publish(&[Takes]);
    assert_eq!(again.answer().text(), "100000");
}

#[test]
fn a_request_whose_every_instance_refuses_is_parked_until_one_does_not() {
    let (refusing, fine) = (Origin::refusing(), Origin::named("fine"));
    let mut stage = before([&refusing, &fine]).states(&[Takes, Down]).start();
    let mut client = stage.connect();
    client.send(post("/", "x"));
    until("it is parked", || stage.service.parked.total() == 1);
    assert_eq!(stage.in_flight(), 0);
    stage.publish(&[Down, Takes]);
    assert_eq!(client.answer().text(), "fine");
}

#[test]
fn a_parked_request_whose_client_has_gone_gives_its_place_back_and_one_that_sends_no_more_keeps_it() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).states(&[Down]).service("park = { time = \"60s\" }").start();
    let [mut stays, goes, finishes_and_goes] = [(); 3].map(|()| stage.connect());
    for (mut client, request) in
        [(stays.writer(), get("/")), (goes.writer(), get("/")), (finishes_and_goes.writer(), post("/", "x"))]
    {
        client.send(request);
    }
    stays.finish();
    finishes_and_goes.finish();
    let mut relayed = Wire::to(stage.tcp);
    relayed.send("hello");
    until("all are parked", || stage.service.parked.total() == 4);
    goes.reset();
    finishes_and_goes.reset();
    relayed.reset();
    until("those are gone that have gone", || stage.service.parked.total() == 1);
    stage.publish(&[Takes]);
    assert_eq!(stays.answer().text(), "a");
    stage.settles();
    assert_eq!((origin.count(), stage.service.errors.total()), (1, 0));
}
