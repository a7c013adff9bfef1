//! The access log of the built binary: a line for each request, in a file that is rotated under load, or on standard
//! output.

use std::path::Path;

use everup_e2e::{Config, Everup, Mode, Origin, get, request, until};
use rustix::process::Signal;
use serde_json::Value;

fn logged(target: &str) -> (Origin, Everup) {
    let origin = Origin::start("a");
    let config = Config::shop([origin.address()]).more(&format!("[access_log]\nto = \"{target}\"\n"));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (origin, everup)
}

/// The requests in it; every line must be whole.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with("{\"time\""));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn lines_in(file: &Path) -> Vec<Value> {
    lines(&std::fs::read_to_string(file).unwrap_or_default())
}

#[test]
fn every_request_is_in_the_file_beside_the_configuration_without_its_query() {
    let (origin, everup) = logged("access.log");
    get(everup.address(), "/cart?token=secret");
    let file = everup.directory().join("access.log");
    // Each thread hands its lines over by itself: only what is written already stands before.
    until("the first is written", || lines_in(&file).len() == 1);
    request(everup.address(), "POST", "/buy", &[("X-Request-Id", "buy-1")], "one book");
    until("both are written", || lines_in(&file).len() == 2);
    let lines = lines_in(&file);
    assert_eq!((&lines[0]["path"], &lines[0]["status"]), (&"/cart".into(), &200.into()));
    assert_eq!((&lines[1]["id"], &lines[1]["method"]), (&"buy-1".into(), &"POST".into()));
    assert_eq!(lines[1]["instance"], origin.address().to_string());
    assert!(!std::fs::read_to_string(&file).unwrap().contains("secret"));
    let metrics = get(everup.metrics(), "/metrics").text();
    for line in [
        "everup_access_log_dropped_total 0",
        "everup_responses_total{service=\"shop\",code_class=\"2xx\"} 2",
        "everup_route_requests_total{listener=\"127.0.0.1:0\",route=\"default\",service=\"shop\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn no_line_is_lost_when_the_file_is_rotated_under_load_and_everup_stops() {
    let (_origin, everup) = logged("access.log");
    let (file, old) = (everup.directory().join("access.log"), everup.directory().join("access.log.1"));
    let load = everup.load("/").mode(Mode::Mixed).start().unwrap();
    until("there are lines", || !lines_in(&file).is_empty());
    std::fs::rename(&file, &old).unwrap();
    until("the file is begun anew", || !lines_in(&file).is_empty());
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
    until("all are written", || (lines_in(&old).len() + lines_in(&file).len()) as u64 >= ledger.ok());
    assert_eq!((lines_in(&old).len() + lines_in(&file).len()) as u64, ledger.ok());
}

#[test]
fn standard_output_gets_the_lines_too_and_the_last_of_them_before_the_end() {
    let (_origin, everup) = logged("stdout");
    let before = lines(&everup.said()).len();
    get(everup.address(), "/last");
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    let lines = lines(&stopped.said);
    assert_eq!((before, lines.len()), (0, 1), "{}", stopped.said);
    assert_eq!(lines[0]["path"], "/last");
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_serves() {
    let origin = Origin::start("a");
    let text = "[access_log]\nto = \"/nonexistent/access.log\"\n";
    let stopped = Everup::with(Config::shop([origin.address()]).more(text)).spawn().wait_for_end();
    assert_eq!(stopped.code, Some(1), "{}", stopped.said);
    assert!(
        stopped.said.contains("cannot write the access log to /nonexistent/access.log"),
        "{}",
        stopped.said
    );
}
