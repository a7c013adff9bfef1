//! Request heads: the good, the refused (each for its own reason), and the unfinished.

use proptest::prelude::*;

use crate::http::request::{self, Request, status_for};
use crate::http::{Framing, Malformed, Parsed, Storage, Version};

/// Parses a whole head and looks at it.
fn read<T>(head: &str, look: impl FnOnce(&Request<'_, '_>) -> T) -> T {
    let mut storage = Storage::new();
    match request::parse(head.as_bytes(), &mut storage) {
        Ok(Parsed::Whole(request)) => look(&request),
        other => panic!("{head:?} is not a whole head: {other:?}"),
    }
}

fn refusal(head: impl AsRef<[u8]>) -> Option<Malformed> {
    let mut storage = Storage::new();
    request::parse(head.as_ref(), &mut storage).err()
}

#[test]
fn a_plain_request_is_read() {
    read("GET /a?b=c HTTP/1.1\r\nHost: h:80\r\nAccept: */*\r\n\r\nrest", |request| {
        assert_eq!((request.method, request.target, request.path()), ("GET", "/a?b=c", "/a"));
        assert_eq!(
            (request.host, request.framing, request.version),
            (Some("h:80"), Framing::Empty, Version::Http11)
        );
        assert!(
            request.keep_alive && request.is_idempotent() && !request.upgrade && !request.expect_continue
        );
        assert_eq!(request.head_bytes, "GET /a?b=c HTTP/1.1\r\nHost: h:80\r\nAccept: */*\r\n\r\n".len());
    });
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let cases = [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: foo, Close\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, line, keeps) in cases {
        let head = format!("GET / {version}\r\nHost: h\r\n{line}\r\n");
        assert_eq!(read(&head, |request| request.keep_alive), keeps, "{head:?}");
    }
}

#[test]
fn framing_is_what_the_fields_say() {
    let framing =
        |lines: &str| read(&format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"), |request| request.framing);
    assert_eq!(framing(""), Framing::Empty);
    assert_eq!(framing("Content-Length: 0\r\n"), Framing::Empty);
    assert_eq!(framing("content-LENGTH:  42 \r\n"), Framing::Length(42));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Framing::Chunked);
}

#[test]
fn every_ambiguous_length_is_refused() {
    let cases = [
        ("Content-Length: 1\r\nContent-Length: 2\r\n", Malformed::ContentLength),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Malformed::ContentLength),
        ("Content-Length: 1, 1\r\n", Malformed::ContentLength),
        ("Content-Length: +1\r\n", Malformed::ContentLength),
        ("Content-Length: -1\r\n", Malformed::ContentLength),
        ("Content-Length: 0x1\r\n", Malformed::ContentLength),
        ("Content-Length: 1 2\r\n", Malformed::ContentLength),
        ("Content-Length:\r\n", Malformed::ContentLength),
        ("Content-Length: 99999999999999999999\r\n", Malformed::ContentLength),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Malformed::BothLengths),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", Malformed::BothLengths),
        ("Transfer-Encoding: gzip, chunked\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: identity\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: chunked;a=b\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: \r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Malformed::Syntax),
    ];
    for (lines, why) in cases {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        assert_eq!(refusal(&head), Some(why), "{head:?}");
    }
    assert_eq!(
        refusal("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Some(Malformed::TransferEncoding)
    );
}

#[test]
fn every_crooked_line_is_refused() {
    let cases: [(&[u8], Malformed); 13] = [
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\n A: b\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x7f\r\n\r\n", Malformed::Syntax),
        (b"GET / HTTP/1.1\nHost: h\n\n", Malformed::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", Malformed::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", Malformed::LineEnding),
        (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", Malformed::Syntax),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Malformed::Syntax),
    ];
    for (head, why) in cases {
        assert_eq!(refusal(head), Some(why), "{:?}", String::from_utf8_lossy(head));
    }
}

#[test]
fn a_version_that_is_not_1_0_or_1_1_is_refused_with_505() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1"] {
        let head = format!("GET / {version}\r\nHost: h\r\n\r\n");
        assert_eq!(refusal(&head).map(status_for), Some(505), "{head:?}");
    }
}

