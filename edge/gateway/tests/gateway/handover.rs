//! Connections that go from one worker's gateway to the next one's: two gateways with the same sockets, and a line between
//! them. Who serves a request is told by their counters.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use everup_gateway::Availability::Draining;
use everup_gateway::{HandOver, Kinds, Stage as At, TakeOver};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::random::{Chance, seed};
use crate::stage::{Gate, Origin, Stage, before, until};
use crate::tls::{self, Ca};
use crate::tls_instances;
use crate::websockets;
use crate::wire::{End, Wire, get, ok, pattern, post};

mod deaths;

fn line() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Begins to hand over.
fn hand_over(old: &Stage, new: &Stage) -> (HandOver, TakeOver) {
    let (ours, theirs) = line();
    let taking = new.gateway().take_over(theirs).unwrap();
    (old.gateway().hand_over(ours).unwrap(), taking)
}

/// Hands over, and waits until all that can go has gone.
#[track_caller]
fn handed_over(old: &Stage, new: &Stage) -> Kinds {
    let (leaving, taking) = hand_over(old, new);
    until("all that can go has gone", || leaving.progress().stage == At::Settled);
    let moved = leaving.progress().moved;
    assert_eq!(taking.progress().taken, moved);
    moved
}

fn kinds(idle: u64, relays: u64, tunnels: u64, websockets: u64) -> Kinds {
    Kinds { idle, relays, tunnels, websockets }
}

fn requests(stage: &Stage) -> u64 {
    stage.service.requests.total()
}

/// A request that is served, by a connection that may stay.
#[track_caller]
fn served(client: &mut Wire, body: &str) {
    client.send(get("/"));
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str(), answer.header("Connection")), (200, body, None));
}

#[test]
fn idle_connections_go_on_with_the_next_worker_and_who_comes_anew_comes_to_it() {
    let origin = Origin::named("a");
    let mut old = before([&origin]).threads(2).with_successors().start();
    let mut clients: Vec<Wire> = (0..60).map(|_| old.connect()).collect();
    // Some have asked before, some have not.
    clients[..40].iter_mut().for_each(|client| served(client, "a"));
    until("all are accepted", || old.gateway().connections() == 60);
    let new = old.successor(|_| {});
    assert_eq!(handed_over(&old, &new), kinds(60, 0, 0, 0));
    assert_eq!((old.gateway().connections(), new.gateway().connections()), (0, 60));
    clients.extend((0..10).map(|_| new.connect()));
    clients.iter_mut().for_each(|client| served(client, "a"));
    assert_eq!((requests(&old), requests(&new)), (40, 70));
    old.stop();
    clients.iter_mut().for_each(|client| served(client, "a"));
    drop(clients);
    until("every client is counted out", || new.gateway().connections() == 0);
    new.settles();
}

#[test]
fn a_request_in_flight_is_finished_where_it_began_and_the_next_one_is_the_next_workers() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::answering(move |request| {
        if request.path() == "/slow" {
            passes.pass();
        }
        ok(request.text())
    });
    let mut old = before([&origin]).with_successors().start();
    let mut client = old.connect();
    client.send(post("/slow", "once"));
    until("it is with the instance", || old.in_flight() == 1);
    let new = old.successor(|_| {});
    let (leaving, _) = hand_over(&old, &new);
    until("they move", || leaving.progress().stage == At::Moving);
    assert_eq!(leaving.progress().left, 1);
    gate.open();
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.header("Connection")), ("once", None));
    until("it has gone", || leaving.progress().stage == At::Settled);
    client.send(post("/", "twice"));
    assert_eq!(client.answer().text(), "twice");
    assert_eq!((requests(&old), requests(&new), origin.count()), (1, 1, 2));
    old.stop();
    client.send(post("/", "thrice"));
    assert_eq!(client.answer().text(), "thrice");
}

