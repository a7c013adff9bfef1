//! The books must be right when the server is not: each test gives the load one kind of misbehaviour and looks for
//! exactly that in the ledger.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where and stop")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use everup_drill::{DrillError, End, Ledger, Load, Loss, Mode};

/// Serves every request with what `answer(request, stream)` does; closes when that returns false.
fn serve(answer: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            thread::spawn(
                move || while read_head(&mut stream).is_some_and(|head| answer(&head, &mut stream)) {},
            );
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

fn say(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

/// Twenty requests in 0.2 s.
fn load(address: SocketAddr) -> Load {
    let short = Duration::from_millis(300);
    Load::to(&format!("http://{address}/"))
        .unwrap()
        .rate(100.0)
        .lasting(Duration::from_millis(200))
        .timeout(short)
}

fn only(ledger: &Ledger, loss: Loss) {
    assert_eq!(ledger.lost_by_kind(), BTreeMap::from([(loss, 20)]), "{ledger}");
    assert_eq!((ledger.sent(), ledger.ok()), (20, 0));
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nX-Instance: one\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_good_server_loses_nothing_in_any_mode() {
    for mode in [Mode::KeepAlive, Mode::Close, Mode::Mixed] {
        let address = serve(|head, stream| say(stream, HELLO) && !head.contains("Connection: close"));
        let ledger = load(address).mode(mode).run().unwrap();
        assert_eq!((ledger.sent(), ledger.lost()), (20, 0), "{mode:?}: {ledger}");
        assert_eq!(ledger.who(), BTreeMap::from([("one".to_owned(), 20)]));
    }
}

#[test]
fn kept_connections_are_used_again_and_one_shot_ones_are_not() {
    for (mode, most) in [(Mode::KeepAlive, 19), (Mode::Close, 20)] {
        let opened = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
        let seen = Arc::clone(&opened);
        let address = serve(move |head, stream| {
            seen.lock().unwrap().insert(stream.peer_addr().unwrap());
            say(stream, HELLO) && !head.contains("Connection: close")
        });
        load(address).mode(mode).run().unwrap();
        let opened = opened.lock().unwrap().len();
        assert!(
            opened <= most && (mode == Mode::KeepAlive || opened == 20),
            "{mode:?}: {opened} connections"
        );
    }
}

#[test]
fn nothing_listening_is_connect_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    only(&load(address).run().unwrap(), Loss::ConnectRefused);
}

#[test]
fn a_server_that_closes_at_once_is_closed_before_answer() {
    let address = serve(|_, _| false);
    only(&load(address).run().unwrap(), Loss::ClosedBeforeAnswer);
}

#[test]
fn half_an_answer_is_cut() {
    let address = serve(|_, stream| !say(stream, &HELLO[..HELLO.len() - 2]));
    only(&load(address).run().unwrap(), Loss::Cut);
}

#[test]
fn a_reset_connection_is_a_reset() {
    // Closing with unread bytes in the receive buffer makes the kernel send a reset.
    let address = serve(|_, stream| stream.shutdown(Shutdown::Write).is_err());
    let ledger = load(address).sending("POST", vec![b'x'; 4 << 20]).run().unwrap();
    assert_eq!(ledger.ok(), 0, "{ledger}");
    assert!(ledger.lost_by_kind().contains_key(&Loss::Reset), "{ledger}");
}

#[test]
fn silence_is_a_timeout_and_slows_no_other_request() {
    let count = AtomicUsize::new(0);
    let address = serve(move |_, stream| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_secs(1));
        }
        say(stream, HELLO)
    });
    let ledger = load(address).run().unwrap();
    assert_eq!(ledger.lost_by_kind(), BTreeMap::from([(Loss::Timeout, 1)]), "{ledger}");
    assert_eq!(ledger.ok(), 19);
}

#[test]
fn a_server_error_is_a_loss_and_a_client_error_is_an_answer() {
    let address = serve(|_, stream| say(stream, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"));
    only(&load(address).run().unwrap(), Loss::Status(503));
    let address = serve(|_, stream| say(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(load(address).run().unwrap().answers(), BTreeMap::from([(404, 20)]));
}

#[test]
fn nonsense_is_garbled_and_a_foreign_drill_id_is_crossed() {
    let address = serve(|_, stream| say(stream, "220 smtp.example ESMTP\r\n\r\n"));
    only(&load(address).run().unwrap(), Loss::Garbled);
    let address = serve(|_, stream| {
        say(stream, "HTTP/1.1 200 OK\r\nX-Drill-Id: not-yours\r\nContent-Length: 0\r\n\r\n")
    });
    only(&load(address).run().unwrap(), Loss::Crossed);
}

#[test]
fn a_request_is_sent_once_whatever_becomes_of_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = serve(move |head, _| {
        let id = head.lines().find_map(|line| line.strip_prefix("X-Drill-Id: ")).unwrap();
        log.lock().unwrap().push(id.to_owned());
        false
    });
    let ledger = load(address).sending("POST", "").run().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), ledger.lost()), (20, 20), "{ledger}");
    assert!(ledger.duplicates(seen.iter().map(String::as_str)).is_empty());
    assert!(ledger.entries().iter().all(|entry| seen.contains(&ledger.id(entry.number))));
}

