//! The keeper is killed. Traffic does not notice, instances live, and the next `everup run` takes over what there is.

use everup_e2e::api::{InstanceState, Status};
use everup_e2e::{Config, Connection, Everup, Mode, Process, Sample, get, until};
use rustix::process::Signal;

const GET: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

fn pids(everup: &Everup) -> Vec<Option<u32>> {
    everup.service("shop").instances.iter().map(|instance| instance.pid).collect()
}

fn lose_keeper(everup: &mut Everup) -> Status {
    everup.kill_keeper();
    until("the worker knows that the keeper is gone", || everup.status().keeper_gone);
    everup.status()
}

/// Another keeper has taken over.
#[track_caller]
fn run_again(everup: &mut Everup) -> Status {
    everup.run_again();
    let keeper = everup.keeper().pid;
    everup.wait_until("another keeper has taken over", |status| {
        !status.keeper_gone && status.keeper_pid == keeper
    })
}

#[test]
fn traffic_goes_on_without_a_keeper_and_with_the_next_one() {
    let mut everup = Everup::with(Config::runs(3)).start();
    everup.wait_all_up();
    let (before, worker, address) = (pids(&everup), everup.status().worker_pid, everup.address());
    let loads = [
        everup.load("/whoami").mode(Mode::Mixed),
        everup.load("/echo").mode(Mode::Mixed).rate(100.0).sending("POST", "a book"),
    ];
    let loads = loads.map(|load| load.start().unwrap());
    let mut kept = Connection::open(address);
    let mut ask = || {
        kept.send(GET);
        assert_eq!(kept.answer().status, 200);
    };
    ask();
    for _ in 0..3 {
        let status = lose_keeper(&mut everup);
        assert!(status.ready && status.worker_pid == worker, "{status:?}");
        ask();
        let status = run_again(&mut everup);
        assert_eq!((status.worker_pid, status.worker_restarts), (worker, 0));
        ask();
        assert_eq!((pids(&everup), everup.address()), (before.clone(), address));
    }
    for ledger in loads.map(|load| load.stop().unwrap()) {
        assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
    }
    // It is a keeper like any other: it restarts a worker, and ends everything.
    Process::with_id(worker).unwrap().kill();
    let status =
        everup.wait_until("another worker serves", |status| status.worker_pid != worker && status.ready);
    assert_eq!((status.worker_restarts, pids(&everup)), (1, before));
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left.len()), (Some(0), 0), "{}", stopped.said);
}

#[test]
fn without_a_keeper_what_needs_none_works_and_the_rest_says_what_to_do() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    lose_keeper(&mut everup);
    let status = everup.verb(&["status"]).out;
    assert!(status.contains("keeper: gone") && status.contains("everup run"), "{status}");
    for verb in [
        &["drain", "shop", "shop-1"][..],
        &["undrain", "shop", "shop-1"],
        &["explain", "x"],
        &["history", "shop"],
    ] {
        let said = everup.verb(verb);
        assert!(!said.err.contains("keeper"), "{said:?}");
    }
    for verb in [&["reload"][..], &["plan"], &["deploy", "shop", "v2"]] {
        let said = everup.verb(verb);
        assert_eq!(said.code, Some(1), "{verb:?} {said:?}");
        assert!(said.err.contains("the keeper is gone: start `everup run` again"), "{verb:?} {said:?}");
    }
    // An instance that dies is noticed, and started again as soon as there is a keeper.
    let killed = everup.instance_process("shop-1");
    killed.kill();
    until("its death is noticed", || everup.instance("shop-1").pid.is_none());
    assert_eq!(get(everup.address(), "/whoami").status, 200);
    until("the reason is told", || everup.instance("shop-1").reason.contains("the keeper is gone"));
    run_again(&mut everup);
    everup.wait_all_up();
    // One that has outlived a keeper is watched by the next: it cannot know how it ended, but that.
    let stranger = everup.instance_process("shop-2");
    stranger.kill();
    everup.wait_until("shop-2 is started again", |status| {
        let shop = &status.services[0].instances;
        shop.iter().all(|one| one.state == InstanceState::Up && one.pid != Some(stranger.pid))
    });
    let said = everup.said();
    assert!(said.contains("nobody was told how; it is started again instance=shop/shop-2"), "{said}");
}

#[test]
fn what_changed_in_the_file_meanwhile_is_reloaded() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let mut everup = Everup::with(config()).start();
    let mut kept = Connection::open(everup.address());
    kept.send(GET);
    assert_eq!(kept.answer().status, 200);
    lose_keeper(&mut everup);
    everup.configure(config().bind(&["127.0.0.1:0", "[::1]:0"]).set("balance = \"ip-hash\""));
    run_again(&mut everup);
    everup.wait_until("the file is in force", |status| {
        status.listeners[0].addresses.len() == 2 && status.services[0].balance == "ip-hash"
    });
    kept.send(GET);
    assert_eq!(kept.answer().status, 200);
    assert_eq!(get(everup.listener(0)[1], "/whoami").status, 200);
    assert_eq!(everup.verb(&["plan"]).out, "a reload would change nothing\n");
}

