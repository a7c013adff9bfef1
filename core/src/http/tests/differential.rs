//! The scanner against httparse, which read heads here before and is read by many: whatever one takes the other takes, with
//! the same parts, and ours refuses what it always refused.

use proptest::prelude::*;

use super::super::head::{Fields, HEADER_COUNT, Storage};
use super::super::scan;
use super::super::{Headers, Malformed, Version};

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// What a parser says of a head.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    /// The first line's parts, the header lines, the length.
    Whole(Vec<Vec<u8>>, Lines, usize),
    Partial,
    Refused,
}

fn scanned(bytes: &[u8], answer: bool) -> Says {
    let inner = || -> Result<Option<Says>, Malformed> {
        let (first, end) = if answer {
            let Some(line) = scan::status_line(bytes)? else { return Ok(None) };
            (vec![version(line.version), line.status.to_string().into()], line.end)
        } else {
            let Some(line) = scan::request_line(bytes)? else { return Ok(None) };
            (vec![line.method.into(), line.target.into(), version(line.version)], line.end)
        };
        let mut storage = Storage::new();
        // What the fields mean is not compared: whoever is refused for that is taken by httparse.
        let Some((count, length)) = scan::header_lines(bytes, end, &mut storage, &mut Fields::default())?
        else {
            return Ok(None);
        };
        let headers = Headers { buffer: bytes, lines: &storage.0[..count] };
        let lines = headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Ok(Some(Says::Whole(first, lines, length)))
    };
    match inner() {
        Ok(Some(whole)) => whole,
        Ok(None) => Says::Partial,
        Err(_) => Says::Refused,
    }
}

fn version(version: Version) -> Vec<u8> {
    if version == Version::Http11 { b"1".into() } else { b"0".into() }
}

/// httparse and what stood around it: every line ends with CR LF, an answer begins with no empty line.
fn parsed(bytes: &[u8], answer: bool) -> Says {
    let mut room = [httparse::EMPTY_HEADER; HEADER_COUNT];
    let (first, length, headers) = if answer {
        if matches!(bytes.first(), Some(b'\r' | b'\n')) {
            return Says::Refused;
        }
        let mut head = httparse::Response::new(&mut room);
        match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => {
                let first =
                    vec![head.version.unwrap().to_string().into(), head.code.unwrap().to_string().into()];
                (first, length, head.headers)
            }
            Ok(httparse::Status::Partial) => return Says::Partial,
            Err(_) => return Says::Refused,
        }
    } else {
        let mut head = httparse::Request::new(&mut room);
        match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => {
                let version = head.version.unwrap().to_string().into();
                (vec![head.method.unwrap().into(), head.path.unwrap().into(), version], length, head.headers)
            }
            Ok(httparse::Status::Partial) => return Says::Partial,
            Err(_) => return Says::Refused,
        }
    };
    let feeds = memchr::memchr_iter(b'\n', &bytes[..length]);
    if feeds.into_iter().any(|at| at == 0 || bytes[at - 1] != b'\r') {
        return Says::Refused;
    }
    let lines = headers.iter().map(|header| (header.name.into(), header.value.into())).collect();
    Says::Whole(first, lines, length)
}

/// The fields that could be refused for what they mean are left out of what is generated, so that only the grammar speaks.
fn compare(bytes: &[u8], answer: bool) {
    let (ours, theirs) = (scanned(bytes, answer), parsed(bytes, answer));
    let agree = match (&ours, &theirs) {
        // A bare LF is refused as soon as it is seen.
        (Says::Refused, Says::Partial) => true,
        _ => ours == theirs,
    };
    assert!(agree, "{:?}\nours: {ours:?}\nhttparse: {theirs:?}", String::from_utf8_lossy(bytes));
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop::sample::select(vec![
        "GET",
        "POST",
        " ",
        "  ",
        "/",
        "/a?b=c",
        "*",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/1.2",
        "HTTP/2.0",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "\t",
        "X-Name",
        "a",
        ":",
        ": ",
        ":\t",
        "value",
        "a, b;c=\"d\"",
        "200",
        " 404 Not Found",
        "999",
        "\u{0}",
        "\u{7f}",
        "\u{1}",
        "é",
        "#",
        "\r\n\r\n",
        "\r\n ",
        "a-rather-long-value-that-takes-several-words-of-eight",
    ]);
    prop_oneof![8 => texts.prop_map(|text| text.as_bytes().to_vec()), 1 => any::<u8>().prop_map(|byte| vec![byte])]
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let value =
        prop::collection::vec(prop_oneof![9 => 0x20u8..0x7f, 1 => Just(b'\t'), 1 => 0x80u8..=0xff], 0..40);
    let line = ("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", "[ \t]{0,3}", value);
    let first = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "\r\n\r\nPATCH /a/b?c HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 304\r\n",
        "HTTP/1.1 503 \r\n",
        "HTTP/1.1 200 caf\u{e9}\r\n",
    ]);
    (first, prop::collection::vec(line, 0..8)).prop_map(|(first, lines)| {
        let mut head = first.as_bytes().to_vec();
        for (name, blanks, value) in lines {
            // Never one of the fields that mean something.
            head.extend_from_slice(b"x-");
            head.extend_from_slice(name.as_bytes());
            head.push(b':');
            head.extend_from_slice(blanks.as_bytes());
            head.extend_from_slice(&value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\nbody");
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn heads_are_read_alike_whole_and_cut_anywhere(head in head()) {
        for answer in [false, true] {
            for end in 0..=head.len() {
                compare(&head[..end], answer);
            }
        }
    }

    #[test]
    fn heads_with_bytes_changed_are_read_alike(
        mut head in head(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in changes {
            let at = at.index(head.len());
            head[at] = byte;
        }
        compare(&head, false);
        compare(&head, true);
    }

    #[test]
    fn jumbled_pieces_of_heads_are_read_alike(pieces in prop::collection::vec(piece(), 0..30)) {
        let bytes = pieces.concat();
        compare(&bytes, false);
        compare(&bytes, true);
        let request = [b"GET / HTTP/1.1\r\n", &*bytes].concat();
        compare(&request, false);
        let answer = [b"HTTP/1.1 200 OK\r\n", &*bytes].concat();
        compare(&answer, true);
    }
}

#[test]
fn every_byte_is_judged_alike_at_every_place_of_a_head() {
    for head in
        ["GET /path HTTP/1.1\r\nx-name: a value\r\n\r\n", "HTTP/1.1 200 Fine\r\nx-name: a value\r\n\r\n"]
    {
        for at in 0..head.len() {
            for byte in 0..=u8::MAX {
                for insert in [false, true] {
                    let mut bytes = head.as_bytes().to_vec();
                    if insert {
                        bytes.insert(at, byte)
                    } else {
                        bytes[at] = byte
                    }
                    compare(&bytes, false);
                    compare(&bytes, true);
                }
            }
        }
    }
}

#[test]
fn as_many_header_lines_are_taken_and_no_more() {
    for (lines, whole) in [(HEADER_COUNT, true), (HEADER_COUNT + 1, false)] {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(lines));
        compare(head.as_bytes(), false);
        assert_eq!(matches!(scanned(head.as_bytes(), false), Says::Whole(..)), whole);
    }
}
