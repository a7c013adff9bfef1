//! Taking an instance out without losing what it works on.

use std::time::Duration;

use everup_e2e::api::InstanceState;
use everup_e2e::{Behaviour, Config, Connection, Everup, Mode, Origin, get, until};

fn two() -> ([Origin; 2], Everup) {
    let origins = ["a", "b"].map(Origin::start);
    let config = Config::shop(origins.iter().map(Origin::address)).set("balance = \"round-robin\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (origins, everup)
}

#[test]
fn a_drained_instance_gets_nothing_until_it_is_undrained() {
    let ([a, _b], everup) = two();
    let name = a.address().to_string();
    let drained = everup.verb(&["drain", "shop", &name]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(everup.instance(&name).state, InstanceState::Drained);
    let before = a.count();
    (0..10).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), "b"));
    assert_eq!(a.count(), before);
    let undrained = everup.verb(&["undrain", "shop", &name]);
    assert_eq!(undrained.code, Some(0), "{undrained:?}");
    until("it gets requests again", || get(everup.address(), "/").instance() == "a");
}

#[test]
fn a_drain_waits_for_the_requests_in_flight() {
    let ([a, b], everup) = two();
    a.on("/slow", Behaviour::Slow(Duration::from_secs(1)));
    b.on("/slow", Behaviour::Slow(Duration::from_secs(1)));
    let address = everup.address();
    let slow: Vec<_> = (0..4).map(|_| std::thread::spawn(move || get(address, "/slow"))).collect();
    until("both are busy", || a.count() > 0 && b.count() > 0);
    let drained = everup.verb(&["drain", "shop", &a.address().to_string()]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(everup.instance(&a.address().to_string()).in_flight, 0);
    assert!(slow.into_iter().all(|answer| answer.join().unwrap().status == 200));
}

#[test]
fn a_drain_that_does_not_finish_in_time_says_so_and_exits_1() {
    let ([a, _b], mut everup) = two();
    let name = a.address().to_string();
    a.on("/slow", Behaviour::Slow(Duration::from_secs(2)));
    let mut asking = Vec::new();
    until("it is busy", || {
        let mut connection = Connection::open(everup.address());
        connection.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        asking.push(connection);
        a.count() > 0
    });
    let drained = everup.verb(&["drain", "shop", &name, "--wait", "0.2"]);
    assert_eq!(drained.code, Some(1), "{drained:?}");
    assert!(drained.out.contains("in flight") || drained.err.contains("in flight"), "{drained:?}");
    assert_eq!(everup.instance(&name).state, InstanceState::Draining);
    assert!(asking.iter_mut().all(|connection| connection.answer().status == 200));
    everup.wait_for(&name, InstanceState::Drained);
}

#[test]
fn nothing_is_lost_when_instances_are_drained_in_turn_under_load() {
    let ([a, b], mut everup) = two();
    let load = everup.load("/").mode(Mode::Mixed).sending("POST", "x").start().unwrap();
    until("the load runs", || load.settled() > 50);
    for origin in [&a, &b] {
        let name = origin.address().to_string();
        assert_eq!(everup.verb(&["drain", "shop", &name]).code, Some(0));
        let before = origin.count();
        let settled = load.settled();
        until("the load goes on", || load.settled() > settled + 50);
        assert_eq!(origin.count(), before, "a drained instance got a request");
        assert_eq!(everup.verb(&["undrain", "shop", &name]).code, Some(0));
        everup.wait_for(&name, InstanceState::Up);
    }
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

#[test]
fn what_is_drained_stays_drained_when_the_worker_dies() {
    let ([a, _b], mut everup) = two();
    let name = a.address().to_string();
    assert_eq!(everup.verb(&["drain", "shop", &name]).code, Some(0));
    let worker = everup_e2e::Process::with_id(everup.status().worker_pid).unwrap();
    worker.kill();
    everup.wait_until("another worker serves", |status| status.ready && status.worker_pid != worker.pid);
    (0..10).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), "b"));
    assert_eq!(everup.instance(&name).state, InstanceState::Drained);
}

#[test]
fn an_unknown_instance_is_refused_in_one_line() {
    let (_origins, everup) = two();
    for arguments in [["drain", "shop", "shop-9"], ["drain", "nothing", "x"], ["undrain", "shop", "shop-9"]] {
        let refused = everup.verb(&arguments);
        assert_eq!((refused.code, refused.err.lines().count()), (Some(1), 1), "{refused:?}");
    }
}