#[test]
fn a_file_with_mistakes_is_refused_and_the_worker_serves_on_for_a_better_one() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let mut everup = Everup::with(config()).start();
    lose_keeper(&mut everup);
    everup.configure(config().set("balance = \"leastconn\""));
    everup.run_again();
    everup.keeper_ended();
    until("the mistake is told", || everup.said().contains("unknown value \"leastconn\""));
    assert_eq!((everup.status().keeper_gone, get(everup.address(), "/whoami").status), (true, 200));
    everup.configure(config());
    run_again(&mut everup);
}

#[test]
fn a_second_everup_is_refused_while_a_keeper_lives_and_one_of_two_takes_over() {
    let mut everup = Everup::with(Config::runs(1)).start();
    let file = everup.config_file();
    let file = file.to_str().unwrap();
    let refused = everup_e2e::everup(["run", file]);
    let words = format!("another everup (process {}) already runs", everup.keeper().pid);
    assert!(refused.code == Some(1) && refused.err.contains(&words), "{refused:?}");
    lose_keeper(&mut everup);
    run_again(&mut everup);
    let words = format!("another everup (process {}) already runs", everup.keeper().pid);
    until("whoever else begins is refused with the new keeper's name", || {
        let refused = everup_e2e::everup(["run", file]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        refused.err.contains(&words)
    });
}

#[test]
fn a_worker_without_a_keeper_ends_everything_in_order_when_it_is_told() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let status = lose_keeper(&mut everup);
    let mut left: Vec<_> = pids(&everup).into_iter().flatten().filter_map(Process::with_id).collect();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    until("it is in flight", || everup.service("shop").in_flight == 1);
    let worker = Process::with_id(status.worker_pid).unwrap();
    worker.signal(Signal::TERM);
    assert_eq!(flying.answer().status, 200);
    left.push(worker);
    until("nothing is left", || left.iter().all(|process| !process.is_alive()));
    // And the state directory is free.
    everup.run_again();
    everup.wait_all_up();
}

#[test]
fn a_worker_that_dies_without_a_keeper_is_not_restarted_until_there_is_one() {
    let mut everup = Everup::with(Config::runs(1)).start();
    everup.wait_all_up();
    let status = lose_keeper(&mut everup);
    Process::with_id(status.worker_pid).unwrap().kill();
    until("nobody answers", || everup.try_status().is_none());
    everup.run_again();
    everup.wait_all_up();
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

/// The worker has fewer rights than the keepers, and the instances have again other ones.
#[test]
fn a_keeper_with_more_rights_takes_over_a_worker_of_another_user() {
    if !rustix::process::getuid().is_root() {
        return; // Only root has others' rights to give.
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = Config::runs(2).run("user = \"daemon\"").more("[node]\nuser = \"nobody\"\n");
    let mut everup = Everup::with(config).state(&home.path().join("state")).start();
    everup.wait_all_up();
    let before = pids(&everup);
    lose_keeper(&mut everup);
    assert_eq!((get(everup.address(), "/whoami").status, pids(&everup)), (200, before.clone()));
    run_again(&mut everup);
    assert_eq!(pids(&everup), before);
    // The new keeper may signal them, which the worker may not.
    assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0));
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left.len()), (Some(0), 0), "{}", stopped.said);
}

#[test]
fn a_keeper_that_dies_while_it_starts_an_instance_leaves_none_behind_that_is_never_started() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    everup.keep();
    let killed = everup.instance_process("shop-1");
    everup.arm("keeper.start", "kill");
    killed.kill();
    everup.keeper_ended();
    until("the worker waits for a keeper", || {
        everup.instance("shop-1").reason.contains("the keeper is gone")
    });
    run_again(&mut everup);
    everup.wait_all_up();
}

#[test]
fn a_keeper_that_dies_while_it_takes_over_leaves_everything_to_the_next_one() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let (before, worker) = (pids(&everup), everup.status().worker_pid);
    let load = everup.load("/echo").mode(Mode::Mixed).sending("POST", "a book").start().unwrap();
    lose_keeper(&mut everup);
    for step in ["adopt.knocked", "adopt.told", "adopt.checked"] {
        everup.arm(step, "kill");
        everup.run_again();
        everup.keeper_ended();
        assert!(!everup.is_armed(step), "{step}");
        until("the worker waits for a keeper", || everup.status().keeper_gone);
    }
    let status = run_again(&mut everup);
    assert_eq!((status.worker_pid, pids(&everup)), (worker, before));
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
}

#[test]
fn a_worker_that_dies_when_it_was_taken_over_is_replaced_with_the_same_sockets() {
    let mut everup = Everup::with(Config::runs(1)).start();
    everup.wait_all_up();
    let (before, address) = (pids(&everup), everup.address());
    let worker = lose_keeper(&mut everup).worker_pid;
    everup.arm("taken-over", "kill");
    everup.run_again();
    let status =
        everup.wait_until("another worker serves", |status| status.worker_pid != worker && status.ready);
    assert_eq!((status.worker_restarts, pids(&everup), everup.address()), (1, before, address));
    assert_eq!(get(address, "/whoami").status, 200);
}
