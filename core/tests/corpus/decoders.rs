//! One function per decoder of bytes that others wrote: it must not panic, and what it accepts must keep its promise.
//!
//! The fuzz targets call these functions with bytes that the fuzzer invents, `core/tests/corpus.rs` with the files
//! of the corpus and with small changes of them. They look for faults; what is right in detail the unit tests say.

use everup_core::affinity::Ticket;
use everup_core::certificate;
use everup_core::client_hello::{self, HELLO_BYTES, Parsed as Greeted};
use everup_core::config;
use everup_core::handover;
use everup_core::http::chunked::ChunkScanner;
use everup_core::http::{Framing, Malformed, Parsed, Storage, Version, forward, request, response};
use everup_core::keeper::{ToKeeper, ToWorker};
use everup_core::proxy_protocol::{self, Fields, Parsed as Proxied};
use everup_core::websocket::{Frames, Stop};

/// Decodes bytes and panics when a promise is broken.
pub(crate) type Decoder = fn(&[u8]);

/// The decoders, by the name of their fuzz target and corpus.
pub(crate) const ALL: [(&str, Decoder); 11] = [
    ("certificate", certificate_der),
    ("chunked", chunked),
    ("client_hello", client_hello),
    ("config", config_text),
    ("handover", handover),
    ("http_request", http_request),
    ("http_response", http_response),
    ("link", link),
    ("proxy_protocol", proxy_header),
    ("ticket", ticket),
    ("websocket", websocket),
];

/// Calls the decoder called `name`.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, decode) = ALL.iter().find(|(known, _)| *known == name).expect("a decoder of this name");
    decode(bytes);
}

/// What we send on reads as what we took: the same method, target, host and length. Otherwise a request could be
/// smuggled through us.
fn http_request(bytes: &[u8]) {
    let mut storage = Storage::new();
    let Ok(Parsed::Whole(taken)) = request::parse(bytes, &mut storage) else { return };
    assert!(taken.head_bytes <= bytes.len());
    assert_ne!(taken.framing, Framing::UntilClose);

    let mut sent = Vec::new();
    let origin = forward::Origin {
        client: "192.0.2.1",
        scheme: "http",
        request_id: "id",
        fallback_host: "fallback.example",
        certificate_subject: None,
        trace_parent: None,
    };
    forward::request(&mut sent, &taken, bytes, origin);

    let mut storage = Storage::new();
    match request::parse(&sent, &mut storage) {
        Ok(Parsed::Whole(read)) => {
            assert_eq!(read.head_bytes, sent.len(), "the head ends where we ended it");
            assert_eq!((read.method, read.target, read.framing), (taken.method, taken.target, taken.framing));
            // Hosts are the same in any case (RFC 9110 section 4.2.3); the target's may differ from Host in that.
            let host = taken.host.unwrap_or("fallback.example");
            assert!(
                read.host.is_some_and(|read| read.eq_ignore_ascii_case(host)),
                "{:?}, not {host}",
                read.host
            );
            assert_eq!(read.version, Version::Http11);
        }
        // Our own lines may be one too many.
        Err(Malformed::TooManyHeaders) => {}
        other => panic!("we send what we would refuse: {other:?}\n{}", String::from_utf8_lossy(&sent)),
    }
}

/// What we send to the client reads as what the instance said: the same status and length.
fn http_response(bytes: &[u8]) {
    for (head, upgrade) in [(false, false), (true, false), (false, true)] {
        let asked = response::Asked { head, upgrade };
        let mut storage = Storage::new();
        let Ok(Parsed::Whole(taken)) = response::parse(bytes, &mut storage, asked) else { continue };
        assert!(taken.head_bytes <= bytes.len());

        let mut sent = Vec::new();
        let answer = forward::Answer {
            client: Version::Http11,
            close: false,
            confirm_keep_alive: false,
            set_cookie: None,
            hsts: None,
        };
        forward::response(&mut sent, &taken, bytes, answer);

        let mut storage = Storage::new();
        match response::parse(&sent, &mut storage, asked) {
            Ok(Parsed::Whole(read)) => {
                assert_eq!(read.head_bytes, sent.len(), "the head ends where we ended it");
                assert_eq!((read.status, read.framing), (taken.status, taken.framing));
            }
            Err(Malformed::TooManyHeaders) => {}
            other => panic!("we send what we would refuse: {other:?}\n{}", String::from_utf8_lossy(&sent)),
        }
    }
}

/// However the bytes arrive, the body ends at the same place and holds the same data.
fn chunked(bytes: &[u8]) {
    let whole = scan(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        let pieces = scan(bytes, piece);
        assert_eq!(whole.outcome, pieces.outcome, "in pieces of {piece}");
        // What comes before a broken chunk may have been passed on already.
        if whole.outcome.is_ok() {
            assert_eq!(whole.data, pieces.data, "in pieces of {piece}");
        }
    }
}

struct Scan {
    /// Whether the body ended, and after how many bytes.
    outcome: Result<(bool, usize), Malformed>,
    data: Vec<u8>,
}

fn scan(bytes: &[u8], piece: usize) -> Scan {
    let mut scanner = ChunkScanner::default();
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        match scanner.scan(piece, |bytes| data.extend_from_slice(bytes)) {
            Ok(used) => taken += used,
            Err(malformed) => return Scan { outcome: Err(malformed), data },
        }
        if scanner.is_done() {
            break;
        }
    }
    Scan { outcome: Ok((scanner.is_done(), taken)), data }
}

