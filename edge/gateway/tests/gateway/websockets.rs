//! WebSockets whose instance leaves: a Close at a place where one may stand, nothing lost that was sent before, and what
//! becomes of peers that do not play along. Frames are written and read by hand.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use everup_gateway::Availability::{Draining, Takes};

use crate::stage::{Gate, Origin, Stage, before, until};
use crate::tls::{self, Ca};
use crate::wire::Wire;

pub(crate) const OPEN: &str = "GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub(crate) const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first byte of a frame, and its payload without the mask.
pub(crate) type Frame = (u8, Vec<u8>);

pub(crate) fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(mask | length as u8),
        length => {
            bytes.push(mask | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    if masked {
        bytes.extend(KEY);
    }
    bytes.extend(
        payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| if masked { byte ^ key } else { *byte }),
    );
    bytes
}

/// The next frame; None if the connection ends first.
pub(crate) fn read(wire: &mut Wire) -> Option<Frame> {
    let head = wire.try_take(2)?;
    let length = match head[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes(wire.try_take(2)?.try_into().unwrap())),
        length => usize::from(length),
    };
    let key = if head[1] & 0x80 == 0 { vec![0; 4] } else { wire.try_take(4)? };
    let payload = wire.try_take(length)?;
    Some((head[0], payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()))
}

pub(crate) fn opened(stage: &Stage) -> Wire {
    let mut client = stage.connect();
    client.send(OPEN);
    assert_eq!(client.head().unwrap().status(), 101);
    client
}

pub(crate) fn say(client: &mut Wire, text: &str) {
    client.send(frame(0x81, text.as_bytes(), true));
}

/// Reads the Close and returns what `retry=` says.
#[track_caller]
pub(crate) fn told_to_go(client: &mut Wire) -> u64 {
    let (first, payload) = read(client).expect("a Close");
    assert_eq!((first, &payload[..2]), (0x88, &1012_u16.to_be_bytes()[..]), "{payload:?}");
    let reason = String::from_utf8(payload[2..].to_vec()).unwrap();
    reason.strip_prefix("retry=").expect("when to come back").parse().expect("a number of milliseconds")
}

/// Answers the Close as a client does, and sees the end.
#[track_caller]
pub(crate) fn goes(client: &mut Wire) {
    client.send(frame(0x88, &1012_u16.to_be_bytes(), true));
    client.ends();
}

/// An instance that opens WebSockets, echoes messages, and answers a Close; and what all of them told it.
pub(crate) fn echoing() -> (Origin, Arc<Mutex<Vec<Frame>>>) {
    let heard: Arc<Mutex<Vec<Frame>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let origin = Origin::start(move |visit| {
        visit.head().unwrap();
        visit.wire.send(OPENED);
        while let Some((first, payload)) = read(&mut visit.wire) {
            hears.lock().unwrap().push((first, payload.clone()));
            visit.wire.try_send(frame(first, &payload, false));
            if first == 0x88 {
                return;
            }
        }
    });
    (origin, heard)
}

/// Something came that was not read yet.
fn has_news(client: &Wire) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let news = client.stream.peek(&mut [0]).is_ok();
    client.stream.set_nonblocking(false).unwrap();
    news
}

pub(crate) fn going_away() -> Frame {
    (0x88, 1001_u16.to_be_bytes().to_vec())
}

fn farewells(stage: &Stage) -> (u64, u64) {
    let cells = || stage.service.farewells.cells();
    (cells().map(|cell| cell.closed.value()).sum(), cells().map(|cell| cell.cut.value()).sum())
}

#[test]
fn when_an_instance_drains_its_websockets_are_told_to_come_back_and_no_others() {
    let ((leaving, heard), (staying, _)) = (echoing(), echoing());
    let mut stage = before([&leaving, &staying])
        .service("drain.time = \"4s\"\nbalance = \"round-robin\"")
        .threads(2)
        .start();
    let mut all: Vec<Wire> = (0..20).map(|_| opened(&stage)).collect();
    for (number, client) in all.iter_mut().enumerate() {
        say(client, &format!("message {number}"));
        assert_eq!(read(client), Some((0x81, format!("message {number}").into_bytes())));
    }
    assert_eq!((stage.instances[0].websockets(), stage.instances[0].tunnels()), (10, 10));
    let began = Instant::now();
    stage.publish(&[Draining, Takes]);
    // By turns, ten a second: not all at once.
    let mut gone = Vec::new();
    while stage.instances[0].websockets() > 0 {
        assert!(began.elapsed() < Duration::from_secs(4), "{gone:?}");
        std::thread::park_timeout(Duration::from_millis(2));
        for mut client in all.extract_if(.., |client| has_news(client)) {
            assert!(told_to_go(&mut client) < 1000);
            gone.push(began.elapsed());
            goes(&mut client);
        }
    }
    assert_eq!((gone.len(), all.len()), (10, 10));
    assert!(gone[9] - gone[0] > Duration::from_millis(400), "all at once: {gone:?}");
    for client in &mut all {
        say(client, "again");
        assert_eq!(read(client), Some((0x81, b"again".to_vec())));
    }
    let closes = heard.lock().unwrap().iter().filter(|frame| frame.0 == 0x88).cloned().collect::<Vec<_>>();
    assert_eq!(closes, vec![going_away(); 10]);
    assert_eq!((farewells(&stage), stage.instances[1].websockets()), ((10, 0), 10));
    drop(all);
    stage.settles();
}

