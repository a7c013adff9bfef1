//! The configuration changes while everup runs. Nothing is lost by it, and what did not change is not touched.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use everup_e2e::api::InstanceState;
use everup_e2e::reloads::{KINDS, configuration};
use everup_e2e::{
    Config, Connection, Everup, Mode, PATIENCE, Process, Sample, WebSocket, everup_binary, get, until,
};
use rustix::process::Signal;

const GET: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// The pace of a fault, on which nothing depends.
fn pass(time: std::time::Duration) {
    std::thread::park_timeout(time);
}

/// Asks on an open connection.
#[track_caller]
fn ask(connection: &mut Connection) -> u16 {
    connection.send(GET);
    connection.answer().status
}

fn pids(everup: &Everup) -> Vec<Option<u32>> {
    everup.service("shop").instances.iter().map(|instance| instance.pid).collect()
}

#[test]
fn thirty_reloads_of_every_kind_lose_no_request_and_close_no_connection() {
    let (a, b) = (Sample::start("a"), Sample::start("b"));
    let fixed = [a.address(), b.address()];
    let mut everup = Everup::with(configuration(0, fixed)).start();
    everup.wait_all_up();
    let (address, before) = (everup.address(), pids(&everup));
    let mut kept: Vec<_> = (0..5).map(|_| Connection::open(address)).collect();
    assert!(kept.iter_mut().all(|connection| ask(connection) == 200));
    let mut socket = WebSocket::open(address, "/ws");
    let load = |path: &str, mode| everup.load(path).rate(60.0).mode(mode);
    let loads = [
        load("/whoami", Mode::KeepAlive).start().unwrap(),
        load("/whoami", Mode::Close).sending("POST", "x".repeat(2000)).start().unwrap(),
        load("/fixed", Mode::Mixed).start().unwrap(),
        load("/fixed", Mode::Mixed).sending("POST", "x").start().unwrap(),
    ];
    for changes in 1..=30 {
        let said = everup.reload(configuration(changes, fixed));
        assert!(said.out.contains("reloaded: every thread"), "{changes}: {said:?}");
        assert!(kept.iter_mut().all(|connection| ask(connection) == 200), "after change {changes}");
        assert!(socket.echoes(&format!("after change {changes}")));
    }
    const { assert!(KINDS < 30) };
    assert_eq!(pids(&everup)[..2], before[..2]);
    for load in loads {
        let ledger = load.stop().unwrap();
        assert_eq!(ledger.lost(), 0, "{ledger}");
    }
    assert!(socket.close());
}

#[test]
fn a_file_with_mistakes_is_refused_whole_and_the_old_configuration_serves_on() {
    let sample = Sample::start("a");
    let config = Config::shop([sample.address()]);
    let everup = Everup::with(config.clone()).start();
    let mut connection = Connection::open(everup.address());
    assert_eq!(ask(&mut connection), 200);
    let generation = everup.status().generation;
    everup.configure(config.set("balance = \"leastconn\"").set("park = { requests = 7 }"));
    for verb in ["plan", "reload"] {
        let said = everup.verb(&[verb]);
        assert_eq!((said.code, &*said.out), (Some(1), ""), "{verb}: {said:?}");
        assert!(said.err.contains("unknown value \"leastconn\" for `balance`"), "{verb}: {}", said.err);
        assert!(
            said.err.contains("everup.toml:") && said.err.contains("did you mean"),
            "{verb}: {}",
            said.err
        );
    }
    let json = everup.verb(&["reload", "--json"]);
    assert!(json.code == Some(1) && json.out.contains("\"mistakes\":["), "{json:?}");
    assert_eq!(everup.status().generation, generation);
    assert_eq!(ask(&mut connection), 200);
    std::fs::remove_file(everup.config_file()).unwrap();
    let gone = everup.verb(&["reload"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("cannot read") && gone.err.contains("No such file"), "{gone:?}");
}

#[test]
fn a_plan_tells_what_a_reload_does_and_changes_nothing() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let everup = Everup::with(config()).start();
    assert_eq!(everup.verb(&["plan"]).out, "a reload would change nothing\n");
    let generation = everup.status().generation;
    everup.configure(config().set("balance = \"ip-hash\"").bind(&["127.0.0.1:0", "[::1]:0"]));
    let said = everup.verb(&["plan"]);
    for line in ["~ listener 127.0.0.1:0, [::1]:0: bind changed", "~ service shop: balance changed"] {
        assert!(said.out.contains(line), "{said:?}");
    }
    assert!(said.out.ends_with("2 changes; no connection is closed\n"), "{said:?}");
    assert_eq!((everup.status().generation, everup.listener(0).len()), (generation, 1));
    let json = everup.verb(&["plan", "--json"]).out;
    assert!(
        json.contains("\"settings\":[\"balance\"]") && json.contains("\"closes_connections\":false"),
        "{json}"
    );
    assert_eq!(everup.verb(&["reload"]).code, Some(0));
    let addresses = everup.listener(0);
    assert_eq!((addresses.len(), get(addresses[1], "/whoami").status), (2, 200));
    assert_eq!(everup.verb(&["plan"]).out, "a reload would change nothing\n");
}

