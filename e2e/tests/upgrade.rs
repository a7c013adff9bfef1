//! everup goes on as another binary while it serves. Nobody notices, and whatever is wrong with the other binary, or
//! whoever dies on the way, somebody serves.

use std::path::{Path, PathBuf};
use std::process::Command;

use everup_e2e::{
    Behaviour, Certificate, Config, Connection, Everup, Mode, Origin, Process, Said, Sample, WebSocket,
    everup_binary, get, request, until,
};
use rustix::process::Signal;

const GET: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// The binary under test, as a new version would lie there: under another name, or as a copy where that is another disk.
/// (Not copied by this process: who forks while it writes would hand its descriptor on, and nobody can execute what is
/// open for writing.)
fn copy(directory: &Path) -> PathBuf {
    let path = directory.join("everup-new");
    if std::fs::hard_link(everup_binary(), &path).is_err() {
        install("755", &everup_binary(), &path);
    }
    path
}

fn install(mode: &str, from: &Path, to: &Path) {
    let installed = Command::new("install").args(["-m", mode]).arg(from).arg(to).status();
    assert!(installed.expect("install is there").success());
}

fn upgrade(everup: &Everup, path: &Path) -> Said {
    everup.verb(&["upgrade", path.to_str().expect("the path is text")])
}

fn pids(everup: &Everup) -> Vec<Option<u32>> {
    everup.service("shop").instances.iter().map(|instance| instance.pid).collect()
}

/// The binary that a process executes.
fn binary_of(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).expect("the process runs")
}

fn worker(everup: &Everup) -> Process {
    Process::with_id(everup.status().worker_pid).expect("the worker runs")
}

#[test]
fn upgrades_under_load_lose_nothing_and_only_the_worker_is_another_one() {
    let mut everup = Everup::with(Config::runs(3).set("drain = { time = \"10s\" }")).start();
    everup.wait_all_up();
    let path = copy(everup.directory());
    let (keeper, before, mut last) = (everup.status().keeper_pid, pids(&everup), everup.status().worker_pid);
    let load = |mode| everup.load("/whoami").rate(100.0).mode(mode);
    let loads = [
        load(Mode::Mixed).start().unwrap(),
        load(Mode::KeepAlive).sending("POST", "x".repeat(2000)).start().unwrap(),
        load(Mode::Close).sending("POST", "x").start().unwrap(),
    ];
    for _ in 0..3 {
        let settled = loads[0].settled();
        let said = upgrade(&everup, &path);
        assert!(said.code == Some(0) && said.out.starts_with("upgraded: everup"), "{said:?}");
        until("the load goes on", || loads[0].settled() > settled + 50);
        let status = everup.status();
        assert_eq!((status.keeper_pid, status.worker_restarts), (keeper, 0));
        assert_ne!(status.worker_pid, last);
        assert_eq!(pids(&everup), before);
        assert_eq!([binary_of(keeper), binary_of(status.worker_pid)], [path.clone(), path.clone()]);
        last = status.worker_pid;
    }
    for load in loads {
        let ledger = load.stop().unwrap();
        assert_eq!(ledger.lost(), 0, "{ledger}");
    }
    everup.wait_until("old workers are gone", |status| status.leaving.is_empty());
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left), (Some(0), Vec::new()), "{}", stopped.said);
}

#[test]
fn without_a_path_it_goes_on_as_what_lies_now_where_it_was_started_from() {
    let everup = Everup::with(Config::runs(1)).start();
    let before = everup.status().worker_pid;
    let said = everup.verb(&["upgrade", "--json"]);
    assert!(said.code == Some(0) && said.out.contains("\"worker_pid\":"), "{said:?}");
    assert_ne!(everup.status().worker_pid, before);
    let events = everup.verb(&["status"]).out;
    assert!(events.contains("everup was upgraded from"), "{events}");
}

