//! Switching protocols: after 101 the bytes are nobody's business but the peers'.

use crate::stage::{Gate, Origin, before, until};
use crate::wire::{get, ok, pattern};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn bytes_that_came_with_either_head_belong_to_the_tunnel() {
    let origin = Origin::start(|visit| {
        let head = visit.head().unwrap();
        assert_eq!((head.header("Connection"), head.header("Upgrade")), (Some("Upgrade"), Some("websocket")));
        visit.wire.send(format!("{SWITCHING}hello"));
        assert_eq!(visit.wire.take(5), b"early");
        let much = visit.wire.take(3_000_000);
        visit.wire.send(much);
        // The client's end comes through, and the other way is still open.
        visit.wire.ends();
        visit.wire.send("bye");
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(format!("{UPGRADE}early"));
    let head = client.head().unwrap();
    assert_eq!((head.status(), head.header("Upgrade")), (101, Some("websocket")));
    assert_eq!(client.take(5), b"hello");
    until("the tunnel is counted", || stage.instances[0].tunnels() == 1);
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || writer.send(pattern(3_000_000)));
    assert!(client.take(3_000_000) == pattern(3_000_000));
    sending.join().unwrap();
    client.finish();
    assert_eq!(client.take(3), b"bye");
    client.ends();
    stage.settles();
}

#[test]
fn the_instances_end_comes_through_and_the_client_may_go_on() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.wire.send(format!("{SWITCHING}last"));
        visit.wire.finish();
        assert_eq!(visit.wire.take(5), b"after");
        visit.wire.ends();
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(UPGRADE);
    client.head();
    assert_eq!(client.take(4), b"last");
    client.ends();
    client.send("after");
    client.finish();
    stage.settles();
}

#[test]
fn an_instance_that_answers_instead_of_switching_has_answered() {
    let origin = Origin::answering(|request| ok(request.path()));
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(format!("{UPGRADE}{}", get("/next")));
    assert_eq!(client.answer().text(), "/ws");
    assert_eq!(client.answer().text(), "/next");
    stage.settles();
}

#[test]
fn a_101_that_nobody_asked_for_is_502() {
    let origin = Origin::answering(|_| SWITCHING.into());
    let stage = before([&origin]).start();
    for request in [
        get("/"),
        get("/").replace("GET", "POST"),
        // Without `Connection: upgrade` it is a word without meaning, in HTTP/1.0 too; h2c is never passed on, not
        // even hidden behind another protocol.
        UPGRADE.replace("Connection: Upgrade", "X-Connection: Upgrade"),
        UPGRADE.replace("HTTP/1.1", "HTTP/1.0"),
        UPGRADE.replace("websocket", "h2c"),
        UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
        UPGRADE.replace("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c"),
        UPGRADE.replace("websocket", "websocket, H2C-14"),
    ] {
        let mut client = stage.connect();
        client.send(&request);
        assert_eq!(client.answer().status(), 502, "{request}");
    }
    assert!(origin.requests().iter().all(|request| request.header("Upgrade").is_none()));
    stage.settles();
}

#[test]
fn an_upgrade_that_is_granted_before_its_body_was_sent_gets_the_rest_of_it() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        visit.head();
        visit.wire.send(SWITCHING);
        passes.pass();
        assert!(visit.wire.take(8_000_000) == pattern(8_000_000));
        visit.wire.send("got it");
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 8000000\r\n\r\n"));
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || writer.send(pattern(8_000_000)));
    assert_eq!(client.head().unwrap().status(), 101);
    gate.open();
    sending.join().unwrap();
    assert_eq!(client.take(6), b"got it");
}

#[test]
fn a_client_that_vanishes_from_a_tunnel_ends_it() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.wire.send(SWITCHING);
        visit.wire.rest();
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(UPGRADE);
    client.head();
    until("the tunnel is counted", || stage.instances[0].tunnels() == 1);
    client.reset();
    stage.settles();
}
