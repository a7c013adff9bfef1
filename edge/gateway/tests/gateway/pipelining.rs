//! Several requests on the way at once: each gets its own answer, in order.

use crate::stage::{Origin, before};
use crate::wire::{chunked, get, ok, post};

fn echo() -> Origin {
    Origin::answering(|request| ok(format!("{} {} {}", request.method(), request.path(), request.text())))
}

#[test]
fn fifty_requests_in_one_write_are_answered_in_order() {
    let origins = [echo(), echo()];
    let stage = before(&origins).start();
    let mut client = stage.connect();
    let request = |number: usize| match number % 3 {
        0 => get(&format!("/{number}")),
        1 => post(&format!("/{number}"), &"b".repeat(number)),
        _ => {
            let chunks = String::from_utf8(chunked(&b"c".repeat(number), &[3], "")).unwrap();
            format!("PUT /{number} HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
        }
    };
    client.send((0..50).map(request).collect::<String>());
    for number in 0..50 {
        let expected = match number % 3 {
            0 => format!("GET /{number} "),
            1 => format!("POST /{number} {}", "b".repeat(number)),
            _ => format!("PUT /{number} {}", "c".repeat(number)),
        };
        assert_eq!(client.answer().text(), expected);
    }
    stage.settles();
}

#[test]
fn a_request_right_after_a_chunked_body_is_the_next_one() {
    let origin = echo();
    let stage = before([&origin]).start();
    let mut client = stage.connect();
    client.send("POST /first HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab");
    // The end of the body and the next request come in one piece, after the first piece went on.
    crate::stage::until("the first request is with the instance", || stage.in_flight() == 1);
    client.send(format!("c\r\n0\r\n\r\n{}{}", get("/second"), post("/third", "x")));
    assert_eq!(client.answer().text(), "POST /first abc");
    assert_eq!(client.answer().text(), "GET /second ");
    assert_eq!(client.answer().text(), "POST /third x");
}

#[test]
fn a_request_without_a_route_costs_the_others_nothing() {
    let origin = echo();
    let stage = before([&origin]).listener("[[listener.route]]\nhost = \"app\"\nservice = \"app\"").start();
    let lost = "GET /lost HTTP/1.1\r\nHost: other\r\n\r\n";
    let lost_head = lost.replace("GET", "HEAD");
    let mut client = stage.connect();
    client.send([lost, &get("/1"), lost, lost, &post("/2", "x"), &lost_head, &get("/3")].concat());
    assert_eq!(client.answer().status(), 404);
    assert_eq!(client.answer().text(), "GET /1 ");
    assert_eq!(client.answer().status(), 404);
    assert_eq!(client.answer().status(), 404);
    assert_eq!(client.answer().text(), "POST /2 x");
    assert_eq!(client.answer_to("HEAD").status(), 404);
    assert_eq!(client.answer().text(), "GET /3 ");

    // In pieces, and with a body that nobody reads: the connection ends rather than take the body for a request.
    let mut client = stage.connect();
    let (front, back) = lost.split_at(20);
    client.send(front);
    client.send(back);
    assert_eq!(client.answer().status(), 404);
    client.send(format!(
        "POST /lost HTTP/1.1\r\nHost: other\r\nContent-Length: 100\r\n\r\n{}",
        get("/smuggled")
    ));
    let answer = client.answer();
    assert_eq!((answer.status(), answer.header("Connection")), (404, Some("close")));
    client.ends();
    assert!(origin.requests().iter().all(|request| request.path() != "/smuggled"));
}
