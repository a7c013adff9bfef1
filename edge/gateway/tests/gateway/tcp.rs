//! TCP listeners: bytes both ways, unread.

use std::thread;

use everup_gateway::Availability::{Down, Takes};

use crate::stage::{Gate, Origin, before, until};
use crate::wire::{End, Wire, pattern};

const MANY: usize = 10 * 1024 * 1024;
/// More than one read, less than what the kernel holds for a client that does not read.
const MUCH: usize = 1_000_000;

#[test]
fn much_goes_both_ways_at_once_and_half_closed_connections_stay_half_open() {
    let origin = Origin::start(|visit| {
        visit.wire.send("greeting");
        let mut writer = visit.wire.writer();
        let sending = thread::spawn(move || writer.send(pattern(MANY)));
        let (got, end) = visit.wire.rest();
        sending.join().unwrap();
        assert!(got == pattern(MANY) && end == End::Closed);
        visit.wire.send("got it all");
    });
    let stage = before([&origin]).start();
    let mut client = Wire::to(stage.tcp);
    assert_eq!(client.take(8), b"greeting");
    let mut writer = client.writer();
    let sending = thread::spawn(move || {
        writer.send(pattern(MANY));
        writer.finish();
    });
    assert!(client.take(MANY) == pattern(MANY));
    assert_eq!(client.take(10), b"got it all");
    sending.join().unwrap();
    client.ends();
    stage.settles();
}

#[test]
fn an_instance_that_refuses_is_passed_over() {
    let (refusing, fine) = (Origin::refusing(), Origin::start(|visit| visit.wire.send("fine")));
    let mut stage = before([&refusing, &fine]).start();
    for _ in 0..10 {
        assert_eq!(Wire::to(stage.tcp).rest(), (b"fine".to_vec(), End::Closed));
    }
    assert!(stage.next_event().is_some());
    stage.settles();
}

#[test]
fn a_connection_waits_for_an_instance_with_what_it_sent() {
    let origin = Origin::start(|visit| {
        let (said, _) = visit.wire.rest();
        visit.wire.send(said);
    });
    let mut stage = before([&origin]).states(&[Down]).start();
    let mut client = Wire::to(stage.tcp);
    client.send("patience");
    client.finish();
    until("it is parked", || stage.service.parked.total() == 1);
    stage.publish(&[Takes]);
    assert_eq!(client.rest().0, b"patience");
}

#[test]
fn what_an_instance_said_before_it_closed_arrives_though_the_client_still_talks() {
    let gate = Gate::default();
    let opens = gate.clone();
    let origin = Origin::start(move |visit| {
        visit.wire.take(4);
        visit.wire.send(pattern(MUCH));
        until("the gateway has it", || unsent_bytes(&visit.wire) == 0);
        // Ends with a reset, for not all was read. What is on its way to the client is still the client's.
        opens.open();
    });
    let stage = before([&origin]).start();
    for _ in 0..5 {
        let mut client = Wire::to(stage.tcp);
        client.send("talktalk");
        gate.pass();
        for _ in 0..20 {
            client.try_send("talk");
        }
        assert!(client.take(MUCH) == pattern(MUCH));
        drop(client);
        stage.settles();
    }
}

/// What the kernel has not brought to the other side yet.
fn unsent_bytes(wire: &Wire) -> usize {
    let ports = [wire.stream.local_addr().unwrap().port(), wire.stream.peer_addr().unwrap().port()];
    let ends = ports.map(|port| format!("0100007F:{port:04X}")).join(" ");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| line.contains(&ends)).unwrap();
    let queues = line.split_whitespace().nth(4).unwrap();
    usize::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}

#[test]
fn a_client_that_vanishes_ends_the_connection_to_the_instance() {
    let origin = Origin::start(|visit| drop(visit.wire.rest()));
    let stage = before([&origin]).start();
    for reset in [false, true] {
        let mut client = Wire::to(stage.tcp);
        client.send("x");
        until("it is relayed", || stage.in_flight() == 1);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        stage.settles();
    }
}