/// Every mistake points into the text.
fn config_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match config::parse(text) {
        Ok(config) => {
            assert!(config.listeners.iter().filter_map(|l| l.service).all(|s| s < config.services.len()))
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            for mistake in mistakes {
                assert!(text.get(mistake.span.clone()).is_some(), "{mistake:?} points outside of the text");
            }
        }
    }
}

/// What is read fits a header line, a map of names and a field of text.
fn certificate_der(bytes: &[u8]) {
    let Some(certificate) = certificate::read(bytes) else { return };
    assert!(certificate.subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(certificate.names.iter().all(|name| name.is_ascii() && name.to_ascii_lowercase() == *name));
    assert!(certificate.common_name.is_none_or(|name| !name.contains(char::is_control)));
}

/// However the bytes arrive, the message is the same, and nobody has to wait for more than there may be.
fn client_hello(bytes: &[u8]) {
    let parsed = client_hello::parse(bytes);
    let mut needed = 0;
    for end in 0..bytes.len() {
        let early = client_hello::parse(&bytes[..end]);
        match early {
            Ok(Greeted::Partial { needed: more }) => {
                assert!(more > end && more >= needed && more <= HELLO_BYTES);
                needed = more;
            }
            early => {
                assert_eq!(early, parsed, "at {end}");
                assert!(end >= needed || early.is_err(), "whole at {end}, though {needed} were wanted");
                return;
            }
        }
    }
    let Ok(Greeted::Whole(hello)) = parsed else { return };
    assert!(bytes.len() <= HELLO_BYTES);
    if let Some(name) = hello.server_name {
        assert!(!name.is_empty() && name.len() <= 253 && name.to_ascii_lowercase() == name);
    }
    assert!(hello.protocols.iter().all(|protocol| (1..=255).contains(&protocol.len())));
}

/// One ticket has one form.
fn ticket(bytes: &[u8]) {
    if let Ok(ticket) = Ticket::decode(bytes) {
        assert_eq!(ticket.encode().as_deref(), Some(bytes));
    }
}

/// What was understood is said again as it was understood.
fn link(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ToKeeper>(bytes) {
        let again = serde_json::to_vec(&message).expect("a message can be written");
        assert_eq!(serde_json::from_slice::<ToKeeper>(&again).expect("what we wrote"), message);
    }
    if let Ok(message) = serde_json::from_slice::<ToWorker>(bytes) {
        let again = serde_json::to_vec(&message).expect("a message can be written");
        assert_eq!(serde_json::from_slice::<ToWorker>(&again).expect("what we wrote"), message);
    }
}

/// What was understood is said again as it was understood, and what is put together holds no more than it may. Datagrams
/// are separated by a byte that is in no text.
fn handover(bytes: &[u8]) {
    let mut assembly = handover::Assembly::default();
    for datagram in bytes.split(|byte| *byte == 0x1e) {
        if let Ok((message, held)) = handover::read(datagram) {
            let mut again = Vec::new();
            handover::write(&mut again, &message, held).expect("what fits once fits again");
            assert_eq!(handover::read(&again).expect("what we wrote"), (message, held));
        }
        match assembly.handle(datagram) {
            Ok(Some(handover::Told::Connection(connection, held))) => {
                assert!(held.len() <= handover::HELD_BYTES && connection.descriptors() <= 2);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// However the bytes arrive, the header is the same; and who it names is read again from what we send on.
fn proxy_header(bytes: &[u8]) {
    let parsed = proxy_protocol::parse(bytes);
    for end in 0..bytes.len() {
        let early = proxy_protocol::parse(&bytes[..end]);
        assert!(early == Ok(Proxied::Partial) || early == parsed, "{early:?} at {end}, then {parsed:?}");
    }
    let Ok(Proxied::Whole(header)) = parsed else { return };
    assert!(header.bytes <= bytes.len().min(proxy_protocol::V2_BYTES));
    let Some(ends) = header.ends else { return };
    let (mut v1, mut v2) = (Vec::new(), Vec::new());
    proxy_protocol::write_v1(&mut v1, Some(ends));
    let fields = Fields { unique_id: b"id", authority: "a.example", ..Fields::default() };
    proxy_protocol::write_v2(&mut v2, Some(ends), fields);
    let read = |sent: &[u8]| match proxy_protocol::parse(sent) {
        Ok(Proxied::Whole(read)) if read.bytes == sent.len() => read.ends,
        other => panic!("we send what we would refuse: {other:?}"),
    };
    let again = read(&v1).expect("ends were written");
    assert_eq!(Some(again), read(&v2));
    for (read, taken) in [(again.source, ends.source), (again.destination, ends.destination)] {
        assert_eq!((read.ip().to_canonical(), read.port()), (taken.ip().to_canonical(), taken.port()));
    }
}

/// However the bytes arrive, frames end at the same places, and a Close is found where it begins.
fn websocket(bytes: &[u8]) {
    let mut single = Frames::default();
    let mut close = None;
    for (at, byte) in bytes.iter().enumerate() {
        if single.is_between_frames() && byte & 0x0f == 8 {
            close = close.or(Some(at));
        }
        assert_eq!(single.take_frame(&[*byte]), 1);
        assert_eq!(single.has_closed(), close.is_some());
        assert!(single.is_between_frames() || !single.is_between_messages());
    }
    let mut whole = Frames::default();
    let mut at = 0;
    while at < bytes.len() {
        let taken = whole.take_frame(&bytes[at..]);
        assert!(taken > 0 && (whole.is_between_frames() || at + taken == bytes.len()));
        at += taken;
    }
    assert_eq!(whole, single);
    let mut stopped = Frames::default();
    assert_eq!(stopped.take_to(bytes, Stop::AtClose), close);
    assert_eq!(stopped, single);
}
