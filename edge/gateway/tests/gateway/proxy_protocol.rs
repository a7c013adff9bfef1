//! The PROXY protocol in and out: whom a client is taken for, and what an instance is told.

use everup_core::proxy_protocol::{Ends, Fields, Header, Parsed, parse, write_v1, write_v2};

use crate::stage::{Origin, Stage, Visit, before, until};
use crate::wire::{End, Wire, get, ok, post};

const BALANCER: &str = "service = \"app\"\naccept_proxy = [\"127.0.0.0/8\"]";
/// What the balancer says of a client.
const LINE: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";

fn ends() -> Ends {
    Ends { source: "203.0.113.7:40000".parse().unwrap(), destination: "198.51.100.1:443".parse().unwrap() }
}

/// An instance that answers with the client that it was told of.
fn teller() -> Origin {
    Origin::answering(|request| ok(request.header("X-Forwarded-For").unwrap()))
}

#[track_caller]
fn turned_away(stage: &Stage, count: u64) {
    until("they are counted", || stage.gateway().turned_away().proxy_header == count);
}

#[test]
fn the_client_is_whom_the_header_names() {
    let origin = teller();
    let stage = before([&origin]).listener(BALANCER).start();
    let mut binary = Vec::new();
    write_v2(&mut binary, Some(ends()), Fields { unique_id: b"some id", ..Fields::default() });
    for header in [LINE.as_bytes(), &binary] {
        let mut client = stage.connect();
        client.send([header, get("/").as_bytes()].concat());
        assert_eq!(client.answer().text(), "203.0.113.7");
        // Once per connection.
        assert_eq!(client.get("/").text(), "203.0.113.7");
        // In pieces, and with the request a while later.
        let mut client = stage.connect();
        header.chunks(1).for_each(|byte| client.send(byte));
        assert_eq!(client.get("/").text(), "203.0.113.7");
        // With half of the request's head.
        let mut client = stage.connect();
        client.send([header, b"GET / HT"].concat());
        client.send("TP/1.1\r\nHost: app\r\n\r\n");
        assert_eq!(client.answer().text(), "203.0.113.7");
    }
    turned_away(&stage, 0);
}

#[test]
fn a_balancer_that_speaks_for_itself_is_the_client() {
    let origin = teller();
    let stage = before([&origin]).listener(BALANCER).start();
    let (mut unknown, mut local) = (Vec::new(), Vec::new());
    write_v1(&mut unknown, None);
    write_v2(&mut local, None, Fields::default());
    for header in [unknown, local] {
        let mut client = stage.connect();
        client.send(header);
        assert_eq!(client.get("/").text(), "127.0.0.1");
    }
}

#[test]
fn a_balancer_without_a_valid_header_is_turned_away() {
    let origin = Origin::named("a");
    let stage = before([&origin]).listener(BALANCER).limits("head_time = \"200ms\"").start();
    let wrong = [
        get("/"),
        LINE.replace("203.0.113.7", "203.0.113.700") + &get("/"),
        LINE.replace("443", "65536") + &get("/"),
        LINE.replace('\r', "") + &get("/"),
        format!("PROXY UNKNOWN {}", "x".repeat(200)),
        // Not whole within the time for a head.
        LINE[..LINE.len() - 1].to_owned(),
    ];
    for bytes in &wrong {
        let mut client = stage.connect();
        client.try_send(bytes);
        assert_eq!(client.rest().0, b"", "{bytes:?}");
    }
    turned_away(&stage, wrong.len() as u64);
    // Nothing at all is a look whether somebody listens.
    let mut client = stage.connect();
    client.finish();
    client.ends();
    turned_away(&stage, wrong.len() as u64);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_header_from_anyone_else_is_a_malformed_request() {
    let origin = Origin::named("a");
    let listener = "service = \"app\"\naccept_proxy = [\"10.0.0.0/8\", \"::1\"]";
    let stage = before([&origin]).listener(listener).start();
    for listener in [listener, "service = \"app\""] {
        let stage = before([&origin]).listener(listener).start();
        let mut client = stage.connect();
        client.send([LINE, &get("/")].concat());
        assert_eq!(client.answer().status(), 400);
        client.ends();
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(stage.connect().get("/").status(), 200);
}

#[test]
fn sticky_users_behind_a_balancer_are_told_apart() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let stage = before(&origins).http_only().listener(BALANCER).service("sticky = { by = \"ip\" }").start();
    let mut seen = std::collections::BTreeSet::new();
    for last in 1..40 {
        let names = [0, 1].map(|_| {
            let mut client = stage.connect();
            client.send(LINE.replace("203.0.113.7", &format!("203.0.113.{last}")));
            client.get("/").text()
        });
        assert_eq!(names[0], names[1]);
        seen.extend(names);
    }
    assert_eq!(seen.len(), 4);
}

/// The header that a connection to an instance begins with.
fn header(visit: &mut Visit) -> Option<Header> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes).unwrap() {
            Parsed::Whole(header) => return Some(header),
            Parsed::Partial => bytes.push(visit.wire.try_take(1)?[0]),
        }
    }
}