#[test]
fn the_host_must_be_one_and_valid() {
    let with = |lines: &str| refusal(format!("GET / HTTP/1.1\r\n{lines}\r\n"));
    for good in ["h", "h:80", "[::1]", "[::1]:8080", "a-b.example.", "127.0.0.1:1", "a_b"] {
        assert_eq!(with(&format!("Host: {good}\r\n")), None, "{good}");
    }
    for bad in ["", "a b", "h:", "h:x", "h:99999", "u@h", "h/x", "[::1", "[x]", "[::1]x", "a,b", "h?x", "h#x"]
    {
        assert_eq!(with(&format!("Host: {bad}\r\n")), Some(Malformed::Host), "{bad}");
    }
    assert_eq!(with(""), Some(Malformed::Host));
    assert_eq!(with("Host: h\r\nHost: h\r\n"), Some(Malformed::Host));
    assert_eq!(refusal("GET / HTTP/1.0\r\n\r\n"), None);
}

#[test]
fn the_target_must_be_one_of_the_forms() {
    let with = |method: &str, target: &str| refusal(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    for (method, good) in [("GET", "/"), ("OPTIONS", "*"), ("GET", "http://h/x?y"), ("GET", "HTTPS://H")] {
        assert_eq!(with(method, good), None, "{good}");
    }
    for bad in ["x", "*", "//é", "/a#b", "ftp://h/", "http://", "http://h?x", "http://u@h/"] {
        assert!(with("GET", bad).is_some(), "{bad}");
    }
    assert_eq!(with("GET", "http://other/"), Some(Malformed::Host));
    assert_eq!(with("CONNECT", "h:443").map(status_for), Some(405));
}

#[test]
fn an_absolute_target_is_reduced_and_names_the_host() {
    read("GET http://H:8/p?q HTTP/1.1\r\nHost: h:8\r\n\r\n", |request| {
        assert_eq!((request.target, request.host), ("/p?q", Some("H:8")));
    });
    read("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", |request| assert_eq!(request.target, "/"));
}

#[test]
fn an_upgrade_needs_both_headers_and_is_never_http2() {
    let upgrades =
        |lines: &str| read(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"), |request| request.upgrade);
    assert!(upgrades("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(!upgrades("Upgrade: websocket\r\n"));
    assert!(!upgrades("Connection: Upgrade\r\n"));
    assert!(!upgrades(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAA\r\n"
    ));
    assert!(!upgrades("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"));
    assert!(!upgrades("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"));
    assert!(!upgrades("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: H2C-14\r\n"));
}

#[test]
fn more_header_lines_than_the_limit_are_refused_with_431() {
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(crate::http::HEADER_COUNT));
    assert_eq!(refusal(&head).map(status_for), Some(431));
}

#[test]
fn every_beginning_of_a_head_is_unfinished_and_no_more() {
    let head = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    for end in 0..head.len() {
        let mut storage = Storage::new();
        let parsed = request::parse(&head.as_bytes()[..end], &mut storage);
        assert!(matches!(parsed, Ok(Parsed::Partial)), "{:?}: {parsed:?}", &head[..end]);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut storage = Storage::new();
        let _ = request::parse(&bytes, &mut storage);
    }

    #[test]
    fn one_changed_byte_never_yields_a_head_that_reaches_past_its_blank_line(at in 0usize..70, byte: u8) {
        let mut head = b"POST /path HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nA: b\r\n\r\nabcGET / HTTP/1.1".to_vec();
        head[at] = byte;
        let mut storage = Storage::new();
        if let Ok(Parsed::Whole(request)) = request::parse(&head, &mut storage) {
            prop_assert!(head[..request.head_bytes].ends_with(b"\r\n\r\n"));
            prop_assert!(memchr::memmem::find(&head[..request.head_bytes - 1], b"\r\n\r\n").is_none());
        }
    }
}
