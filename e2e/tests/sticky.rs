//! A user stays with an instance as long as it is there, and moves once when it is not.

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Everup, Origin, Response, get, request};

fn sticky(by: &str) -> (Vec<Origin>, Everup) {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::start).into();
    let config = Config::shop(origins.iter().map(Origin::address))
        .set("balance = \"round-robin\"")
        .more(&format!("[service.shop.sticky]\nby = \"{by}\"\n"));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (origins, everup)
}

fn with_cookie(everup: &Everup, cookie: &str) -> Response {
    request(everup.address(), "GET", "/", &[("Cookie", cookie)], "")
}

/// `everup=VALUE` of an answer's Set-Cookie.
fn cookie(answer: &Response) -> Option<String> {
    answer.header("set-cookie").and_then(|line| line.split(';').next()).map(str::to_owned)
}

/// Takes the origin called `name` away and waits until everup knows.
fn kill(origins: &mut [Origin], everup: &mut Everup, name: &str) -> usize {
    let index = ["a", "b", "c"].iter().position(|known| *known == name).unwrap_or_default();
    origins[index].die();
    everup.wait_for(&origins[index].address().to_string(), InstanceState::Down);
    index
}

#[test]
fn a_user_who_returns_the_cookie_stays() {
    let (_origins, everup) = sticky("cookie");
    let first = get(everup.address(), "/");
    let line = first.header("set-cookie").unwrap();
    assert!(line.starts_with("everup=") && line.contains("HttpOnly") && line.contains("Path=/"), "{line}");
    let cookie = cookie(&first).unwrap();
    for _ in 0..12 {
        let next = with_cookie(&everup, &format!("theme=dark; {cookie}; x=y"));
        assert_eq!(next.instance(), first.instance());
        assert_eq!(next.header("set-cookie"), None, "a cookie that still holds is not set again");
    }
}

#[test]
fn users_without_the_cookie_are_spread() {
    let (_origins, everup) = sticky("cookie");
    let mut names: Vec<String> = (0..12).map(|_| get(everup.address(), "/").instance().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn the_cookie_is_sealed_and_a_forged_one_is_ignored() {
    let (origins, everup) = sticky("cookie");
    let real = cookie(&get(everup.address(), "/")).unwrap();
    let address = origins[0].address().to_string();
    assert!(!real.contains(&address) && !real.contains(&origins[0].address().port().to_string()), "{real}");
    let mut flipped = real.clone().into_bytes();
    let last = flipped.len() - 3;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for forged in [
        flipped.as_str(),
        "everup=",
        "everup=a",
        "everup=%00",
        &format!("everup={address}"),
        &format!("{real}x"),
    ] {
        let answer = with_cookie(&everup, forged);
        assert_eq!(answer.status, 200, "{forged}");
        assert!(cookie(&answer).is_some(), "{forged} must not be taken for a ticket: {answer:?}");
    }
}

#[test]
fn a_user_whose_instance_is_gone_moves_once() {
    let (mut origins, mut everup) = sticky("cookie");
    let first = get(everup.address(), "/");
    let index = kill(&mut origins, &mut everup, first.instance());
    let moved = with_cookie(&everup, &cookie(&first).unwrap());
    assert_ne!(moved.instance(), first.instance());
    let ticket = cookie(&moved).unwrap();
    (0..6).for_each(|_| assert_eq!(with_cookie(&everup, &ticket).instance(), moved.instance()));
    origins[index].revive();
    everup.wait_all_up();
    (0..6).for_each(|_| assert_eq!(with_cookie(&everup, &ticket).instance(), moved.instance()));
}

#[test]
fn the_key_outlives_everup_so_that_cookies_do() {
    let (_origins, everup) = sticky("cookie");
    let first = get(everup.address(), "/");
    let worker = everup_e2e::Process::with_id(everup.status().worker_pid).unwrap();
    let mut everup = everup;
    worker.kill();
    everup.wait_until("another worker serves", |status| status.ready && status.worker_pid != worker.pid);
    everup.wait_all_up();
    assert_eq!(with_cookie(&everup, &cookie(&first).unwrap()).instance(), first.instance());
}

#[test]
fn by_ip_a_client_stays_moves_once_and_does_not_move_back() {
    let (mut origins, mut everup) = sticky("ip");
    let first = get(everup.address(), "/").instance().to_owned();
    (0..12).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), first));
    let index = kill(&mut origins, &mut everup, &first);
    let moved = get(everup.address(), "/").instance().to_owned();
    assert_ne!(moved, first);
    (0..6).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), moved));
    origins[index].revive();
    everup.wait_all_up();
    (0..6).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), moved));
}

