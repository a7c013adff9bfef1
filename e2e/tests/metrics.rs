//! The metrics page of the built binary in both formats, read by the parsers that Prometheus' own client library has; and
//! exemplars, each of which leads to a story.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use everup_e2e::{Behaviour, Config, Everup, Origin, Response, get, request, until};

const OPEN_METRICS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Reads a page on standard input and prints every sample that stands for a client of Prometheus: name, labels, value,
/// exemplar.
const READ: &str = r#"
import sys
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as strict
read = strict if sys.argv[1] == "openmetrics" else parser
for family in read.text_string_to_metric_families(sys.stdin.read()):
    for s in family.samples:
        print(family.type, s.name, sorted(s.labels.items()), s.value, s.exemplar and s.exemplar.labels)
"#;

fn page(address: SocketAddr, accept: &str) -> Response {
    request(address, "GET", "/metrics", &[("Accept", accept)], "")
}

/// None: the library is not on this machine.
fn read_by_the_library(format: &str, text: &str) -> Option<String> {
    let python = || Command::new("/usr/bin/python3");
    let library =
        python().args(["-c", "import prometheus_client.openmetrics.parser"]).stderr(Stdio::null()).status();
    if !library.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut reader = python()
        .args(["-c", READ, format])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    reader.stdin.take().expect("it is a pipe").write_all(text.as_bytes()).expect("it reads");
    let told = reader.wait_with_output().expect("it ends");
    assert!(told.status.success(), "the {format} page is not valid:\n{text}");
    Some(String::from_utf8_lossy(&told.stdout).into_owned())
}

#[test]
fn scrapers_get_the_format_they_ask_for_and_the_same_series() {
    let origin = Origin::start("a");
    let route = "[[listener.route]]\nhost = \"*.b.example\"\npath = \"=/a\"\nservice = \"shop\"\n";
    let config = Config::shop([origin.address()]).more(route);
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (0..3).for_each(|_| drop(get(everup.address(), "/")));
    let (text, open) = (get(everup.metrics(), "/metrics"), page(everup.metrics(), OPEN_METRICS));
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let wanted = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(wanted));
    let (text, open) = (text.text(), open.text());
    assert!(open.ends_with("\n# EOF\n") && !text.contains("# EOF"), "{open}");
    let series = |text: &str| -> Vec<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.split(" # ").next().unwrap().rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert_eq!(series(&text), series(&open));
    let route = "{listener=\"127.0.0.1:0\",route=\"default\",service=\"shop\"";
    for line in [
        format!("everup_route_requests_total{route}}} 3"),
        format!("everup_route_duration_seconds_count{route}}} 3"),
        format!("everup_route_request_bytes_bucket{route},le=\"256.0\"}} 3"),
        format!("everup_route_response_bytes_bucket{route},le=\"+Inf\"}} 3"),
        "everup_request_duration_seconds_bucket{service=\"shop\",le=\"+Inf\"} 3".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    for (format, page) in [("openmetrics", &open), ("text", &text)] {
        if let Some(read) = read_by_the_library(format, page) {
            assert_eq!(read.lines().count(), series(page).len(), "{format}:\n{read}");
        }
    }
}

#[test]
fn the_exemplar_of_a_slow_request_leads_to_what_explain_tells_of_it() {
    let origin = Origin::start("a");
    origin.on("/slow", Behaviour::Slow(Duration::from_millis(300)));
    let mut everup = Everup::with(Config::shop([origin.address()])).start();
    everup.wait_all_up();
    get(everup.address(), "/");
    // An id of as many characters as an exemplar has room for, and one that is too long for one.
    let (fitting, long) = (format!("\"\\{}", "x".repeat(116)), "y".repeat(119));
    request(everup.address(), "GET", "/slow", &[("X-Request-Id", &long)], "");
    request(everup.address(), "GET", "/slow", &[("X-Request-Id", &fitting)], "");
    let mut open = String::new();
    until("there is an exemplar", || {
        open = page(everup.metrics(), OPEN_METRICS).text();
        open.contains(" # {")
    });
    let exemplars: Vec<&str> = open.lines().filter(|line| line.contains(" # {")).collect();
    // One of the service, one of the route.
    assert_eq!(exemplars.len(), 2, "{exemplars:#?}");
    for line in exemplars {
        let escaped = fitting.replace('\\', "\\\\").replace('"', "\\\"");
        assert!(line.contains(&format!("le=\"0.5\"}} 3 # {{request_id=\"{escaped}\"}} 0.3")), "{line}");
    }
    assert!(!get(everup.metrics(), "/metrics").text().contains(" # {"), "the plain format has no exemplars");
    if let Some(read) = read_by_the_library("openmetrics", &open) {
        assert_eq!(read.lines().filter(|line| line.contains("'request_id':")).count(), 2, "{read}");
    }
    let told = everup.verb(&["explain", &fitting]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("/slow"), "{}", told.out);
}