#[test]
fn what_is_in_flight_finishes_in_the_old_worker_and_counts_until_then() {
    let config = Config::runs(2).set("drain = { time = \"20s\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=3000 HTTP/1.1\r\nHost: x\r\n\r\n");
    let status = everup.wait_until("it is in flight", |status| status.services[0].in_flight == 1);
    let busy = status.services[0].instances.iter().find(|one| one.in_flight == 1).unwrap().name.clone();
    let path = copy(everup.directory());
    let said = upgrade(&everup, &path);
    assert!(said.code == Some(0) && said.out.contains("finishes 1 request"), "{said:?}");
    let status = everup.wait_until("the old worker is told of", |status| {
        status.leaving.iter().any(|one| one.in_flight == 1) && status.services[0].in_flight == 1
    });
    assert_eq!(status.leaving[0].pid, worker_before(&said));
    // The old worker's request is waited for, too.
    let drained = everup.verb(&["drain", "shop", &busy, "--wait", "0s"]);
    assert!(drained.code == Some(1) && drained.out.contains("1 request still in flight"), "{drained:?}");
    assert_eq!(flying.answer().status, 200);
    let drained = everup.verb(&["drain", "shop", &busy]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
}

/// As the answer names it.
fn worker_before(said: &Said) -> u32 {
    let line = said.out.lines().nth(1).expect("there are two lines");
    line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("the second word is a process id")
}

#[test]
fn counters_go_on_and_users_stay_where_they_are() {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::start).into();
    for (origin, name) in origins.iter().zip(["a", "b", "c"]) {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: SID=of-{name}\r\nX-Instance: {name}\r\nContent-Length: 0\r\n\r\n"
        );
        origin.on("/login", Behaviour::Raw(answer.into_bytes()));
    }
    let config = Config::shop(origins.iter().map(Origin::address)).set("balance = \"round-robin\"");
    let mut everup = Everup::with(config.more("[service.shop.sticky]\nby = \"app-cookie:SID\"\n")).start();
    everup.wait_all_up();
    let address = everup.address();
    (0..12).for_each(|_| assert_eq!(get(address, "/login").status, 200));
    let home = |name: &str| {
        let cookie = format!("SID=of-{name}");
        request(address, "GET", "/", &[("Cookie", &cookie)], "").instance().to_owned()
    };
    assert_eq!(["a", "b", "c"].map(home), ["a", "b", "c"]);
    let requests = |everup: &Everup| {
        let shop = everup.service("shop");
        let of_instances: Vec<u64> = shop.instances.iter().map(|instance| instance.requests).collect();
        (shop.requests, of_instances)
    };
    let before = requests(&everup);
    assert_eq!(before.0, 15);
    let path = copy(everup.directory());
    assert_eq!(upgrade(&everup, &path).code, Some(0));
    assert_eq!(requests(&everup), before);
    for _ in 0..3 {
        assert_eq!(["a", "b", "c"].map(home), ["a", "b", "c"]);
    }
}

/// Plain connections move; those with TLS are told, and a wss one is closed with 1012.
#[test]
fn a_drill_can_upgrade_and_tells_which_connections_were_kept() {
    let mut everup = Everup::with(Config::runs(2).set("drain = { time = \"3s\" }")).start();
    everup.wait_all_up();
    let quick = [
        "drill",
        "--yes",
        "--rate",
        "100",
        "--warm-up",
        "0.5",
        "--every",
        "1",
        "--events",
        "upgrade,upgrade",
    ];
    let more = ["--post", "/echo", "--connections", "5", "--websockets", "6", "--json"];
    let said = everup.verb(&[&quick[..], &more].concat());
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("a report is JSON");
    assert_eq!((said.code, report["lost"].as_u64()), (Some(0), Some(0)), "{said:?}");
    for event in report["events"].as_array().expect("events are listed") {
        assert_eq!(event["connections"]["kept"], event["connections"]["open_before"], "{event}");
        assert_eq!(event["websockets"]["kept"], event["websockets"]["open_before"], "{event}");
    }
}