#[test]
fn listeners_come_and_go_and_a_removed_one_finishes_what_it_has() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]).set("drain = { time = \"1s\" }");
    let second = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n";
    let everup = Everup::with(config()).start();
    everup.reload(config().more(second));
    let address = everup.listener(1)[0];
    let mut other = Connection::open(everup.address());
    let (mut idle, mut busy, mut silent) =
        (Connection::open(address), Connection::open(address), Connection::open(address));
    assert!([&mut other, &mut idle, &mut busy, &mut silent].into_iter().all(|one| ask(one) == 200));
    busy.send("GET /slow?ms=1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    let said = everup.reload(config());
    assert!(said.out.contains("- listener 127.0.0.1:0: removed"), "{said:?}");
    // One between two requests is told with its next answer, one in the middle of one with that, and a silent one is
    // closed when the drain time is over.
    idle.send(GET);
    let answer = idle.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let answer = busy.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(silent.try_answer().is_err());
    until("nobody listens there", || TcpStream::connect_timeout(&address, PATIENCE).is_err());
    assert_eq!(ask(&mut other), 200);
}

/// The kernel has accepted them, everup has not: they are served before the socket is closed.
#[test]
fn connections_that_wait_at_a_listener_when_it_is_removed_are_served() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let second = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n";
    let everup = Everup::with(config().more(second)).start();
    let address = everup.listener(1)[0];
    for _ in 0..5 {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let stop = std::sync::Arc::clone(&stop);
                std::thread::spawn(move || connect_until_refused(address, &stop))
            })
            .collect();
        everup.reload(config());
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let asked: u32 = asking.into_iter().map(|one| one.join().unwrap()).sum();
        assert!(asked > 0);
        everup.reload(config().more(second));
        if everup.listener(1)[0] != address {
            return;
        }
    }
}

/// Every connection that is made gets its answer. How many were.
fn connect_until_refused(address: SocketAddr, stop: &std::sync::atomic::AtomicBool) -> u32 {
    let mut asked = 0;
    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
        let connecting = TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300));
        let Ok(mut stream) = connecting else { return asked };
        stream
            .write_all(b"GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("it is open");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("it is not reset");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?} after {asked}");
        asked += 1;
    }
    asked
}

#[test]
fn what_runs_keeps_its_drains_weights_and_processes_and_a_changed_command_waits() {
    let config =
        || Config::runs(2).set("balance = \"weighted-round-robin\"").set("drain = { time = \"2s\" }");
    let mut everup = Everup::with(config()).start();
    everup.wait_all_up();
    let before = pids(&everup);
    assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0));
    assert_eq!(everup.verb(&["weight", "shop", "shop-2", "9"]).code, Some(0));
    let environment = config().run("environment = { SHADE = \"blue\" }").run("log = { size = \"2MiB\" }");
    let said = everup.reload(environment.clone());
    assert!(said.out.contains(". service shop: run.environment changed (waits for a deploy)"), "{said:?}");
    let waits = everup.verb(&["plan"]).out;
    assert!(waits.contains("run.environment") && !waits.contains("run.log"), "{waits}");
    assert_eq!(everup.instance("shop-1").state, InstanceState::Drained);
    assert_eq!((everup.instance("shop-2").weight, pids(&everup)), (9, before.clone()));

    // More of them, then fewer: those that go finish first and are gone then.
    let three = String::from(environment).replace("replicas = 2", "replicas = 3");
    everup.reload(three.clone());
    everup.wait_for("shop-3", InstanceState::Up);
    let third = everup.instance_process("shop-3");
    everup.reload(three.replace("replicas = 3", "replicas = 2"));
    until("the third one is stopped", || !third.is_alive());
    assert_eq!(pids(&everup), before);
}

