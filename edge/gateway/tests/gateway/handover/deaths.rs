//! When the two workers do not understand each other, or one of them ends in the middle: whose a connection is then. One of
//! the two is often played by hand.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use everup_core::handover::{
    Answer, Assembly, Connection, DATAGRAM_BYTES, Hello, Idle, Message, Refused, Told, What, write,
};
use everup_gateway::{Kinds, Stage as At};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{hand_over, handed_over, kinds, line, requests, served};
use crate::stage::{Origin, before, until};
use crate::websockets;
use crate::wire::{Wire, get, ok};

/// The other worker, by hand.
struct Other {
    line: OwnedFd,
    assembly: Assembly,
}

impl Other {
    fn new(line: OwnedFd) -> Self {
        Self { line, assembly: Assembly::default() }
    }

    fn say(&self, message: &Message, descriptors: &[&TcpStream]) {
        let mut datagram = Vec::new();
        write(&mut datagram, message, b"").unwrap();
        let descriptors: Vec<_> = descriptors.iter().map(|one| one.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        sendmsg(&self.line, &[IoSlice::new(&datagram)], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    fn greet(&self, lowest: u32, highest: u32) {
        self.say(&Message::Hello(Hello { lowest, highest, version: "0.0.0".into() }), &[]);
    }

    /// What is said next; None: nothing more comes.
    fn hear(&mut self) -> Option<(Told, Vec<OwnedFd>)> {
        let mut room = vec![0; DATAGRAM_BYTES];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut room)];
            let came = recvmsg(&self.line, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
            let descriptors = control.drain().flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            });
            let descriptors = descriptors.collect();
            if came == 0 {
                return None;
            }
            if let Some(told) = self.assembly.handle(&room[..came]).unwrap() {
                return Some((told, descriptors));
            }
        }
    }

    #[track_caller]
    fn hear_connection(&mut self) -> (Box<Connection>, Vec<u8>, Vec<OwnedFd>) {
        match self.hear() {
            Some((Told::Connection(connection, held), descriptors)) => (connection, held, descriptors),
            other => panic!("no connection: {other:?}"),
        }
    }
}

#[test]
fn what_a_worker_has_not_taken_when_it_dies_stays_with_the_old_one() {
    let (origin, _) = websockets::echoing();
    let named = Origin::named("a");
    let old = before([&named]).with_successors().start();
    let tunnels = before([&origin]).with_successors().start();
    let mut idle: Vec<Wire> = (0..50).map(|_| old.connect()).collect();
    idle.iter_mut().for_each(|client| served(client, "a"));
    let mut socket = websockets::opened(&tunnels);
    websockets::say(&mut socket, "before");
    assert_eq!(websockets::read(&mut socket), Some((0x81, b"before".to_vec())));
    for stage in [&old, &tunnels] {
        let (ours, theirs) = line();
        let mut dying = Other::new(theirs);
        let leaving = stage.gateway().hand_over(ours).unwrap();
        dying.greet(1, 1);
        assert!(matches!(dying.hear(), Some((Told::Hello(_), _))));
        // It has it in its hands, and says nothing.
        let (connection, _, descriptors) = dying.hear_connection();
        assert_eq!(descriptors.len(), connection.descriptors());
        drop((dying, descriptors));
        until("it is noticed", || matches!(leaving.progress().stage, At::Broken(_)));
        assert_eq!(leaving.progress().moved, Kinds::default());
        stage.gateway().take_back();
        until("nobody is kept here", || leaving.progress().staying == Kinds::default());
    }
    idle.iter_mut().for_each(|client| served(client, "a"));
    websockets::say(&mut socket, "after");
    assert_eq!(websockets::read(&mut socket), Some((0x81, b"after".to_vec())));
    served(&mut old.connect(), "a");
    // And the next attempt succeeds.
    let new = old.successor(|_| {});
    until("one is counted out", || old.gateway().connections() == 50);
    assert_eq!(handed_over(&old, &new), kinds(50, 0, 0, 0));
    idle.iter_mut().for_each(|client| served(client, "a"));
}