#[test]
fn with_tls_no_request_is_lost_and_websockets_are_closed_in_order() {
    let (sample, certificate) = (Sample::start("a"), Certificate::of("shop.example"));
    let config = Config::shop([sample.address()]).set("drain = { time = \"3s\" }");
    let everup = Everup::with(config.listener(&format!("tls = [{}]", certificate.entry()))).start();
    let ca = certificate.file().display().to_string();
    let quick =
        ["drill", "--yes", "--rate", "100", "--warm-up", "0.5", "--every", "1", "--events", "upgrade"];
    let more = ["--host", "shop.example", "--ca", &ca, "--post", "/echo", "--websockets", "4", "--json"];
    let said = everup.verb(&[&quick[..], &more].concat());
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("a report is JSON");
    assert_eq!((said.code, report["lost"].as_u64()), (Some(0), Some(0)), "{said:?}");
    assert_eq!(report["events"][1]["websockets"]["ended"]["close-1012"], 4, "{report}");
}

#[test]
fn what_was_drained_and_weighed_by_hand_stays_so() {
    let config = Config::runs(2).set("balance = \"weighted-round-robin\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0));
    assert_eq!(everup.verb(&["weight", "shop", "shop-2", "9"]).code, Some(0));
    let path = copy(everup.directory());
    assert_eq!(upgrade(&everup, &path).code, Some(0));
    assert_eq!(everup.instance("shop-1").state.to_string(), "drained");
    assert_eq!(everup.instance("shop-2").weight, 9);
}

#[test]
fn a_reload_that_waits_for_a_restart_and_deploys_go_on_after_an_upgrade() {
    let config = || Config::runs(2).set("deploy = { strategy = \"rolling\", batch = 1 }");
    let mut everup = Everup::with(config()).start();
    everup.wait_all_up();
    everup.reload(config().run("environment = { SHADE = \"blue\" }"));
    let path = copy(everup.directory());
    assert_eq!(upgrade(&everup, &path).code, Some(0));
    let waits = everup.verb(&["plan"]).out;
    assert!(waits.contains("run.environment changed (waits for a restart)"), "{waits}");
    let said = everup.verb(&["deploy", "shop", "v2"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let revisions = |everup: &Everup| -> Vec<_> {
        everup.service("shop").instances.into_iter().filter_map(|one| one.revision).collect()
    };
    assert!(revisions(&everup).contains(&"v2".to_owned()));
    assert_eq!(upgrade(&everup, &path).code, Some(0));
    everup.wait_until("v2 takes requests", |status| status.ready);
    let history = everup.verb(&["history", "shop"]).out;
    assert!(history.contains("v2"), "{history}");
}

#[test]
fn a_binary_that_cannot_be_the_next_one_is_refused_with_words_and_nothing_changes() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let before = (everup.status().worker_pid, pids(&everup), binary_of(everup.status().keeper_pid));
    let mut idle = Connection::open(everup.address());
    idle.send(GET);
    assert_eq!(idle.answer().status, 200);
    let path = copy(everup.directory());
    let loose = everup.directory().join("loose");
    install("775", Path::new("/bin/true"), &loose);
    let cases = [
        (Path::new("/nonexistent/everup"), "No such file"),
        (Path::new("/bin/true"), "it is no everup"),
        (Path::new("/bin/false"), "exited with code 1"),
        (Path::new("/etc/passwd"), "may not be executed"),
        (everup.directory(), "it is no file"),
        (&*loose, "may be written by others"),
    ];
    for (path, words) in cases {
        let said = upgrade(&everup, path);
        assert!(said.code == Some(1) && said.err.contains(words), "{said:?}");
        assert!(said.err.contains("nothing was changed"), "{said:?}");
    }
    everup.arm("upgrade.prove", "error");
    let said = upgrade(&everup, &path);
    assert!(said.code == Some(1) && said.err.contains("could not go on from here"), "{said:?}");
    everup.arm("upgrade.prove", "hang");
    let said = upgrade(&everup, &path);
    assert!(said.code == Some(1) && said.err.contains("did not prove itself within"), "{said:?}");
    assert_eq!((everup.status().worker_pid, pids(&everup), binary_of(everup.status().keeper_pid)), before);
    idle.send(GET);
    let answer = idle.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, None));
}

