//! Clients that are slow, on purpose or not, slow nobody else down and cost no memory.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::stage::{Origin, before, until, until_within};
use crate::wire::{chunked, get, ok, pattern, post};

const MANY: usize = 10 * 1024 * 1024;
/// Clients that do not read.
const SLOW: usize = 60;

#[test]
fn requests_that_come_byte_by_byte_are_like_any_other() {
    let origin = Origin::answering(|request| ok(format!("{} {}", request.path(), request.text())));
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    let put = "PUT /3 HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n".as_bytes();
    let put = [put, &chunked(b"three", &[2], "X-T: 1\r\n")].concat();
    let requests = [b"\r\n", get("/1").as_bytes(), post("/2", "two").as_bytes(), &put].concat();
    for byte in requests.chunks(1) {
        client.send(byte);
    }
    for expected in ["/1 ", "/2 two", "/3 three"] {
        assert_eq!(client.answer().text(), expected);
    }
}

#[test]
fn answers_that_come_byte_by_byte_are_like_any_other() {
    let origin = Origin::start(|visit| {
        while visit.request().is_some() {
            let many = "X-Many: fields\r\n".repeat(90);
            let head = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 3\r\n\r\n");
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
            for byte in [hints, &head, "all"].concat().as_bytes().chunks(1) {
                visit.wire.send(byte);
            }
        }
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send(get("/"));
        let hints = client.head().unwrap();
        assert_eq!((hints.status(), hints.header("Link")), (103, Some("</a>")));
        assert_eq!(client.answer().text(), "all");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_does_not_read_costs_little_memory_and_nobody_elses_time() {
    let much = Arc::new(ok(pattern(MANY)));
    let sent = Arc::clone(&much);
    let origin = Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            let done = match request.path() {
                "/much" => visit.wire.try_send(&*sent),
                _ => visit.wire.try_send(ok("little")),
            };
            if !done {
                return;
            }
        }
    });
    let stage = before([&origin]).start();
    stage.connect().get("/");
    let before = resident_bytes();
    let mut slow: Vec<_> = (0..SLOW).map(|_| stage.connect()).collect();
    for client in &mut slow {
        client.send(get("/much"));
        // Its answer has begun.
        assert_eq!(client.take(1000), much[..1000]);
    }
    let mut quick = stage.connect();
    for _ in 0..200 {
        assert_eq!(quick.get("/").text(), "little");
    }
    // Half of what the answers are; other tests of this process hold some memory meanwhile too.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < SLOW * MANY / 2, "{grown} bytes more");
    for client in slow.iter_mut().step_by(10) {
        assert!(client.take(much.len() - 1000) == much[1000..]);
    }
    drop(slow);
    stage.settles();
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_ended_when_it_was_idle_for_too_long() {
    let origin = Origin::answering(|_| ok(pattern(MANY)));
    let stage = before([&origin]).service("timeout.idle = \"500ms\"").start();
    let mut client = stage.connect();
    client.send(get("/much"));
    until("its answer has begun", || stage.in_flight() == 1);
    stage.settles();
    let (got, _) = client.rest();
    assert!(got.len() < MANY, "{} bytes", got.len());
}

/// Within which every client is ended that takes its answer drop by drop.
const ENDED: Duration = Duration::from_secs(30);

#[test]
fn a_client_that_takes_its_answer_drop_by_drop_is_ended_and_a_slow_one_is_not() {
    // More than all buffers on the way hold.
    let origin = Origin::answering(|_| ok(vec![b'x'; 64 * 1024 * 1024]));
    let stage = before([&origin]).start();
    let started = Instant::now();
    let read = |piece: usize, steps: u32| {
        let mut client = stage.connect();
        client.send(get("/"));
        // How many of so many pieces it got, five in a second.
        std::thread::spawn(move || {
            let step = |number: &u32| {
                until_within(ENDED, "it is time to read on", || {
                    started.elapsed().as_millis() >= u128::from(number * 200)
                });
                let mut bytes = vec![0; piece];
                std::io::Read::read_exact(&mut client.stream, &mut bytes).is_ok()
            };
            (0..steps).take_while(step).count()
        })
    };
    let _trickling = read(1, 145);
    // 10 kB/s, for longer than anyone is given who is slower than the limit.
    let slow = read(2_000, 145);
    until("both have their answers", || stage.in_flight() == 2);
    until_within(ENDED, "one is ended", || stage.in_flight() == 1);
    let ended = started.elapsed();
    assert!(ended > Duration::from_secs(10), "{ended:?}");
    assert_eq!(slow.join().unwrap(), 145);
    stage.settles();
}

fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
