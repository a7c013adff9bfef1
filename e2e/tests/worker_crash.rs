//! The worker, which carries the traffic, is killed. What a client sees of it, and what stays.

use everup_e2e::{Config, Connection, Everup, Loss, Mode, Process, Sample, get, until};

fn worker(everup: &Everup) -> Process {
    Process::with_id(everup.status().worker_pid).unwrap_or_else(|| panic!("the worker does not run"))
}

fn pids(everup: &Everup) -> Vec<Option<u32>> {
    everup.service("shop").instances.iter().map(|instance| instance.pid).collect()
}

#[test]
fn no_connection_is_refused_and_instances_keep_their_pids() {
    let mut everup = Everup::with(Config::runs(3)).start();
    everup.wait_all_up();
    let before = pids(&everup);
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    until("the load runs", || load.settled() > 50);
    let killed = worker(&everup);
    let before_the_end = load.elapsed();
    killed.kill();
    until("the worker is dead", || !killed.is_alive());
    let after_the_end = load.elapsed();
    let status =
        everup.wait_until("another worker serves", |status| status.worker_pid != killed.pid && status.ready);
    let settled = load.settled();
    until("the load goes on", || load.settled() > settled + 200);
    let ledger = load.stop().unwrap();
    assert_eq!(status.worker_restarts, 1);
    assert_eq!(pids(&everup), before);
    let broken_off = |loss| matches!(loss, Loss::Reset | Loss::Cut | Loss::ClosedBeforeAnswer);
    for (entry, loss) in ledger.losses() {
        let in_flight = entry.due <= after_the_end && entry.due + entry.took >= before_the_end;
        assert!(
            broken_off(loss) && in_flight,
            "{loss} beside {before_the_end:?}..{after_the_end:?}: {ledger}"
        );
    }
    println!("{ledger}");
}

#[test]
fn requests_in_flight_fail_and_connections_that_were_waiting_do_not() {
    let sample = Sample::start("a");
    let mut everup = Everup::with(Config::shop([sample.address()])).start();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=20000 HTTP/1.1\r\nHost: x\r\n\r\n");
    everup.wait_until("it is in flight", |status| status.services[0].in_flight == 1);
    let killed = worker(&everup);
    let address = everup.address();
    killed.kill();
    let answers: Vec<_> = (0..20).map(|_| std::thread::spawn(move || get(address, "/whoami"))).collect();
    assert!(answers.into_iter().all(|answer| answer.join().unwrap().status == 200));
    assert!(flying.try_answer().is_err());
}

#[test]
fn a_worker_that_is_killed_again_and_again_is_started_again_and_again() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let before = pids(&everup);
    for restarts in 1..=3 {
        let killed = worker(&everup);
        killed.kill();
        everup
            .wait_until("another worker serves", |status| status.ready && status.worker_restarts == restarts);
    }
    assert_eq!(pids(&everup), before);
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

#[test]
fn an_instance_that_died_while_there_was_no_worker_is_started_again() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let (killed, instance) = (worker(&everup), everup.instance_process("shop-1"));
    instance.kill();
    killed.kill();
    everup.wait_until("all is whole again", |status| {
        let shop = &status.services[0].instances;
        status.worker_pid != killed.pid
            && shop.iter().all(|one| one.state == everup_e2e::api::InstanceState::Up)
    });
    assert_ne!(everup.instance("shop-1").pid, Some(instance.pid));
}
