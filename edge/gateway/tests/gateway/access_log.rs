//! What the access log says of requests on the wire.

use std::path::Path;

use serde_json::Value;

use crate::stage::{Origin, before};
use crate::wire::{get, ok, post};

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn every_request_has_its_line_of_json() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let origin = Origin::answering(|_| ok("hello"));
    let mut stage = before([&origin]).access_log(&file, false).start();
    let mut client = stage.connect();
    client.send("GET /a\"b?secret=1 HTTP/1.1\r\nHost: app.example\r\nX-Request-Id: id\"\\1\r\n\r\n");
    let answer = client.answer();
    client.send(post("/post", "0123456789"));
    client.answer();
    drop(client);
    stage.stop();
    let lines = lines(&file);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let first = &lines[0];
    assert_eq!(first["id"], "id\"\\1");
    assert_eq!(
        (&first["method"], &first["host"], &first["path"]),
        (&"GET".into(), &"app.example".into(), &"/a\"b".into())
    );
    assert_eq!((&first["client"], &first["service"]), (&"127.0.0.1".into(), &"app".into()));
    assert_eq!(first["instance"], origin.address.to_string());
    assert_eq!((&first["status"], &first["attempts"], &first["table"]), (&200.into(), &1.into(), &1.into()));
    assert_eq!((&first["listener"], &first["route"]), (&1.into(), &Value::Null));
    assert_eq!(first["verdict"], "answered");
    let sent = "GET /a\"b?secret=1 HTTP/1.1\r\nHost: app.example\r\nX-Request-Id: id\"\\1\r\n\r\n".len();
    assert_eq!(first["bytes_in"], sent);
    assert!(first["bytes_out"].as_u64().unwrap() > 5 && answer.text() == "hello");
    let sum: f64 = ["parked_ms", "tried_ms", "connect_ms", "first_byte_ms", "last_byte_ms"]
        .iter()
        .map(|phase| first[phase].as_f64().unwrap())
        .sum();
    assert!((sum - first["ms"].as_f64().unwrap()).abs() < 0.01, "{first}");
    assert_eq!(lines[1]["bytes_in"], post("/post", "0123456789").len());
    assert_eq!(lines[1]["id"].as_str().unwrap().len(), 32);
}

#[test]
fn every_byte_of_a_large_answer_is_counted_however_it_went() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let body = 8 * 1024 * 1024;
    let origin = Origin::answering(move |_| ok(vec![b'x'; body]));
    let mut stage = before([&origin]).access_log(&file, false).start();
    let mut client = stage.connect();
    let answer = client.get("/");
    assert_eq!(answer.body.len(), body);
    drop(client);
    stage.stop();
    assert_eq!(lines(&file)[0]["bytes_out"], ok(vec![b'x'; body]).len());
}

#[test]
fn the_query_is_written_only_where_it_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    for (query, path) in [(false, "/a"), (true, "/a?b=c")] {
        let file = directory.path().join(format!("{query}.log"));
        let origin = Origin::named("a");
        let mut stage = before([&origin]).access_log(&file, query).start();
        stage.connect().get("/a?b=c");
        stage.stop();
        assert_eq!(lines(&file)[0]["path"], path);
    }
}

#[test]
fn requests_that_no_service_saw_are_written_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let origin = Origin::named("a");
    let listener = "[[listener.route]]\nhost = \"x\"\nservice = \"app\"\n[[listener.route]]\npath = \"/b\"\nservice = \"app\"";
    let mut stage = before([&origin]).http_only().listener(listener).access_log(&file, false).start();
    assert_eq!(stage.connect().get("/nowhere").status(), 404);
    let mut client = stage.connect();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().status(), 400);
    assert_eq!(stage.connect().get("/b").status(), 200);
    let routes = stage.gateway().routes();
    assert_eq!(routes.iter().map(|route| route.requests()).collect::<Vec<_>>(), [0, 1]);
    stage.stop();
    let lines = lines(&file);
    assert_eq!(
        (&lines[0]["status"], &lines[0]["path"], &lines[0]["verdict"]),
        (&404.into(), &"/nowhere".into(), &"refused".into())
    );
    assert_eq!((&lines[1]["status"], &lines[1]["path"]), (&400.into(), &Value::Null));
    assert_eq!((&lines[2]["status"], &lines[2]["route"]), (&200.into(), &2.into()));
}

#[test]
fn an_endless_target_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let origin = Origin::named("a");
    let mut stage = before([&origin]).access_log(&file, false).start();
    let mut client = stage.connect();
    client.send(get(&format!("/{}", "\"".repeat(10_000))));
    assert_eq!(client.answer().status(), 200);
    stage.stop();
    assert_eq!(lines(&file)[0]["path"].as_str().unwrap().len(), 1500);
}
