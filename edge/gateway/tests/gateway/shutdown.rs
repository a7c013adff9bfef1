//! Shutting down in order: who is served is served to the end, who is idle is told, who comes is answered and told.

use std::time::{Duration, Instant};

use crate::stage::{Gate, Origin, before, until};
use crate::wire::{get, ok, post};

#[test]
fn every_answer_is_its_connections_last_and_then_idle_connections_close() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            if request.path() == "/slow" {
                passes.pass();
            }
            visit.wire.send(ok("served"));
        }
    });
    let stage = before([&origin]).threads(2).start();
    let (mut idle, fresh, mut busy, mut half) =
        (stage.connect(), stage.connect(), stage.connect(), stage.connect());
    let mut kept = stage.connect();
    idle.get("/");
    kept.get("/");
    fresh.finish();
    busy.send(get("/slow"));
    half.send("GET / HT");
    until("the slow one is with the instance", || stage.gateway().requests_in_flight() == 1);
    until("all are accepted", || stage.gateway().connections() >= 4);

    stage.gateway().begin_shutdown();
    // Who asks once more on a connection that was kept is served, and told.
    kept.send(post("/", "x"));
    let answer = kept.answer();
    assert_eq!((answer.text().as_str(), answer.header("Connection")), ("served", Some("close")));
    kept.ends();
    gate.open();
    for client in [&mut busy, &mut half] {
        if client.stream.peer_addr().is_ok() {
            client.try_send("TP/1.1\r\nHost: app\r\n\r\n");
        }
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.header("Connection")), ("served", Some("close")));
    }
    let mut late = stage.connect();
    late.send(post("/", "x"));
    if let Some(answer) = late.try_answer("POST") {
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    stage.gateway().refuse();
    let told = Instant::now();
    idle.ends();
    assert!(told.elapsed() < Duration::from_secs(2));
    drop((idle, kept, fresh, busy, half, late));
    stage.settles();
    until("every client is counted out", || stage.gateway().connections() == 0);
}

#[test]
fn a_new_connection_while_shutting_down_is_served_and_told() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    stage.gateway().begin_shutdown();
    for _ in 0..20 {
        let mut client = stage.connect();
        client.send(get("/"));
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.header("Connection")), ("a", Some("close")));
        client.ends();
    }
}

#[test]
fn who_asks_when_nothing_begins_any_more_is_told_so_at_once() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    stage.gateway().begin_shutdown();
    stage.gateway().refuse();
    until("a request is refused", || {
        let mut client = stage.connect();
        client.send(get("/"));
        client.answer().status() == 503
    });
    let mut client = stage.connect();
    let told = Instant::now();
    client.send(post("/", "x"));
    let answer = client.answer();
    assert_eq!((answer.status(), answer.header("Connection")), (503, Some("close")));
    assert!(answer.header("Retry-After").is_some() && told.elapsed() < Duration::from_secs(2));
}

#[test]
fn stopping_ends_whatever_is_left() {
    let origin = Origin::start(|visit| {
        visit.request();
        visit.wire.rest();
    });
    let stage = before([&origin]).threads(2).start();
    let mut waiting = stage.connect();
    waiting.send(get("/"));
    until("it is with the instance", || stage.in_flight() == 1);
    let instance = std::sync::Arc::clone(&stage.instances[0]);
    drop(stage);
    waiting.ends();
    assert_eq!(instance.in_flight(), 0);
}
