//! What changes together with a table: sockets, settings, the access log; and services and listeners that leave it.

use everup_core::config;
use everup_gateway::Availability::{Down, Takes};
use everup_gateway::{AccessLog, Rearrangement, Settings, Stay};

use crate::stage::{Origin, before, sockets, until};
use crate::wire::{Wire, get, post};

fn nothing() -> Rearrangement {
    Rearrangement {
        settings: None,
        access_log: None,
        open: Vec::new(),
        assign: Vec::new(),
        close: Vec::new(),
    }
}

#[test]
fn a_request_that_waits_for_a_service_that_leaves_is_answered_and_the_table_acknowledged() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).states(&[Down]).start();
    let mut client = stage.connect();
    client.send(get("/"));
    until("it is parked", || stage.service.parked.total() == 1);
    let mut table = stage.next_table(&[Down]);
    table.services.clear();
    stage.rearrange(nothing(), table);
    assert_eq!(client.answer().status(), 503);
    until("nothing is in its custody", || stage.service.in_custody.total() == 0);
    client.send(get("/"));
    assert_eq!(client.answer().status(), 404, "no service is there");
}

#[test]
fn a_request_in_the_queue_of_a_service_that_leaves_is_answered() {
    let origin = Origin::start(|visit| {
        // Answers nobody as long as the connection lasts.
        while visit.request().is_some() {}
    });
    let mut stage = before([&origin]).service("max_connections = 1").threads(2).start();
    let (mut first, mut second) = (stage.connect(), stage.connect());
    first.send(get("/"));
    until("the only place is taken", || stage.in_flight() == 1);
    second.send(get("/"));
    until("another one waits", || stage.service.queued.total() == 1);
    let mut table = stage.next_table(&[Takes]);
    table.services.clear();
    stage.rearrange(nothing(), table);
    assert_eq!(second.answer().status(), 503);
    assert_eq!(
        (stage.in_flight(), stage.service.in_custody.total()),
        (1, 1),
        "what it has, an instance finishes"
    );
}

#[test]
fn connections_of_a_listener_that_leaves_end_with_their_next_answer_and_others_do_not() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).start();
    let (open, address) = sockets(2, config::Protocol::Http, 1);
    let mut table = stage.next_table(&[Takes]);
    let copy = stage.next_table(&[Takes]).listeners.swap_remove(0);
    table.listeners.push(copy);
    stage.rearrange(Rearrangement { open: vec![open], ..nothing() }, table);
    let (mut other, mut told, mut silent) = (stage.connect(), Wire::to(address), Wire::to(address));
    for client in [&mut other, &mut told, &mut silent] {
        client.send(get("/"));
        assert_eq!(client.answer().status(), 200);
    }
    for stay in [Stay::Leaves, Stay::Gone] {
        let mut table = stage.next_table(&[Takes]);
        let mut leaving = stage.next_table(&[Takes]).listeners.swap_remove(0);
        leaving.stay = stay;
        table.listeners.push(leaving);
        stage.rearrange(nothing(), table);
        if stay == Stay::Leaves {
            told.send(get("/"));
            let answer = told.answer();
            assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        }
        other.send(post("/", "x"));
        assert_eq!(other.answer().status(), 200);
    }
    silent.ends();
}

/// At the limit of connections nobody is accepted, so the second one waits in the kernel.
#[test]
fn who_waits_at_a_socket_that_is_given_up_is_served_and_nobody_comes_after() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).limits("connections = 1").start();
    let mut first = stage.connect();
    first.send(get("/"));
    assert_eq!(first.answer().status(), 200);
    let address = stage.address;
    let mut waiting = stage.connect();
    waiting.send(get("/"));
    let table = stage.next_table(&[Takes]);
    stage.rearrange(Rearrangement { close: vec![address], ..nothing() }, table);
    assert_eq!(waiting.answer().status(), 200);
    until("nobody is let in", || std::net::TcpStream::connect(address).is_err());
    for client in [&mut first, &mut waiting] {
        client.send(get("/"));
        assert_eq!(client.answer().status(), 200, "an accepted connection does not need its door");
    }
}

#[test]
fn limits_hold_for_the_next_request_also_on_open_connections() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).limits("body_bytes = \"10B\"").start();
    let mut client = stage.connect();
    client.send(post("/", "0123456789"));
    assert_eq!(client.answer().status(), 200);
    let limits = config::Limits { body_bytes: Some(5), connections_per_client: Some(2), ..stage.limits() };
    let settings = Some(Settings { limits, makes_trace_parents: false });
    let table = stage.next_table(&[Takes]);
    stage.rearrange(Rearrangement { settings, ..nothing() }, table);
    client.send(post("/", "01234"));
    assert_eq!(client.answer().status(), 200);
    client.send(post("/", "012345"));
    assert_eq!(client.answer().status(), 413);
    let mut clients: Vec<_> = (0..3).map(|_| stage.connect()).collect();
    let statuses: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            client.send(get("/"));
            client.answer().status()
        })
        .collect();
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn another_access_log_gets_the_lines_from_then_on_and_the_old_one_keeps_its_own() {
    let home = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| home.path().join(name));
    let origin = Origin::named("a");
    let mut stage = before([&origin]).access_log(&old, false).start();
    let mut client = stage.connect();
    let mut ask = |path: &str| {
        client.send(get(path));
        assert_eq!(client.answer().status(), 200);
    };
    ask("/first");
    let table = stage.next_table(&[Takes]);
    let log = AccessLog { file: Some(new.clone()), query: false };
    stage.rearrange(Rearrangement { access_log: Some(Some(log)), ..nothing() }, table);
    ask("/second");
    let table = stage.next_table(&[Takes]);
    stage.rearrange(Rearrangement { access_log: Some(None), ..nothing() }, table);
    ask("/third");
    let lines = |path| std::fs::read_to_string(path).unwrap_or_default();
    until("both are written", || !lines(&old).is_empty() && !lines(&new).is_empty());
    assert!(lines(&old).contains("/first") && lines(&old).lines().count() == 1);
    assert!(lines(&new).contains("/second") && lines(&new).lines().count() == 1);
}
