//! The PROXY protocol with the built binary: one everup behind another, so that what one sends the other must read.

use everup_e2e::{Config, Connection, Everup, Origin, get, until};

const BALANCER: &str = "accept_proxy = [\"127.0.0.0/8\"]";
const LINE: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// The value of a series of the metrics page.
fn metric(everup: &Everup, series: &str) -> u64 {
    let page = get(everup.metrics(), "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).trim().parse().expect("a counter is a number")
}

const TURNED_AWAY: &str = "everup_connections_turned_away_total{reason=\"proxy-header\"}";

#[test]
fn a_clients_address_passes_through_two_balancers_and_checks_pass_too() {
    for (version, health) in
        [("v1", "http = \"/healthz\""), ("v2", "http = \"/healthz\""), ("v2", "tcp = true")]
    {
        let origin = Origin::start("a");
        let behind = Everup::with(Config::shop([origin.address()]).listener(BALANCER)).start();
        let service = Config::shop([behind.address()]).set(&format!("send_proxy = \"{version}\""));
        // It comes up: its checks are understood.
        let before = Everup::with(service.listener(BALANCER).health(health)).start();
        for _ in 0..3 {
            let mut client = Connection::open(before.address());
            client.send([LINE, GET].concat());
            assert_eq!(client.answer().instance(), "a");
        }
        for request in origin.requests() {
            assert_eq!(request.header("x-forwarded-for"), Some("203.0.113.7, 203.0.113.7"), "{version}");
        }
        assert_eq!(origin.count(), 3);
        assert_eq!(metric(&behind, TURNED_AWAY), 0);
    }
}

#[test]
fn a_balancer_that_sends_no_valid_header_is_turned_away_and_counted() {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()]).listener(BALANCER)).start();
    let wrong = [GET.to_owned(), LINE.replace("203.0.113.7", "203.0.113.700") + GET];
    for bytes in &wrong {
        let mut client = Connection::open(everup.address());
        client.send(bytes);
        assert!(client.try_answer().is_err(), "{bytes:?}");
    }
    until("they are counted", || metric(&everup, TURNED_AWAY) == wrong.len() as u64);
    assert!(
        everup.said().contains("a connection was turned away: there is no PROXY header"),
        "{}",
        everup.said()
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_header_that_nobody_asked_for_is_a_malformed_request() {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()])).start();
    let mut client = Connection::open(everup.address());
    client.send([LINE, GET].concat());
    assert_eq!(client.answer().status, 400);
    assert_eq!(origin.count(), 0);
}
