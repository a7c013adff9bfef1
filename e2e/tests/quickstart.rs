//! The first five minutes: the example of the README, its drill, and Ctrl-C.

use everup_e2e::api::InstanceState;
use everup_e2e::{Everup, Mode, Start, get, repository};
use rustix::process::Signal;

/// The example as it is in the repository, except that it listens on free ports: several tests run at a time.
#[expect(clippy::unwrap_used, reason = "a test that cannot read the example has nothing to say")]
fn quickstart() -> Start {
    let text = std::fs::read_to_string(repository().join("examples/quickstart.toml")).unwrap();
    let line = |line: &str| match line.trim_start().starts_with("bind") {
        true => "bind = [\"127.0.0.1:0\"]".to_owned(),
        false => line.to_owned(),
    };
    Everup::with(text.lines().map(line).collect::<Vec<String>>().join("\n"))
}

#[test]
fn the_quickstart_serves_from_three_instances() {
    let mut everup = quickstart().start();
    let status = everup.wait_all_up();
    assert_eq!(status.services[0].instances.len(), 3);
    let mut names: Vec<String> =
        (0..12).map(|_| get(everup.address(), "/whoami").instance().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn nothing_is_lost_when_an_instance_of_the_quickstart_is_killed_under_load() {
    let mut everup = quickstart().start();
    let status = everup.wait_all_up();
    let victim = &status.services[0].instances[0];
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    everup_e2e::until("the load runs", || load.settled() > 100);
    everup_e2e::Process::with_id(victim.pid.unwrap()).unwrap().kill();
    everup.wait_until("it is back as another process", |status| {
        let instance = &status.services[0].instances[0];
        instance.state == InstanceState::Up && instance.pid != victim.pid
    });
    let settled = load.settled();
    everup_e2e::until("the load goes on", || load.settled() > settled + 200);
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

#[test]
fn the_drill_verb_prints_that_nothing_was_lost() {
    let everup = quickstart().start();
    let drill = everup.verb(&["drill", "--yes", "--rate", "100", "--every", "2"]);
    assert_eq!(drill.code, Some(0), "{drill:?}");
    assert!(drill.out.contains("\nlost: 0\n") && drill.out.contains("longest gap"), "{}", drill.out);
}

#[test]
fn the_drill_verb_prints_its_books_as_json() {
    let everup = quickstart().start();
    let drill = everup.verb(&["drill", "--yes", "--rate", "100", "--every", "2", "--json"]);
    assert_eq!(drill.code, Some(0), "{drill:?}");
    let report: serde_json::Value = serde_json::from_str(&drill.out).unwrap();
    assert_eq!(report["lost"], 0, "{report}");
    assert!(report["sent"].as_u64() >= Some(300), "{report}");
    assert_eq!(report["events"][1]["event"], "kill-instance", "{report}");
}

#[test]
fn a_drill_without_an_everup_says_so() {
    let drill = everup_e2e::everup(["drill", "--admin", "/nonexistent/admin.sock"]);
    assert_eq!(drill.code, Some(1), "{drill:?}");
    assert!(drill.err.contains("everup does not run here") && drill.err.lines().count() == 1, "{drill:?}");
}

#[test]
fn run_with_drill_drills_prints_the_report_and_stops_everything() {
    let stopped = quickstart().argument("--drill").spawn().wait_for_end();
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(0), &[][..]), "{}", stopped.said);
    assert!(stopped.said.contains("\nlost: 0\n"), "{}", stopped.said);
}

#[test]
fn ctrl_c_stops_everything_in_order_and_leaves_no_process() {
    let mut everup = quickstart().start();
    everup.wait_all_up();
    let stopped = everup.stop_with(Signal::INT);
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(0), &[][..]), "{}", stopped.said);
}

#[test]
fn a_request_in_flight_is_finished_before_everup_stops() {
    let mut everup = quickstart().start();
    everup.wait_all_up();
    let address = everup.address();
    let slow = std::thread::spawn(move || get(address, "/slow?ms=1000"));
    everup.wait_until("the request is in flight", |status| status.services[0].in_flight > 0);
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!(slow.join().unwrap().status, 200);
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(0), &[][..]), "{}", stopped.said);
}

#[test]
fn a_second_everup_on_the_same_state_is_refused_with_the_pid_in_charge() {
    let everup = quickstart().start();
    let file = everup.directory().join("everup.toml");
    let second = everup_e2e::everup(["run", file.to_str().unwrap()]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains(&everup.keeper().pid.to_string()), "{second:?}");
}
