//! A request is not lost because an instance is: what is tried again, what is not, and what the client sees.

use std::time::{Duration, Instant};

use everup_core::health::Reason;
use everup_gateway::Availability::{Down, Draining, Takes};
use everup_gateway::GatewayEvent;

use crate::stage::{Gate, Origin, Visit, before, until};
use crate::wire::{End, get, ok, post};

/// Reads one request and does this.
fn once(failure: impl Fn(&mut Visit) + Send + Sync + 'static) -> Origin {
    Origin::start(move |visit| {
        if visit.request().is_some() {
            failure(visit);
        }
    })
}

#[test]
fn an_instance_that_refuses_costs_no_request_not_even_a_post_and_is_told_to_health() {
    let (refusing, fine) = (Origin::refusing(), Origin::named("fine"));
    let mut stage = before([&refusing, &fine]).start();
    let mut client = stage.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "fine");
        client.send(post("/", "x"));
        assert_eq!(client.answer().text(), "fine");
    }
    let Some(GatewayEvent::ConnectFailed { id, address, reason }) = stage.next_event() else {
        panic!("no event")
    };
    assert_eq!((&*id.instance, address), (refusing.address.to_string().as_str(), refusing.address));
    assert_eq!(reason, Reason::ConnectRefused);
    assert_eq!(fine.count(), 20);
}

#[test]
fn a_get_whose_instance_breaks_off_is_answered_by_another() {
    type Failure = fn(&mut Visit);
    let failures: [(&str, Failure); 4] = [
        ("closes", |_| {}),
        ("closes in the head", |visit| visit.wire.send("HTTP/1.1 200 OK\r\nContent-Le")),
        ("answers nonsense", |visit| visit.wire.send("what?\r\n\r\n")),
        ("closes after an interim answer", |visit| visit.wire.send("HTTP/1.1 102 Processing\r\n\r\n")),
    ];
    for (name, failure) in failures {
        let (broken, fine) = (once(failure), Origin::named("fine"));
        let stage = before([&broken, &fine]).start();
        let mut client = stage.connect();
        for _ in 0..4 {
            client.send(get("/"));
            let mut answer = client.answer();
            if answer.status() == 102 {
                answer = client.answer();
            }
            assert_eq!(answer.text(), "fine", "{name}");
        }
        assert!(broken.count() > 0, "{name}");
        stage.settles();
    }
}

#[test]
fn a_post_whose_instance_breaks_off_has_arrived_once_and_is_502() {
    let origins = [once(|_| {}), once(|_| {})];
    let stage = before(&origins).start();
    let mut client = stage.connect();
    for round in 1..=6 {
        client.send(post("/", "precious"));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.header("Connection")), (502, None));
        assert_eq!(origins[0].count() + origins[1].count(), round);
    }
    // A PUT may be repeated, and so may a request whose body was read with its head; attempts = 3 by default.
    client.send(post("/", "again").replace("POST", "PUT"));
    assert_eq!(client.answer().status(), 502);
    assert_eq!(origins[0].count() + origins[1].count(), 6 + 3);
    stage.settles();
}

#[test]
fn a_put_whose_body_is_no_longer_held_is_not_repeated() {
    let origins = [once(|_| {}), once(|_| {})];
    let stage = before(&origins).start();
    let mut client = stage.connect();
    client.send("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nfirst");
    until("the request is with an instance", || stage.in_flight() == 1);
    client.send("later");
    assert_eq!(client.answer().status(), 502);
    assert_eq!(origins[0].count() + origins[1].count(), 1);
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_be_cut_and_never_repeated() {
    let halves = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nbad",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n",
    ];
    for half in halves {
        let origin = once(move |visit| visit.wire.send(half));
        let stage = before([&origin]).start();
        let mut client = stage.connect();
        client.send(get("/"));
        let (bytes, _) = client.rest();
        assert!(
            half.as_bytes().starts_with(&bytes) && bytes.len() > 20,
            "{half:?}: {}",
            bytes.escape_ascii()
        );
        assert_eq!(origin.count(), 1);
        stage.settles();
    }
}

