//! Workers that hang are replaced, and those that only seem to are not.

use everup_e2e::{Config, Everup, Mode, Process, Sample, get, until};
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
