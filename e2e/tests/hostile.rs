//! Clients that mean harm, or are broken: none of them stops the service, reaches an instance with something
//! ambiguous, or makes the worker die.

use everup_e2e::chance::{Chance, seed};
use everup_e2e::{Config, Connection, Everup, Origin, get, until};

fn service(limits: &str) -> (Origin, Everup) {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()]).more(limits)).start();
    (origin, everup)
}

/// The service answers as before, from the same worker.
#[track_caller]
fn unharmed(everup: &Everup) {
    assert_eq!(get(everup.address(), "/fine").status, 200);
    assert_eq!(everup.status().worker_restarts, 0);
}

/// Sends this and expects 400 and the end of the connection.
#[track_caller]
fn refused(everup: &Everup, bytes: &str) {
    let mut connection = Connection::open(everup.address());
    // It may be refused before all of it is sent.
    drop(connection.try_send(bytes));
    let answer = connection.answer();
    assert_eq!(answer.status, 400, "{bytes:?}");
    assert!(connection.is_closed(), "{bytes:?}");
}

#[test]
fn whatever_could_smuggle_a_request_is_400_and_the_end_of_the_connection() {
    let (origin, everup) = service("");
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{body}");
    for bytes in [
        post("Content-Length: 5\r\nContent-Length: 6", "hello!"),
        post("Content-Length: 5, 6", "hello!"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
        post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked", "0\r\n\r\n"),
        post("Content-Length : 5", "hello"),
        post("Content-Length: +5", "hello"),
        post("Content-Length: 0x5", "hello"),
        post("Content-Length: 5 5", "hello"),
        post("Content-Length: 99999999999999999999999", "hello"),
        post("X-Folded: a\r\n b\r\nContent-Length: 0", ""),
        post("X-Bare: a\rb\r\nContent-Length: 0", ""),
        post("X-Nul: a\0b\r\nContent-Length: 0", ""),
        post("X Space: a\r\nContent-Length: 0", ""),
        post(" X-Leading: a\r\nContent-Length: 0", ""),
        post(": nameless\r\nContent-Length: 0", ""),
        post("no colon\r\nContent-Length: 0", ""),
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "G@T / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        refused(&everup, &bytes);
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.requests());
    unharmed(&everup);
}

#[test]
fn what_stands_where_the_version_should_be_is_refused_too() {
    let (origin, everup) = service("");
    for version in ["b HTTP/1.1", "HTTP/2.0", "HTTP/1.10", "http/1.1", "HTTP/1.1 "] {
        let mut connection = Connection::open(everup.address());
        connection.send(format!("GET / {version}\r\nHost: x\r\n\r\n"));
        let answer = connection.answer();
        assert!(matches!(answer.status, 400 | 505), "{version:?}: {answer:?}");
        assert!(connection.is_closed(), "{version:?}");
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.requests());
    unharmed(&everup);
}

#[test]
fn broken_chunks_are_400_or_the_end_and_never_a_second_request() {
    let (origin, everup) = service("");
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "g\r\n",
        "5\r\nhelloX0\r\n\r\n",
        "\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let mut connection = Connection::open(everup.address());
        drop(connection.try_send(format!(
            "POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        )));
        if let Ok(answer) = connection.try_answer() {
            assert_eq!(answer.status, 400, "{chunks:?}");
        }
        assert!(connection.is_closed(), "{chunks:?}");
    }
    assert!(origin.requests().iter().all(|request| request.target != "/smuggled" && !request.whole));
    unharmed(&everup);
}

#[test]
fn random_bytes_crash_and_block_nothing() {
    let (_origin, everup) = service("");
    let seed = seed();
    let mut chance = Chance::new(seed);
    let pieces: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"5\r\n",
        b"POST ",
    ];
    for _ in 0..200 {
        let mut connection = Connection::open(everup.address());
        for _ in 0..chance.below(12) {
            let noise = chance.bytes(64);
            let piece = if chance.below(2) == 0 { &noise[..] } else { pieces[chance.below(pieces.len())] };
            if connection.try_send(piece).is_err() {
                break;
            }
        }
    }
    let status = everup.try_status();
    assert!(status.is_some_and(|status| status.worker_restarts == 0), "EVERUP_SEED={seed:x}");
    assert_eq!(get(everup.address(), "/fine").status, 200, "EVERUP_SEED={seed:x}");
}

#[test]
fn half_requests_are_ended_and_block_nobody() {
    let (_origin, everup) = service("[limits]\nhead_time = \"1s\"\n");
    let whole = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel";
    let mut halves: Vec<Connection> = (1..whole.len())
        .map(|end| {
            let mut connection = Connection::open(everup.address());
            connection.send(&whole[..end]);
            connection
        })
        .collect();
    unharmed(&everup);
    let mut slow = halves.remove(10);
    // Whether with 408 or without a word: it ends.
    until("the half head is ended", || slow.try_answer().is_err() || slow.is_closed());
    unharmed(&everup);
}

#[test]
fn a_head_beyond_the_limit_is_refused() {
    let (origin, everup) = service("");
    for head in [format!("X: {}\r\n", "a".repeat(64 * 1024)), "X-Many: y\r\n".repeat(6 * 1024)] {
        let mut connection = Connection::open(everup.address());
        drop(connection.try_send(format!("GET /huge HTTP/1.1\r\nHost: x\r\n{head}\r\n")));
        match connection.try_answer() {
            Ok(answer) => assert!(matches!(answer.status, 400 | 431), "{answer:?}"),
            // Refused so early that the answer was overtaken by the reset.
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(origin.count(), 0);
    unharmed(&everup);
}

#[test]
fn endless_chunks_do_not_stop_the_service() {
    let (_origin, everup) = service("[limits]\nbody_bytes = \"1MiB\"\n");
    let mut connection = Connection::open(everup.address());
    connection.send("POST /endless HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let mut sent = 0;
    while connection.try_send(&chunk).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "it takes chunks without end");
    }
    if let Ok(answer) = connection.try_answer() {
        assert!(matches!(answer.status, 400 | 413), "{answer:?}");
    }
    unharmed(&everup);
}

#[test]
fn many_idle_connections_stop_nobody() {
    let (_origin, everup) = service("");
    let idle: Vec<Connection> = (0..500).map(|_| Connection::open(everup.address())).collect();
    unharmed(&everup);
    drop(idle);
    unharmed(&everup);
}

#[test]
fn an_instance_that_talks_nonsense_is_a_502() {
    let (origin, everup) = service("");
    for nonsense in [
        "220 smtp.example ESMTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        origin.on("/nonsense", everup_e2e::Behaviour::Raw(nonsense.as_bytes().to_vec()));
        assert_eq!(
            everup_e2e::request(everup.address(), "POST", "/nonsense", &[], "x").status,
            502,
            "{nonsense:?}"
        );
    }
    unharmed(&everup);
}
