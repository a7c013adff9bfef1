//! The heads that go on, line by line.

use proptest::prelude::*;

use crate::http::forward::{self, Answer, Origin};
use crate::http::request;
use crate::http::response::{self, Asked};
use crate::http::{Parsed, Storage, Version};

const ORIGIN: Origin<'_> = Origin {
    client: "192.0.2.7",
    scheme: "http",
    request_id: "id-1",
    fallback_host: "fallback",
    certificate_subject: None,
    trace_parent: None,
};

const KEEP: Answer<'_> =
    Answer { client: Version::Http11, close: false, confirm_keep_alive: false, set_cookie: None, hsts: None };

fn forwarded(head: &str) -> String {
    let mut storage = Storage::new();
    let Ok(Parsed::Whole(request)) = request::parse(head.as_bytes(), &mut storage) else {
        panic!("{head:?} is not a whole head")
    };
    let mut out = Vec::new();
    forward::request(&mut out, &request, head.as_bytes(), ORIGIN);
    String::from_utf8(out).expect("the head was text")
}

fn answered(head: &str, asked: Asked, answer: Answer<'_>) -> (bool, String) {
    let mut storage = Storage::new();
    let Ok(Parsed::Whole(response)) = response::parse(head.as_bytes(), &mut storage, asked) else {
        panic!("{head:?} is not a whole head")
    };
    let mut out = Vec::new();
    forward::response(&mut out, &response, head.as_bytes(), answer);
    (forward::response_is_untouched(&response, answer), String::from_utf8(out).expect("the head was text"))
}

const OURS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Request-Id: id-1\r\n\r\n";

#[test]
fn untouched_lines_stay_as_they_were_sent() {
    let head = "GET /a%2f?x HTTP/1.1\r\nhost: h\r\nX-ODD:   spaced\tvalue  \r\nAccept: */*\r\n\r\nBODY";
    let wanted =
        format!("GET /a%2f?x HTTP/1.1\r\nhost: h\r\nX-ODD:   spaced\tvalue  \r\nAccept: */*\r\n{OURS}");
    assert_eq!(forwarded(head), wanted);
}

#[test]
fn hop_by_hop_fields_and_those_that_connection_names_are_left_out() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nA: b\r\n\r\n";
    assert_eq!(forwarded(head), format!("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n{OURS}"));
}

#[test]
fn connection_cannot_make_us_drop_what_the_request_means() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: host, content-length, cookie, authorization\r\nContent-Length: 3\r\nCookie: a\r\nAuthorization: b\r\n\r\n";
    let wanted =
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nCookie: a\r\nAuthorization: b\r\n{OURS}");
    assert_eq!(forwarded(head), wanted);
}

#[test]
fn forwarded_for_grows_by_one_and_the_other_claims_are_replaced() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nA: b\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Host: evil\r\nX-Request-Id: \r\n\r\n";
    let wanted = "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3, 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Request-Id: id-1\r\n\r\n";
    assert_eq!(forwarded(head), wanted);
}

#[test]
fn what_an_application_would_take_for_our_fields_is_left_out() {
    for line in
        ["X_Forwarded_For: 6.6.6.6", "x-forwarded_proto: https", "X_Forwarded_Host: evil", "X_REQUEST_ID: 1"]
    {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\nA_B: c\r\n\r\n");
        assert_eq!(forwarded(&head), format!("GET / HTTP/1.1\r\nHost: h\r\nA_B: c\r\n{OURS}"));
    }
}

#[test]
fn an_upgrade_is_asked_for_anew() {
    let head = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    let wanted = format!(
        "GET /ws HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{OURS}"
    );
    assert_eq!(forwarded(head), wanted);
}

#[test]
fn http_1_0_becomes_1_1_and_gets_a_host() {
    let wanted = "GET / HTTP/1.1\r\nA: b\r\nHost: fallback\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Request-Id: id-1\r\n\r\n";
    assert_eq!(forwarded("GET / HTTP/1.0\r\nA: b\r\n\r\n"), wanted);
}

#[test]
fn an_absolute_target_goes_on_in_origin_form() {
    let forwarded = forwarded("GET http://h/p HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(forwarded.starts_with("GET /p HTTP/1.1\r\nHost: h\r\n"), "{forwarded}");
}

#[test]
fn a_plain_answer_is_untouched() {
    let get = Asked { head: false, upgrade: false };
    let (untouched, _) = answered("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", get, KEEP);
    assert!(untouched);
}

#[test]
fn an_answer_that_needs_a_change_gets_just_that() {
    let get = Asked { head: false, upgrade: false };
    let text = "HTTP/1.1 200 Fine, thanks\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nA: b\r\nKeep-Alive: timeout=5\r\nContent-Length: 1\r\n\r\n";
    let (untouched, head) = answered(text, get, KEEP);
    assert!(!untouched);
    assert_eq!(head, "HTTP/1.1 200 Fine, thanks\r\nA: b\r\nContent-Length: 1\r\n\r\n");
    let answer = Answer { close: true, set_cookie: Some("c=1"), ..KEEP };
    let (untouched, head) = answered("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", get, answer);
    assert!(!untouched);
    assert_eq!(head, "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\nSet-Cookie: c=1\r\n\r\n");
}

#[test]
fn an_http_1_0_answer_goes_on_as_1_1_and_a_1_0_client_gets_no_chunks() {
    let get = Asked { head: false, upgrade: false };
    let (_, head) = answered("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", get, KEEP);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let answer = Answer { client: Version::Http10, close: true, ..KEEP };
    let (_, head) = answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", get, answer);
    assert_eq!(head, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

#[test]
fn switching_protocols_keeps_the_upgrade() {
    let asked = Asked { head: false, upgrade: true };
    let text = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let (_, head) = answered(text, asked, KEEP);
    assert_eq!(
        head,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\n\r\n"
    );
}

proptest! {
    /// What we forward reads back as the same request, and nothing a client sends adds a second one.
    #[test]
    fn a_forwarded_request_reads_as_the_same_one(
        lines in proptest::collection::vec(("[A-Za-z-]{1,20}", "[ -~]{0,30}"), 0..8),
        connection in proptest::option::of("[a-zA-Z, -]{0,30}"),
    ) {
        let mut head = String::from("PUT /x?y HTTP/1.1\r\nHost: h\r\n");
        for (name, value) in &lines {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(connection) = &connection {
            head += &format!("Connection: {connection}\r\n");
        }
        head += "Content-Length: 7\r\n\r\n";
        let mut storage = Storage::new();
        let Ok(Parsed::Whole(before)) = request::parse(head.as_bytes(), &mut storage) else { return Ok(()) };
        let mut out = Vec::new();
        forward::request(&mut out, &before, head.as_bytes(), ORIGIN);
        let mut storage = Storage::new();
        let Ok(Parsed::Whole(after)) = request::parse(&out, &mut storage) else {
            return Err(TestCaseError::fail(format!("{:?}", String::from_utf8_lossy(&out))));
        };
        prop_assert_eq!(after.head_bytes, out.len());
        prop_assert_eq!((after.method, after.target, after.host), (before.method, before.target, before.host));
        prop_assert_eq!(after.framing, before.framing);
    }
}
