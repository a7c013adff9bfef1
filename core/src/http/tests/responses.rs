//! Answers' heads: how long the body is, and what poisons a connection.

use proptest::prelude::*;

use crate::http::response::{self, Asked, Response};
use crate::http::{Framing, Malformed, Parsed, Storage, head_may_end};

const GET: Asked = Asked { head: false, upgrade: false };

fn read<T>(head: &str, asked: Asked, look: impl FnOnce(&Response<'_, '_>) -> T) -> T {
    let mut storage = Storage::new();
    match response::parse(head.as_bytes(), &mut storage, asked) {
        Ok(Parsed::Whole(response)) => look(&response),
        other => panic!("{head:?} is not a whole head: {other:?}"),
    }
}

fn refusal(head: &[u8], asked: Asked) -> Option<Malformed> {
    let mut storage = Storage::new();
    response::parse(head, &mut storage, asked).err()
}

#[test]
fn the_body_is_as_long_as_rfc_9112_section_6_3_says() {
    let head = Asked { head: true, ..GET };
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", GET, Framing::Length(5)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GET, Framing::Chunked),
        ("HTTP/1.1 200 OK\r\n\r\n", GET, Framing::UntilClose),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, Framing::Empty),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head, Framing::Empty),
        ("HTTP/1.1 204 No Content\r\n\r\n", GET, Framing::Empty),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", GET, Framing::Empty),
        ("HTTP/1.1 100 Continue\r\n\r\n", GET, Framing::Empty),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", GET, Framing::Empty),
    ];
    for (text, asked, framing) in cases {
        assert_eq!(read(text, asked, |response| response.framing), framing, "{text:?}");
    }
}

#[test]
fn an_answer_that_ends_with_the_connection_does_not_keep_it() {
    assert!(!read("HTTP/1.1 200 OK\r\n\r\n", GET, |response| response.keep_alive));
    assert!(read("HTTP/1.1 204 No Content\r\n\r\n", GET, |response| response.keep_alive));
    assert!(!read("HTTP/1.0 204 No Content\r\n\r\n", GET, |response| response.keep_alive));
}

#[test]
fn a_204_that_announces_a_body_does_not_keep_the_connection() {
    for length in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let head = format!("HTTP/1.1 204 No Content\r\n{length}\r\n\r\n");
        assert!(!read(&head, GET, |response| response.keep_alive), "{length}");
    }
    assert!(read("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", GET, |response| response.keep_alive));
    assert!(read("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", GET, |response| response.keep_alive));
}

#[test]
fn a_head_that_comes_in_pieces_may_end_where_it_ends_and_nowhere_before() {
    let head = b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n";
    for seen in 0..head.len() {
        for end in seen + 1..=head.len() {
            let some = &head[..end];
            assert_eq!(head_may_end(some, seen), end == head.len(), "{} {seen}", some.escape_ascii());
        }
    }
    // Not a valid end, which is for the parser to say.
    assert!(head_may_end(b"HTTP/1.1 200 OK\n\n", 16));
}

#[test]
fn an_answer_that_begins_with_an_empty_line_is_refused_at_once() {
    for begin in ["\r", "\n", "\r\n", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        assert_eq!(refusal(begin.as_bytes(), GET), Some(Malformed::Syntax), "{begin:?}");
    }
}

#[test]
fn an_answer_with_two_possible_ends_is_refused() {
    let cases: [&[u8]; 7] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
    ];
    for head in cases {
        assert!(refusal(head, GET).is_some(), "{:?}", String::from_utf8_lossy(head));
    }
}

#[test]
fn a_status_outside_100_to_599_is_refused_and_101_too_unless_asked_for() {
    for status in ["099", "600", "999"] {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(refusal(head.as_bytes(), GET), Some(Malformed::Status), "{status}");
    }
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(refusal(switching, GET), Some(Malformed::Status));
    assert_eq!(refusal(switching, Asked { upgrade: true, ..GET }), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), head: bool) {
        let mut storage = Storage::new();
        let _ = response::parse(&bytes, &mut storage, Asked { head, upgrade: false });
    }
}
