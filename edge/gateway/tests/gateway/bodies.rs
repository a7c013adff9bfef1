//! Bodies of every framing, both ways, byte for byte.

use std::thread;

use crate::stage::{Origin, before};
use crate::wire::{End, chunked, get, ok, pattern, post};

const MANY: usize = 10 * 1024 * 1024;
const SIZES: [usize; 5] = [1, 17, 65_536, 4_000, 300_000];

/// Answers with what it got, framed as the path says.
fn echo() -> Origin {
    Origin::answering(|request| match request.path() {
        "/chunked" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            answer.extend(chunked(&request.body, &SIZES, "X-Sum: 1\r\n"));
            answer
        }
        _ => ok(&request.body),
    })
}

#[test]
fn ten_mebibytes_go_both_ways_unchanged_whatever_the_framing() {
    let origin = echo();
    let stage = before([&origin]).start();
    let body = pattern(MANY);
    for path in ["/length", "/chunked"] {
        for framing in ["length", "chunked"] {
            let mut client = stage.connect();
            let head = format!("POST {path} HTTP/1.1\r\nHost: app\r\n");
            let request = match framing {
                "length" => [format!("{head}Content-Length: {MANY}\r\n\r\n").as_bytes(), &body].concat(),
                _ => {
                    let chunks = chunked(&body, &SIZES, "");
                    [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunks].concat()
                }
            };
            let mut writer = client.writer();
            let sending = thread::spawn(move || writer.send(request));
            let answer = client.answer();
            sending.join().unwrap();
            assert!(answer.whole && answer.body == body, "{path} {framing}: {} bytes", answer.body.len());
            // And the connection goes on.
            assert_eq!(client.get("/").status(), 200);
        }
    }
    stage.settles();
}

#[test]
fn a_connection_serves_on_after_answers_that_were_spliced_to_their_last_byte() {
    let body = pattern(1 << 20);
    let sent = body.clone();
    let origin = Origin::answering(move |_| ok(&sent));
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for _ in 0..5 {
        assert!(client.get("/").body == body, "the answer came unchanged");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn trailers_pass_both_ways_and_an_empty_chunked_body_is_a_body() {
    let origin = echo();
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for body in [&b""[..], b"x"] {
        client.send(
            "POST /chunked HTTP/1.1\r\nHost: app\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        client.send(chunked(body, &[1], "X-Up: yes\r\n"));
        let answer = client.answer();
        assert_eq!(answer.body, body);
        assert_eq!(answer.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
        let arrived = origin.requests().pop().unwrap();
        assert_eq!(arrived.trailers, [("X-Up".to_owned(), "yes".to_owned())]);
        assert_eq!(arrived.header("Trailer"), Some("X-Up"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_until_close_ends_the_clients_connection_too() {
    let origin = Origin::start(|visit| {
        visit.request().unwrap();
        visit.wire.send("HTTP/1.1 200 OK\r\n\r\nsome");
        visit.wire.send(pattern(300_000));
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send(get("/"));
    let answer = client.answer();
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(answer.whole && answer.body == [b"some".to_vec(), pattern(300_000)].concat());
}

#[test]
fn an_http_1_0_client_gets_a_chunked_answer_without_the_chunks() {
    let origin = Origin::answering(|request| {
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        if request.method() != "HEAD" {
            answer.extend(chunked(&pattern(400_000), &SIZES, "X-T: 1\r\n"));
        }
        answer
    });
    let stage = before([&origin]).start();
    for connection in ["close", "keep-alive"] {
        let mut client = stage.connect();
        client.send(format!("GET / HTTP/1.0\r\nConnection: {connection}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.header("Transfer-Encoding"), answer.header("Connection")), (None, Some("close")));
        assert!(answer.body == pattern(400_000), "{} bytes", answer.body.len());
    }
    let mut client = stage.connect();
    client.send("HEAD / HTTP/1.0\r\n\r\n");
    let answer = client.answer_to("HEAD");
    assert_eq!(answer.header("Transfer-Encoding"), None, "{answer:?}");
    client.ends();
}

#[test]
fn an_http_1_0_client_sees_by_a_reset_that_a_chunked_answer_was_cut() {
    let origin = Origin::start(|visit| {
        visit.request().unwrap();
        visit.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let (_, end) = client.rest();
    assert_eq!(end, End::Reset);
}

#[test]
fn what_has_no_body_has_none_whatever_its_length_says() {
    let origin = Origin::answering(|request| {
        let status = match request.path() {
            "/204" => "204 No Content",
            "/304" => "304 Not Modified\r\nContent-Length: 1000",
            _ => "200 OK\r\nContent-Length: 1000",
        };
        format!("HTTP/1.1 {status}\r\nX-Path: {}\r\n\r\n", request.path()).into()
    });
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    for (method, path) in [("GET", "/204"), ("GET", "/304"), ("HEAD", "/head"), ("HEAD", "/304")] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: app\r\n\r\n"));
        let answer = client.answer_to(method);
        assert_eq!(answer.header("X-Path"), Some(path));
        assert_eq!(answer.header("Content-Length").is_some(), path != "/204");
        assert_eq!(answer.header("Connection"), None);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_204_that_brings_a_body_all_the_same_poisons_nobody() {
    let origin = Origin::start(|visit| {
        visit.request();
        visit.wire.send("HTTP/1.1 204 No Content\r\nContent-Length: 38\r\n\r\n");
        visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        visit.request();
    });
    let stage = before([&origin]).start();
    for _ in 0..20 {
        let mut client = stage.connect();
        assert_eq!(client.get("/").status(), 204);
    }
    assert_eq!(origin.connections(), 20);
}

#[test]
fn a_body_in_small_pieces_arrives_whole() {
    let origin = echo();
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    let request = [
        "POST /chunked HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n".as_bytes(),
        &chunked(&pattern(300), &[7, 30], "X-T: 1\r\n"),
        post("/length", "after").as_bytes(),
    ]
    .concat();
    for byte in request.chunks(1) {
        client.send(byte);
    }
    assert_eq!(client.answer().body, pattern(300));
    assert_eq!(client.answer().body, b"after");
}
