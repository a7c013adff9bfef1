//! What routes change, at the wire: the edits, and what they must leave alone.

use crate::stage::{Origin, Stage, before};
use crate::wire::{Message, ok};

const ROUTE: &str = "[[listener.route]]\nservice = \"app\"\n";

fn ask(stage: &Stage, request: &str) -> Message {
    let mut client = stage.connect();
    client.send(request);
    client.answer()
}

#[test]
fn a_request_is_sent_with_its_edits_also_the_second_time() {
    let broken = Origin::refusing();
    let origin = Origin::named("a");
    let route = format!("{ROUTE}set_headers = {{ X-A = \"1\" }}\nstrip_prefix = \"/v1\"");
    let stage = before([&broken, &origin]).listener(&route).http_only().start();
    for _ in 0..4 {
        assert_eq!(ask(&stage, "GET /v1/x HTTP/1.1\r\nHost: h\r\nX-A: 2\r\n\r\n").text(), "a");
    }
    assert_eq!(origin.count(), 4);
    for request in origin.requests() {
        assert_eq!((request.path(), request.header("X-A")), ("/x", Some("1")));
        assert!(request.header("X-Request-Id").is_some_and(|id| id.len() == 32), "{request:?}");
    }
}

#[test]
fn what_a_route_sets_or_removes_cannot_come_in_trailers() {
    let origin = Origin::named("a");
    let route = format!("{ROUTE}set_headers = {{ X-User = \"nobody\" }}\nremove_headers = [\"X-Admin\"]");
    let stage = before([&origin]).listener(&route).http_only().start();
    for (trailer, status) in [("X-Sum", 200), ("x-user", 400), ("X_User", 400), ("X-Admin", 400)] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailer}: 1\r\n\r\n"
        );
        assert_eq!(ask(&stage, &request).status(), status, "{trailer}");
    }
}

#[test]
fn an_answer_without_a_length_keeps_its_end_and_interim_answers_are_left_alone() {
    let origin = Origin::start(|visit| {
        if visit.request().is_some() {
            visit.wire.try_send(b"HTTP/1.1 103 Early Hints\r\nServer: x\r\n\r\n");
            visit.wire.try_send(b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello");
        }
    });
    let route = format!("{ROUTE}response_set_headers = {{ Server = \"shop\" }}");
    let stage = before([&origin]).listener(&route).http_only().start();
    let mut client = stage.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let interim = client.head().unwrap();
    assert_eq!((interim.status(), interim.header("Server")), (103, Some("x")));
    let answer = client.answer();
    assert_eq!(
        (answer.status(), answer.header("Server"), answer.text()),
        (200, Some("shop"), "hello".into())
    );
}

#[test]
fn answers_of_ours_are_not_edited_and_routes_without_edits_pass_answers_on_as_they_are() {
    let origin = Origin::answering(|_| ok("a"));
    let route = "[[listener.route]]\npath = \"/edited\"\nservice = \"app\"\nresponse_set_headers = { X-A = \"1\" }\n\
                 [[listener.route]]\nservice = \"app\"";
    let stage = before([&origin]).listener(route).http_only().start();
    let header = |path: &str| {
        ask(&stage, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).header("X-A").map(str::to_owned)
    };
    assert_eq!((header("/edited"), header("/")), (Some("1".into()), None));
}

#[test]
fn a_redirect_needs_a_host_only_if_it_names_one() {
    let origin = Origin::named("a");
    let route = "[[listener.route]]\npath = \"/a\"\nredirect = { to = \"https://{host}{path}\", status = 301 }\n\
                 [[listener.route]]\nredirect = { to = \"/a{path}{query}\", status = 307 }";
    let stage = before([&origin]).listener(&format!("service = \"app\"\n{route}")).http_only().start();
    let asked = |request: &str| {
        let answer = ask(&stage, request);
        (answer.status(), answer.header("Location").map(str::to_owned))
    };
    assert_eq!(asked("GET /a HTTP/1.1\r\nHost: h:1\r\n\r\n"), (301, Some("https://h/a".into())));
    assert_eq!(asked("GET /a HTTP/1.0\r\n\r\n"), (400, None));
    assert_eq!(asked("GET /b?c HTTP/1.0\r\n\r\n"), (307, Some("/a/b?c".into())));
    assert_eq!(origin.count(), 0);
}
