//! Messages as bytes and back, what other versions may add, and bytes that are none of ours.

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn frames(bytes: &[u8]) -> Option<Frames> {
    let mut frames = Frames::default();
    frames.take(bytes);
    Some(frames)
}

fn connection(what: What) -> Box<Connection> {
    Box::new(Connection {
        number: 7,
        listener: address("0.0.0.0:443"),
        peer: address("[2001:db8::1]:50000"),
        source: address("192.0.2.1:40000"),
        destination: Some(address("192.0.2.2:80")),
        what,
    })
}

fn relay(to_instance: Way, to_client: Way) -> Relay {
    let instance = InstanceId::new("app", "app-1");
    Relay { instance, address: address("127.0.0.1:9000"), to_instance, to_client, left_ms: Some(5) }
}

fn way(bytes: u32) -> Way {
    Way { bytes, ..Way::default() }
}

/// What the other side is told by these datagrams.
fn told(datagrams: &[Vec<u8>]) -> Result<Vec<Told>, Malformed> {
    let mut assembly = Assembly::default();
    datagrams.iter().filter_map(|datagram| assembly.handle(datagram).transpose()).collect()
}

fn datagram(message: &Message, bytes: &[u8]) -> Vec<u8> {
    let mut out = b"old".to_vec();
    write(&mut out, message, bytes).unwrap();
    out
}

/// A datagram of our own making.
fn raw(head: &str, bytes: &[u8]) -> Vec<u8> {
    [&(head.len() as u32).to_le_bytes(), head.as_bytes(), bytes].concat()
}

#[test]
fn every_kind_arrives_as_it_was_sent() {
    let websocket = |bytes, at: &[u8]| Way { frames: frames(at), ..way(bytes) };
    let ended = Way { ended: true, finished: true, ..way(0) };
    let kinds = [
        What::Idle(Idle { served: true, idle_ms: 60_000 }),
        What::Relay(relay(way(3), ended)),
        What::Tunnel(relay(ended, way(3))),
        What::Websocket(relay(websocket(1, b"\x01\xfe\x01"), websocket(2, b"\x82\x7e\x01\x00"))),
    ];
    for what in kinds {
        let connection = connection(what);
        let sent = datagram(&Message::Connection(connection.clone()), b"abc");
        assert_eq!(told(&[sent]).unwrap(), [Told::Connection(connection, b"abc".to_vec())]);
    }
    let hello = Hello::ours("1.2.3");
    let answer = Answer { number: 9, refused: Some(Refused::Listener) };
    let both =
        [datagram(&Message::Hello(hello.clone()), b""), datagram(&Message::Answer(answer.clone()), b"")];
    assert_eq!(told(&both).unwrap(), [Told::Hello(hello), Told::Answer(answer)]);
}

#[test]
fn what_is_too_much_for_one_datagram_comes_in_pieces() {
    let held: Vec<u8> = (0..PIECE_BYTES as u32 * 2 + 9).map(|number| number as u8).collect();
    let connection = connection(What::Relay(relay(way(held.len() as u32 - 4), way(4))));
    let (pieces, last) = held.split_at(PIECE_BYTES * 2);
    let mut sent: Vec<_> = pieces.chunks(PIECE_BYTES).map(|piece| datagram(&Message::Piece, piece)).collect();
    sent.push(datagram(&Message::Connection(connection.clone()), last));
    assert!(sent.iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES));
    assert_eq!(told(&sent).unwrap(), [Told::Connection(connection, held)]);
}

#[test]
fn a_connection_that_holds_other_than_it_says_is_refused_and_so_is_one_that_holds_too_much() {
    let connection = connection(What::Relay(relay(way(u32::MAX), way(1))));
    assert!(told(&[datagram(&Message::Connection(connection), b"four")]).is_err());
    let piece = datagram(&Message::Piece, &[0; PIECE_BYTES]);
    let all = vec![piece; HELD_BYTES / PIECE_BYTES + 1];
    assert!(told(&all[1..]).is_ok() && told(&all).is_err());
    let in_between = [datagram(&Message::Piece, b"x"), datagram(&Message::Hello(Hello::ours("")), b"")];
    assert!(told(&in_between).is_err());
    let forgotten = [datagram(&Message::Piece, b"x"), datagram(&Message::Forget, b""), in_between[1].clone()];
    assert_eq!(told(&forgotten).unwrap().len(), 1);
}