/// Where somebody can fail before the commit point, and how; the old worker goes on with everything.
const BEFORE: [(&str, &str); 14] = [
    ("upgrade.open", "error"),
    ("upgrade.prove", "kill"),
    ("upgrade.prove", "panic"),
    ("upgrade.exec", "error"),
    ("upgrade.resume", "error"),
    ("upgrade.prepare", "error"),
    ("upgrade.prepare", "kill"),
    ("upgrade.prepare", "panic"),
    ("upgrade.begin", "error"),
    ("upgrade.begin", "kill"),
    ("upgrade.begin", "panic"),
    ("upgrade.ready", "error"),
    ("upgrade.ready", "kill"),
    ("upgrade.ready", "panic"),
];

#[test]
fn whatever_fails_before_the_commit_point_the_old_worker_goes_on_and_nothing_is_lost() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let path = copy(everup.directory());
    let before = (everup.status().worker_pid, pids(&everup), binary_of(everup.status().keeper_pid));
    let load = everup.load("/whoami").mode(Mode::Mixed).sending("POST", "x").start().unwrap();
    for (place, action) in BEFORE {
        everup.arm(place, action);
        let said = upgrade(&everup, &path);
        assert!(
            said.code == Some(1) && said.err.contains("nothing was changed"),
            "{place} {action}: {said:?}"
        );
        assert!(!everup.is_armed(place), "{place}");
        until("the old binary is back", || {
            (everup.status().worker_pid, pids(&everup), binary_of(everup.status().keeper_pid)) == before
        });
        // It acts, as well: the store is its own.
        assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0), "{place} {action}");
        assert_eq!(everup.verb(&["undrain", "shop", "shop-1"]).code, Some(0), "{place} {action}");
    }
    let deployed = everup.verb(&["deploy", "shop", "v2"]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let said = upgrade(&everup, &path);
    assert_eq!(said.code, Some(0), "{said:?}");
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

/// Where the old worker, or the new one once it serves, can fail; requests that it had are lost, and nothing else.
const AFTER: [(&str, &str); 3] =
    [("upgrade.yield", "kill"), ("upgrade.leave", "kill"), ("upgrade.left", "kill")];

#[test]
fn an_old_worker_that_dies_on_the_way_leaves_the_new_one_in_charge() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let path = copy(everup.directory());
    let before = pids(&everup);
    for (place, action) in AFTER {
        let old = worker(&everup);
        everup.arm(place, action);
        // Whoever asked is answered by the worker that dies, or not at all.
        upgrade(&everup, &path);
        until("somebody failed", || !everup.is_armed(place));
        everup.wait_until("the new worker serves", |status| status.ready && status.worker_pid != old.pid);
        until("the old worker is gone", || !old.is_alive());
        assert_eq!(pids(&everup), before, "{place} {action}");
        assert_eq!(get(everup.address(), "/whoami").status, 200);
        assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0), "{place} {action}");
        assert_eq!(everup.verb(&["undrain", "shop", "shop-1"]).code, Some(0), "{place} {action}");
    }
}

#[test]
fn an_old_worker_that_dies_as_it_takes_back_its_charge_is_replaced_by_the_old_binary() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let path = copy(everup.directory());
    let (old, binary) = (worker(&everup), binary_of(everup.status().keeper_pid));
    everup.arm("upgrade.ready", "error");
    everup.arm("upgrade.take_back", "kill");
    upgrade(&everup, &path);
    until("the old worker is gone", || !old.is_alive());
    let status =
        everup.wait_until("another worker serves", |status| status.ready && status.worker_pid != old.pid);
    until("the old binary is back", || binary_of(status.keeper_pid) == binary);
    assert_eq!(binary_of(everup.status().worker_pid), binary);
    assert_eq!(get(everup.address(), "/whoami").status, 200);
    assert_eq!(upgrade(&everup, &path).code, Some(0));
}

