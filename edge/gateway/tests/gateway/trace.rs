//! W3C Trace Context: a valid parent goes on as it is; where everup is told to, it makes the missing ones.

use crate::stage::{Origin, Stage, before};
use crate::wire::Message;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What the instance gets of a request with these header lines.
fn sent(stage: &Stage, origin: &Origin, lines: &str) -> Message {
    let mut client = stage.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: app\r\n{lines}\r\n"));
    assert_eq!(client.answer().status(), 200);
    origin.requests().pop().unwrap()
}

#[test]
fn by_default_what_came_goes_on_and_nothing_is_made() {
    let origin = Origin::named("a");
    let stage = before([&origin]).start();
    for value in [GOOD, "nonsense"] {
        let lines = format!("traceparent: {value}\r\ntracestate: a=b\r\n");
        let request = sent(&stage, &origin, &lines);
        assert_eq!((request.header("traceparent"), request.header("tracestate")), (Some(value), Some("a=b")));
    }
    assert_eq!(sent(&stage, &origin, "").header("traceparent"), None);
}

#[test]
fn a_parent_is_made_where_none_is_valid_and_only_there() {
    let origin = Origin::named("a");
    let stage = before([&origin]).makes_trace_parents().start();
    let request = sent(&stage, &origin, &format!("traceparent: {GOOD}\r\ntracestate: a=b\r\n"));
    assert_eq!((request.header("traceparent"), request.header("tracestate")), (Some(GOOD), Some("a=b")));
    let mut made = Vec::new();
    for lines in [
        "",
        "traceparent: nonsense\r\ntracestate: a=b\r\n",
        "tracestate: a=b\r\n",
        &format!("traceparent: {GOOD}\r\nTraceparent: {GOOD}\r\n"),
    ] {
        let request = sent(&stage, &origin, lines);
        let parent = request.header("traceparent").unwrap_or_else(|| panic!("{lines:?}")).to_owned();
        assert!(parent.starts_with("00-") && parent.ends_with("-00") && parent.len() == 55, "{parent}");
        assert_eq!(request.header("tracestate"), None, "{lines:?}");
        assert!(request.header("X-Request-Id").is_some_and(|id| id.len() == 32), "{request:?}");
        made.push(parent);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 4, "each is new");
}