#[test]
fn what_was_read_of_the_next_requests_goes_along() {
    let gate = Gate::default();
    let passes = gate.clone();
    let origin = Origin::answering(move |request| {
        if request.path() == "/1" {
            passes.pass();
        }
        ok(request.path())
    });
    let old = before([&origin]).with_successors().start();
    let mut client = old.connect();
    client.send([get("/1"), post("/2", "two"), get("/3")].concat() + "GET /4 HT");
    until("the first is with the instance", || old.in_flight() == 1);
    let new = old.successor(|_| {});
    let (leaving, _) = hand_over(&old, &new);
    until("they move", || leaving.progress().stage == At::Moving);
    gate.open();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.answer().text(), path);
    }
    client.send("TP/1.1\r\nHost: app\r\n\r\n");
    assert_eq!(client.answer().text(), "/4");
    assert_eq!((requests(&old), requests(&new)), (1, 3));
    // Half a head, and nothing in flight.
    let last = new.successor(|_| {});
    client.send([get("/5"), "GET /6 HTTP/1.1\r\nHo".into()].concat());
    assert_eq!(client.answer().text(), "/5");
    assert_eq!(handed_over(&new, &last), kinds(1, 0, 0, 0));
    client.send("st: app\r\n\r\n");
    assert_eq!((client.answer().text().as_str(), requests(&last)), ("/6", 1));
}

/// Sends all of it in pieces of any size, small and large; the end when the gate is open.
fn send_in_pieces(wire: &mut Wire, bytes: &[u8], seed: u64, end: &Gate) {
    let mut chance = Chance(seed | 1);
    let (mut rest, last) = bytes.split_at(bytes.len() - 1000);
    while !rest.is_empty() {
        let most = [10, 3_000, 70_000, 600_000][chance.next(4)];
        let (piece, after) = rest.split_at((1 + chance.next(most)).min(rest.len()));
        wire.send(piece);
        rest = after;
    }
    end.pass();
    wire.send(last);
}

#[test]
fn relays_with_traffic_in_both_directions_lose_double_and_reorder_nothing() {
    const BYTES: usize = 24 * 1024 * 1024;
    const RELAYS: usize = 6;
    let seed = seed();
    println!("EVERUP_SEED={seed}");
    let (sent, moved) = (Arc::new(pattern(BYTES)), Gate::default());
    let (sends, held) = (Arc::clone(&sent), moved.clone());
    let origin = Origin::start(move |visit| {
        let mut writer = visit.wire.writer();
        let (sends, number, last) = (Arc::clone(&sends), visit.connection as u64, held.clone());
        let sending = thread::spawn(move || {
            send_in_pieces(&mut writer, &sends, seed ^ number, &last);
            writer.finish();
        });
        if number % 3 == 1 {
            // Reads nothing before the connection has moved: all buffers on the way are full.
            held.pass();
        }
        let (got, end) = visit.wire.rest();
        assert!(got == pattern(BYTES) && end == End::Closed);
        sending.join().unwrap();
    });
    let mut old = before([&origin]).threads(2).with_successors().start();
    let clients: Vec<_> = (0..RELAYS as u64)
        .map(|number| {
            let mut client = Wire::to(old.tcp);
            let (sent, held) = (Arc::clone(&sent), moved.clone());
            thread::spawn(move || {
                let mut writer = client.writer();
                let (sends, last) = (Arc::clone(&sent), held.clone());
                let sending = thread::spawn(move || {
                    send_in_pieces(&mut writer, &sends, seed ^ number << 32, &last);
                    writer.finish();
                });
                let before = client.take(100_000);
                if number % 3 == 2 {
                    held.pass();
                }
                let (rest, end) = client.rest();
                assert!([before, rest].concat() == *sent && end == End::Closed);
                sending.join().unwrap();
            })
        })
        .collect();
    until("all are relayed", || old.in_flight() == RELAYS as u32);
    let mut stages = Vec::new();
    for _ in 0..3 {
        let new = old.successor(|_| {});
        let (leaving, _) = hand_over(&old, &new);
        until("all that can go has gone", || leaving.progress().stage == At::Settled);
        until("they are counted out", || old.in_flight() == 0);
        assert_eq!(new.in_flight(), RELAYS as u32);
        old.stop();
        stages.push(leaving.progress().moved.relays);
        old = new;
    }
    assert_eq!(stages, [RELAYS as u64; 3]);
    moved.open();
    clients.into_iter().for_each(|client| client.join().unwrap());
    old.settles();
}

