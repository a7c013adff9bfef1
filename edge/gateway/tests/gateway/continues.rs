//! `Expect: 100-continue` and other interim answers.

use everup_gateway::Availability::{Down, Takes};

use crate::stage::{Gate, Origin, before, until};
use crate::wire::{End, Wire, get, ok};

const EXPECTING: &str = "POST /up HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn the_instances_100_reaches_the_client_and_then_the_body_the_instance() {
    let origin = Origin::start(|visit| {
        while let Some(head) = visit.head() {
            assert_eq!(head.header("Expect"), Some("100-continue"));
            visit.wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = visit.wire.take(5);
            visit.wire.send(ok(body));
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for _ in 0..3 {
        client.send(EXPECTING);
        assert_eq!(client.answer().status(), 100);
        client.send("hello");
        assert_eq!(client.answer().text(), "hello");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_final_answer_instead_of_100_ends_the_connection() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        visit.head();
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(EXPECTING);
    let answer = client.answer();
    // The client may send the body or not, so nobody knows where its next request would begin.
    assert_eq!((answer.status(), answer.header("Connection")), (417, Some("close")));
    client.ends();
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_instance_that_never_says_100_gets_the_body_all_the_same() {
    let origin = Origin::answering(|request| ok(&request.body));
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(EXPECTING);
    until("the head is with the instance", || stage.in_flight() == 1);
    client.send("hello");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(client.get("/next").status(), 200);
}

#[test]
fn early_hints_come_before_the_answer_and_not_to_http_1_0() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        while visit.request().is_some() {
            visit.wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
            passes.pass();
            visit
                .wire
                .send([&b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n"[..], &ok("page")].concat());
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(get("/"));
    let hint = client.answer();
    assert_eq!((hint.status(), hint.header("Link")), (103, Some("</a.css>")));
    gate.open();
    assert_eq!(client.answer().header("Link"), Some("</b.css>"));
    assert_eq!(client.answer().text(), "page");

    let mut old = stage.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let (all, end) = old.rest();
    let text = String::from_utf8(all).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("page"), "{text}");
    assert_eq!(end, End::Closed);
}

#[test]
fn an_interim_answer_of_which_half_was_sent_is_followed_by_no_other_instances() {
    let hints = Origin::start(|visit| {
        if visit.request().is_some() {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(8000));
            while visit.wire.try_send(&hint) {}
        }
    });
    let other = Origin::named("other");
    let mut stage = before([&hints, &other]).states(&[Takes, Down]).start();
    let mut client = stage.connect();
    client.send(get("/"));
    until("nothing fits between them any more", || {
        let before = waiting(&client);
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        before > 30_000 && waiting(&client) == before
    });
    stage.publish(&[Down, Takes]);
    while let Some(head) = client.head() {
        assert!(head.headers.iter().all(|(_, value)| !value.contains("HTTP")), "{:?}", head.headers.last());
        if head.status() != 103 {
            break;
        }
    }
    stage.settles();
}

/// Bytes that the client has not read yet.
fn waiting(client: &Wire) -> usize {
    let mut peeked = vec![0; 16 * 1024 * 1024];
    client.stream.peek(&mut peeked).unwrap_or(0)
}
