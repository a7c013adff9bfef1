//! What is not valid is refused, and nothing of it goes any further.

use crate::stage::{Origin, before};
use crate::wire::{Wire, get};

/// Sends it, and a valid request behind it; says which statuses came before the connection ended.
fn statuses(client: &mut Wire, bytes: &[u8]) -> Vec<u16> {
    client.try_send(bytes);
    client.try_send(get("/behind"));
    client.finish();
    let mut statuses = Vec::new();
    while let Some(answer) = client.try_answer("GET") {
        statuses.push(answer.status());
    }
    statuses
}

fn with(line: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: app\r\n{line}\r\n\r\n")
}

#[test]
fn a_malformed_head_is_refused_and_nothing_behind_it_is_read() {
    let cases = [
        (400, with("Content-Length: 5\r\nContent-Length: 5") + "hello"),
        (400, with("Content-Length: 5\r\ncontent-length: 6") + "hello"),
        (400, with("Content-Length: 5, 5") + "hello"),
        (400, with("Content-Length: -1")),
        (400, with("Content-Length: +5") + "hello"),
        (400, with("Content-Length: 0x5") + "hello"),
        (400, with("Content-Length: ")),
        (400, with("Content-Length: 18446744073709551617") + "h"),
        (400, with("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: chunked\r\nContent-Length: 5") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: chunked, identity") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: identity") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding:\x0bchunked") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding : chunked") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: \"chunked\"") + "0\r\n\r\n"),
        (400, with("Transfer-Encoding: chunked").replace("1.1", "1.0") + "0\r\n\r\n"),
        (400, with("X: a\r\n b")),
        (400, with("X: a\rb")),
        (400, with("X: a\0b")),
        (400, with("X: a\x7fb")),
        (400, with("X y: a")),
        (400, with(" X: a")),
        (400, with(": a")),
        (400, with("no colon")),
        (400, with("X: a").replace("\r\n\r\n", "\n\n")),
        (400, with("X: a").replacen("\r\n", "\n", 1)),
        (400, with("Host: app")),
        (400, with("Host: other")),
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".into()),
        (400, "GET http://other/ HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "GET app HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "GET * HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (505, "GET /a b HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "GET /a#b HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "GET  / HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "GET /\r\nHost: app\r\n\r\n".into()),
        (400, "G(T / HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "\nGET / HTTP/1.1\r\nHost: app\r\n\r\n".into()),
        (400, "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\r\n\r\n".into()),
        (405, "CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\n".into()),
        (431, with(&"X: a\r\n".repeat(101))),
        (505, "GET / HTTP/2.0\r\nHost: app\r\n\r\n".into()),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
    ];
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    for (status, bytes) in cases {
        let got = statuses(&mut stage.connect(), bytes.as_bytes());
        let expected = matches!((status, got.as_slice()), (status, [got]) if *got == status || (status == 505 && *got == 400));
        assert!(expected, "{bytes:?}: {got:?} instead of {status}");
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.requests());
    assert_eq!(stage.connect().get("/").status(), 200);
}

#[test]
fn a_broken_chunk_is_refused_and_what_is_behind_it_is_no_request() {
    let bodies = [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "x\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        ";a\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\rX\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n X: a\r\n\r\n",
        "0\r\nX: a\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: other\r\n\r\n",
    ];
    // Whole bodies only ever reach this instance if they are valid.
    let origin = Origin::start(|visit| {
        if visit.wire.request().is_some_and(|got| got.whole) {
            visit.request();
        }
    });
    let stage = before([&origin]).start();
    for body in bodies {
        let head = with("Transfer-Encoding: chunked");
        let got = statuses(&mut stage.connect(), format!("{head}{body}").as_bytes());
        assert_eq!(got, [400], "{body:?} with the head");

        let mut client = stage.connect();
        client.send(&head);
        crate::stage::until("the head is with the instance", || stage.in_flight() == 1);
        let got = statuses(&mut client, body.as_bytes());
        assert_eq!(got, [400], "{body:?} after the head");
        stage.settles();
    }
    let long_extension =
        format!("{}5;{}\r\nhello\r\n0\r\n\r\n", with("Transfer-Encoding: chunked"), "x".repeat(300));
    assert_eq!(statuses(&mut stage.connect(), long_extension.as_bytes()), [400]);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_malformed_answer_is_502_and_nothing_of_it_reaches_a_client() {
    let bad_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        bad_chunk,
    ];
    for answer in answers {
        let origin = Origin::answering(move |_| answer.into());
        let stage = before([&origin]).start();
        let mut client = stage.connect();
        let got = client.get("/");
        assert_eq!(got.status(), 502, "{answer:?}");
        assert!(got.header("X").is_none());
        // The request was whole, so the client's connection is as good as before.
        assert_eq!(client.get("/").status(), 502, "{answer:?}");
        stage.settles();
    }
}

#[test]
fn an_answer_whose_head_never_ends_is_502() {
    let origin = Origin::start(|visit| {
        visit.request();
        visit.wire.send("HTTP/1.1 200 OK\r\n");
        while visit.wire.try_send(format!("X: {}\r\n", "y".repeat(1000))) {}
    });
    let stage = before([&origin]).start();
    assert_eq!(stage.connect().get("/").status(), 502);
    stage.settles();
}