/// A number and a length make a message; odd ones come in fragments with a ping in between.
fn numbered(number: u32) -> Vec<u8> {
    let payload: Vec<u8> =
        number.to_be_bytes().into_iter().cycle().take(4 + number as usize * 37 % 3000).collect();
    let (front, back) = payload.split_at(payload.len() / 2);
    match number % 2 {
        0 => frame(0x82, &payload, false),
        _ => [frame(0x02, front, false), frame(0x89, b"ping", false), frame(0x80, back, false)].concat(),
    }
}

#[test]
fn an_instance_that_never_falls_silent_is_stopped_between_two_messages() {
    let origin = Origin::start(|visit| {
        visit.head().unwrap();
        visit.wire.send(OPENED);
        let mut bytes = Vec::new();
        (0..).find(|number| {
            bytes.extend(numbered(*number));
            // Cut anywhere.
            let rest = bytes.split_off(bytes.len().saturating_sub(*number as usize % 7));
            !visit.wire.try_send(std::mem::replace(&mut bytes, rest))
        });
    });
    let mut stage = before([&origin]).service("drain.time = \"4s\"").start();
    let mut client = opened(&stage);
    let (mut messages, mut message) = (0_u32, Vec::new());
    let mut next = |client: &mut Wire| loop {
        let (first, payload) = read(client).expect("a frame");
        match first {
            0x88 => {
                assert!(message.is_empty(), "half a message");
                return Some(payload);
            }
            0x89 => continue,
            _ => message.extend(payload),
        }
        if first & 0x80 != 0 {
            let expected: Vec<u8> =
                messages.to_be_bytes().into_iter().cycle().take(4 + messages as usize * 37 % 3000).collect();
            assert!(message == expected, "message {messages}");
            message.clear();
            messages += 1;
            return None;
        }
    };
    (0..1000).for_each(|_| assert!(next(&mut client).is_none()));
    stage.publish(&[Draining]);
    let close = std::iter::from_fn(|| Some(next(&mut client))).flatten().next().unwrap();
    assert_eq!(close[..2], 1012_u16.to_be_bytes());
    goes(&mut client);
    assert_eq!(farewells(&stage), (1, 0));
    stage.settles();
}

#[test]
fn what_a_client_was_saying_is_heard_to_its_end() {
    let (origin, heard) = echoing();
    let mut stage = before([&origin]).service("drain.time = \"4s\"").start();
    let mut client = opened(&stage);
    let message = frame(0x82, &[7; 5000], true);
    client.send(&message[..1000]);
    stage.publish(&[Draining]);
    told_to_go(&mut client);
    client.send(&message[1000..]);
    say(&mut client, "and this");
    goes(&mut client);
    assert_eq!(*heard.lock().unwrap(), [(0x82, vec![7; 5000]), (0x81, b"and this".to_vec()), going_away()]);
    stage.settles();
}

#[test]
fn where_no_place_for_a_close_comes_the_tunnel_is_cut() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::start(move |visit| {
        visit.head().unwrap();
        visit.wire.send([OPENED.as_bytes(), &frame(0x82, &[1; 100], false)[..50]].concat());
        passes.pass();
    });
    let mut stage = before([&origin]).service("drain.time = \"1s\"").start();
    let mut client = opened(&stage);
    assert_eq!(client.take(50).len(), 50);
    let began = Instant::now();
    stage.publish(&[Draining]);
    client.ends();
    assert!((1..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    gate.open();
    stage.settles();
    assert_eq!(farewells(&stage), (0, 1));
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for_long_and_its_instance_gets_a_close() {
    let (origin, heard) = echoing();
    let mut stage = before([&origin]).service("drain.time = \"4s\"").start();
    let mut client = opened(&stage);
    stage.publish(&[Draining]);
    told_to_go(&mut client);
    client.ends();
    assert_eq!(*heard.lock().unwrap(), [going_away()]);
    stage.settles();
}

#[test]
fn an_instance_that_is_undrained_in_time_keeps_its_websockets() {
    let (origin, _) = echoing();
    let mut stage = before([&origin]).service("drain = { time = \"2s\", websockets = \"close\" }").start();
    let mut client = opened(&stage);
    stage.publish(&[Draining]);
    say(&mut client, "still here");
    assert_eq!(read(&mut client), Some((0x81, b"still here".to_vec())));
    stage.publish(&[Takes]);
    client.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "nothing comes");
    say(&mut client, "for good");
    assert_eq!(read(&mut client), Some((0x81, b"for good".to_vec())));
    assert_eq!(farewells(&stage), (0, 0));
}

#[test]
fn closed_together_they_are_told_different_times_to_come_back() {
    let (origin, _) = echoing();
    let mut stage = before([&origin]).service("drain = { time = \"2s\", websockets = \"close\" }").start();
    let mut all: Vec<Wire> = (0..5).map(|_| opened(&stage)).collect();
    let began = Instant::now();
    stage.publish(&[Draining]);
    let mut times: Vec<u64> = all.iter_mut().map(told_to_go).collect();
    assert!(began.elapsed() >= Duration::from_millis(900), "not before the end of the time");
    all.iter_mut().for_each(goes);
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]) && times[4] - times[0] > 1000, "{times:?}");
}