#[test]
fn what_only_other_versions_know_does_no_harm() {
    let ends = r#""listener":"0.0.0.0:80","peer":"192.0.2.1:1","source":"192.0.2.1:1","colour":"blue""#;
    let unknown =
        format!(r#"{{"Connection":{{"number":3,{ends},"what":{{"kind":"quic","streams":[1,2]}}}}}}"#);
    let read = told(&[raw(&unknown, b"bytes")]).unwrap();
    let [Told::Connection(connection, held)] = &read[..] else { panic!("{read:?}") };
    assert_eq!((connection.number, &connection.what, &held[..]), (3, &What::Unknown, &b"bytes"[..]));
    assert_eq!((connection.descriptors(), connection.what.kind()), (0, None));
    let idle = r#"{"kind":"idle","served":true,"idle_ms":5,"mood":{}}"#;
    let idle = format!(r#"{{"Connection":{{"number":3,{ends},"what":{idle}}}}}"#);
    let read = told(&[raw(&idle, b"")]).unwrap();
    assert!(matches!(&read[..], [Told::Connection(one, _)] if one.what.kind() == Some(Kind::Idle)));
    let refused = r#"{"Answer":{"number":3,"refused":"bad-weather","why":"rain"}}"#;
    let refused = told(&[raw(refused, b"")]).unwrap();
    assert_eq!(refused, [Told::Answer(Answer { number: 3, refused: Some(Refused::Other) })]);
}

#[test]
fn two_versions_speak_the_newest_protocol_that_both_know() {
    let speaks = |lowest, highest| Hello { lowest, highest, version: String::new() };
    for (ours, theirs, agreed) in [
        (speaks(1, 1), speaks(1, 1), Some(1)),
        (speaks(1, 3), speaks(2, 5), Some(3)),
        (speaks(3, 5), speaks(1, 3), Some(3)),
        (speaks(1, 1), speaks(2, 2), None),
        (speaks(5, 2), speaks(1, 9), None),
    ] {
        assert_eq!((ours.agree(&theirs), theirs.agree(&ours)), (agreed, agreed));
    }
}

#[test]
fn a_websocket_must_say_where_its_frames_are_and_no_place_may_be_impossible() {
    let without = connection(What::Websocket(relay(Way { frames: frames(b""), ..way(0) }, way(0))));
    assert!(told(&[datagram(&Message::Connection(without), b"")]).is_err());
    for next in [
        r#"{"Inside":{"left":0}}"#,
        r#"{"Extended":{"missing":0,"so_far":0,"masked":false}}"#,
        r#"{"Extended":{"missing":9,"so_far":0,"masked":false}}"#,
    ] {
        let text = format!(r#"{{"next":{next},"unfinished":false,"closed":false}}"#);
        assert!(serde_json::from_str::<Frames>(&text).is_err(), "{next}");
    }
}

#[test]
fn heads_that_are_too_long_are_refused_before_they_are_read() {
    let hello = |version: usize| Message::Hello(Hello::ours(&"v".repeat(version)));
    let mut out = Vec::new();
    assert!(write(&mut out, &hello(HEAD_BYTES), b"").is_err());
    assert!(write(&mut out, &hello(HEAD_BYTES / 2), b"").is_ok());
    assert!(write(&mut out, &Message::Piece, &[0; PIECE_BYTES + 1]).is_err());
    assert!(read(&raw(&" ".repeat(HEAD_BYTES + 1), b"")).is_err());
    assert!(read(b"\xff\xff\xff\xff{}").is_err() && read(b"\x03\0\0").is_err());
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5)) {
        let _ = told(&datagrams);
    }

    #[test]
    fn no_head_breaks_the_reader(head in "[{}\\[\\]\":,a-z0-9]{0,60}") {
        let _ = told(&[raw(&head, b"")]);
    }
}