#[test]
fn half_an_answer_that_only_the_end_of_the_connection_ends_is_never_taken_for_a_whole_one() {
    let origin = Origin::start(|visit| {
        let path = visit.head().unwrap().path().to_owned();
        visit.wire.send("HTTP/1.1 200 OK\r\n\r\nall");
        visit.wire.take(1);
        match path.as_str() {
            "/whole" => visit.wire.finish(),
            "/reset" => {
                socket2::SockRef::from(&visit.wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            _ => drop(visit.wire.try_take(1)),
        }
    });
    let stage = before([&origin]).service("timeout.idle = \"500ms\"").start();
    let end = |path: &str| {
        let mut client = stage.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\n"));
        assert_eq!(client.head().unwrap().status(), 200);
        assert_eq!(client.take(3), b"all");
        client.try_send("x");
        client.rest().1
    };
    assert_eq!(end("/whole"), End::Closed);
    assert_eq!([end("/reset"), end("/silent")], [End::Reset, End::Reset]);
    stage.settles();
}

#[test]
fn an_attempt_that_takes_too_long_goes_to_another_instance_and_a_post_waits_on() {
    let gate = Gate::default();
    let passes = gate.clone();
    let slow = once(move |_| passes.pass());
    let fine = Origin::named("fine");
    let stage = before([&slow, &fine]).service("timeout = { attempt = \"100ms\", request = \"1s\" }").start();
    let mut client = stage.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "fine");
    }
    let sent = Instant::now();
    let before = slow.count();
    let statuses: Vec<u16> = (0..2)
        .map(|_| {
            client.send(post("/", "x"));
            client.answer().status()
        })
        .collect();
    assert!(statuses.contains(&504) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(slow.count(), before + 1);
    assert!(sent.elapsed() >= Duration::from_secs(1), "the POST was given its whole second, not one attempt");
    gate.open();
    stage.settles();
}

#[test]
fn a_request_that_takes_too_long_is_504_and_the_connection_lives_on() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            if request.path() == "/slow" {
                return passes.pass();
            }
            visit.wire.send(ok("fast"));
        }
    });
    let stage = before([&origin]).service("timeout = { request = \"200ms\" }").start();
    let mut client = stage.connect();
    let answer = client.get("/slow");
    assert_eq!((answer.status(), answer.header("Connection")), (504, None));
    assert_eq!(client.get("/fast").text(), "fast");
    gate.open();
    stage.settles();
}

#[test]
fn the_end_of_a_requests_time_while_connecting_says_nothing_about_the_instance() {
    // A listener whose queue is full answers no connect.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    while let Ok(filler) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fillers.push(filler);
    }
    let mut unreachable = Origin::refusing();
    unreachable.address = address;
    let mut stage =
        before([&unreachable]).service("timeout = { request = \"200ms\", connect = \"5s\" }").start();
    let mut client = stage.connect();
    assert_eq!(client.get("/").status(), 504);
    assert_eq!(stage.next_event(), None);
    stage.settles();
}

#[test]
fn a_request_that_waits_for_an_instance_judged_down_is_rescued() {
    let gate = Gate::default();
    let passes = gate.clone();
    let frozen = Origin::start(move |visit| {
        visit.request();
        visit.wire.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        passes.pass();
    });
    let fine = Origin::named("fine");
    let mut stage = before([&frozen, &fine]).states(&[Takes, Down]).start();
    let mut clients: Vec<_> = (0..5).map(|_| stage.connect()).collect();
    for client in &mut clients {
        client.send(get("/"));
        assert_eq!(client.answer().status(), 103);
    }
    let mut poster = stage.connect();
    poster.send(post("/", "x"));
    assert_eq!(poster.answer().status(), 103);
    let started = Instant::now();
    stage.publish(&[Down, Takes]);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "fine");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    // It is not known whether the POST was carried out: it goes on waiting for the one that has it.
    until("only the POST is left", || stage.in_flight() == 1);
    gate.open();
    assert_eq!(poster.answer().status(), 502);
    assert_eq!((frozen.count(), fine.count()), (6, 5));
    stage.settles();
}

#[test]
fn a_draining_instance_finishes_what_it_has_and_gets_nothing_new() {
    let gate = Gate::default();
    let passes = gate.clone();
    let old = Origin::start(move |visit| {
        while visit.request().is_some() {
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nold");
            passes.pass();
            visit.wire.send("est");
        }
    });
    let new = Origin::named("new");
    let mut stage = before([&old, &new]).states(&[Takes, Down]).start();
    let mut client = stage.connect();
    client.send(get("/").repeat(2));
    let head = client.head().unwrap();
    stage.publish(&[Draining, Takes]);
    assert_eq!(stage.connect().get("/").text(), "new");
    assert_eq!(stage.instances[0].in_flight(), 1);
    gate.open();
    assert_eq!((head.status(), client.take(6)), (200, b"oldest".to_vec()));
    assert_eq!(client.answer().text(), "new");
    assert_eq!(old.count(), 1);
    // Nor is its connection kept: the instance may be waiting for it to close.
    until("the connection is closed", || stage.in_flight() == 0);
    stage.publish(&[Takes, Down]);
    client.send(get("/"));
    assert_eq!(client.answer().text(), "oldest");
    assert_eq!(old.connections(), 2);
}

#[test]
fn a_client_that_hears_nothing_but_the_end_knows_that_its_request_may_be_lost() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = once(move |visit| {
        visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        passes.pass();
    });
    let stage = before([&origin]).service("timeout = { idle = \"200ms\" }").start();
    let mut client = stage.connect();
    client.send(get("/"));
    assert_eq!(client.head().unwrap().status(), 200);
    // A body that stops in the middle is cut after the idle time.
    let (rest, end) = client.rest();
    assert!(rest.is_empty() && matches!(end, End::Closed | End::Reset));
    gate.open();
    stage.settles();
}
