//! SIGTERM: the order in which everything ends, and that nobody is lost on the way who was served or waited.

use std::net::TcpStream;

use everup_e2e::{Config, Connection, Everup, Sample, WebSocket, get, request, until};
use rustix::process::Signal;

const GET: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\na book";

#[test]
fn who_is_connected_is_served_and_told_and_nobody_is_refused_before_the_end() {
    // Its process takes its time after SIGTERM, though nobody listens in it any more.
    let command =
        r#"["/bin/sh", "-c", "trap 'sleep 2; exit 0' TERM; {everup} sample-app --port {port} & wait"]"#;
    let everup = Everup::with(Config::runs_command(1, command)).start();
    let (address, metrics) = (everup.address(), everup.metrics());
    assert_eq!(get(metrics, "/readyz").status, 200);
    let mut kept = Connection::open(address);
    kept.send(GET);
    assert_eq!(kept.answer().header("connection"), None);
    let mut flying = Connection::open(address);
    flying.send("GET /slow?ms=1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut socket = WebSocket::open(address, "/ws");
    assert!(socket.echoes("hello"));
    until("it is in flight", || everup.service("shop").in_flight == 2);
    everup.signal(Signal::TERM);
    until("it is not ready", || get(metrics, "/readyz").status == 503);
    // A client that keeps its connection hears of the end with its next answer, and not before.
    kept.send(POST);
    let answer = kept.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let answer = get(address, "/whoami");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(flying.answer().status, 200);
    // Nothing is in flight any more: the instance ends, and who comes is answered at once.
    until("requests are refused", || request(address, "POST", "/echo", &[], "a book").status == 503);
    assert!(TcpStream::connect(address).is_ok());
    let stopped = everup.wait_for_end();
    assert_eq!((stopped.code, stopped.left.len()), (Some(0), 0), "{}", stopped.said);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let sample = Sample::start("a");
    let everup = Everup::with(Config::shop([sample.address()])).start();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=20000 HTTP/1.1\r\nHost: x\r\n\r\n");
    until("it is in flight", || everup.service("shop").in_flight == 1);
    everup.signal(Signal::TERM);
    until("it stops", || everup.try_status().is_none_or(|status| status.stopping));
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    assert!(flying.try_answer().is_err());
}

#[test]
fn drain_time_bounds_the_end() {
    let sample = Sample::start("a");
    let config = Config::shop([sample.address()]).set("drain = { time = \"1s\" }");
    let everup = Everup::with(config).start();
    let mut flying = Connection::open(everup.address());
    flying.send("GET /slow?ms=20000 HTTP/1.1\r\nHost: x\r\n\r\n");
    until("it is in flight", || everup.service("shop").in_flight == 1);
    let admin = everup.admin();
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    assert!(
        stopped.said.contains("stops without waiting for requests that are in flight"),
        "{}",
        stopped.said
    );
    let gone = everup_e2e::everup(["status", "--admin", admin.to_str().unwrap()]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
}