#[test]
fn half_closed_relays_stay_half_closed() {
    let (gate, late) = (Gate::default(), Gate::default());
    let (passes, passes_late) = (gate.clone(), late.clone());
    let origin = Origin::start(move |visit| match visit.connection {
        // The client has said all, and is answered later.
        0 => {
            assert_eq!(visit.wire.rest(), (b"question".to_vec(), End::Closed));
            passes.pass();
            visit.wire.send("answer");
        }
        // This one has said all, and listens.
        _ => {
            visit.wire.send("greeting");
            visit.wire.finish();
            passes_late.pass();
            assert_eq!(visit.wire.rest(), (b"thanks".to_vec(), End::Closed));
        }
    });
    let mut old = before([&origin]).with_successors().start();
    let mut first = Wire::to(old.tcp);
    first.send("question");
    first.finish();
    until("it is relayed", || old.in_flight() == 1);
    let mut second = Wire::to(old.tcp);
    assert_eq!(second.rest(), (b"greeting".to_vec(), End::Closed));
    let new = old.successor(|_| {});
    assert_eq!(handed_over(&old, &new), kinds(0, 2, 0, 0));
    old.stop();
    gate.open();
    assert_eq!(first.rest(), (b"answer".to_vec(), End::Closed));
    second.send("thanks");
    second.finish();
    late.open();
    new.settles();
}

#[test]
fn websockets_go_on_in_the_middle_of_messages_and_frames() {
    let (origin, heard) = websockets::echoing();
    let mut old = before([&origin]).service("drain.time = \"4s\"").threads(2).with_successors().start();
    let mut busy: Vec<Wire> = (0..8).map(|_| websockets::opened(&old)).collect();
    let mut halfway = websockets::opened(&old);
    let message = websockets::frame(0x82, &[7; 5000], true);
    halfway.send(&message[..1000]);
    let echoes: Vec<_> = busy
        .drain(..)
        .enumerate()
        .map(|(number, mut client)| {
            thread::spawn(move || {
                let mut writer = client.writer();
                let text = move |at: usize| format!("{number}:{at}:{}", "x".repeat(at * 7919 % 3000));
                let sending = thread::spawn(move || {
                    (0..3000).for_each(|at| websockets::say(&mut writer, &text(at)));
                });
                for at in 0..3000 {
                    let echo = websockets::read(&mut client);
                    assert!(echo == Some((0x81, text(at).into_bytes())), "{number}: message {at}");
                }
                sending.join().unwrap();
                client
            })
        })
        .collect();
    until("all are open", || old.instances[0].websockets() == 9);
    for _ in 0..3 {
        let new = old.successor(|_| {});
        assert_eq!(handed_over(&old, &new), kinds(0, 0, 0, 9));
        until("they are the next one's", || {
            (old.instances[0].websockets(), new.instances[0].websockets()) == (0, 9)
        });
        old.stop();
        old = new;
    }
    let mut busy: Vec<Wire> = echoes.into_iter().map(|echo| echo.join().unwrap()).collect();
    // The last one knows where a Close may stand, also in the middle of what the client says.
    old.publish(&[Draining]);
    websockets::told_to_go(&mut halfway);
    halfway.send(&message[1000..]);
    websockets::goes(&mut halfway);
    for client in &mut busy {
        websockets::told_to_go(client);
        websockets::goes(client);
    }
    let heard = heard.lock().unwrap();
    assert!(heard.contains(&(0x82, vec![7; 5000])));
    assert_eq!(heard.iter().filter(|frame| **frame == websockets::going_away()).count(), 9);
    drop(heard);
    old.settles();
}

#[test]
fn a_websocket_that_is_about_to_be_told_to_go_is_told_by_the_next_worker() {
    let (origin, heard) = websockets::echoing();
    let lines = "drain = { time = \"3s\", websockets = \"close\" }";
    let mut old = before([&origin]).service(lines).with_successors().start();
    let mut client = websockets::opened(&old);
    old.publish(&[Draining]);
    websockets::say(&mut client, "when?");
    assert_eq!(websockets::read(&mut client), Some((0x81, b"when?".to_vec())));
    let new = old.successor(|table| table.services[0].instances[0].state = Draining);
    assert_eq!(handed_over(&old, &new), kinds(0, 0, 0, 1));
    old.stop();
    websockets::told_to_go(&mut client);
    websockets::goes(&mut client);
    assert_eq!(heard.lock().unwrap().last(), Some(&websockets::going_away()));
    new.settles();
}

#[test]
fn a_tunnel_that_is_no_websocket_moves_too() {
    let origin = Origin::start(|visit| {
        visit.head().unwrap();
        visit
            .wire
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nhi");
        let (said, _) = visit.wire.rest();
        visit.wire.send(said);
    });
    let mut old = before([&origin]).with_successors().start();
    let mut client = old.connect();
    client.send(websockets::OPEN.replace("websocket", "other"));
    assert_eq!(client.head().unwrap().status(), 101);
    client.send("hey");
    let new = old.successor(|_| {});
    assert_eq!(handed_over(&old, &new), kinds(0, 0, 1, 0));
    old.stop();
    until("it is the next one's", || new.instances[0].tunnels() == 1);
    assert_eq!((new.in_flight(), new.instances[0].websockets()), (1, 0));
    client.send(" you");
    client.finish();
    assert_eq!(client.rest(), (b"hihey you".to_vec(), End::Closed));
    new.settles();
}

