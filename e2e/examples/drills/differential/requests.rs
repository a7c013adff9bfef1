//! Random byte strings that are nearly HTTP/1.1 requests: what readers that disagree have been played against each
//! other with, in every combination, and a few bytes changed.

use everup_e2e::chance::Chance;

/// What may be wrong with the line before the header lines.
const START: [&str; 14] = [
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "PUT /a HTTP/1.1\r\n",
    "GET http://h/x HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "DELETE / HTTP/1.0\r\n",
    "\r\nGET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\n",
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/1.1 \r\n",
    "GET /\u{e9} HTTP/1.1\r\n",
    "GET / HTTP/1.2\r\n",
    "G@T / HTTP/1.1\r\n",
    "HEAD / HTTP/1.1\r\n",
];

/// Lines that decide where a message ends, right and wrong.
const FRAMING: [&str; 40] = [
    "Content-Length: 5\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length:5\r\n",
    "content-length: 5 \r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: \r\n",
    "Content-Length : 5\r\n",
    "Content-Length\t: 5\r\n",
    "Content_Length: 5\r\n",
    "Content-Length: 18446744073709551621\r\n",
    "Content-Length: 5\n",
    "Content-Length:\r\n 5\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: Chunked\r\n",
    "Transfer-Encoding: chunked \r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked;x\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\r\n",
    "\u{0}Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r",
    "X: y\rTransfer-Encoding: chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
];

/// Other lines.
const OTHERS: [&str; 14] = [
    "Accept: */*\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: Content-Length\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X: a\r\n b\r\n",
    "X: \u{e9}\r\n",
    "X:\r\n",
    ": x\r\n",
    "X y: z\r\n",
    "Host: other\r\n",
    "TE: trailers\r\nTrailer: X\r\n",
    "X: y\n",
];

/// Bodies, by no means always the one that was announced.
const BODIES: [&str; 26] = [
    "",
    "hello",
    "hel",
    "hello\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "5;a=b\r\nhello\r\n0;c\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "5\r\nhello\r\n0\r\nX y: z\r\n\r\n",
    "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
    "5;\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "A\r\n0123456789\r\n0\r\n\r\n",
];

/// One to three requests in a row.
pub(crate) fn draw(chance: &mut Chance) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 0..=chance.below(3) {
        // Latin-1, so that single bytes above 127 come, too.
        bytes.extend(one(chance).chars().map(|letter| u32::from(letter).to_le_bytes()[0]));
    }
    if chance.below(3) == 0 {
        change(&mut bytes, chance);
    }
    bytes
}

fn one(chance: &mut Chance) -> String {
    // Mostly right: of two mistakes the first one hides the second.
    let start = if chance.below(4) == 0 { chance.below(START.len()) } else { chance.below(3) };
    let mut text = START[start].to_owned();
    let mut lines = vec!["Host: h\r\n"];
    for _ in 0..[0, 1, 1, 1, 2][chance.below(5)] {
        lines.insert(chance.below(lines.len() + 1), FRAMING[chance.below(FRAMING.len())]);
    }
    for _ in 0..[0, 0, 1][chance.below(3)] {
        lines.insert(chance.below(lines.len() + 1), OTHERS[chance.below(OTHERS.len())]);
    }
    text.extend(lines);
    text += if chance.below(20) == 0 { "\n" } else { "\r\n" };
    text + BODIES[chance.below(BODIES.len())]
}

/// One to three bytes replaced, removed or put in.
fn change(bytes: &mut Vec<u8>, chance: &mut Chance) {
    const TELLING: &[u8] = b"\r\n \t:;,0\x005\x0b\x7f\x80\"";
    for _ in 0..=chance.below(3) {
        let (at, byte) = (chance.below(bytes.len()), TELLING[chance.below(TELLING.len())]);
        match chance.below(3) {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, byte),
        }
    }
}
