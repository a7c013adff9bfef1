//! Clients that take more than their share, with the built binary: each is ended by itself, and nobody else notices.

use std::time::{Duration, Instant};

use everup_e2e::{Config, Connection, Everup, Origin, get, until};

/// Within this, by default, a client that only holds a place has lost it.
const BY_ITSELF: Duration = Duration::from_secs(30);

#[test]
fn slow_heads_and_slow_bodies_end_by_themselves_and_harm_nobody() {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()])).start();
    let body = "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    let chunked = "POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let slow = |begin: &str, more: &'static [u8]| {
        let mut client = Connection::open(everup.address());
        client.send(begin);
        (client, more)
    };
    let mut hostile = vec![
        slow("GET / HTTP/1.1\r\nX: ", b"y"),
        slow("GET / HTTP/1.1\r\nX: ", b""),
        slow(body, b"y"),
        slow(body, b""),
        slow(chunked, b"1\r\ny\r\n"),
        slow(chunked, b""),
    ];
    let started = Instant::now();
    for second in 1..=21 {
        until("the next second", || started.elapsed() >= Duration::from_secs(second));
        for (client, more) in &mut hostile {
            // Those that were ended take no more.
            drop(client.try_send(*more));
        }
        assert_eq!(get(everup.address(), "/fine").status, 200);
    }
    for (client, _) in &mut hostile {
        if let Ok(answer) = client.try_answer() {
            assert_eq!(answer.status, 408);
        }
    }
    assert!(started.elapsed() < BY_ITSELF, "{:?}", started.elapsed());
    assert!(origin.requests().iter().all(|request| request.target == "/fine" || !request.whole));
}

#[test]
fn a_client_with_too_many_connections_is_told_so() {
    let origin = Origin::start("a");
    let limits = "[limits]\nconnections_per_client = 2\n";
    let everup = Everup::with(Config::shop([origin.address()]).more(limits)).start();
    let mut clients: Vec<_> = (0..2).map(|_| Connection::open(everup.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(Connection::open(everup.address()).answer().status, 429);
    drop(clients);
    until("there is room again", || get(everup.address(), "/").status == 200);
}
