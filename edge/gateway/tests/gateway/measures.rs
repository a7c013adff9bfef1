//! What is counted by route, over tables with other routes; and which requests become examples.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everup_gateway::{RouteShared, Verdict};

use crate::stage::{Origin, Stage, before, until};
use crate::wire::ok;

const A: &str = "[[listener.route]]\npath = \"/a\"\nservice = \"app\"\n";
const B: &str = "[[listener.route]]\nhost = \"b.example\"\npath = \"=/b\"\nservice = \"app\"\n";
const GONE: &str = "[[listener.route]]\npath = \"/old\"\nredirect = { to = \"https://new.example\" }\n";

fn counts(stage: &Stage) -> Vec<(String, u64)> {
    let of = |route: &Arc<RouteShared>| (route.name().route.clone(), route.requests());
    stage.gateway().routes().iter().map(of).collect()
}

fn named(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn route(stage: &Stage, name: &str) -> Arc<RouteShared> {
    let mut routes = stage.gateway().routes().into_iter();
    routes.find(|route| route.name().route == name).expect("the table has the route")
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970")
}

#[test]
fn a_route_keeps_its_counts_as_long_as_a_table_has_it_wherever_it_stands() {
    let origin = Origin::named("a");
    let mut stage = before([&origin]).http_only().listener(&format!("service = \"app\"\n{A}")).start();
    let mut client = stage.connect();
    assert_eq!(client.get("/a/1").status(), 200);
    assert_eq!(client.get("/other").status(), 200);
    assert_eq!(counts(&stage), named(&[("*/a", 1), ("default", 1)]));

    // The same connection goes by the new routes, and the old one, in another place, counts on.
    stage.publish_routes(&format!("{B}{A}"));
    assert_eq!(client.get("/a/2").status(), 200);
    client.send("GET /b HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    assert_eq!(counts(&stage), named(&[("b.example=/b", 1), ("*/a", 2), ("default", 1)]));

    // A route that was away begins anew.
    stage.publish_routes(B);
    assert_eq!(client.get("/a/3").status(), 200);
    assert_eq!(counts(&stage), named(&[("b.example=/b", 1), ("default", 2)]));
    stage.publish_routes(A);
    assert_eq!(client.get("/a/4").status(), 200);
    assert_eq!(counts(&stage), named(&[("*/a", 1), ("default", 2)]));
}

#[test]
fn sizes_count_heads_and_bodies_both_ways() {
    let origin = Origin::answering(|_| ok("x".repeat(5000)));
    let listener = format!("service = \"app\"\n{A}{GONE}");
    let stage = before([&origin]).http_only().listener(&listener).start();
    let mut client = stage.connect();
    let request = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{}", "y".repeat(2000));
    client.send(&request);
    let answer = client.answer();
    assert_eq!(answer.body.len(), 5000);
    let a = route(&stage, "*/a");
    until("it is counted", || a.request_bytes().count() == 1);
    assert_eq!(a.request_bytes().sum, request.len() as u64);
    let sent = a.response_bytes();
    assert!((5001..5400).contains(&sent.sum), "{sent:?}");
    assert_eq!(sent.counts, [0, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(a.durations(now()).spread.count(), 1);

    let request = "GET /old HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request);
    assert_eq!(client.answer().status(), 308);
    let old = route(&stage, "*/old");
    until("it is counted", || old.response_bytes().count() == 1);
    assert_eq!((old.requests(), old.request_bytes().sum), (1, request.len() as u64));
    assert_eq!((&*old.name().service, old.durations(now()).spread.count()), ("", 0));
}

#[test]
fn an_example_leads_to_a_story_and_what_went_well_at_once_is_none() {
    let refusing = Origin::refusing();
    let slow = Origin::answering(|request| {
        if request.start.contains("slow") {
            std::thread::park_timeout(Duration::from_millis(120));
        }
        ok("fine")
    });
    let stage = before([&refusing, &slow]).http_only().start();
    let mut client = stage.connect();
    let mut ask = |id: &str, target: &str| {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n"));
        assert_eq!(client.answer().status(), 200);
    };
    // The first attempt of one of two goes to the instance that refuses.
    ask("quick-1", "/");
    ask("quick-2", "/");
    ask("quick-3", "/");
    ask("slow-\"1\"", "/slow?secret");
    ask("last", "/");
    let example = |named: &str| {
        let measured = route(&stage, "default").durations(now());
        measured.exemplars.into_iter().flatten().find(|one| one.name == named)
    };
    until("there is an example", || example("slow-\"1\"").is_some());
    let one = example("slow-\"1\"").expect("it was there");
    assert!(one.value >= 100_000, "{one:?}");
    let tale = stage.gateway().recall("slow-\"1\"").pop().expect("it is told");
    assert_eq!((&*tale.method, &*tale.host, &*tale.path), ("GET", "a", "/slow"));
    assert!(matches!(tale.verdict, Verdict::Answered | Verdict::Retried), "{tale:?}");
    let measured = route(&stage, "default").durations(now());
    for one in measured.exemplars.iter().flatten() {
        assert!(!stage.gateway().recall(&one.name).is_empty(), "nobody knows of {one:?}");
    }
    // An example of which nobody can tell more is not shown.
    let later = route(&stage, "default").durations(now() + everup_gateway::REMEMBERED_TIME * 2);
    assert_eq!(later.exemplars.iter().flatten().count(), 0);
    assert_eq!(later.spread, measured.spread);
}
