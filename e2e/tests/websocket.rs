//! Upgraded connections: bytes go both ways through everup, and their end is the end on both sides.

use everup_e2e::{Config, Everup, Sample, WebSocket, get};
use rustix::process::Signal;

fn samples(count: usize) -> (Vec<Sample>, Everup) {
    let samples: Vec<Sample> = ["a", "b", "c"][..count].iter().map(|name| Sample::start(name)).collect();
    let config = Config::shop(samples.iter().map(Sample::address)).set("balance = \"round-robin\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (samples, everup)
}

#[test]
fn messages_are_echoed_through_a_tunnel_and_it_closes_in_order() {
    let (_samples, mut everup) = samples(1);
    let mut socket = WebSocket::open(everup.address(), "/ws");
    assert_eq!(socket.instance(), "a");
    everup.wait_until("the tunnel is counted", |status| status.services[0].instances[0].tunnels == 1);
    assert!((0..100).all(|number| socket.echoes(&format!("message {number}"))));
    assert!(socket.close());
    everup.wait_until("the tunnel is gone", |status| status.services[0].instances[0].tunnels == 0);
}

#[test]
fn tunnels_and_requests_do_not_disturb_each_other() {
    let (_samples, everup) = samples(2);
    let mut sockets: Vec<WebSocket> = (0..8).map(|_| WebSocket::open(everup.address(), "/ws")).collect();
    for round in 0..10 {
        assert!(sockets.iter_mut().all(|socket| socket.echoes(&format!("round {round}"))));
        assert_eq!(get(everup.address(), "/whoami").status, 200);
    }
}

#[test]
fn when_the_instance_dies_its_tunnels_end_and_others_stay() {
    let (mut samples, everup) = samples(2);
    let mut sockets: Vec<WebSocket> = (0..6).map(|_| WebSocket::open(everup.address(), "/ws")).collect();
    samples[0].kill();
    for socket in &mut sockets {
        match socket.instance() {
            "a" => assert!(socket.is_closed_by_peer()),
            _ => assert!(socket.echoes("still here")),
        }
    }
}

#[test]
fn an_instance_that_does_not_upgrade_answers_as_usual() {
    let (_samples, everup) = samples(1);
    let headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "x")];
    let answer = everup_e2e::request(everup.address(), "GET", "/whoami", &headers, "");
    assert_eq!(answer.status, 200);
}

#[test]
fn open_tunnels_do_not_keep_everup_from_stopping() {
    let sample = Sample::start("a");
    let config = Config::shop([sample.address()]).set("drain = { time = \"1s\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let mut socket = WebSocket::open(everup.address(), "/ws");
    assert!(socket.echoes("hello"));
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(0), &[][..]), "{}", stopped.said);
    assert_eq!(socket.hear().0, 0x8, "it was told to go");
}