#[test]
fn what_a_worker_has_taken_is_not_touched_by_the_old_one_any_more() {
    let origin = Origin::named("a");
    let old = before([&origin]).with_successors().start();
    let mut clients: Vec<Wire> = (0..2).map(|_| old.connect()).collect();
    clients.iter_mut().for_each(|client| served(client, "a"));
    let (ours, theirs) = line();
    let mut other = Other::new(theirs);
    let leaving = old.gateway().hand_over(ours).unwrap();
    other.greet(1, 9);
    other.hear();
    let offered = [other.hear_connection(), other.hear_connection()];
    // While it is offered, what comes waits in the kernel.
    clients.iter_mut().for_each(|client| client.send(get("/")));
    let [(taken, _, mut fds), (refused, _, back)] = offered;
    drop(back);
    let peer = clients[0].stream.local_addr().unwrap();
    let (first, second) = if taken.peer == peer { (0, 1) } else { (1, 0) };
    other.say(&Message::Answer(Answer { number: taken.number, refused: None }), &[]);
    let refusal = Answer { number: refused.number, refused: Some(Refused::Other) };
    other.say(&Message::Answer(refusal), &[]);
    // It stays, and is told to come again.
    let answer = clients[second].answer();
    assert_eq!((answer.text().as_str(), answer.header("Connection")), ("a", Some("close")));
    until("one has gone", || leaving.progress().moved == kinds(1, 0, 0, 0));
    let mut stream = Wire::new(TcpStream::from(fds.remove(0)));
    stream.stream.set_nonblocking(false).unwrap();
    assert_eq!(stream.request().unwrap().path(), "/");
    stream.send(ok("by hand"));
    assert_eq!(clients[first].answer().text(), "by hand");
    assert_eq!(requests(&old), 3);
}

#[test]
fn a_worker_that_dies_in_the_middle_has_left_the_new_one_what_it_sent() {
    let origin = Origin::named("a");
    let old = before([&origin]).with_successors().start();
    let new = old.successor(|_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Wire::to(listener.local_addr().unwrap());
    let (accepted, peer) = listener.accept().unwrap();
    let (ours, theirs) = line();
    let mut dying = Other::new(theirs);
    dying.greet(1, 1);
    let taking = new.gateway().take_over(ours).unwrap();
    dying.hear();
    let connection = |number, listener, what| {
        Message::Connection(Box::new(Connection {
            number,
            listener,
            peer,
            source: peer,
            destination: None,
            what,
        }))
    };
    let idle = What::Idle(Idle { served: true, idle_ms: 10_000 });
    dying.say(&connection(1, old.address, idle.clone()), &[&accepted]);
    // Others that cannot go on there: no descriptor, one too many, an address that is not known or speaks otherwise.
    dying.say(&connection(2, old.address, idle.clone()), &[]);
    dying.say(&connection(3, old.address, idle.clone()), &[&accepted, &accepted]);
    dying.say(&connection(4, "192.0.2.1:80".parse().unwrap(), idle.clone()), &[&accepted]);
    dying.say(&connection(5, old.tcp, idle), &[&accepted]);
    dying.say(&connection(6, old.address, What::Unknown), &[]);
    // The answers are not read any more.
    drop((accepted, dying));
    until("it is over", || taking.progress().stage == At::Settled);
    assert_eq!((taking.progress().taken, taking.progress().refused), (kinds(1, 0, 0, 0), 5));
    served(&mut client, "a");
    assert_eq!(requests(&new), 1);
}

#[test]
fn two_that_cannot_talk_part_politely_and_nothing_has_happened() {
    let origin = Origin::named("a");
    let old = before([&origin]).with_successors().start();
    let mut client = old.connect();
    served(&mut client, "a");
    for nonsense in [false, true] {
        let ((ours, theirs), (new_ours, new_theirs)) = (line(), line());
        let (later, earlier) = (Other::new(theirs), Other::new(new_theirs));
        let leaving = old.gateway().hand_over(ours).unwrap();
        let new = old.successor(|_| {});
        let taking = new.gateway().take_over(new_ours).unwrap();
        for other in [&later, &earlier] {
            match nonsense {
                true => other.say(&Message::Piece, &[]),
                false => other.greet(7, 9),
            }
        }
        if nonsense {
            drop((later, earlier));
        }
        until("both know", || {
            matches!(leaving.progress().stage, At::Refused(_))
                && matches!(taking.progress().stage, At::Refused(_))
        });
        let At::Refused(why) = leaving.progress().stage else { panic!("refused") };
        assert!(nonsense || why.contains("protocol 7 to 9"), "{why}");
        drop(new);
        served(&mut client, "a");
        served(&mut old.connect(), "a");
    }
    assert!(old.gateway().hand_over(std::fs::File::open("/dev/null").unwrap().into()).is_err());
}

#[test]
fn a_line_that_carries_nonsense_is_ended_and_all_go_on() {
    let origin = Origin::named("a");
    let mut old = before([&origin]).with_successors().start();
    let mut client = old.connect();
    served(&mut client, "a");
    let (ours, theirs) = line();
    let taking = old.gateway().take_over(ours).unwrap();
    let mut other = Other::new(theirs);
    other.greet(1, 1);
    other.hear();
    rustix::net::send(&other.line, &[0xff; 100], SendFlags::NOSIGNAL).unwrap();
    until("it is ended", || matches!(taking.progress().stage, At::Broken(_)));
    assert!(other.hear().is_none());
    served(&mut client, "a");
    old.stop();
}

/// Asks again and again until told to stop. Whether its connection has ended.
fn asks(mut client: Wire, number: usize, stop: &AtomicBool) -> bool {
    for asked in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let expected = format!("/{number}/{asked}");
        let answer = if client.try_send(get(&expected)) { client.try_answer("GET") } else { None };
        match answer {
            Some(answer) => assert_eq!(answer.text(), expected),
            None => return true,
        }
    }
    false
}

