//! Answers that come before the request is over.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::stage::{Gate, Origin, before, until};
use crate::wire::{End, Wire, chunked, pattern};

#[test]
fn an_answer_while_the_body_still_comes_reaches_the_client() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        // Closing with the body unread resets the connection: the answer must survive that.
    });
    let stage = before([&origin]).start();
    for _ in 0..20 {
        let mut client = stage.connect();
        client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10000000\r\n\r\n");
        let mut writer = client.writer();
        let sending = thread::spawn(move || {
            let piece = pattern(1000);
            (0..300).all(|_| writer.try_send(&piece))
        });
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
        assert_eq!(answer.header("Connection"), Some("close"));
        sending.join().unwrap();
        client.ends();
    }
    stage.settles();
}

#[test]
fn a_client_that_reads_nothing_before_all_is_sent_sees_an_early_answer_and_no_reset() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
    });
    let stage = before([&origin]).limits("body_bytes = \"30MiB\"").start();
    // Refused by the instance, and by everup itself.
    for length in [20_000_000, 40_000_000] {
        let (mut client, body) = (stage.connect(), pattern(length));
        client.send(format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {length}\r\n\r\n"));
        client.send(body);
        assert_eq!(client.answer().status(), 413);
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
}

const ENOUGH: usize = 64 << 20;

const OPENED: &str =
    "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

/// An instance that says this when it has swallowed [`ENOUGH`], and swallows on.
fn swallowing(says: &'static str) -> Origin {
    Origin::start(move |visit| {
        let (mut room, mut all) = (vec![0; 1 << 20], 0);
        if visit.head().unwrap().method() == "GET" {
            visit.wire.send(OPENED);
        }
        while let Ok(read @ 1..) = visit.wire.stream.read(&mut room) {
            if (all..all + read).contains(&ENOUGH) {
                visit.wire.try_send(says);
            }
            all += read;
        }
    })
}

/// Sends without a pause until so many bytes have come; how many went.
fn flood(client: &mut Wire, bytes: usize) -> usize {
    let over = AtomicBool::new(false);
    let mut writer = client.writer();
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let piece = pattern(1 << 20);
            (0..).take_while(|_| !over.load(Ordering::Relaxed) && writer.try_send(&piece)).count() << 20
        });
        client.take(bytes);
        over.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    })
}

#[test]
fn who_sends_without_a_pause_does_not_keep_off_what_comes_back() {
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes";
    let origin = swallowing(said);
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000000000\r\n\r\n");
    let mut tunnel = stage.connect();
    tunnel.send("GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.head().unwrap().status(), 101);
    let sent = [flood(&mut client, said.len()), flood(&mut tunnel, said.len())];
    // Besides what has to come first, some MiB fit into the buffers on the way.
    assert!(sent.iter().all(|sent| *sent < 3 * ENOUGH), "{sent:?}");
}

#[test]
fn an_echo_streams_in_full_duplex() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            let line = String::from_utf8(visit.wire.take_until(b"\r\n").unwrap()).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let piece = visit.wire.take(size + 2);
            visit.wire.send([line.as_bytes(), &piece].concat());
            if size == 0 {
                return;
            }
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    for round in 1..200 {
        let piece = pattern(round * 37);
        let chunk = chunked(&piece, &[piece.len()], "");
        let chunk = &chunk[..chunk.len() - 5];
        client.send(chunk);
        assert_eq!(client.take(chunk.len()), chunk);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.take(5), b"0\r\n\r\n");
    client.ends();
    stage.settles();
}

#[test]
fn an_upload_goes_on_behind_the_answers_head_for_as_long_as_bytes_move() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        let head = visit.head().unwrap();
        visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        let body = visit.wire.take(head.header("Content-Length").unwrap().parse().unwrap());
        assert_eq!(body.len(), 400);
        passes.pass();
        visit.wire.send("done");
    });
    let stage = before([&origin]).service("timeout = { idle = \"400ms\" }").start();
    let mut client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 400\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    // Four bytes every 10 ms or so: a second in all, never silent.
    let started = std::time::Instant::now();
    for sent in 1..=100_u32 {
        client.send("four");
        until("it is time for the next bytes", || started.elapsed().as_millis() >= u128::from(sent) * 10);
    }
    gate.open();
    assert_eq!(client.take(4), b"done");
}
