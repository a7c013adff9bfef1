//! The sample application by itself: what a newcomer tries first must work.

use everup_e2e::{Connection, Said, Sample, WebSocket, everup, get, request, until};
use rustix::process::Signal;

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn every_answer_says_who_gave_it() {
    let sample = Sample::start("one");
    for path in ["/", "/healthz", "/whoami", "/slow?ms=1", "/bytes?n=10", "/account", "/nothing-here"] {
        let answer = get(sample.address(), path);
        assert_eq!((answer.instance(), answer.header("x-revision")), ("one", Some("none")), "{path}");
    }
    let who = json(&get(sample.address(), "/whoami").text());
    assert_eq!(
        (who["instance"].as_str(), who["pid"].as_u64()),
        (Some("one"), Some(sample.process().pid.into()))
    );
}

#[test]
fn health_checks_are_not_counted_as_requests() {
    let sample = Sample::start("one");
    (0..5).for_each(|_| drop(get(sample.address(), "/healthz")));
    assert_eq!(json(&get(sample.address(), "/whoami").text())["count"], 1);
}

#[test]
fn bytes_are_as_many_as_asked_for_up_to_the_limit() {
    let sample = Sample::start("one");
    for n in [0, 1, 100_000] {
        assert_eq!(get(sample.address(), &format!("/bytes?n={n}")).body.len(), n);
    }
    assert_eq!(get(sample.address(), "/bytes?n=1073741825").status, 400);
    assert_eq!(get(sample.address(), "/slow?ms=60001").status, 400);
}

#[test]
fn an_echo_begins_before_the_body_has_ended() {
    let sample = Sample::start("one");
    let mut connection = Connection::open(sample.address());
    connection.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello\r\n") {
        seen.extend(connection.bytes(1));
    }
    connection.send("0\r\n\r\n");
    assert_eq!(connection.bytes(5), b"0\r\n\r\n");
}

#[test]
fn a_login_is_known_to_the_instance_that_took_it_and_to_no_other() {
    let (here, elsewhere) = (Sample::start("here"), Sample::start("elsewhere"));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let login = request(here.address(), "POST", "/login", &form, "user=ada");
    let cookie = login.header("set-cookie").and_then(|line| line.split(';').next()).unwrap();
    let account = |sample: &Sample| request(sample.address(), "GET", "/account", &[("Cookie", cookie)], "");
    assert_eq!(json(&account(&here).text())["user"], "ada");
    assert_eq!(account(&elsewhere).status, 401);
}

#[test]
fn the_page_needs_nothing_else() {
    let sample = Sample::start("one");
    let page = get(sample.address(), "/");
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    let text = page.text();
    assert!(!text.contains("src=") && !text.contains("http://") && !text.contains("https://"), "{text}");
}

#[test]
fn sigterm_lets_requests_finish_and_says_goodbye_to_websockets() {
    let sample = Sample::start("one");
    let mut slow = Connection::open(sample.address());
    slow.send("GET /slow?ms=500 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut socket = WebSocket::open(sample.address(), "/ws");
    assert!(socket.echoes("hello"));
    let process = sample.process();
    until("the request is in flight", || {
        json(&get(sample.address(), "/whoami").text())["count"].as_u64() > Some(2)
    });
    process.signal(Signal::TERM);
    assert_eq!(slow.answer().status, 200);
    assert_eq!(socket.hear().0, 0x8);
    until("it has ended", || !process.is_alive());
}

#[test]
fn fail_start_fails_with_a_reason_in_its_log() {
    let Said { code, out, err } = everup(["sample-app", "--port", "0", "--fail-start"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(out.contains("cannot reach the database"), "{out}");
}

#[test]
fn a_port_that_is_taken_is_told_in_one_line() {
    let sample = Sample::start("one");
    let told = everup(["sample-app", "--port", &sample.address().port().to_string()]);
    assert_eq!((told.code, told.err.lines().count()), (Some(1), 1), "{told:?}");
    assert!(told.err.contains(&sample.address().to_string()), "{told:?}");
}