#[test]
fn cookies_are_kept_and_returned() {
    let returned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&returned);
    let address = serve(move |head, stream| {
        count.fetch_add(usize::from(head.contains("Cookie: a=b=c\r\n")), Ordering::SeqCst);
        say(stream, "HTTP/1.1 200 OK\r\nSet-Cookie: a=b=c; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n")
    });
    load(address).cookies().run().unwrap();
    assert!(returned.load(Ordering::SeqCst) > 0);
}

#[test]
fn method_body_headers_and_host_arrive_as_given() {
    let address = serve(|head, stream| {
        let mut body = [0; 3];
        let whole = head.starts_with("PUT / HTTP/1.1\r\nHost: shop.example\r\n")
            && head.contains("\r\nX-A: b\r\n")
            && stream.read_exact(&mut body).is_ok()
            && &body == b"abc";
        say(stream, if whole { HELLO } else { "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" })
    });
    let ledger = load(address).sending("PUT", "abc").header("X-A", "b").host("shop.example").run().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let base = || Load::to("http://127.0.0.1:1/").unwrap();
    assert!(matches!(base().rate(0.0).start(), Err(DrillError::Range { .. })));
    assert!(matches!(base().rate(f64::NAN).start(), Err(DrillError::Range { .. })));
    assert!(matches!(base().lasting(Duration::MAX).start(), Err(DrillError::Range { .. })));
    assert!(matches!(base().header("a", "b\r\nc: d").start(), Err(DrillError::Head(_))));
    assert!(matches!(base().method("GET /").start(), Err(DrillError::Head(_))));
}

#[test]
fn a_load_goes_on_until_it_is_stopped() {
    let running = load(serve(|_, stream| say(stream, HELLO))).until_stopped().start().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while running.settled() < 30 && Instant::now() < deadline {
        thread::yield_now();
    }
    let ledger = running.stop().unwrap();
    assert!(ledger.sent() >= 30 && ledger.lost() == 0, "{ledger}");
}

#[test]
fn held_connections_are_open_from_the_beginning_and_used_by_turns() {
    let seen = Arc::new(Mutex::new(BTreeMap::<SocketAddr, u32>::new()));
    let log = Arc::clone(&seen);
    let address = serve(move |_, stream| {
        *log.lock().unwrap().entry(stream.peer_addr().unwrap()).or_default() += 1;
        say(stream, HELLO)
    });
    let running = load(address).holding(5).start().unwrap();
    let (ledger, connections) = {
        while running.settled() < 20 {
            thread::yield_now();
        }
        running.stop_with_connections().unwrap()
    };
    assert_eq!((ledger.lost(), connections.0.len()), (0, 5), "{ledger}");
    assert_eq!(connections.kept(Duration::MAX, Duration::MAX), (5, 5));
    assert!(seen.lock().unwrap().values().all(|requests| *requests == 4), "{:?}", seen.lock().unwrap());
}

#[test]
fn a_held_connection_that_is_closed_is_counted_and_replaced() {
    let address =
        serve(|_, stream| !say(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    let running = load(address).holding(2).start().unwrap();
    while running.settled() < 20 {
        thread::yield_now();
    }
    let (ledger, connections) = running.stop_with_connections().unwrap();
    assert_eq!((ledger.lost(), connections.0.len()), (0, 20), "{ledger}");
    assert_eq!(connections.ends(Duration::ZERO, Duration::MAX), BTreeMap::from([(End::Told, 20)]));
}

#[test]
fn kinds_of_requests_take_turns_and_losses_are_told_apart() {
    let address = serve(|head, stream| {
        let (post, close) = (head.starts_with("POST /buy "), head.contains("Connection: close"));
        if post {
            stream.read_exact(&mut [0; 3]).unwrap();
        }
        if close {
            say(stream, HELLO);
        }
        !close && !post && say(stream, HELLO)
    });
    let get = load(address).mode(Mode::Mixed);
    let post = get.clone().path("/buy").unwrap().sending("POST", "abc");
    let ledger = get.in_turns_with(post).run().unwrap();
    let lost = BTreeMap::from([("POST http, kept connection".to_owned(), 5)]);
    assert_eq!((ledger.sent(), ledger.lost_by_request()), (20, lost), "{ledger}");
}