/// An instance that requires a header and answers with what it says.
fn proxied() -> Origin {
    Origin::start(|visit| {
        let Some(Header { ends: Some(ends), bytes }) = header(visit) else { return };
        while visit.request().is_some() {
            visit.wire.try_send(ok(format!("{} {} {bytes}", ends.source, ends.destination)));
        }
    })
}

#[test]
fn an_instance_is_told_of_each_requests_client() {
    for version in ["v1", "v2"] {
        let origin = proxied();
        let stage = before([&origin]).service(&format!("send_proxy = \"{version}\"")).start();
        let mut clients = [stage.connect(), stage.connect()];
        for _ in 0..3 {
            for client in &mut clients {
                let own = client.stream.local_addr().unwrap();
                let text = client.get("/").text();
                assert!(text.starts_with(&format!("{own} {} ", stage.address)), "{text}");
                client.send(post("/", "body"));
                assert!(client.answer().text().starts_with(&format!("{own} ")));
            }
        }
        // A connection speaks for one request.
        assert_eq!(origin.connections(), 12);
        stage.settles();
    }
}

#[test]
fn version_2_carries_the_requests_id() {
    let origin = proxied();
    let stage = before([&origin]).service("send_proxy = \"v2\"").start();
    let mut client = stage.connect();
    client.send(get("/").replace("\r\n\r\n", "\r\nX-Request-Id: 12345\r\n\r\n"));
    assert!(client.answer().text().ends_with(&format!(" {}", 16 + 12 + 3 + 5)));
}

#[test]
fn what_a_balancer_said_is_said_to_the_instance() {
    let origin = proxied();
    let stage = before([&origin]).listener(BALANCER).service("send_proxy = \"v1\"").start();
    let mut client = stage.connect();
    client.send(LINE);
    assert_eq!(client.get("/").text(), format!("203.0.113.7:40000 198.51.100.1:443 {}", LINE.len()));
}

#[test]
fn tcp_connections_begin_with_the_header_and_then_with_the_first_byte() {
    let origin = Origin::start(|visit| {
        let Some(Header { ends: Some(ends), .. }) = header(visit) else { return };
        let (said, _) = visit.wire.rest();
        visit.wire.send(format!("{} said {}", ends.source, String::from_utf8(said).unwrap()));
    });
    let setting = before([&origin]).tcp_listener("accept_proxy = [\"127.0.0.1\"]");
    let stage = setting.service("send_proxy = \"v2\"").start();
    let mut client = Wire::to(stage.tcp);
    client.send([LINE, "hello"].concat());
    client.finish();
    assert_eq!(client.rest().0, b"203.0.113.7:40000 said hello");
    let mut client = Wire::to(stage.tcp);
    client.send("hello, no header here");
    assert!(matches!(client.rest(), (nothing, End::Closed | End::Reset) if nothing.is_empty()));
    turned_away(&stage, 1);
}
