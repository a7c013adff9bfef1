//! A user stays with an instance for as long as it is there, and moves once when it is not.

use everup_gateway::Availability::{Down, Takes};

use crate::stage::{Origin, Stage, before, until};
use crate::wire::{Message, ok};

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

fn ask_with(stage: &Stage, lines: &str) -> Message {
    let mut client = stage.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: app\r\n{lines}\r\n"));
    client.answer()
}

/// All instances but the one called `home` take requests.
fn without(home: &str) -> Vec<everup_gateway::Availability> {
    ["a", "b", "c"].map(|name| if name == home { Down } else { Takes }).into()
}

#[test]
fn a_header_field_draws_the_instance_and_its_user_moves_once() {
    let origins = three();
    let mut stage =
        before(&origins).threads(2).service("sticky = { by = \"header:X-User\" }").http_only().start();
    let of = |stage: &Stage, user: &str| ask_with(stage, &format!("x-user: {user}\r\n")).text();
    let homes: Vec<String> = (0..20).map(|user| of(&stage, &user.to_string())).collect();
    assert!(["a", "b", "c"].iter().all(|name| homes.iter().any(|home| home == name)), "{homes:?}");
    for (user, home) in homes.iter().enumerate() {
        assert_eq!(of(&stage, &user.to_string()), *home);
    }
    stage.publish(&without(&homes[0]));
    let second = of(&stage, "0");
    assert_ne!(second, homes[0]);
    stage.publish(&[Takes, Takes, Takes]);
    (0..5).for_each(|_| assert_eq!(of(&stage, "0"), second));
}

#[test]
fn requests_without_the_header_field_are_balanced() {
    let origins = three();
    let stage = before(&origins).service("sticky = { by = \"header:X-User\" }").http_only().start();
    let mut names: Vec<String> = (0..3).map(|_| ask_with(&stage, "X-Other: 1\r\n").text()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

/// Gives everybody who has none a session whose name begins with its own.
fn with_sessions(name: &'static str) -> Origin {
    let given = std::sync::atomic::AtomicUsize::new(0);
    Origin::answering(move |request| {
        if request.headers.iter().any(|(key, value)| key == "Cookie" && value.contains("SID=")) {
            return ok(name);
        }
        let number = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: SID={name}-{number}; HttpOnly\r\nContent-Length: 1\r\n\r\n{name}"
        )
        .into_bytes()
    })
}

#[test]
fn a_session_stays_with_the_instance_that_gave_out_its_cookie_and_moves_once() {
    let origins = ["a", "b", "c"].map(with_sessions);
    let mut stage =
        before(&origins).threads(2).service("sticky = { by = \"app-cookie:SID\" }").http_only().start();
    let sessions: Vec<(String, String)> = (0..12)
        .map(|_| {
            let answer = ask_with(&stage, "");
            (answer.text(), cookie(&answer).unwrap())
        })
        .collect();
    let of = |stage: &Stage, cookie: &str| ask_with(stage, &format!("Cookie: x=1; {cookie}\r\n")).text();
    for (home, cookie) in &sessions {
        (0..3).for_each(|_| assert_eq!(of(&stage, cookie), *home));
    }
    let (home, cookie) = &sessions[0];
    stage.publish(&without(home));
    let second = of(&stage, cookie);
    assert_ne!(second, *home);
    stage.publish(&[Takes, Takes, Takes]);
    (0..5).for_each(|_| assert_eq!(of(&stage, cookie), second));
    // A session that nobody knows of is drawn, the same on every thread.
    let drawn = of(&stage, "SID=from-before");
    (0..8).for_each(|_| assert_eq!(of(&stage, "SID=from-before"), drawn));
}

#[test]
fn the_instance_never_sees_our_cookie_and_the_others_byte_for_byte() {
    let origin = Origin::named("a");
    let stage = before([&origin]).service("sticky = { by = \"cookie\", name = \"who\" }").http_only().start();
    let given = cookie(&ask(&stage, None)).unwrap();
    ask_with(&stage, &format!("cookie: a=1;  b=\"2; {given}; c\r\n"));
    ask_with(&stage, &format!("Cookie: {given}\r\n"));
    ask_with(&stage, "Cookie: who=forged; whoever=1\r\n");
    let seen: Vec<Option<String>> =
        origin.requests().iter().map(|request| request.header("Cookie").map(str::to_owned)).collect();
    assert_eq!(seen, [None, Some("a=1;  b=\"2; c".into()), None, Some("whoever=1".into())]);
}

#[test]
fn an_answer_that_shared_caches_may_store_sets_no_cookie() {
    let origin = Origin::answering(|request| {
        let rule = request.path().trim_start_matches('/').replace('+', ", ");
        format!("HTTP/1.1 200 OK\r\nCache-Control: {rule}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let stage = before([&origin]).service("sticky = { by = \"cookie\" }").http_only().start();
    let sets = |rule: &str| {
        let mut client = stage.connect();
        client.send(format!("GET /{rule} HTTP/1.1\r\nHost: app\r\n\r\n"));
        client.answer().header("Set-Cookie").is_some()
    };
    assert_eq!([sets("public"), sets("s-maxage=5"), sets("max-age=5")], [false; 3]);
    assert_eq!([sets("no-store"), sets("private+max-age=5"), sets("max-age=0")], [true; 3]);
}

#[test]
fn a_cookie_is_renewed_in_time_and_over_after_its_idle_time() {
    let origins = three();
    let stage = before(&origins).service("sticky = { by = \"cookie\", idle = \"2s\" }").http_only().start();
    let first = ask(&stage, None);
    let (home, given) = (first.text(), cookie(&first).unwrap());
    until("the cookie is renewed", || {
        let answer = ask(&stage, Some(&given));
        let renewed = cookie(&answer);
        assert!(renewed.is_some() || answer.text() == home);
        renewed.is_some()
    });
    until("the first cookie is over", || {
        let answer = ask(&stage, Some(&given));
        assert!(cookie(&answer).is_some());
        answer.text() != home
    });
}
