//! Workers that hang are replaced, and those that only seem to are not.

use std::io::ErrorKind;
use std::net::SocketAddr;

use everup_e2e::{Config, Connection, Everup, Mode, Process, Sample, get, until};
use rustix::process::Signal;

fn config(sample: &Sample) -> Config {
    Config::shop([sample.address()]).more("[node]\nwatchdog = \"2s\"\n")
}

fn worker(everup: &Everup) -> Process {
    Process::with_id(everup.status().worker_pid).expect("a worker runs")
}

#[track_caller]
fn is_replaced(everup: &mut Everup, hanging: Process, why: &str) {
    everup.wait_until("another worker serves", |status| status.worker_pid != hanging.pid && status.ready);
    assert!(!hanging.is_alive() && everup.said().contains(why), "{}", everup.said());
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

#[test]
fn a_worker_that_is_stopped_is_replaced() {
    let sample = Sample::start("a");
    let mut everup = Everup::with(config(&sample)).start();
    let stopped = worker(&everup);
    stopped.signal(Signal::STOP);
    is_replaced(&mut everup, stopped, "has shown no life for 2 s");
}

#[test]
fn a_control_thread_that_hangs_is_noticed_while_traffic_goes_on() {
    let sample = Sample::start("a");
    let mut everup = Everup::with(config(&sample)).start();
    let (hanging, address) = (worker(&everup), everup.address());
    everup.arm("controller", "hang");
    until("it hangs", || !everup.is_armed("controller"));
    assert_eq!(get(address, "/whoami").status, 200);
    is_replaced(&mut everup, hanging, "has shown no life for 2 s");
}

#[test]
fn a_thread_of_the_data_plane_that_hangs_is_noticed() {
    let sample = Sample::start("a");
    let mut everup = Everup::with(config(&sample)).start();
    let hanging = worker(&everup);
    everup.arm("data-plane", "hang");
    is_replaced(&mut everup, hanging, "its data-plane thread");
    assert!(everup.said().contains("has not moved for 2 s"), "{}", everup.said());
}

/// The status of an answer; None: the worker ended while it had the request in hand.
fn ask(address: SocketAddr) -> Option<u16> {
    let mut connection = Connection::open(address);
    let sent = connection.try_send("GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    match sent.and_then(|()| connection.try_answer()) {
        Ok(answer) => Some(answer.status),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => None,
            _ => panic!("nobody served it: {error}"),
        },
    }
}

/// Within much less time than the watchdog has.
#[test]
fn a_thread_that_accepts_nobody_any_more_is_replaced_at_once_with_its_worker() {
    let sample = Sample::start("a");
    let mut everup = Everup::with(Config::shop([sample.address()])).start();
    let (failing, address) = (worker(&everup), everup.address());
    everup.arm("accept", "panic");
    // Whoever waits at that thread's socket is served by the next worker.
    until("a connection is accepted", || ask(address).is_some() && !everup.is_armed("accept"));
    let answers: Vec<_> = (0..20).map(|_| std::thread::spawn(move || ask(address))).collect();
    let waits_in_vain = |status: Option<u16>| status.is_some_and(|status| status != 200);
    assert!(answers.into_iter().all(|answer| answer.join().is_ok_and(|status| !waits_in_vain(status))));
    is_replaced(&mut everup, failing, "a thread of the data plane failed inside");
}

#[test]
fn a_sweep_that_panics_is_followed_by_the_next_one() {
    let sample = Sample::start("a");
    let everup = Everup::with(config(&sample)).start();
    let before = worker(&everup);
    everup.arm("data-plane", "panic");
    let load = everup.load("/whoami").lasting(std::time::Duration::from_secs(4)).run().unwrap();
    assert_eq!((load.lost(), everup.status().worker_pid), (0, before.pid), "{}", everup.said());
    assert!(everup.said().contains("a sweep failed inside"), "{}", everup.said());
}

#[test]
fn a_keeper_that_was_stopped_kills_nobody_when_it_goes_on() {
    let sample = Sample::start("a");
    let everup = Everup::with(config(&sample)).start();
    let (before, keeper) = (worker(&everup), everup.keeper());
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    keeper.signal(Signal::STOP);
    // Longer than the watchdog's time; 200 requests a second.
    until("time has passed", || load.settled() > 900);
    keeper.signal(Signal::CONT);
    let settled = load.settled();
    until("more time has passed", || load.settled() > settled + 600);
    let ledger = load.stop().unwrap();
    assert_eq!((ledger.lost(), everup.status().worker_pid), (0, before.pid), "{ledger}\n{}", everup.said());
    assert!(!everup.said().contains("is killed"), "{}", everup.said());
}

/// As after a suspend: both have slept.
#[test]
fn a_keeper_and_a_worker_that_were_stopped_together_go_on_together() {
    let sample = Sample::start("a");
    let everup = Everup::with(config(&sample)).start();
    let (worker, keeper) = (worker(&everup), everup.keeper());
    for process in [keeper, worker] {
        process.signal(Signal::STOP);
    }
    let other = Sample::start("b");
    let elsewhere = everup_e2e::Load::to(&format!("http://{}/whoami", other.address())).unwrap();
    let elsewhere = elsewhere.lasting(std::time::Duration::from_secs(4)).run().unwrap();
    assert_eq!(elsewhere.lost(), 0);
    for process in [keeper, worker] {
        process.signal(Signal::CONT);
    }
    let again = everup.load("/whoami").lasting(std::time::Duration::from_secs(4)).run().unwrap();
    assert_eq!((again.lost(), everup.status().worker_pid), (0, worker.pid), "{}", everup.said());
}