#[test]
fn the_instances_of_a_removed_service_finish_their_requests_and_are_stopped() {
    let sample = Sample::start("a");
    let more = "[[listener.route]]\npath = \"/shop\"\nstrip_prefix = \"/shop\"\nservice = \"shop\"\n[service.api]\ninstances = [\"ADDRESS\"]\n"
        .replace("ADDRESS", &sample.address().to_string());
    let both = String::from(Config::runs(1)).replace("service = \"shop\"\n", "service = \"api\"\n") + &more;
    let routes = "[[listener.route]]\npath = \"/shop\"\nstrip_prefix = \"/shop\"\nservice = \"shop\"\n";
    let both = both.replace(routes, "").replacen("\n\n[service", &format!("\n\n{routes}\n[service"), 1);
    let mut everup = Everup::with(both.clone()).start();
    everup.wait_all_up();
    let process = everup.instance_process("shop-1");
    let mut connection = Connection::open(everup.address());
    connection.send("GET /shop/slow?ms=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    everup
        .wait_until("it is in flight", |status| status.services.iter().any(|service| service.in_flight == 1));
    let start = both.find("[service.shop]").unwrap();
    let end = both.find("[service.api]").unwrap();
    let without = both.replace(&both[start..end], "").replace(routes, "");
    everup.reload(without);
    assert!(process.is_alive());
    assert!(connection.answer().status < 500);
    until("its instance is stopped", || !process.is_alive());
    assert_eq!(ask(&mut connection), 200, "the connection goes on, with the other service");
    everup.wait_until("it is gone", |status| status.services.len() == 1);
}

#[test]
fn reloads_that_come_together_are_done_one_after_the_other() {
    let sample = Sample::start("a");
    let config =
        |requests: u32| Config::shop([sample.address()]).set(&format!("park = {{ requests = {requests} }}"));
    let everup = Everup::with(config(1)).start();
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    let admin = everup.admin().to_str().unwrap().to_owned();
    everup.configure(config(2));
    let reloads: Vec<_> = (0..10)
        .map(|_| {
            let admin = admin.clone();
            std::thread::spawn(move || everup_e2e::everup(["reload", "--json", "--admin", &admin]))
        })
        .collect();
    let said: Vec<_> = reloads.into_iter().map(|reload| reload.join().unwrap()).collect();
    assert!(said.iter().all(|said| said.code == Some(0)), "{said:?}");
    let changed = said.iter().filter(|said| said.out.contains("\"settings\":[\"park\"]")).count();
    assert_eq!(changed, 1, "{said:?}");
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

/// Written piece by piece by somebody who takes his time, and replaced over and over: what is applied is always one of the
/// whole files.
#[test]
fn a_file_that_is_being_written_is_seen_whole_or_not_at_all() {
    let sample = Sample::start("a");
    let config = |number: usize| {
        String::from(Config::shop([sample.address()]).set(&format!("park = {{ requests = {number} }}")))
    };
    let everup = Everup::with(config(1)).start();
    let file = everup.config_file();
    let whole = std::fs::read_to_string(&file).unwrap();
    let writer = {
        let (file, whole) = (file, whole.replace("requests = 1 ", "requests = 2 "));
        std::thread::spawn(move || {
            let mut file = std::fs::File::create(file).unwrap();
            for piece in whole.as_bytes().chunks(whole.len() / 20) {
                file.write_all(piece).unwrap();
                pass(std::time::Duration::from_millis(20));
            }
        })
    };
    let said = everup.verb(&["reload"]);
    writer.join().unwrap();
    assert!(said.code == Some(0), "{said:?}");
    let swapping = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let everup = std::sync::Arc::new(everup);
    let swapper = {
        let (everup, swapping, config) =
            (std::sync::Arc::clone(&everup), std::sync::Arc::clone(&swapping), [config(3), config(4)]);
        std::thread::spawn(move || {
            let mut count = 0;
            while swapping.load(std::sync::atomic::Ordering::SeqCst) {
                count += 1;
                everup.configure(config[count % 2].clone());
                pass(std::time::Duration::from_millis(130));
            }
        })
    };
    let said: Vec<_> = (0..10).map(|_| everup.verb(&["reload"])).collect();
    swapping.store(false, std::sync::atomic::Ordering::SeqCst);
    swapper.join().unwrap();
    assert!(said.iter().all(|said| said.code == Some(0)), "{said:?}");
}

#[test]
fn a_signal_and_a_watched_file_reload_too() {
    let sample = Sample::start("a");
    let config =
        |name: &str| format!("[node]\nname = \"{name}\"\n") + &String::from(Config::shop([sample.address()]));
    let mut everup = Everup::with(config("one")).argument("--watch").start();
    everup.configure(config("two"));
    everup.wait_until("the watched file is read", |status| status.node == "two");
    everup.configure(config("three"));
    everup.signal(Signal::HUP);
    everup.wait_until("the signal is heeded", |status| status.node == "three");
    everup.configure("nonsense");
    everup.signal(Signal::HUP);
    until("the mistakes are told", || everup.said().contains("the configuration was not changed"));
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

#[test]
fn an_address_that_is_taken_refuses_the_whole_reload() {
    let sample = Sample::start("a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = || Config::shop([sample.address()]);
    let everup = Everup::with(config()).start();
    let generation = everup.status().generation;
    let both = ["127.0.0.1:0", &taken.local_addr().unwrap().to_string()];
    everup.configure(config().set("balance = \"ip-hash\"").bind(&both));
    let said = everup.verb(&["reload"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("another program has this port"), "{said:?}");
    assert_eq!((everup.status().generation, &*everup.service("shop").balance), (generation, "round-robin"));
    drop(taken);
    assert_eq!(everup.verb(&["reload"]).code, Some(0));
}

#[test]
fn what_the_worker_cannot_do_refuses_the_whole_reload_too() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let everup = Everup::with(config()).start();
    let generation = everup.status().generation;
    let log = "[access_log]\nto = \"/nonexistent/directory/log\"\n";
    everup.configure(config().set("balance = \"ip-hash\"").bind(&["127.0.0.1:0", "[::1]:0"]).more(log));
    let said = everup.verb(&["reload"]);
    assert!(said.code == Some(1) && said.err.contains("cannot write the access log"), "{said:?}");
    assert_eq!((everup.status().generation, everup.listener(0).len()), (generation, 1));
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

/// The keeper knows which configuration ran last: a worker that dies during a reload or right after it is followed by one
/// that has the old one or the new one, whole.
#[test]
fn a_worker_that_is_killed_around_a_reload_is_followed_by_one_with_a_configuration_that_ran() {
    let sample = Sample::start("a");
    let more = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n";
    let config = |number: u32| {
        let park = format!("park = {{ requests = {} }}", number + 1);
        let config = Config::shop([sample.address()]).set(&park);
        format!("[node]\nname = \"n{number}\"\n")
            + &String::from(if number.is_multiple_of(2) { config } else { config.more(more) })
    };
    let mut everup = Everup::with(config(0)).start();
    let address = everup.address();
    for number in 1..=6 {
        let worker = Process::with_id(everup.status().worker_pid).unwrap();
        everup.configure(config(number));
        let mut reloading = std::process::Command::new(everup_binary());
        reloading.args(["reload", "--admin"]).arg(everup.admin());
        let mut reloading = reloading
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        match number % 3 {
            0 => drop(reloading.wait()),
            // In the middle, wherever that is.
            part => pass(std::time::Duration::from_millis(u64::from(part) * 60)),
        }
        worker.kill();
        let _ = reloading.wait();
        let is_back = |status: &everup_e2e::api::Status| status.worker_pid != worker.pid && status.ready;
        let status = everup.wait_until("another worker serves", is_back);
        let (ran, listeners) = (status.node.clone(), status.listeners.len());
        let whole = |number: u32| ran == format!("n{number}") && listeners == 1 + (number % 2) as usize;
        assert!(
            whole(number) || number % 3 != 0 && whole(number - 1),
            "{number}: {ran}, {listeners} listeners"
        );
        assert_eq!(get(address, "/whoami").status, 200);
        assert_eq!(everup.verb(&["reload"]).code, Some(0));
        assert_eq!(everup.status().node, format!("n{number}"));
    }
}
