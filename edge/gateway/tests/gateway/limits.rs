//! Every limit, and what happens beyond it.

use crate::stage::{Origin, before, until};
use crate::wire::{chunked, get, ok};

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
    let started = std::time::Instant::now();
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