#[test]
fn an_application_gets_its_own_cookies_and_not_ours() {
    let (origins, everup) = sticky("cookie");
    let first = get(everup.address(), "/");
    let ours = cookie(&first).unwrap();
    request(everup.address(), "GET", "/seen", &[("Cookie", &format!("theme=dark; {ours}; x=y"))], "");
    let index = ["a", "b", "c"].iter().position(|name| *name == first.instance()).unwrap();
    assert_eq!(origins[index].the_request("/seen").header("cookie"), Some("theme=dark; x=y"));
}

#[test]
fn a_new_key_in_front_seals_and_the_old_one_still_opens() {
    let (_origins, mut everup) = sticky("cookie");
    let first = get(everup.address(), "/");
    let path = everup.directory().join("state/sticky.key");
    let old = std::fs::read_to_string(&path).unwrap();
    let new = "5a".repeat(32);
    restart_worker_with(&mut everup, &format!("{new}\n{old}"));
    let renewed = with_cookie(&everup, &cookie(&first).unwrap());
    assert_eq!(renewed.instance(), first.instance());
    let renewed = cookie(&renewed).expect("sealed anew with the new key");
    restart_worker_with(&mut everup, &new);
    let later = with_cookie(&everup, &renewed);
    assert_eq!((later.instance(), cookie(&later)), (first.instance(), None));
    assert!(cookie(&with_cookie(&everup, &cookie(&first).unwrap())).is_some(), "the old key is gone");
}

fn restart_worker_with(everup: &mut Everup, keys: &str) {
    std::fs::write(everup.directory().join("state/sticky.key"), keys).expect("the state can be written");
    let worker = everup_e2e::Process::with_id(everup.status().worker_pid).expect("the worker runs");
    worker.kill();
    everup.wait_until("another worker serves", |status| status.ready && status.worker_pid != worker.pid);
    everup.wait_all_up();
}

#[test]
fn by_a_header_field_a_user_has_one_instance_through_every_worker() {
    let (_origins, mut everup) = sticky("header:X-User");
    let of = |everup: &Everup, user: usize| {
        request(everup.address(), "GET", "/", &[("X-User", &user.to_string())], "").instance().to_owned()
    };
    let homes: Vec<String> = (0..12).map(|user| of(&everup, user)).collect();
    assert!(homes.iter().any(|home| *home != homes[0]), "{homes:?}");
    let key = std::fs::read_to_string(everup.directory().join("state/sticky.key")).unwrap();
    restart_worker_with(&mut everup, &key);
    for (user, home) in homes.iter().enumerate() {
        assert_eq!(of(&everup, user), *home);
    }
}

#[test]
fn by_the_applications_cookie_a_session_stays_where_it_began() {
    let (mut origins, mut everup) = sticky("app-cookie:SID");
    for (origin, name) in origins.iter().zip(["a", "b", "c"]) {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: SID=of-{name}; Path=/\r\nX-Instance: {name}\r\nContent-Length: 0\r\n\r\n"
        );
        origin.on("/login", everup_e2e::Behaviour::Raw(answer.into_bytes()));
    }
    let mut seen_a = false;
    while !seen_a {
        let login = get(everup.address(), "/login");
        let session = cookie(&login).unwrap();
        (0..4).for_each(|_| assert_eq!(with_cookie(&everup, &session).instance(), login.instance()));
        seen_a = session == "SID=of-a";
    }
    let home = with_cookie(&everup, "SID=of-a").instance().to_owned();
    assert_eq!(home, "a");
    kill(&mut origins, &mut everup, "a");
    let moved = with_cookie(&everup, "SID=of-a").instance().to_owned();
    assert_ne!(moved, "a");
    origins[0].revive();
    everup.wait_all_up();
    assert_eq!(with_cookie(&everup, "SID=of-a").instance(), moved);
}