#[test]
fn when_everup_ends_clients_are_told_to_come_back_after_that() {
    let (origin, heard) = echoing();
    let stage = before([&origin]).service("drain.time = \"4s\"").threads(2).start();
    let mut all: Vec<Wire> = (0..4).map(|_| opened(&stage)).collect();
    stage.gateway().begin_shutdown();
    for client in &mut all {
        assert!(told_to_go(client) >= 2000);
        goes(client);
    }
    // One that is opened now gets its turn too.
    let mut late = opened(&stage);
    told_to_go(&mut late);
    goes(&mut late);
    until("all are gone", || stage.instances[0].websockets() == 0);
    assert_eq!(heard.lock().unwrap().len(), 5);
}

#[test]
fn a_close_of_the_peers_own_passes_as_it_is() {
    let (origin, heard) = echoing();
    let mut stage = before([&origin]).service("drain = { time = \"2s\", websockets = \"close\" }").start();
    let mut client = opened(&stage);
    stage.publish(&[Draining]);
    client.send(frame(0x88, &4001_u16.to_be_bytes(), true));
    assert_eq!(read(&mut client), Some((0x88, 4001_u16.to_be_bytes().to_vec())));
    client.ends();
    assert_eq!(*heard.lock().unwrap(), [(0x88, 4001_u16.to_be_bytes().to_vec())]);
    assert_eq!(farewells(&stage), (0, 0));
    stage.settles();
}

#[test]
fn a_tunnel_that_is_no_websocket_is_left_alone() {
    let origin = Origin::start(|visit| {
        visit.head().unwrap();
        visit.wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
        let said = visit.wire.take(3);
        visit.wire.send(said);
    });
    let mut stage = before([&origin]).service("drain.time = \"500ms\"").start();
    let mut client = stage.connect();
    client.send(OPEN.replace("websocket", "other"));
    assert_eq!(client.head().unwrap().status(), 101);
    until("the tunnel is counted", || stage.instances[0].tunnels() == 1);
    assert_eq!(stage.instances[0].websockets(), 0);
    stage.publish(&[Draining]);
    client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "nothing comes");
    client.send("hey");
    assert_eq!(client.take(3), b"hey");
}

#[test]
fn within_tls_it_is_the_same_and_its_end_is_told() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let (origin, heard) = echoing();
    let mut stage = tls::setting(&origin, &ca.listener(&["site"])).service("drain.time = \"4s\"").start();
    let mut client = tls::connect(&Arc::new(ca.client()), stage.address, "site.example");
    client.write_all(&[OPEN.as_bytes(), &frame(0x81, b"hello", true)].concat()).unwrap();
    let mut came = vec![0; OPENED.len() + 7];
    client.read_exact(&mut came).unwrap();
    assert!(came.ends_with(b"\x81\x05hello"), "{}", came.escape_ascii());
    stage.publish(&[Draining]);
    let mut head = [0; 4];
    client.read_exact(&mut head).unwrap();
    assert_eq!((head[0], &head[2..]), (0x88, &1012_u16.to_be_bytes()[..]));
    let mut reason = vec![0; usize::from(head[1]) - 2];
    client.read_exact(&mut reason).unwrap();
    assert!(reason.starts_with(b"retry="));
    client.write_all(&frame(0x88, &head[2..], true)).unwrap();
    // close_notify comes, or this is an error.
    assert_eq!(client.read(&mut head).unwrap(), 0);
    assert_eq!(heard.lock().unwrap().last(), Some(&going_away()));
    stage.settles();
}

#[test]
fn a_body_that_follows_the_opening_is_not_taken_for_frames() {
    let heard: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let origin = Origin::start(move |visit| {
        visit.head().unwrap();
        visit.wire.send(OPENED);
        let (all, _) = visit.wire.rest();
        *hears.lock().unwrap() = Some(all);
    });
    let mut stage = before([&origin]).service("drain.time = \"1s\"").start();
    let mut client = stage.connect();
    client.send(OPEN.replacen("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n", 1));
    assert_eq!(client.head().unwrap().status(), 101);
    stage.publish(&[Draining]);
    // A tunnel that was followed would be told to go, and the body be taken for the answer to that.
    let began = Instant::now();
    until("it would have been told", || began.elapsed() > Duration::from_millis(1200));
    assert!(!has_news(&client));
    client.send([0x88, 0x80]);
    client.send(frame(0x81, b"hello", true));
    client.finish();
    until("the instance has heard it", || heard.lock().unwrap().is_some());
    let all = [&[0x88, 0x80], &frame(0x81, b"hello", true)[..]].concat();
    assert_eq!(heard.lock().unwrap().take(), Some(all));
}
