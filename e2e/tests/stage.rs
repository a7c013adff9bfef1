//! The stage itself, without an everup on it: origins record, misbehave, die and come back as the stories assume.

use everup_e2e::{Behaviour, Connection, Load, Loss, Origin, TcpOrigin, get, request};

#[test]
fn an_origin_answers_with_its_name_and_remembers_the_request() {
    let origin = Origin::start("a");
    let answer = request(origin.address(), "POST", "/buy?x=1", &[("X-Drill-Id", "7")], "a book");
    assert_eq!((answer.status, answer.instance(), answer.text().as_str()), (200, "a", "a\n"));
    assert_eq!(answer.header("x-drill-id"), Some("7"));
    let seen = origin.the_request("/buy?x=1");
    assert_eq!((seen.method.as_str(), seen.body.as_slice(), seen.whole), ("POST", &b"a book"[..], true));
}

#[test]
fn health_checks_are_counted_apart_and_fail_when_the_origin_is_sick() {
    let origin = Origin::start("a");
    assert_eq!(get(origin.address(), "/healthz").status, 200);
    origin.sick(true);
    assert_eq!(get(origin.address(), "/healthz").status, 503);
    assert_eq!((origin.count(), origin.health_checks()), (0, 2));
}

#[test]
fn each_misbehaviour_is_what_it_says() {
    let origin = Origin::start("a");
    let losses = [
        (Behaviour::Close, Loss::ClosedBeforeAnswer),
        (Behaviour::Reset, Loss::Reset),
        (Behaviour::Half, Loss::Cut),
        (Behaviour::Status(502), Loss::Status(502)),
        (Behaviour::Raw(b"nonsense\r\n\r\n".to_vec()), Loss::Garbled),
    ];
    for (behaviour, loss) in losses {
        origin.behave(behaviour);
        let second = std::time::Duration::from_millis(100);
        let load = Load::to(&format!("http://{}/", origin.address())).unwrap().rate(50.0).lasting(second);
        let ledger = load.run().unwrap();
        assert!(ledger.sent() > 0 && ledger.losses().all(|(_, lost)| lost == loss), "{loss}: {ledger}");
        assert_eq!(ledger.lost(), ledger.sent(), "{ledger}");
    }
}

#[test]
fn the_longest_fitting_prefix_decides() {
    let origin = Origin::start("a");
    origin.on("/x", Behaviour::Status(201));
    origin.on("/x/y", Behaviour::Status(202));
    let status = |path| get(origin.address(), path).status;
    assert_eq!([status("/"), status("/x"), status("/x/y/z")], [200, 201, 202]);
}

#[test]
fn a_dead_origin_refuses_and_a_revived_one_remembers() {
    let mut origin = Origin::start("a");
    let mut idle = Connection::open(origin.address());
    idle.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    origin.die();
    assert!(idle.is_closed());
    assert!(std::net::TcpStream::connect(origin.address()).is_err());
    origin.revive();
    assert_eq!(get(origin.address(), "/").status, 200);
    assert_eq!(origin.count(), 2);
}

#[test]
fn what_had_reached_a_dying_origin_is_on_record() {
    let mut origin = Origin::start("a");
    let mut connection = Connection::open(origin.address());
    connection.send("POST /half HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345");
    everup_e2e::until("the head is recorded", || origin.count() == 1);
    origin.die();
    assert!(connection.is_closed());
    everup_e2e::until("the body is recorded", || origin.the_request("/half").body == b"12345");
    assert!(!origin.the_request("/half").whole);
}

#[test]
fn a_tcp_origin_greets_and_echoes() {
    let origin = TcpOrigin::start("echo", "127.0.0.1:0");
    let mut connection = Connection::open(origin.address());
    assert_eq!(connection.bytes(5), b"echo\n");
    connection.send("hello");
    assert_eq!(connection.bytes(5), b"hello");
    connection.finish_sending();
    assert!(connection.is_closed());
}
