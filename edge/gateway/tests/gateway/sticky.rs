//! A user stays with an instance for as long as it is there, and moves once when it is not.

use everup_gateway::Availability::{Down, Takes};

use crate::stage::{Origin, Stage, before};
use crate::wire::Message;

fn three() -> [Origin; 3] {
    [Origin::named("a"), Origin::named("b"), Origin::named("c")]
}

fn ask(stage: &Stage, cookie: Option<&str>) -> Message {
    let mut client = stage.connect();
    let line = cookie.map(|cookie| format!("Cookie: other=1; {cookie}; more=2\r\n")).unwrap_or_default();
    client.send(format!("GET / HTTP/1.1\r\nHost: app\r\n{line}\r\n"));
    client.answer()
}

fn cookie(answer: &Message) -> Option<String> {
    answer.header("Set-Cookie").map(|value| value.split(';').next().unwrap().to_owned())
}

#[test]
fn a_cookie_keeps_a_user_and_says_nothing_to_strangers() {
    let origins = three();
    let mut stage =
        before(&origins).service("sticky = { by = \"cookie\", name = \"who\" }").http_only().start();
    let first = ask(&stage, None);
    let given = cookie(&first).unwrap();
    let home = first.text();
    assert!(given.starts_with("who=") && first.header("Set-Cookie").unwrap().contains("HttpOnly"));
    for _ in 0..10 {
        let answer = ask(&stage, Some(&given));
        assert_eq!((answer.text(), cookie(&answer)), (home.clone(), None));
    }
    // A forged, cut or foreign value is none: a new one comes.
    let mut forged = given.clone().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    for bad in [String::from_utf8(forged).unwrap(), "who=".into(), given[..30].into(), "who=shop-1".into()] {
        assert!(cookie(&ask(&stage, Some(&bad))).is_some(), "{bad}");
    }
    // The instance goes: the user moves, once.
    let states: Vec<_> = ["a", "b", "c"].map(|name| if name == home { Down } else { Takes }).into();
    stage.publish(&states);
    let moved = ask(&stage, Some(&given));
    let (new_home, new_cookie) = (moved.text(), cookie(&moved).unwrap());
    assert_ne!(new_home, home);
    stage.publish(&[Takes, Takes, Takes]);
    for _ in 0..10 {
        assert_eq!(ask(&stage, Some(&new_cookie)).text(), new_home);
    }
}

#[test]
fn an_address_keeps_its_instance_also_after_it_had_to_move() {
    let origins = three();
    let mut stage = before(&origins).threads(2).service("sticky = { by = \"ip\" }").start();
    let home = ask(&stage, None).text();
    for _ in 0..10 {
        assert_eq!(ask(&stage, None).text(), home);
    }
    let states: Vec<_> = ["a", "b", "c"].map(|name| if name == home { Down } else { Takes }).into();
    stage.publish(&states);
    let second = ask(&stage, None).text();
    assert_ne!(second, home);
    stage.publish(&[Takes, Takes, Takes]);
    for _ in 0..10 {
        assert_eq!(ask(&stage, None).text(), second);
    }
}
