//! WebSockets against peers that echo, keep silent, mix things up, or close; and a load over TLS.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where and stop")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everup_drill::{DrillError, End, Fate, Load, Loss, Mode, Talk, Talked, Trust};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Shakes hands with everybody and then gives each text to `hear`, which may send; the connection ends when that returns
/// false.
fn serve(hear: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hear = Arc::new(hear);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, hear) = (stream.unwrap(), Arc::clone(&hear));
            thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(byte(&mut stream)?);
                }
                stream.write_all(ACCEPT.as_bytes()).ok()?;
                while hear(&text(&mut stream)?, &mut stream) {}
                Some(())
            });
        }
    });
    address
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

/// The next masked frame's content, if it is a text.
fn text(stream: &mut TcpStream) -> Option<String> {
    let (head, length) = (byte(stream)?, byte(stream)? & 0x7f);
    let mut rest = vec![0; 4 + usize::from(length)];
    stream.read_exact(&mut rest).ok()?;
    let (mask, content) = rest.split_at(4);
    let plain = content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    (head == 0x81).then(|| String::from_utf8(plain).unwrap())
}

fn say(stream: &mut TcpStream, opcode: u8, content: &[u8]) -> bool {
    let head = [0x80 | opcode, u8::try_from(content.len()).unwrap()];
    stream.write_all(&[&head, content].concat()).is_ok()
}

/// Talks until `enough` of its books, and closes them.
fn talk(address: SocketAddr, sockets: usize, enough: impl Fn() -> bool) -> Talked {
    let talk = Talk::to(&format!("http://{address}/ws")).unwrap();
    let talking = talk.sockets(sockets).every(Duration::from_millis(10)).start(Instant::now()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !enough() {
        assert!(Instant::now() < deadline, "it does not get there: {talking:?}");
        thread::yield_now();
    }
    talking.stop().unwrap()
}

const ALWAYS: (Duration, Duration) = (Duration::ZERO, Duration::MAX);

#[test]
fn every_message_that_comes_back_is_echoed() {
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    let address = serve(move |text, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        // What an application says besides, and in its own words, is no concern.
        say(stream, 0x1, b"welcome") && say(stream, 0x1, format!("you said {text}").as_bytes())
    });
    let talked = talk(address, 3, || heard.load(Ordering::SeqCst) >= 30);
    assert!(talked.echoes() && talked.messages.len() >= 30);
    assert_eq!((talked.lost(ALWAYS.0, ALWAYS.1), talked.lives.0.len()), (0, 3));
    assert_eq!(talked.lives.ends(ALWAYS.0, ALWAYS.1), BTreeMap::new());
}

#[test]
fn a_message_that_is_swallowed_is_lost_and_one_that_comes_twice_is_misplaced() {
    let turn = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&turn);
    let address = serve(move |text, stream| match count.fetch_add(1, Ordering::SeqCst) {
        5 => true,
        9 => say(stream, 0x1, text.as_bytes()) && say(stream, 0x1, text.as_bytes()),
        _ => say(stream, 0x1, text.as_bytes()),
    });
    let talked = talk(address, 1, || turn.load(Ordering::SeqCst) >= 15);
    assert_eq!(talked.count(Fate::Lost, ALWAYS.0, ALWAYS.1), 1);
    // Whatever comes after the swallowed one comes too early, and the second of a pair comes twice.
    assert!(talked.lost(ALWAYS.0, ALWAYS.1) > 2, "{talked:?}");
}

#[test]
fn a_peer_that_says_nothing_loses_nothing() {
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    let address = serve(move |_, _| count.fetch_add(1, Ordering::SeqCst) < 1_000);
    let talked = talk(address, 1, || heard.load(Ordering::SeqCst) >= 5);
    assert!(!talked.echoes());
    assert_eq!(talked.lost(ALWAYS.0, ALWAYS.1), 0);
}

#[test]
fn a_websocket_that_is_closed_is_counted_with_its_code_and_opened_again_when_it_says() {
    let turn = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&turn);
    let address = serve(move |text, stream| match count.fetch_add(1, Ordering::SeqCst) {
        5 => {
            say(stream, 0x1, text.as_bytes());
            let close = [&1012_u16.to_be_bytes()[..], b"retry=100"].concat();
            say(stream, 0x8, &close);
            // Closing with something unread would be a reset, which may come before the Close.
            while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            false
        }
        _ => say(stream, 0x1, text.as_bytes()),
    });
    let talked = talk(address, 1, || turn.load(Ordering::SeqCst) >= 15);
    assert_eq!(talked.lives.0.len(), 2);
    assert_eq!(talked.lives.ends(ALWAYS.0, ALWAYS.1), BTreeMap::from([(End::Closed(1012), 1)]));
    assert!(talked.count(Fate::Unsent, ALWAYS.0, ALWAYS.1) > 0, "{talked:?}");
}

#[test]
fn what_cannot_be_opened_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tries = Instant::now();
    let talked = talk(address, 1, || tries.elapsed() > Duration::from_millis(500));
    assert!(talked.unopened(ALWAYS.0, ALWAYS.1).contains_key(&Loss::ConnectRefused), "{talked:?}");
    assert!(talked.lives.0.is_empty() && !talked.messages.is_empty());
}

/// An https server for `shop.example` that says hello; and the file that vouches for it.
fn secured(directory: &std::path::Path) -> (SocketAddr, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let file = directory.join("site.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            thread::spawn(move || {
                let mut head = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut head) {
                    let hello = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
                    stream.write_all(hello).unwrap();
                    if head[..read].windows(17).any(|part| part == b"Connection: close") {
                        stream.conn.send_close_notify();
                        stream.flush().unwrap();
                        break;
                    }
                }
            });
        }
    });
    (address, file)
}

fn tls_load(address: SocketAddr) -> Load {
    let load = Load::to(&format!("https://{address}/")).unwrap().host("shop.example").mode(Mode::Mixed);
    load.rate(100.0).lasting(Duration::from_millis(300)).holding(3).timeout(Duration::from_secs(20))
}

#[test]
fn a_load_over_tls_believes_whom_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let (address, file) = secured(directory.path());
    for trust in [Trust::Authorities(file), Trust::Anybody] {
        let running = tls_load(address).trust(trust).start().unwrap();
        while running.settled() < 30 {
            thread::yield_now();
        }
        let (ledger, connections) = running.stop_with_connections().unwrap();
        assert_eq!((ledger.sent(), ledger.lost()), (30, 0), "{ledger}");
        assert_eq!(connections.kept(Duration::MAX, Duration::MAX), (3, 3), "{connections:?}");
    }
    let other = directory.path().join("other.pem");
    let stranger = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    let ledger = tls_load(address).trust(Trust::Authorities(other)).run().unwrap();
    assert_eq!(ledger.lost_by_kind(), BTreeMap::from([(Loss::HandshakeFailed, 30)]), "{ledger}");
}

#[test]
fn a_host_that_no_certificate_can_be_for_is_refused() {
    let load = Load::to("https://127.0.0.1:1/").unwrap().trust(Trust::Anybody).host("no_/host");
    assert!(matches!(load.start(), Err(DrillError::ServerName(_))));
}
