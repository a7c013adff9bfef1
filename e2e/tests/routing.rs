//! Which service gets a request; listeners of both protocols and both address families.

use everup_e2e::{Config, Connection, Everup, Origin, TcpOrigin, get, request};

/// `shop` (default) and whichever of `api` and `beta` the routes name: one origin each.
fn routed(routes: &str) -> (Vec<Origin>, Everup) {
    let named = |name: &&str| *name == "shop" || routes.contains(&format!("service = \"{name}\""));
    let names: Vec<&str> = ["shop", "api", "beta"].into_iter().filter(named).collect();
    let origins: Vec<Origin> = names.iter().map(|name| Origin::start(name)).collect();
    let mut config = format!("[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n{routes}\n");
    for (name, origin) in names.iter().zip(&origins) {
        config +=
            &format!("[service.{name}]\ninstances = [\"{}\"]\nhealth = {{ rise = 1 }}\n", origin.address());
    }
    (origins, Everup::with(config).start())
}

fn of_host(everup: &Everup, host: &str) -> String {
    request(everup.address(), "GET", "/", &[("Host", host)], "").instance().to_owned()
}

#[test]
fn hosts_are_matched_exactly_by_suffix_and_in_any_case() {
    let (_origins, everup) = routed(
        "[[listener.route]]\nhost = \"api.example\"\nservice = \"api\"\n\
         [[listener.route]]\nhost = \"*.beta.example\"\nservice = \"beta\"\n",
    );
    assert_eq!(of_host(&everup, "api.example"), "api");
    assert_eq!(of_host(&everup, "API.Example:8080"), "api");
    assert_eq!(of_host(&everup, "x.y.beta.example"), "beta");
    assert_eq!(of_host(&everup, "beta.example"), "shop");
    assert_eq!(of_host(&everup, "notapi.example"), "shop");
}

#[test]
fn paths_are_matched_by_prefix_or_exactly_and_the_first_match_wins() {
    let (_origins, everup) = routed(
        "[[listener.route]]\npath = \"=/v1/beta\"\nservice = \"beta\"\n\
         [[listener.route]]\npath = \"/v1/\"\nservice = \"api\"\n",
    );
    let of = |path| get(everup.address(), path).instance().to_owned();
    assert_eq!(
        [of("/v1/beta"), of("/v1/beta?x=1"), of("/v1/beta/x"), of("/v1/")],
        ["beta", "beta", "api", "api"]
    );
    assert_eq!([of("/v1"), of("/v2/v1/"), of("/")], ["shop", "shop", "shop"]);
}

#[test]
fn headers_are_matched_by_exact_value() {
    let (_origins, everup) = routed("[[listener.route]]\nheaders = { x-beta = \"1\" }\nservice = \"beta\"\n");
    let with = |value| request(everup.address(), "GET", "/", &[("X-Beta", value)], "").instance().to_owned();
    assert_eq!([with("1"), with("0"), with("11")], ["beta", "shop", "shop"]);
}

#[test]
fn requests_of_one_connection_are_routed_one_by_one() {
    let (_origins, everup) = routed("[[listener.route]]\npath = \"/v1/\"\nservice = \"api\"\n");
    let mut connection = Connection::open(everup.address());
    connection.send(
        "GET /v1/ HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let answers: Vec<String> = (0..3).map(|_| connection.answer().instance().to_owned()).collect();
    assert_eq!(answers, ["api", "shop", "api"]);
}

#[test]
fn a_listener_serves_ipv4_and_ipv6_and_so_do_instances() {
    let origins = [Origin::start("four"), Origin::start_at("six", "[::1]:0")];
    let config = Config::shop(origins.iter().map(Origin::address)).bind(&["127.0.0.1:0", "[::1]:0"]);
    let mut everup = Everup::with(config.set("balance = \"round-robin\"")).start();
    everup.wait_all_up();
    for address in everup.listener(0) {
        let mut connection = Connection::open(address);
        let mut names: Vec<String> = (0..2)
            .map(|_| {
                connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                connection.answer().instance().to_owned()
            })
            .collect();
        names.sort();
        assert_eq!(names, ["four", "six"], "through {address}");
    }
}

#[test]
fn the_origin_is_told_who_asked_and_how() {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()])).start();
    let headers = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("TE", "trailers"),
        ("X-Mine", "kept"),
        ("Proxy-Authorization", "x"),
    ];
    request(everup.address(), "GET", "/told", &headers, "");
    let told = origin.the_request("/told");
    assert!(told.header("x-forwarded-for").is_some_and(|value| value.contains("127.0.0.1")), "{told:?}");
    assert_eq!(told.header("x-forwarded-proto"), Some("http"));
    assert_eq!(told.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(told.header("host"), Some("shop.example"));
    assert!(told.header("x-request-id").is_some_and(|id| !id.is_empty()), "{told:?}");
    assert_eq!(told.header("x-mine"), Some("kept"));
    assert_ne!(
        told.header("connection"),
        Some("close"),
        "hop-by-hop headers are the connection's own: {told:?}"
    );
}

#[test]
fn bodies_trailers_and_head_arrive_as_they_were_sent() {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()])).start();
    let mut connection = Connection::open(everup.address());
    connection.send("POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Check: 1\r\n\r\n");
    assert_eq!(connection.answer().status, 200);
    let seen = origin.the_request("/chunks");
    assert_eq!((seen.body.as_slice(), seen.whole), (&b"hello world"[..], true));
    assert_eq!(seen.trailers, [("x-check".to_owned(), "1".to_owned())]);
    connection.send("HEAD /head HTTP/1.1\r\nHost: x\r\n\r\nGET /after HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = connection.answer_to("HEAD").unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("2")));
    assert_eq!(connection.answer().text(), "a\n");
}

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()])).start();
    let mut connection = Connection::open(everup.address());
    connection.send("POST /big HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(connection.answer().status, 100);
    connection.send("body");
    assert_eq!(connection.answer().status, 200);
    assert_eq!(origin.the_request("/big").body, b"body");
}

#[test]
fn a_tcp_listener_relays_bytes_both_ways_to_the_end() {
    let origins = [TcpOrigin::start("a", "127.0.0.1:0"), TcpOrigin::start("b", "[::1]:0")];
    let config = Config::shop(origins.iter().map(TcpOrigin::address))
        .listener("protocol = \"tcp\"")
        .health("tcp = true")
        .set("balance = \"round-robin\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let mut seen = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(everup.address());
        seen.push(connection.bytes(2));
        let megabyte = vec![b'x'; 1 << 20];
        let (sent, mut back) = (megabyte.clone(), Vec::new());
        std::thread::scope(|scope| {
            let mut sender = connection.split();
            scope.spawn(move || {
                sender.send(sent);
                sender.finish_sending();
            });
            back = connection.bytes(megabyte.len());
        });
        assert!(back == megabyte && connection.is_closed());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [b"a\n".to_vec(), b"b\n".to_vec()]);
}
