//! `everup drill` with the built binary: against a running everup, and against the proxies that people have today. That nginx
//! or HAProxy lose something is no test's business: that the books say what happened is.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use everup_e2e::api::InstanceState;
use everup_e2e::{
    Behaviour, Certificate, Config, Everup, Origin, Peer, Said, Sample, Terminal, everup, everup_binary,
    until,
};
use rustix::process::Signal;
use serde_json::Value;

fn report(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// A quick drill of a running everup.
fn drill(everup: &Everup, more: &[&str]) -> Said {
    let quick = ["drill", "--yes", "--rate", "100", "--warm-up", "0.5", "--every", "1"];
    everup.verb(&[&quick[..], more].concat())
}

/// A quick drill of something else.
fn drill_url(url: &str, command: &str, more: &[&str]) -> Said {
    let quick =
        ["drill", "--rate", "100", "--warm-up", "0.5", "--every", "0.5", "--url", url, "--while", command];
    everup(quick.into_iter().chain(more.iter().copied()))
}

#[test]
fn a_game_day_goes_through_its_events_and_loses_nothing() {
    let mut everup = Everup::with(Config::runs(3)).start();
    everup.wait_all_up();
    let worker = everup.status().worker_pid;
    let events =
        ["--events", "reload,kill-instance,freeze-instance,drain", "--freeze", "1", "--timeout", "30"];
    let said = drill(&everup, &[&events[..], &["--post", "/echo", "--connections", "5", "--json"]].concat());
    let report = report(&said);
    assert_eq!((said.code, report["lost"].as_u64()), (Some(0), Some(0)), "{said:?}");
    let names: Vec<&str> =
        report["events"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["before", "reload", "kill-instance", "freeze-instance", "drain"]);
    for event in report["events"].as_array().unwrap() {
        assert!(event["sent"].as_u64() > Some(0), "{event}");
        assert_eq!(event["connections"]["kept"], event["connections"]["open_before"], "{event}");
    }
    assert_eq!(report["passed"], true);
    let status = everup.wait_all_up();
    assert_eq!(status.worker_pid, worker);
    let restarts: u64 = status.services[0].instances.iter().map(|instance| instance.restarts).sum();
    assert_eq!(restarts, 1, "one was killed, and one frozen");
}

#[test]
fn a_killed_worker_is_an_event_too_and_its_connections_do_not_stay() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let worker = everup.status().worker_pid;
    let said = drill(&everup, &["--events", "kill-worker", "--json"]);
    let event = &report(&said)["events"][1];
    assert!(event["over_after_ms"].is_number(), "{said:?}");
    assert_eq!(event["connections"]["kept"], 0, "{event}");
    assert_ne!(everup.status().worker_pid, worker);
}

#[test]
fn websockets_talk_through_a_reload_and_are_closed_by_a_drain() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let said = drill(&everup, &["--events", "reload,drain", "--websockets", "6", "--json"]);
    let report = report(&said);
    let (reload, drain) = (&report["events"][1]["websockets"], &report["events"][2]["websockets"]);
    assert_eq!((reload["kept"].as_u64(), reload["open_before"].as_u64()), (Some(6), Some(6)), "{report}");
    assert_eq!(
        (reload["echoes"].as_bool(), reload["messages_lost"].as_u64()),
        (Some(true), Some(0)),
        "{report}"
    );
    assert!(drain["ended"]["close-1012"].as_u64() > Some(0), "{report}");
    assert_eq!(report["lost"], 0, "{report}");
}

