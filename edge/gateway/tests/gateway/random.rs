//! Random valid requests through the gateway to an instance that answers with a digest of what it got, in random
//! framings: every answer must belong to its request. `EVERUP_SEED` repeats a run; the seed of a failure is printed.

use std::time::{Duration, Instant};

use crate::stage::{Origin, before};
use crate::wire::{Message, Wire, chunked};

/// A small generator with a seed; the one that sets the pace of nothing.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.next(10) {
            0..3 => 0,
            3..7 => self.next(100),
            7..9 => self.next(5_000),
            _ => self.next(600_000),
        };
        (0..length).map(|_| b"\r\n0 GET/HTP1.a:"[self.next(15)]).collect()
    }

    fn sizes(&mut self) -> [usize; 3] {
        [1 + self.next(10), 1 + self.next(10_000), 1 + self.next(100)]
    }
}

fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn summary(method: &str, path: &str, body: &[u8]) -> String {
    format!("{method} {path} {} {:x}", body.len(), digest(body))
}

/// Answers with the summary in X-Got, and a body that is derived from it.
fn answer(request: &Message, wire: &mut Wire) -> bool {
    assert!(request.whole);
    let got = summary(request.method(), request.path(), &request.body);
    let mut chance = Chance(digest(got.as_bytes()) | 1);
    let body = chance.bytes();
    let head = request.method() == "HEAD";
    let framing = chance.next(if head { 3 } else { 5 });
    let version = if framing == 4 { "1.0" } else { "1.1" };
    let interim = if chance.next(8) == 0 { "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" } else { "" };
    let mut out = format!("{interim}HTTP/{version} 200 OK\r\nX-Got: {got}\r\n").into_bytes();
    let closes = framing >= 3 || chance.next(20) == 0;
    if closes && framing < 3 {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    let framed = match framing {
        0 | 1 => {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            body
        }
        2 => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            chunked(&body, &chance.sizes(), ["", "X-T: 1\r\n"][chance.next(2)])
        }
        _ => {
            out.extend_from_slice(b"\r\n");
            body
        }
    };
    if !head {
        out.extend(framed);
    }
    split(&mut chance, &out).into_iter().all(|piece| wire.try_send(piece)) && !closes
}

/// In one piece mostly, else in several.
fn split<'a>(chance: &mut Chance, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let cuts = if chance.next(2) == 0 { 0 } else { chance.next(30) };
    for _ in 0..cuts {
        let (piece, after) = rest.split_at(chance.next(rest.len().clamp(1, 3_000)).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

struct Asked {
    method: &'static str,
    summary: String,
    bytes: Vec<u8>,
}

fn ask(chance: &mut Chance, path: &str, last: bool) -> Asked {
    let method = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"][chance.next(6)];
    let body = if chance.next(3) == 0 { Vec::new() } else { chance.bytes() };
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: app\r\n").into_bytes();
    if chance.next(3) == 0 {
        bytes.extend_from_slice(b"X-Forwarded-For: 10.1.1.1\r\nConnection: x-gone, te\r\nX-Gone: 1\r\n");
    }
    if last {
        bytes.extend_from_slice(b"Connection: close\r\n");
    }
    let summary = summary(method, path, &body);
    if body.is_empty() && chance.next(2) == 0 {
        bytes.extend_from_slice(b"\r\n");
    } else if chance.next(2) == 0 {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend(body);
    } else {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        bytes.extend(chunked(&body, &chance.sizes(), ["", "X-Trailer: 1\r\n"][chance.next(2)]));
    }
    Asked { method, summary, bytes }
}

/// One connection with some pipelined requests; returns how many were answered.
fn converse(chance: &mut Chance, mut client: Wire, round: usize) -> usize {
    let count = 1 + chance.next(8);
    let closes = chance.next(4) == 0;
    let asked: Vec<Asked> = (0..count)
        .map(|number| ask(chance, &format!("/{round}/{number}"), closes && number + 1 == count))
        .collect();
    let bytes: Vec<u8> = asked.iter().flat_map(|asked| asked.bytes.iter().copied()).collect();
    let pieces: Vec<Vec<u8>> = split(chance, &bytes).into_iter().map(<[u8]>::to_vec).collect();
    let mut writer = client.writer();
    let writing = std::thread::spawn(move || pieces.iter().all(|piece| writer.try_send(piece)));
    let mut answered = 0;
    for Asked { method, summary, .. } in &asked {
        let Some(mut answer) = client.try_answer(method) else {
            panic!("round {round}: no answer to {summary}")
        };
        if answer.status() == 103 {
            answer = client.answer_to(method);
        }
        assert_eq!(answer.header("X-Got"), Some(summary.as_str()), "round {round}");
        let mut theirs = Chance(digest(summary.as_bytes()) | 1);
        let body = theirs.bytes();
        assert!(
            *method == "HEAD" || (answer.whole && answer.body == body),
            "round {round}: body of {summary}"
        );
        answered += 1;
        if answer.header("Connection") == Some("close") {
            break;
        }
    }
    drop(client);
    // If the connection was closed early, what was still being written is lost, as the answer said it would be.
    let _ = writing.join().unwrap();
    answered
}

/// `EVERUP_SEED`, or another one in every run.
pub(crate) fn seed() -> u64 {
    match std::env::var("EVERUP_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()) << 20 | 1,
    }
}

#[test]
fn every_answer_belongs_to_its_request() {
    let seed = seed();
    println!("EVERUP_SEED={seed}");
    let origins = [(); 2].map(|()| {
        Origin::start(
            |visit| while visit.wire.request().is_some_and(|request| answer(&request, &mut visit.wire)) {},
        )
    });
    let stage = before(&origins).start();
    let (start, mut rounds, mut answered) = (Instant::now(), 0, 0);
    while start.elapsed() < Duration::from_secs(5) || answered < 50 {
        let mut chance = Chance(seed.wrapping_add(rounds as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        answered += converse(&mut chance, stage.connect(), rounds);
        rounds += 1;
    }
    println!("{rounds} connections, {answered} answers");
    stage.settles();
}