#[test]
fn who_speaks_tls_is_told_with_the_next_answer_and_websockets_stay_until_the_time_is_over() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::start(|visit| {
        while let Some(request) = visit.request() {
            if request.path() != "/ws" {
                visit.wire.send(ok("a"));
                continue;
            }
            visit.wire.send(websockets::OPENED);
            while let Some((first, payload)) = websockets::read(&mut visit.wire) {
                visit.wire.try_send(websockets::frame(first, &payload, false));
            }
        }
    });
    let mut old = tls::setting(&origin, &ca.listener(&["site"]))
        .service("drain.time = \"2s\"")
        .with_successors()
        .start();
    let config = Arc::new(ca.client());
    let mut idle = tls::connect(&config, old.address, "site.example");
    let (head, _) = tls::exchange(&mut idle, get("/").as_bytes()).unwrap();
    assert!(!head.contains("close"), "{head}");
    let mut socket = tls::connect(&config, old.address, "site.example");
    socket.write_all(websockets::OPEN.as_bytes()).unwrap();
    socket.read_exact(&mut vec![0; websockets::OPENED.len()]).unwrap();
    let new = old.successor(|_| {});
    let (leaving, _) = hand_over(&old, &new);
    until("nothing can go", || leaving.progress().stage == At::Settled);
    let progress = leaving.progress();
    assert_eq!((progress.moved, progress.staying, progress.left), (kinds(0, 0, 0, 0), kinds(1, 0, 0, 1), 2));
    let (head, _) = tls::exchange(&mut idle, get("/").as_bytes()).unwrap();
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "with close_notify");
    socket.write_all(&websockets::frame(0x81, b"hello", true)).unwrap();
    let mut came = [0; 7];
    socket.read_exact(&mut came).unwrap();
    assert_eq!(&came, b"\x81\x05hello");
    // Then the time is over.
    socket.read_exact(&mut came[..4]).unwrap();
    assert_eq!(came[..4], [&[0x88, came[1]][..], &1012_u16.to_be_bytes()].concat());
    let mut reason = vec![0; usize::from(came[1]) - 2];
    socket.read_exact(&mut reason).unwrap();
    assert!(reason.starts_with(b"retry="));
    socket.write_all(&websockets::frame(0x88, &1012_u16.to_be_bytes(), true)).unwrap();
    assert_eq!(socket.read(&mut came).unwrap(), 0);
    drop((idle, socket));
    until("nobody is left", || leaving.progress().left == 0);
    assert_eq!(leaving.progress().staying, kinds(0, 0, 0, 0));
    old.stop();
    let mut fresh = tls::connect(&config, new.address, "site.example");
    assert_eq!(tls::exchange(&mut fresh, get("/").as_bytes()).unwrap().1, b"a");
}

#[test]
fn what_the_next_worker_does_not_know_stays_and_is_ended_in_order() {
    let (origin, heard) = websockets::echoing();
    let mut old = before([&origin]).service("drain.time = \"2s\"").with_successors().start();
    let mut socket = websockets::opened(&old);
    let new = old.successor(|table| table.services[0].instances.clear());
    let (leaving, taking) = hand_over(&old, &new);
    until("it stays", || leaving.progress().stage == At::Settled);
    assert_eq!((leaving.progress().staying, taking.progress().refused), (kinds(0, 0, 0, 1), 1));
    websockets::say(&mut socket, "still here");
    assert_eq!(websockets::read(&mut socket), Some((0x81, b"still here".to_vec())));
    assert!(websockets::told_to_go(&mut socket) > 0);
    websockets::goes(&mut socket);
    assert_eq!(heard.lock().unwrap().last(), Some(&websockets::going_away()));
    until("nobody is left", || leaving.progress().left == 0);
    old.stop();
}