/// Where the keeper can die: before the exec, after it, and between any two steps of the workers.
const KEEPER: [&str; 8] = [
    "upgrade.open",
    "upgrade.exec",
    "upgrade.resume",
    "upgrade.arrive",
    "upgrade.prepared",
    "upgrade.yielded",
    "upgrade.begun",
    "upgrade.committed",
];

#[test]
fn wherever_the_keeper_dies_one_worker_serves_on_and_the_next_keeper_takes_it_over() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let path = copy(everup.directory());
    let before = pids(&everup);
    let load = everup.load("/whoami").mode(Mode::Mixed).sending("POST", "x").start().unwrap();
    for place in KEEPER {
        everup.arm(place, "kill");
        // Whoever asked learns nothing of what nobody decided.
        upgrade(&everup, &path);
        until("the keeper has died", || !everup.is_armed(place));
        until("a worker serves without it", || everup.try_status().is_some_and(|status| status.keeper_gone));
        let status = everup.status();
        assert!(status.ready && pids(&everup) == before, "{place}: {status:?}");
        let settled = load.settled();
        until("the load goes on", || load.settled() > settled + 50);
        everup.run_again();
        let keeper = everup.keeper().pid;
        let status = everup.wait_until("another keeper has taken over", |status| {
            !status.keeper_gone && status.keeper_pid == keeper && status.leaving.is_empty()
        });
        assert_eq!(pids(&everup), before, "{place}");
        // It is the only one: what it orders happens.
        assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0), "{place}");
        assert_eq!(everup.verb(&["undrain", "shop", "shop-1"]).code, Some(0), "{place}");
        assert_eq!(everup.status().worker_pid, status.worker_pid, "{place}");
    }
    let said = upgrade(&everup, &path);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(pids(&everup), before);
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left), (Some(0), Vec::new()), "{}", stopped.said);
}

#[test]
fn a_worker_that_dies_soon_after_an_upgrade_is_replaced_and_the_old_one_still_counts() {
    let sample = Sample::start("a");
    let config = Config::shop([sample.address()]).set("drain = { time = \"20s\" }");
    let mut everup = Everup::with(config).start();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=4000 HTTP/1.1\r\nHost: x\r\n\r\n");
    everup.wait_until("it is in flight", |status| status.services[0].in_flight == 1);
    let path = copy(everup.directory());
    assert_eq!(upgrade(&everup, &path).code, Some(0));
    worker(&everup).kill();
    let status = everup.wait_until("another worker knows of the old one", |status| {
        status.worker_restarts == 1 && status.leaving.iter().any(|one| one.in_flight == 1)
    });
    assert_eq!(binary_of(status.worker_pid), path);
    assert_eq!(flying.answer().status, 200);
    // Long before the drain time is over: its connection has moved to the worker that took the dead one's place.
    everup.wait_until("the old worker is gone", |status| status.leaving.is_empty());
    flying.send(GET);
    assert_eq!(flying.answer().status, 200);
}

