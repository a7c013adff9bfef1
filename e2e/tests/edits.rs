//! What routes change on the way: header fields, the beginning of a path, and redirects that no instance sees.

use everup_e2e::{Behaviour, Config, Connection, Everup, Origin, request};

/// The service `shop` behind one route with these lines.
fn routed(lines: &str) -> (Origin, Everup) {
    let origin = Origin::start("a");
    let config = Config::shop([origin.address()])
        .more(&format!("[[listener]]\nbind = [\"127.0.0.1:0\"]\n[[listener.route]]\n{lines}\n"));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (origin, everup)
}

fn ask(everup: &Everup, target: &str, headers: &[(&str, &str)]) -> everup_e2e::Response {
    request(everup.listener(1)[0], "GET", target, headers, "")
}

#[test]
fn the_instance_gets_the_fields_that_the_route_sets_and_not_those_of_the_client() {
    let (origin, everup) = routed(
        "service = \"shop\"\nset_headers = { X-User = \"nobody\" }\nadd_headers = { X-Via = \"everup\" }\n\
         remove_headers = [\"X-Secret\"]",
    );
    ask(
        &everup,
        "/a",
        &[("x-user", "root"), ("X_USER", "root"), ("X-Via", "client"), ("x-secret", "1"), ("X-Mine", "2")],
    );
    let seen = origin.the_request("/a");
    let values = |name: &str| -> Vec<String> {
        seen.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(values("x-user"), ["nobody"]);
    assert_eq!(values("x-via"), ["client", "everup"]);
    assert_eq!([values("x_user").len(), values("x-secret").len(), values("x-mine").len()], [0, 0, 1]);
}

#[test]
fn the_client_gets_the_fields_that_the_route_sets_and_the_whole_body() {
    let (origin, everup) = routed(
        "service = \"shop\"\nresponse_set_headers = { Server = \"shop\", Strict-Transport-Security = \"max-age=1\" }\n\
         response_add_headers = { Vary = \"Cookie\" }\nresponse_remove_headers = [\"X-Powered-By\"]",
    );
    let answer = b"HTTP/1.1 200 OK\r\nserver: x\r\nVary: Accept\r\nX-Powered-By: y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    origin.on("/raw", Behaviour::Raw(answer.to_vec()));
    let got = ask(&everup, "/raw", &[]);
    let values = |name: &str| -> Vec<&str> {
        got.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((values("server"), values("vary")), (vec!["shop"], vec!["Accept", "Cookie"]));
    assert_eq!((values("strict-transport-security"), values("x-powered-by")), (vec!["max-age=1"], vec![]));
    assert_eq!(got.text(), "hello");
}

#[test]
fn the_beginning_of_the_path_is_replaced() {
    let (origin, everup) = routed("path = \"/v1/\"\nservice = \"shop\"\nstrip_prefix = \"/v1\"");
    ask(&everup, "/v1/cart?x=1", &[]);
    origin.the_request("/cart?x=1");
    let (origin, everup) = routed("service = \"shop\"\nrewrite_prefix = { from = \"/old\", to = \"/new\" }");
    ask(&everup, "/old/cart", &[]);
    ask(&everup, "/older", &[]);
    origin.the_request("/new/cart");
    origin.the_request("/older");
}

#[test]
fn a_redirect_is_answered_without_an_instance_and_the_connection_stays() {
    let (origin, everup) = routed("redirect = { to = \"https://{host}{path}{query}\" }");
    let mut connection = Connection::open(everup.listener(1)[0]);
    connection
        .send("GET /a?b=c HTTP/1.1\r\nHost: shop.example:81\r\n\r\nHEAD //evil HTTP/1.1\r\nHost: x\r\n\r\n");
    let first = connection.answer();
    assert_eq!((first.status, first.header("location")), (308, Some("https://shop.example/a?b=c")));
    assert_eq!(connection.answer().header("location"), Some("https://x//evil"));
    // A body that nobody wants ends the connection.
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    let last = connection.answer();
    assert_eq!((last.status, last.header("connection")), (308, Some("close")));
    assert!(connection.is_closed());
    assert_eq!(origin.count(), 0);
}