#[test]
fn when_the_new_worker_ends_in_the_middle_nobody_but_those_it_had_taken_notices() {
    let origin = Origin::answering(|request| ok(request.path()));
    let mut old = before([&origin]).with_successors().threads(2).start();
    let idle: Vec<Wire> = (0..400).map(|_| old.connect()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..20)
        .map(|number| {
            let (client, stop) = (old.connect(), Arc::clone(&stop));
            thread::spawn(move || asks(client, number, &stop))
        })
        .collect();
    until("they are busy", || requests(&old) > 200);
    let mut taken = 0;
    for _ in 0..3 {
        let mut new = old.successor(|_| {});
        let (leaving, taking) = hand_over(&old, &new);
        until("some have gone", || leaving.progress().moved.total() > 0);
        new.stop();
        let moves = |stage| matches!(stage, At::Greeting | At::Moving);
        until("it is noticed", || !moves(leaving.progress().stage));
        assert!(leaving.progress().moved.idle <= taking.progress().taken.idle);
        taken += taking.progress().taken.idle;
        old.gateway().take_back();
    }
    stop.store(true, Ordering::Relaxed);
    let mut ended = busy.into_iter().map(|one| one.join().unwrap()).filter(|ended| *ended).count();
    for mut client in idle {
        let answer = if client.try_send(get("/idle")) { client.try_answer("GET") } else { None };
        ended += usize::from(answer.is_none());
        assert!(
            answer.is_none_or(|answer| answer.text() == "/idle" && answer.header("Connection").is_none())
        );
    }
    assert!(ended as u64 <= taken, "{ended} have ended, {taken} were taken");
    old.stop();
}

#[test]
fn who_waits_at_the_door_while_nobody_lets_anybody_in_is_served_by_the_next_worker() {
    let origin = Origin::named("a");
    let mut old = before([&origin]).with_successors().threads(2).start();
    let (ours, theirs) = line();
    let slow = Other::new(theirs);
    let leaving = old.gateway().hand_over(ours).unwrap();
    slow.greet(1, 1);
    until("nobody is let in", || leaving.progress().stage != At::Greeting);
    let mut waiting: Vec<Wire> = (0..20).map(|_| old.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send(get("/")));
    old.stop();
    let new = old.successor(|_| {});
    waiting.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "a"));
    assert_eq!((requests(&old), requests(&new)), (0, 20));
}
