//! Connections kept open on both sides, and what must end them.

use std::time::{Duration, Instant};

use crate::stage::{Gate, Origin, before, until};
use crate::wire::{End, get, ok, pattern, post};

#[test]
fn one_connection_to_the_instance_serves_many_clients() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    for _ in 0..20 {
        let mut client = stage.connect();
        for _ in 0..5 {
            assert_eq!(client.get("/").text(), "a");
        }
    }
    assert_eq!((origin.count(), origin.connections()), (100, 1));
}

#[test]
fn a_side_that_says_close_closes_only_its_own_connection() {
    let origin = Origin::start(|visit| {
        while let Some(request) = visit.request() {
            assert_eq!(request.header("Connection"), None);
            if request.path() == "/last" {
                visit.wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                return;
            }
            visit.wire.send(ok("more"));
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for path in ["/", "/last", "/", "/last"] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.header("Connection")), (200, None));
    }
    assert_eq!(origin.connections(), 2);

    client.send("GET / HTTP/1.1\r\nHost: app\r\nConnection: Close\r\n\r\n");
    assert_eq!(client.answer().header("Connection"), Some("close"));
    client.ends();
    stage.connect().get("/");
    assert_eq!(origin.connections(), 3);
}

#[test]
fn http_1_0_closes_unless_it_asked_not_to() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(client.answer().header("Connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().header("Connection"), Some("close"));
    client.ends();
    assert!(origin.requests().iter().all(|request| request.start.ends_with("HTTP/1.1")));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_http_1_0_instance_is_spoken_to_anew_each_time_unless_it_keeps() {
    let answers = ["HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "HTTP/1.0 200 OK\r\n\r\na"];
    for answer in answers {
        let origin = Origin::start(move |visit| {
            visit.request();
            visit.wire.send(answer);
        });
        let stage = before([&origin]).start();
        for round in 1..4 {
            let mut client = stage.connect();
            let got = client.get("/");
            assert_eq!((got.start.as_str(), got.text().as_str()), ("HTTP/1.1 200 OK", "a"));
            assert_eq!(origin.connections(), round);
        }
    }
    let keeping = Origin::answering(|_| {
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na".into()
    });
    let stage = before([&keeping]).start();
    let mut client = stage.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").header("Connection"), None);
    }
    assert_eq!(keeping.connections(), 1);
}

#[test]
fn bytes_after_the_end_of_an_answer_reach_no_client() {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    let origin = Origin::start(move |visit| {
        while visit.request().is_some() {
            visit.wire.try_send([&ok("right")[..], stray.as_bytes()].concat());
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/").text(), "right");
    }
    assert_eq!(origin.connections(), 50);
}

#[test]
fn bytes_that_came_while_a_connection_was_idle_reach_no_client() {
    let (may_stray, has_strayed) = (Gate::default(), Gate::default());
    let (passes, opens) = (may_stray.clone(), has_strayed.clone());
    let origin = Origin::start(move |visit| {
        visit.request();
        visit.wire.send(ok("right"));
        if visit.connection == 0 {
            passes.pass();
            visit.wire.send(ok("stray"));
            opens.open();
        }
        while visit.request().is_some() {
            visit.wire.try_send(ok("right"));
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.get("/");
    may_stray.open();
    has_strayed.pass();
    // Whoever must not be sent twice asks the kernel, and so the others never meet that connection again.
    for request in [post("/", "x"), get("/")] {
        client.send(request);
        assert_eq!(client.answer().text(), "right");
    }
    assert_eq!((origin.connections(), origin.count()), (2, 3));
}

#[test]
fn an_instance_that_closes_idle_connections_costs_no_request() {
    let origins = [closing_when_idle(), closing_when_idle()];
    let stage = before(&origins).start();
    let mut client = stage.connect();
    for round in 0..40 {
        let started = Instant::now();
        // Around the time after which the instance closes.
        let pause = Duration::from_millis(15 + round % 10);
        until("the pause is over", || started.elapsed() >= pause);
        assert_eq!(client.get("/").status(), 200);
    }
    stage.settles();
}

#[test]
fn a_post_takes_no_connection_that_was_idle_for_more_than_a_second() {
    let gate = Gate::default();
    let passes = gate.clone();
    // Closes the first connection in the very moment in which it gets another request on it, as one does whose idle
    // time is over.
    let origin = Origin::start(move |visit| {
        visit.request();
        visit.wire.send(ok("first"));
        if visit.connection == 0 {
            passes.pass();
            visit.wire.take_until(b"\r\n\r\n");
            return;
        }
        while visit.request().is_some() {
            visit.wire.send(ok("next"));
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.get("/");
    let idle_since = Instant::now();
    until("the connection is old", || idle_since.elapsed() > Duration::from_millis(1_200));
    gate.open();
    client.send(post("/", "precious"));
    assert_eq!(client.answer().text(), "first");
    assert_eq!((origin.connections(), origin.count()), (2, 2));
}

#[test]
fn a_client_that_only_connects_or_leaves_at_any_stage_leaves_nothing_behind() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        while let Some(head) = visit.head() {
            if head.path() == "/wait" {
                passes.pass();
            }
            let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            if !visit.wire.try_send(stream) {
                return;
            }
            let chunk = [&b"4000\r\n"[..], &pattern(0x4000), b"\r\n"].concat();
            while visit.wire.try_send(&chunk) {}
        }
    });
    let stage = before([&origin]).start();
    drop(stage.connect());
    for (sent, awaited) in [
        ("GET / HT".to_owned(), 0),
        (get("/wait"), 0),
        (post("/wait", "x"), 0),
        ("POST /wait HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nhal".to_owned(), 0),
        (get("/"), 20),
        (get("/"), 2_000_000),
    ] {
        for reset in [false, true] {
            let mut client = stage.connect();
            client.send(&sent);
            client.take(awaited);
            if reset { client.reset() } else { drop(client) }
        }
    }
    gate.open();
    stage.settles();
    until("every client is counted out", || stage.gateway().connections() == 0);
}

#[test]
fn a_request_whose_client_has_gone_is_waited_for_no_longer() {
    let origin = Origin::start(|visit| {
        let request = visit.request().unwrap();
        if request.path() == "/body" {
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun");
        }
        assert!(visit.wire.head().is_none(), "the instance is told");
    });
    let stage = before([&origin]).start();
    let requests = [get("/"), post("/", "body"), get("/body"), get("/") + &get("/pipelined")];
    let mut clients = requests.map(|request| {
        let mut client = stage.connect();
        client.send(request);
        client
    });
    clients[2].take(20);
    until("all wait for the instance", || origin.count() == 4);
    for client in clients {
        client.reset();
    }
    stage.settles();
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(get("/").repeat(3));
    client.finish();
    for _ in 0..3 {
        assert_eq!(client.answer().text(), "a");
    }
    assert_eq!(client.rest().1, End::Closed);
}

/// Closes a connection that was idle for 20 ms since its last answer.
fn closing_when_idle() -> Origin {
    Origin::start(|visit| {
        while visit.request().is_some() {
            visit.wire.try_send(ok("alive"));
            visit.wire.stream.set_nonblocking(true).unwrap();
            let idle = Instant::now();
            let mut byte = [0];
            while visit.wire.stream.peek(&mut byte).is_err() {
                if idle.elapsed() > Duration::from_millis(20) {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            visit.wire.stream.set_nonblocking(false).unwrap();
        }
    })
}
