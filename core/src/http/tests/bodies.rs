//! Bodies: where they end, in whatever pieces they come, and the chunked coding that is refused.

use proptest::prelude::*;

use crate::http::body::Body;
use crate::http::{Framing, Malformed};

/// Takes `bytes` in pieces of at most `piece` bytes; returns the data and how many bytes belonged to the body.
fn take(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), Malformed> {
    let mut body = Body::new(framing);
    let (mut data, mut used) = (Vec::new(), 0);
    for chunk in bytes.chunks(piece.max(1)) {
        let taken = body.take(chunk, |part| data.extend_from_slice(part))?;
        used += taken;
        if taken < chunk.len() {
            break;
        }
    }
    Ok((data, used, body.is_done()))
}

#[test]
fn a_body_of_known_length_takes_just_that() {
    assert_eq!(take(Framing::Length(3), b"abcdef", 2), Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(take(Framing::Length(9), b"abcdef", 6), Ok((b"abcdef".to_vec(), 6, false)));
    assert_eq!(take(Framing::Empty, b"abc", 3), Ok((Vec::new(), 0, true)));
}

#[test]
fn a_body_until_close_takes_everything_and_is_never_done() {
    assert_eq!(take(Framing::UntilClose, b"abc", 1), Ok((b"abc".to_vec(), 3, false)));
}

#[test]
fn good_chunks_are_read_in_pieces_of_any_size() {
    let cases: [(&[u8], &[u8]); 7] = [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3;name=value\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", b"abcd"),
        (b"3; a=\"b c\"\r\nabc\r\n000\r\n\r\n", b"abc"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"1\r\na\r\n0\r\nX-Sum: 1\r\nX-More: \xe9 2\r\n\r\n", b"a"),
        (b"000000000000001\r\na\r\n0\r\n\r\n", b"a"),
    ];
    for (coded, data) in cases {
        for piece in 1..=coded.len() {
            let mut bytes = coded.to_vec();
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            let read = take(Framing::Chunked, &bytes, piece);
            assert_eq!(read, Ok((data.to_vec(), coded.len(), true)), "{:?}", String::from_utf8_lossy(coded));
        }
    }
}

#[test]
fn every_crooked_chunk_is_refused() {
    let cases: [&[u8]; 31] = [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\t\r\na\r\n",
        b"1\na\n0\n\n",
        b"1\r\na\n0\r\n\r\n",
        b"1\r\nab\r\n",
        b"1\ra\r\n",
        b"1;a\nb\r\na\r\n",
        b"1;a\0\r\na\r\n",
        b"1;a\x7f\r\na\r\n",
        b"1;\rx\r\n",
        b"0000000000000001\r\na\r\n",
        b"fffffffffffffffff\r\n",
        b"1\r\na\r\n0\r\n\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\nA: b\0\r\n\r\n",
        b"0\r\nA: b\rc\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nHost: other\r\n\r\n",
        b"0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        b"0\r\n\r\r\n",
    ];
    for coded in cases {
        for piece in 1..=coded.len() {
            let read = take(Framing::Chunked, coded, piece);
            assert_eq!(read, Err(Malformed::Chunk), "{:?}", String::from_utf8_lossy(coded));
        }
    }
}

#[test]
fn extensions_and_trailers_come_to_an_end() {
    let extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1000));
    assert_eq!(take(Framing::Chunked, extension.as_bytes(), 64), Err(Malformed::Chunk));
    let trailers = format!("0\r\n{}\r\n", "A: bcdefgh\r\n".repeat(1000));
    assert_eq!(take(Framing::Chunked, trailers.as_bytes(), 64), Err(Malformed::Chunk));
    let name = format!("0\r\n{}: b\r\n\r\n", "a".repeat(65));
    assert_eq!(take(Framing::Chunked, name.as_bytes(), 64), Err(Malformed::Chunk));
}

fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_whatever_the_pieces(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        piece in 1usize..64,
    ) {
        let coded = encode(&chunks);
        prop_assert_eq!(take(Framing::Chunked, &coded, piece), Ok((chunks.concat(), coded.len(), true)));
    }

    #[test]
    fn pieces_never_change_the_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..64), piece in 1usize..8) {
        let whole = take(Framing::Chunked, &bytes, bytes.len().max(1)).map(|(_, used, done)| (used, done));
        let pieces = take(Framing::Chunked, &bytes, piece).map(|(_, used, done)| (used, done));
        prop_assert_eq!(whole, pieces);
    }
}