#[test]
fn connections_move_to_the_new_worker_and_nobody_at_their_ends_notices() {
    let config = Config::runs(2).set("drain = { time = \"60s\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let mut idle: Vec<_> = (0..5).map(|_| Connection::open(everup.address())).collect();
    let mut busy = Connection::open(everup.address());
    let mut socket = WebSocket::open(everup.address(), "/ws");
    let ask = |connection: &mut Connection| {
        connection.send(GET);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    };
    idle.iter_mut().for_each(ask);
    assert!(socket.echoes("before"));
    busy.send("GET /slow?ms=1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    everup.wait_until("it is in flight", |status| status.services[0].in_flight == 2);
    let path = copy(everup.directory());
    for round in 0..3 {
        let said = upgrade(&everup, &path);
        assert!(said.code == Some(0) && said.out.contains("1 WebSocket\n"), "{said:?}");
        idle.iter_mut().for_each(ask);
        assert!(socket.echoes(&format!("after {round}")));
        if round == 0 {
            let answer = busy.answer();
            assert_eq!((answer.status, answer.header("connection")), (200, None));
        }
        // Long before the drain time is over.
        let status = everup.wait_until("the old worker has nothing left", |status| status.leaving.is_empty());
        assert_eq!(status.connections, 7);
        ask(&mut busy);
    }
    assert!(socket.close());
}

#[test]
fn a_second_upgrade_and_a_reload_are_refused_while_one_runs_and_sigterm_ends_everything_in_order() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let path = copy(everup.directory());
    everup.arm("upgrade.prepare", "hang");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| upgrade(&everup, &path));
        until("the new worker prepares", || !everup.is_armed("upgrade.prepare"));
        let second = upgrade(&everup, &path);
        assert!(second.code == Some(1) && second.err.contains("another upgrade is under way"), "{second:?}");
        let reload = everup.verb(&["reload"]);
        assert!(reload.code == Some(1) && reload.err.contains("an upgrade is under way"), "{reload:?}");
        assert_eq!(get(everup.address(), "/whoami").status, 200);
        everup.signal(Signal::TERM);
        let first = first.join().unwrap();
        assert!(first.code == Some(1) && first.err.contains("everup is being stopped"), "{first:?}");
    });
    let stopped = everup.wait_for_end();
    assert_eq!((stopped.code, stopped.left), (Some(0), Vec::new()), "{}", stopped.said);
}

#[test]
fn sigterm_while_an_old_worker_finishes_waits_for_what_it_has() {
    let mut everup = Everup::with(Config::runs(1).set("drain = { time = \"20s\" }")).start();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=2000 HTTP/1.1\r\nHost: x\r\n\r\n");
    everup.wait_until("it is in flight", |status| status.services[0].in_flight == 1);
    let path = copy(everup.directory());
    assert_eq!(upgrade(&everup, &path).code, Some(0));
    everup.wait_until("the old worker is told of", |status| status.leaving.len() == 1);
    everup.signal(Signal::TERM);
    assert_eq!(flying.answer().status, 200);
    let stopped = everup.wait_for_end();
    assert_eq!((stopped.code, stopped.left), (Some(0), Vec::new()), "{}", stopped.said);
}

#[test]
fn after_an_upgrade_nobody_holds_an_address_who_could_not_give_it_up() {
    let mut everup = Everup::with(Config::runs(1).set("drain = { time = \"20s\" }")).start();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=3000 HTTP/1.1\r\nHost: x\r\n\r\n");
    let status = everup.wait_until("it is in flight", |status| status.services[0].in_flight == 1);
    let (old, before) = (status.worker_pid, listening(status.keeper_pid));
    assert!(before > 0 && listening(old) >= before);
    assert_eq!(upgrade(&everup, &copy(everup.directory())).code, Some(0));
    until("the old worker has let go", || listening(old) == 0);
    let status = everup.status();
    assert_eq!((status.leaving.len(), listening(status.keeper_pid)), (1, before));
    assert_eq!(flying.answer().status, 200);
}

/// How many descriptors of a process are listening TCP sockets.
fn listening(pid: u32) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("it is there");
    // proc_net(5): the fourth column is the state, 0A is LISTEN, the tenth the inode.
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sockets =
        columns.filter(|columns| columns[3] == "0A").map(|columns| format!("socket:[{}]", columns[9]));
    let sockets: Vec<_> = sockets.map(PathBuf::from).collect();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").flatten();
    descriptors
        .filter_map(|one| std::fs::read_link(one.path()).ok())
        .filter(|one| sockets.contains(one))
        .count()
}