#[test]
fn a_relay_to_an_instance_within_tls_stays() {
    let ca = Ca::new();
    ca.write("instance", &["127.0.0.1"]);
    let origin = tls_instances::Secured::start(&ca, "instance", |https| {
        let mut byte = [0];
        while https.read_exact(&mut byte).is_ok() {
            https.write_all(&byte).and_then(|()| https.flush()).unwrap();
        }
    });
    let old =
        tls_instances::before(&[&origin]).service(&tls_instances::tls(&ca, "")).with_successors().start();
    let mut client = Wire::to(old.tcp);
    client.send("x");
    assert_eq!(client.take(1), b"x");
    let new = old.successor(|_| {});
    let (leaving, _) = hand_over(&old, &new);
    until("it stays", || leaving.progress().stage == At::Settled);
    assert_eq!(leaving.progress().staying, kinds(0, 1, 0, 0));
    client.send("y");
    assert_eq!(client.take(1), b"y");
}

#[test]
fn the_places_of_a_client_move_with_its_connections() {
    let origin = Origin::named("a");
    let mut old = before([&origin]).limits("connections_per_client = 2").with_successors().start();
    let mut clients: Vec<Wire> = (0..2).map(|_| old.connect()).collect();
    clients.iter_mut().for_each(|client| served(client, "a"));
    let new = old.successor(|_| {});
    assert_eq!(handed_over(&old, &new), kinds(2, 0, 0, 0));
    old.stop();
    let mut third = new.connect();
    third.send(get("/"));
    assert_eq!(third.answer().status(), 429);
    clients.iter_mut().for_each(|client| served(client, "a"));
}

#[test]
fn whom_a_balancer_in_front_has_named_stays_named() {
    let origin = Origin::answering(|request| ok(request.header("X-Forwarded-For").unwrap_or_default()));
    let old = before([&origin])
        .listener("service = \"app\"\naccept_proxy = [\"127.0.0.0/8\"]")
        .with_successors()
        .start();
    let mut client = old.connect();
    client.send(format!("PROXY TCP4 192.0.2.7 192.0.2.8 4000 80\r\n{}", get("/")));
    assert_eq!(client.answer().text(), "192.0.2.7");
    let new = old.successor(|_| {});
    assert_eq!(handed_over(&old, &new), kinds(1, 0, 0, 0));
    client.send(get("/"));
    assert_eq!((client.answer().text().as_str(), requests(&new)), ("192.0.2.7", 1));
}

#[test]
fn clients_that_never_stop_asking_see_nothing_of_three_workers_after_each_other() {
    let origin = Origin::answering(|request| ok([request.path().as_bytes(), &request.body].concat()));
    let mut old = before([&origin]).with_successors().threads(2).start();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..24)
        .map(|number| {
            let (mut client, stop) = (old.connect(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Two at a time, of which the second has a body.
                    let (path, body) = (format!("/{number}/{asked}"), "x".repeat(asked * 37 % 5000));
                    client.send(get(&path) + &post(&path, &body));
                    for expected in [path.clone(), path + &body] {
                        let answer = client.answer();
                        assert!(answer.text() == expected, "{number}, {asked}: {}", answer.start);
                        assert_eq!(answer.header("Connection"), None);
                    }
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let mut served = Vec::new();
    for _ in 0..3 {
        let before = requests(&old);
        until("they are busy", || requests(&old) > before + 200);
        let new = old.successor(|_| {});
        assert_eq!(handed_over(&old, &new), kinds(24, 0, 0, 0));
        old.settles();
        served.push(requests(&old));
        old.stop();
        old = new;
    }
    until("they are busy", || requests(&old) > 200);
    stop.store(true, Ordering::Relaxed);
    let asked: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(served.iter().sum::<u64>() + requests(&old), asked as u64 * 2);
    assert_eq!(origin.count(), asked * 2);
}

#[test]
fn a_slow_reader_gets_the_rest_of_its_answer_and_then_moves() {
    const BYTES: usize = 8 * 1024 * 1024;
    let origin = Origin::answering(|request| match request.path() {
        "/large" => {
            [format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").into_bytes(), pattern(BYTES)]
                .concat()
        }
        _ => ok("small"),
    });
    let mut old = before([&origin]).with_successors().start();
    let mut client = old.connect();
    client.send(get("/large"));
    until("it is under way", || old.in_flight() == 1);
    let new = old.successor(|_| {});
    let (leaving, _) = hand_over(&old, &new);
    until("they move", || leaving.progress().stage == At::Moving);
    assert!(client.answer().body == pattern(BYTES));
    until("it has gone", || leaving.progress().stage == At::Settled);
    old.stop();
    served(&mut client, "small");
    assert_eq!(requests(&new), 1);
}
