//! `everup top` on a real terminal: what a person sees, what keys do, and that the terminal is theirs again afterwards.

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Everup, Start, Terminal, everup, until};
use rustix::process::Signal;

fn top_of(everup: &Everup, columns: u16, rows: u16) -> Terminal {
    let admin = everup.admin();
    Terminal::start(columns, rows, &["top", "--admin", admin.to_str().expect("a path of letters")], &[])
}

fn running() -> Everup {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    everup
}

#[test]
fn an_instance_is_seen_drained_and_undrained_by_keys_and_the_terminal_is_given_back() {
    let mut everup = running();
    let mut top = top_of(&everup, 100, 24);
    for what in [
        "ready for",
        "shop ",
        "2 of 2 up",
        "  shop-1",
        "  shop-2",
        "LAST EVENTS",
        "shop/shop-2  up",
        "q quit",
    ] {
        top.wait_for(what);
    }
    top.press("jd");
    top.wait_for("Drain shop/shop-2?");
    top.press("n");
    top.wait_until("the question is gone", |text| !text.contains("Drain shop/shop-2?"));
    assert_eq!(everup.instance("shop-2").state, InstanceState::Up);
    top.press("dy");
    everup.wait_for("shop-2", InstanceState::Drained);
    top.wait_for("1 of 2 up");
    top.wait_for("shop/shop-2: drained");
    top.wait_for("shop/shop-2  drained: nothing is in flight");
    top.press("u");
    everup.wait_for("shop-2", InstanceState::Up);
    top.wait_for("2 of 2 up");
    top.wait_for("shop/shop-2  up: drained no more");
    top.press("q");
    assert_eq!(top.wait_for_end(), Some(0));
    top.wait_restored();
}

#[test]
fn arrows_select_and_a_burst_of_keys_is_taken_in_order() {
    let everup = running();
    let top = top_of(&everup, 80, 24);
    top.wait_for("2 of 2 up");
    top.press("\x1b[B\x1b[A\x1b[Bd");
    top.wait_for("Drain shop/shop-2?");
}

#[test]
fn signals_end_it_in_order() {
    let everup = running();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut top = top_of(&everup, 80, 24);
        top.wait_for("2 of 2 up");
        top.signal(signal);
        assert_eq!(top.wait_for_end(), Some(0), "{signal:?}");
        top.wait_restored();
    }
    let mut top = top_of(&everup, 80, 24);
    top.wait_for("2 of 2 up");
    top.press("\x03");
    assert_eq!(top.wait_for_end(), Some(0), "Ctrl-C");
    top.wait_restored();
}

#[test]
fn an_everup_that_goes_away_and_comes_back_is_shown_again() {
    let state = tempfile::tempdir().unwrap();
    let start = || -> Start { Everup::with(Config::runs(2)).state(&state.path().join("state")) };
    let first = start().start();
    let mut top = top_of(&first, 100, 24);
    top.wait_for("2 of 2 up");
    assert_eq!(first.stop_with(Signal::TERM).code, Some(0));
    top.wait_for("not reachable since");
    top.wait_for("shop-1");
    let _second = start().start();
    top.wait_until("it is shown again", |text| text.contains("2 of 2 up") && text.contains("ready for"));
    top.press("q");
    assert_eq!(top.wait_for_end(), Some(0));
    top.wait_restored();
}

#[test]
fn a_worker_that_died_is_told_among_the_events() {
    let mut everup = running();
    let top = top_of(&everup, 100, 24);
    top.wait_for("2 of 2 up");
    let worker = everup.status().worker_pid;
    everup_e2e::Process::with_id(worker).unwrap().kill();
    everup.wait_until("another worker serves", |status| status.worker_pid != worker);
    top.wait_for("a worker died and another one took its place");
    top.wait_for("worker replaced 1 time");
    // What happened before is still there.
    top.wait_for("everup serves");
}

#[test]
fn it_takes_the_terminal_again_after_it_was_stopped() {
    let everup = running();
    let mut top = top_of(&everup, 80, 24);
    top.wait_for("2 of 2 up");
    top.signal(Signal::STOP);
    top.set_as_before();
    top.signal(Signal::CONT);
    until("keys are read one by one", || !top.reads_lines());
    top.press("?");
    top.wait_for("drain it (asks first)");
    top.press("\x03");
    assert_eq!(top.wait_for_end(), Some(0));
    top.wait_restored();
}

#[test]
fn what_another_program_wrote_over_it_is_drawn_anew_on_demand() {
    let everup = running();
    let top = top_of(&everup, 80, 24);
    top.wait_for("2 of 2 up");
    top.scribble("\x1b[2Jthe printer is on fire");
    top.wait_until("it is overwritten", |text| text.contains("on fire") && !text.contains("2 of 2 up"));
    top.press("\x0c");
    top.wait_until("it is drawn anew", |text| !text.contains("on fire") && text.contains("2 of 2 up"));
}

#[test]
fn a_load_is_seen_as_rates_and_latencies() {
    let everup = running();
    let load = everup.load("/whoami").start().unwrap();
    let top = top_of(&everup, 120, 24);
    let has_rate = |line: &str| {
        line.split_whitespace().nth(3).is_some_and(|rate| rate.parse::<f64>().is_ok_and(|rate| rate > 5.0))
    };
    top.wait_until("both instances have a rate, and the service latencies", |text| {
        let lines =
            |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).map(str::to_owned);
        let busy = ["shop-1", "shop-2"].iter().all(|name| lines(name).is_some_and(|line| has_rate(&line)));
        busy && lines("shop ").is_some_and(|line| line.contains("p99") && line.contains(" ms"))
    });
    load.stop().unwrap();
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let everup = running();
    let top = top_of(&everup, 100, 24);
    top.wait_for("LAST EVENTS");
    top.resize(30, 6);
    top.wait_until("names and states only", |text| text.contains("shop-1") && !text.contains("LAST EVENTS"));
    top.resize(20, 2);
    top.wait_for("requests/s");
    top.resize(100, 24);
    top.wait_for("LAST EVENTS");
}

#[test]
fn no_color_is_honoured() {
    let everup = running();
    let admin = everup.admin();
    let arguments = ["top", "--admin", admin.to_str().unwrap()];
    for (environment, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let top = Terminal::start(80, 24, &arguments, environment);
        top.wait_for("2 of 2 up");
        assert_eq!(top.is_coloured(), coloured, "{environment:?}");
    }
}

#[test]
fn without_a_terminal_it_names_what_to_use_instead() {
    let everup = running();
    let said = everup.verb(&["top"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("needs a terminal") && said.err.contains("everup status"), "{said:?}");
    assert_eq!(said.out, "");
}

#[test]
fn without_an_everup_the_terminal_is_not_touched() {
    let mut top = Terminal::start(80, 24, &["top", "--admin", "/nonexistent/admin.sock"], &[]);
    assert_eq!(top.wait_for_end(), Some(1));
    top.wait_for("everup does not run here");
    top.wait_restored();
    assert!(!String::from_utf8_lossy(&top.bytes()).contains("\x1b[?1049h"));
    assert!(everup(["--help"]).out.contains("Watch services"));
}
