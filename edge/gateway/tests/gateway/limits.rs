//! Every limit, and what happens beyond it.

use std::time::{Duration, Instant};

use crate::stage::{Origin, before, until};
use crate::wire::{Wire, chunked, get, ok};

#[test]
fn a_head_over_the_limit_is_431_and_a_target_over_it_414() {
    let origin = Origin::named("a");
    let stage = before([&origin]).limits("head_bytes = \"1KiB\"").start();
    let padded =
        |padding: usize| get("/").replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "y".repeat(padding)));
    for (status, request) in [
        (200, padded(900)),
        (431, padded(1100)),
        (431, padded(100_000)),
        (431, get("/").replace("\r\n\r\n", &"\r\nX: y".repeat(1000))),
        (414, format!("GET /{}", "y".repeat(2000))),
        (414, "G".repeat(300_000)),
    ] {
        for piece in [request.len(), 700] {
            let mut client = stage.connect();
            request.as_bytes().chunks(piece).all(|piece| client.try_send(piece));
            let got = client.answer().status();
            // A method without end is no method.
            assert!(got == status || (got == 400 && request.starts_with("GG")), "{got} instead of {status}");
            if status != 200 {
                client.ends();
            }
        }
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_head_that_takes_too_long_is_408() {
    let origin = Origin::named("a");
    let stage = before([&origin]).limits("head_time = \"200ms\"").start();
    for begin in ["G", "GET / HTTP/1.1\r\nHost: app\r\n"] {
        let mut client = stage.connect();
        client.send(begin);
        assert_eq!(client.answer().status(), 408);
        client.ends();
    }
    // One byte now and then does not help.
    let mut client = stage.connect();
    let started = Instant::now();
    client.send("GET / HTTP/1.1\r\nX: ");
    for sent in 1..30_u32 {
        until("it is time for the next byte", || started.elapsed().as_millis() >= u128::from(sent) * 10);
        if !client.try_send("y") {
            break;
        }
    }
    assert_eq!(client.answer().status(), 408);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_body_over_the_limit_is_413_whatever_its_framing_and_the_limit_itself_passes() {
    let origin = Origin::answering(|request| ok(request.body.len().to_string()));
    let stage = before([&origin]).limits("body_bytes = \"100KiB\"").start();
    let most = 100 * 1024;
    let chunks = |bytes: usize| chunked(&vec![b'x'; bytes], &[5], "X-T: 1\r\n");
    let chunked_head = "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n";
    let length_head =
        |bytes: usize| format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {bytes}\r\n\r\n");

    for (head, body) in [(length_head(most), vec![b'x'; most]), (chunked_head.to_owned(), chunks(most))] {
        let mut client = stage.connect();
        client.send([head.as_bytes(), &body].concat());
        assert_eq!(client.answer().text(), most.to_string());
        assert_eq!(client.get("/").status(), 200);
    }
    let mut client = stage.connect();
    client.send(length_head(most + 1));
    assert_eq!(client.answer().status(), 413);
    client.ends();
    for pieces in [1, 3] {
        let mut client = stage.connect();
        let request = [chunked_head.as_bytes(), &chunks(most + 1)].concat();
        request.chunks(request.len() / pieces + 1).all(|piece| client.try_send(piece));
        assert_eq!(client.answer().status(), 413);
        client.ends();
    }
    assert!(origin.requests().iter().all(|request| request.body.len() <= most));
    stage.settles();
}

#[test]
fn connections_over_the_limit_wait_until_one_ends() {
    let origin = Origin::named("a");
    let stage = before([&origin]).limits("connections = 3").start();
    let mut clients: Vec<_> = (0..3).map(|_| stage.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status(), 200));
    let mut fourth = stage.connect();
    fourth.send(get("/fourth"));
    assert_eq!(clients[0].get("/").status(), 200);
    assert_eq!(stage.gateway().connections(), 3);
    assert!(origin.requests().iter().all(|request| request.path() != "/fourth"));
    clients.pop();
    assert_eq!(fourth.answer().status(), 200);
}

#[test]
fn a_client_over_its_share_of_connections_is_told_so_and_others_are_not() {
    let origin = Origin::named("a");
    let listener = "service = \"app\"\naccept_proxy = [\"127.0.0.1\"]";
    let stage = before([&origin]).listener(listener).limits("connections_per_client = 2").threads(2).start();
    let connect = |client: &str| {
        let mut wire = stage.connect();
        wire.send(format!("PROXY TCP6 {client} ::1 1 2\r\n"));
        wire
    };
    let mut first: Vec<_> = (0..2).map(|_| connect("2001:db8::1")).collect();
    first.iter_mut().for_each(|client| assert_eq!(client.get("/").status(), 200));
    // Another address of the same /64 is the same client.
    let mut third = connect("2001:db8::2");
    let answer = third.answer();
    assert_eq!((answer.status(), answer.header("Connection")), (429, Some("close")));
    third.ends();
    assert_eq!(connect("2001:db8:0:1::1").get("/").status(), 200);
    assert_eq!(connect("::ffff:192.0.2.1").get("/").status(), 200);
    drop(third);
    // Those it has go on, and one that ends makes room.
    first.iter_mut().for_each(|client| assert_eq!(client.get("/").status(), 200));
    first.pop();
    until("there is room", || {
        let mut client = connect("2001:db8::3");
        client.send(get("/"));
        client.answer().status() == 200
    });
    assert!(stage.gateway().turned_away().per_client >= 1);
}

#[test]
fn a_tcp_connection_over_its_clients_share_is_closed() {
    let origin = Origin::start(|visit| drop(visit.wire.rest()));
    let stage = before([&origin]).limits("connections_per_client = 1").start();
    let _first = Wire::to(stage.tcp);
    until("it is relayed", || stage.in_flight() == 1);
    assert_eq!(Wire::to(stage.tcp).rest().0, b"");
    assert_eq!(stage.gateway().turned_away().per_client, 1);
}

/// Longer than the span over which the rate is averaged, twice.
const ENDED: Duration = Duration::from_secs(22);

#[test]
fn a_body_that_comes_too_slowly_is_408_and_nobody_else_is_slowed() {
    let origin = Origin::answering(|request| ok(request.body.len().to_string()));
    let stage =
        before([&origin]).limits("body_rate = \"100B/s\"").service("timeout.request = \"60s\"").start();
    let started = Instant::now();
    let head = "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\n";
    // One stops, one trickles, one is just fast enough.
    let [mut stopped, mut trickling, mut steady] = [0, 1, 2].map(|_| stage.connect());
    for client in [&mut stopped, &mut trickling] {
        client.send(head);
        client.send("x");
    }
    steady.send(head.replace("100000", "3300"));
    let mut quick = stage.connect();
    for second in 1..=11_u64 {
        until("the next second", || started.elapsed() >= Duration::from_secs(second));
        trickling.try_send("xxxxx");
        steady.send([b'x'; 300]);
        assert_eq!(quick.get("/").status(), 200);
    }
    for client in [&mut stopped, &mut trickling] {
        let answer = client.answer();
        assert_eq!((answer.status(), answer.header("Connection")), (408, Some("close")));
    }
    assert!(started.elapsed() < ENDED);
    assert_eq!(steady.answer().text(), "3300");
    stage.settles();
    assert_eq!(stage.instances[0].failures.total(), 0);
}

#[test]
fn who_waits_for_the_instance_is_not_too_slow() {
    let origin = Origin::start(|visit| {
        let head = visit.head().unwrap();
        let started = Instant::now();
        until("the instance is ready", || started.elapsed() > Duration::from_secs(11));
        if head.header("Expect").is_some() {
            visit.wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = visit.wire.take(head.header("Content-Length").unwrap().parse().unwrap());
        visit.wire.send(ok(body.len().to_string()));
    });
    let stage = before([&origin]).start();
    let mut expecting = stage.connect();
    expecting.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    // More than all buffers on the way hold.
    let much = 50_000_000;
    let mut pushing = stage.connect();
    pushing.send(format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {much}\r\n\r\n"));
    let mut writer = pushing.writer();
    let sending = std::thread::spawn(move || writer.send(vec![b'x'; much]));
    assert_eq!(expecting.answer().status(), 100);
    expecting.send("hello");
    assert_eq!(expecting.answer().text(), "5");
    assert_eq!(pushing.answer().text(), much.to_string());
    sending.join().unwrap();
}