#[test]
fn a_drill_uses_plain_and_https_listeners_in_turns() {
    let (sample, certificate) = (Sample::start("a"), Certificate::of("shop.example"));
    let tls = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\ntls = [{}]\n",
        certificate.entry()
    );
    let mut everup = Everup::with(Config::shop([sample.address()]).more(&tls)).start();
    everup.wait_all_up();
    let said = drill(&everup, &["--events", "reload"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains(" and https://127.0.0.1:") && said.out.contains("\nlost: 0\n"), "{}", said.out);
    let status = everup.verb(&["status"]).out;
    assert!(status.contains("\nhttps 127.0.0.1:"), "{status}");
    let ca = certificate.file().display().to_string();
    let said = drill(&everup, &["--events", "reload", "--host", "shop.example", "--ca", &ca]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_drill_tells_what_it_will_do_and_does_nothing_unless_it_may() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let refused = everup.verb(&["drill"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("an instance of shop is killed (SIGKILL)"), "{refused:?}");
    assert!(refused.err.contains("--yes begins without asking"), "{refused:?}");
    // A reload that would change something says so before.
    everup.configure(Config::runs(2).set("balance = \"least-connections\""));
    let refused = everup.verb(&["drill", "--events", "reload"]);
    assert!(refused.out.contains("THE CONFIGURATION CHANGES: the file has 1 change"), "{refused:?}");
    assert_eq!(everup.service("shop").requests, 0, "nothing was sent");
}

#[test]
fn what_an_event_needs_is_known_before_anything_happens() {
    let sample = Sample::start("a");
    let everup = Everup::with(Config::shop([sample.address()])).start();
    let said = drill(&everup, &["--events", "reload,kill-instance"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("kill-instance needs a service with a `run` section"), "{said:?}");
    let said = drill(&everup, &["--service", "shops"]);
    assert!(said.err.contains("there is no service `shops`"), "{said:?}");
    assert_eq!(everup.service("shop").requests, 0);
}

#[test]
fn bounds_have_names_and_are_told() {
    for (arguments, told) in [
        (&["--rate", "1e6"][..], "0.1 to 20000 requests per second"),
        (&["--every", "0"], "0.1 to 600 seconds"),
        (&["--times", "1.5"], "1 to 1000 rounds, without a fraction"),
        (&["--websockets", "6000"], "0 to 5000 WebSockets"),
        (&["--events", "earthquake"], "[possible values: reload, upgrade, kill-instance"),
        (&["--while", "true"], "--url <URL>"),
        (&["--url", "http://127.0.0.1/"], "--while <COMMAND>"),
    ] {
        let said = everup(["drill"].into_iter().chain(arguments.iter().copied()));
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(told), "{told}: {said:?}");
    }
    let origin = Origin::start("a");
    let url = format!("http://{}/", origin.address());
    let long =
        everup(["drill", "--yes", "--url", &url, "--while", "true", "--times", "1000", "--every", "600"]);
    assert_eq!(long.code, Some(1), "{long:?}");
    assert!(long.err.contains("the whole drill must be within 0 to 3600 seconds"), "{long:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn load_goes_to_this_machine_and_private_networks_only() {
    let told = |url: &str| drill_url(url, "true", &["--yes"]).err;
    for far in ["http://192.0.2.1/", "https://[2001:db8::1]/", "http://8.8.8.8:80/"] {
        assert!(told(far).contains("is neither a loopback nor a private address"), "{far}: {}", told(far));
    }
    assert!(told("http://nowhere.invalid/").contains("cannot look up `nowhere.invalid`"));
    assert!(told("ftp://127.0.0.1/").contains("it must begin with http:// or https://"));
}

#[test]
fn a_command_that_breaks_the_service_is_seen_in_the_books() {
    let origin = Origin::start("a");
    let url = format!("http://{}/", origin.address());
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("drill.svg");
    origin.on("/", Behaviour::Answer);
    let fine = drill_url(&url, "echo fine", &["--yes", "--times", "2", "--svg", svg.to_str().unwrap()]);
    assert_eq!(fine.code, Some(0), "{fine:?}");
    assert!(fine.out.contains("exit code 0\n    fine") && fine.out.contains("\nlost: 0\n"), "{}", fine.out);
    is_well_formed(&svg);
    let failed = drill_url(&url, "echo no; exit 3", &["--yes"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.out.contains("FAILED: exit code 3\n    no"), "{}", failed.out);
}

#[test]
fn a_service_that_is_down_is_not_touched() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let command = format!("touch {}", mark.display());
    let said = drill_url(&format!("http://{address}/"), &command, &["--yes"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("connect-refused") && said.err.contains("nothing was done"), "{said:?}");
    assert!(!mark.exists());
}

/// A sample application that is killed by the command, and its books.
#[test]
fn what_a_kill_costs_without_anybody_in_front_stands_in_the_report() {
    let sample = Sample::start("a");
    let url = format!("http://{}/whoami", sample.address());
    let command = format!("kill -9 {}", sample.process().pid);
    let said = drill_url(&url, &command, &["--yes", "--times", "1", "--json"]);
    let report = report(&said);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!((report["events"][0]["lost"].as_u64(), report["passed"].as_bool()), (Some(0), Some(false)));
    assert!(report["events"][1]["lost_by_kind"]["connect-refused"].as_u64() > Some(0), "{report}");
    assert_eq!(report["events"][1]["connections"]["kept"], 0, "{report}");
}

#[test]
fn nginx_and_haproxy_are_drilled_while_they_reload() {
    let (a, b) = (Sample::start("a"), Sample::start("b"));
    let certificate = Certificate::of("shop.example");
    let origins = [a.address(), b.address()];
    let peers = [Peer::nginx(origins, &certificate), Peer::haproxy(origins, &certificate)];
    for peer in peers {
        let peer = peer.expect("nginx and HAProxy are installed, as ./test sees to");
        let ca = certificate.file().display().to_string();
        let secure = format!("https://{}/whoami", peer.secure());
        let plain = format!("http://{}/whoami", peer.address());
        let more =
            ["--yes", "--json", "--times", "2", "--post", "/echo", "--websockets", "2", "--connections", "5"];
        let tls = ["--host", "shop.example", "--ca", &ca];
        for (url, tls) in [(&plain, &[][..]), (&secure, &tls)] {
            let said = drill_url(url, peer.reload(), &[&more[..], tls].concat());
            let report = report(&said);
            assert_eq!(report["events"].as_array().unwrap().len(), 3, "{said:?} {}", peer.said());
            let told = report["events"][1]["told"][1].as_str().unwrap_or_default();
            assert!(told.starts_with("exit code 0"), "{said:?} {}", peer.said());
            assert_eq!(report["events"][0]["lost"], 0, "{said:?} {}", peer.said());
            assert_eq!(report["websockets"]["echoes"], true, "{report}");
            assert!(report["ok"].as_u64() > Some(50), "{report}");
        }
        // Nobody vouches for it: no request gets through, and nothing is done.
        let said = drill_url(&secure, "false", &["--yes"]);
        assert!(said.err.contains("handshake-failed") && said.err.contains("nothing was done"), "{said:?}");
        let said = drill_url(&secure, "true", &["--yes", "--insecure", "--times", "1"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[test]
fn at_a_terminal_the_answer_decides() {
    let origin = Origin::start("a");
    let url = format!("http://{}/", origin.address());
    let arguments =
        ["drill", "--url", &url, "--while", "true", "--times", "1", "--warm-up", "0.5", "--every", "0.5"];
    let mut terminal = Terminal::start(120, 40, &arguments, &[]);
    terminal.wait_for("Begin? [y/N]");
    terminal.press("n\r");
    assert_eq!(terminal.wait_for_end(), Some(1));
    assert_eq!(origin.count(), 0);
    let mut terminal = Terminal::start(120, 40, &arguments, &[]);
    terminal.wait_for("Begin? [y/N]");
    terminal.press("y\r");
    assert_eq!(terminal.wait_for_end(), Some(0));
    assert!(origin.count() > 50);
}

#[test]
fn an_interrupted_drill_thaws_whom_it_froze_and_reports() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let admin = everup.admin();
    let mut command = Command::new(everup_binary());
    command.args([
        "drill",
        "--yes",
        "--events",
        "freeze-instance",
        "--freeze",
        "60",
        "--warm-up",
        "0.5",
        "--admin",
    ]);
    let drill = command.arg(&admin).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let processes: Vec<_> =
        ["shop-1", "shop-2"].into_iter().map(|name| everup.instance_process(name)).collect();
    until("one is frozen", || processes.iter().any(|process| process.is_frozen()));
    everup_e2e::Process::with_id(drill.id()).unwrap().signal(Signal::INT);
    let output = drill.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED: interrupted") && said.contains("\nlost: "), "{said}");
    assert!(processes.iter().all(|process| !process.is_frozen()));
    let names = ["shop-1", "shop-2"];
    names.iter().for_each(|name| drop(everup.wait_for(name, InstanceState::Up)));
}

/// As an XML parser sees it: every element that begins ends, in order.
fn is_well_formed(path: &Path) {
    let text = std::fs::read_to_string(path).expect("the picture is there");
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} does not end"));
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name), "in {text}"),
            (None, false) => open.push(name),
            (None, true) => {}
        }
    }
    assert!(open.is_empty() && text.starts_with("<svg"), "{open:?}");
}
