//! Clients that take more than their share, with the built binary: each is ended by itself, and nobody else notices.

use std::time::{Duration, Instant};

use everup_e2e::api::InstanceState;
use everup_e2e::{Behaviour, Config, Connection, Everup, Origin, get, until};

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
fn a_client_that_takes_its_answer_drop_by_drop_loses_its_place_by_itself() {
    let origin = Origin::start("a");
    let much = 64 * 1024 * 1024;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {much}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + much, b'x');
    origin.on("/much", Behaviour::Raw(answer));
    let everup = Everup::with(Config::shop([origin.address()])).start();
    let mut client = Connection::open(everup.address());
    client.send("GET /much HTTP/1.1\r\nHost: x\r\n\r\n");
    let in_flight = || everup.status().services[0].instances[0].in_flight;
    until("its answer has begun", || in_flight() == 1);
    let started = Instant::now();
    let mut drops = 0;
    while in_flight() == 1 {
        assert!(started.elapsed() < BY_ITSELF, "{drops} drops");
        until("the next drop", || started.elapsed() >= Duration::from_millis(500 * drops));
        assert_eq!(client.bytes(1).len(), 1);
        drops += 1;
        assert_eq!(get(everup.address(), "/fine").status, 200);
    }
    assert!(started.elapsed() > Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn requests_that_wait_hold_only_so_much_memory() {
    let mut origin = Origin::start("a");
    let park = "park = { time = \"60s\", bytes = \"128KiB\" }";
    let mut everup = Everup::with(Config::shop([origin.address()]).set(park)).start();
    everup.wait_all_up();
    origin.die();
    everup.wait_for(&origin.address().to_string(), InstanceState::Down);
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let mut clients: Vec<_> = (0..12).map(|_| Connection::open(everup.address())).collect();
    for client in &mut clients {
        client.send(&request);
    }
    let shop = || everup.status().services.swap_remove(0);
    until("each waits or was refused", || shop().parked + shop().errors == 12);
    assert!(shop().errors > 0 && shop().parked > 0, "{:?}", shop().parked);
    origin.revive();
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.answer().status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
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
