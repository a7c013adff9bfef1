//! Where requests end, beside two readers that share no code with ours: llhttp and h11. `readings.txt` is a sample of
//! what `cargo xtask drills differential` tries, recorded with the places where those two saw the end of each message
//! (`cargo xtask drills record core/tests/readings.txt`): one byte string of every combination of outcomes.

use everup_core::http::body::Body;
use everup_core::http::{Parsed, Storage, request};

/// `ends of llhttp | ends of h11 | bytes`, escaped as Rust escapes them.
const READINGS: &str = include_str!("readings.txt");

/// Where we see requests end, and whether we would read more of them.
fn ends(bytes: &[u8]) -> (Vec<usize>, bool) {
    let (mut ends, mut at) = (Vec::new(), 0);
    loop {
        let mut storage = Storage::new();
        let request = match request::parse(&bytes[at..], &mut storage) {
            Ok(Parsed::Whole(request)) => request,
            Ok(Parsed::Partial) => return (ends, true),
            Err(_) => return (ends, false),
        };
        let mut body = Body::new(request.framing);
        match body.take(&bytes[at + request.head_bytes..], |_| {}) {
            Ok(taken) if body.is_done() => at += request.head_bytes + taken,
            Ok(_) => return (ends, true),
            Err(_) => return (ends, false),
        }
        ends.push(at);
        if !request.keep_alive || request.upgrade {
            return (ends, false);
        }
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
            }
            Some(itself) => itself,
        });
    }
    bytes
}

#[test]
fn no_other_reader_ends_a_request_elsewhere() {
    let mut taken = 0;
    for line in READINGS.lines() {
        let [llhttp, h11, text] = line.splitn(3, " | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (ours, waits) = ends(&unescaped(text));
        taken += ours.len();
        for other in [llhttp, h11] {
            let stopped = other.ends_with("stopped");
            let theirs: Vec<usize> = other.split(' ').filter_map(|end| end.parse().ok()).collect();
            let both = ours.len().min(theirs.len());
            assert_eq!(ours[..both], theirs[..both], "{line}");
            assert!(theirs.len() >= ours.len() || stopped, "it still waits where we saw an end: {line}");
            assert!(theirs.len() <= ours.len() || !waits, "we still wait where it saw an end: {line}");
        }
    }
    assert!(READINGS.lines().count() >= 50 && taken >= 50, "the record is a sample worth its name");
}
