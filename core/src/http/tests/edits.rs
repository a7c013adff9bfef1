//! Heads that go on with edits of a route, and without our cookie.

use crate::http::edit::HeadEdits;
use crate::http::forward::{self, Answer, Changes, Origin};
use crate::http::response::{self, Asked};
use crate::http::{Parsed, Storage, Version, request};

const ORIGIN: Origin<'_> = Origin {
    client: "192.0.2.7",
    scheme: "http",
    request_id: "id-1",
    fallback_host: "fallback",
    trace_parent: None,
    certificate_subject: None,
};

const OURS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Request-Id: id-1\r\n\r\n";

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeadEdits {
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let remove: Vec<String> = remove.iter().map(|name| (*name).to_owned()).collect();
    HeadEdits::new(&owned(set), &owned(add), &remove)
}

fn forwarded(head: &str, changes: Changes<'_>) -> String {
    let mut storage = Storage::new();
    let Ok(Parsed::Whole(request)) = request::parse(head.as_bytes(), &mut storage) else {
        panic!("{head:?} is not a whole head")
    };
    let mut out = Vec::new();
    forward::changed_request(&mut out, &request, head.as_bytes(), ORIGIN, changes);
    String::from_utf8(out).expect("the head was text")
}

fn answered(head: &str, client: Version, set_cookie: Option<&str>, edits: &HeadEdits) -> String {
    let answer = Answer { client, close: false, confirm_keep_alive: false, set_cookie, hsts: None };
    written(head, answer, edits)
}

fn answered_over_tls(head: &str, edits: &HeadEdits) -> String {
    let (client, hsts) = (Version::Http11, Some("max-age=9"));
    let answer = Answer { client, close: false, confirm_keep_alive: false, set_cookie: None, hsts };
    written(head, answer, edits)
}

fn written(head: &str, answer: Answer<'_>, edits: &HeadEdits) -> String {
    let mut storage = Storage::new();
    let asked = Asked { head: false, upgrade: false };
    let Ok(Parsed::Whole(response)) = response::parse(head.as_bytes(), &mut storage, asked) else {
        panic!("{head:?} is not a whole head")
    };
    let mut out = Vec::new();
    forward::edited_response(&mut out, &response, head.as_bytes(), answer, Some(edits));
    String::from_utf8(out).expect("the head was text")
}

#[test]
fn fields_are_set_added_and_left_out() {
    let edits = edits(&[("X-A", "ours")], &[("X-B", "two")], &["X-C"]);
    let head = "GET / HTTP/1.1\r\nHost: h\r\nx-a: theirs\r\nX-B: one\r\nX-C: 1\r\nX_A: theirs\r\nx_c: 2\r\nZ: z\r\n\r\n";
    let wanted = format!("GET / HTTP/1.1\r\nHost: h\r\nX-B: one\r\nZ: z\r\nX-A: ours\r\nX-B: two\r\n{OURS}");
    assert_eq!(forwarded(head, Changes { edits: Some(&edits), ..Changes::default() }), wanted);
}

#[test]
fn the_route_and_the_instance_come_before_our_word_about_https() {
    let head = |line: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{line}\r\n");
    let theirs = "Strict-Transport-Security: max-age=1\r\n";
    let set = edits(&[("strict-transport-security", "max-age=2")], &[], &[]);
    let remove = edits(&[], &[], &["Strict-Transport-Security"]);
    let none = edits(&[], &[], &[]);
    for (line, edits, wanted) in [
        ("", &none, "Strict-Transport-Security: max-age=9\r\n"),
        (theirs, &none, theirs),
        (theirs, &set, "strict-transport-security: max-age=2\r\n"),
        (theirs, &remove, "Strict-Transport-Security: max-age=9\r\n"),
    ] {
        assert_eq!(answered_over_tls(&head(line), edits), head(wanted), "{line:?} {edits:?}");
    }
}

#[test]
fn a_connection_header_cannot_take_away_what_is_set() {
    let edits = edits(&[("X-A", "ours")], &[], &[]);
    let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-A\r\nX-A: theirs\r\n\r\n";
    let wanted = format!("GET / HTTP/1.1\r\nHost: h\r\nX-A: ours\r\n{OURS}");
    assert_eq!(forwarded(head, Changes { edits: Some(&edits), ..Changes::default() }), wanted);
}

#[test]
fn the_target_is_replaced_and_the_rest_stays() {
    let changes = Changes { target: Some("/new?x"), ..Changes::default() };
    assert_eq!(
        forwarded("GET /old HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n", changes),
        format!("GET /new?x HTTP/1.1\r\nHost: h\r\nA: b\r\n{OURS}")
    );
}

#[test]
fn our_cookie_does_not_reach_the_instance() {
    let changes = Changes { without_cookie: Some("everup"), ..Changes::default() };
    let sent =
        |cookies: &str| forwarded(&format!("GET / HTTP/1.1\r\nHost: h\r\n{cookies}Z: z\r\n\r\n"), changes);
    let wanted = |cookies: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{cookies}Z: z\r\n{OURS}");
    assert_eq!(sent("Cookie: everup=x\r\n"), wanted(""));
    assert_eq!(sent("Cookie:   a=1;b=2\t\r\n"), wanted("Cookie:   a=1;b=2\t\r\n"));
    assert_eq!(sent("cookie: a=1; everup=x; b=2\r\n"), wanted("cookie: a=1; b=2\r\n"));
    assert_eq!(sent("Cookie: __Host-everup=x; a=1\r\nCookie: everup=y\r\n"), wanted("Cookie: a=1\r\n"));
}

#[test]
fn answers_are_edited_too_and_our_cookie_comes_after() {
    let edits = edits(&[("Server", "shop")], &[("Vary", "Cookie")], &["Set-Cookie"]);
    let head = "HTTP/1.1 200 OK\r\nserver: x\r\nSet-Cookie: a=1\r\nVary: Accept\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(
        answered(head, Version::Http11, Some("everup=x"), &edits),
        "HTTP/1.1 200 OK\r\nVary: Accept\r\nContent-Length: 2\r\nServer: shop\r\nVary: Cookie\r\nSet-Cookie: everup=x\r\n\r\n"
    );
}

#[test]
fn edits_change_nothing_about_where_an_answer_ends() {
    let edits = edits(&[("X-A", "1")], &[], &[]);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        answered(head, Version::Http11, None, &edits),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n"
    );
    assert_eq!(answered(head, Version::Http10, None, &edits), "HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n");
}
