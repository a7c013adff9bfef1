//! `everup explain`: what happened to a request that failed, was retried or had to wait.

use everup_e2e::api::InstanceState;
use everup_e2e::{Behaviour, Config, Everup, Origin, get, request, until_some};

fn two(service: &str) -> ([Origin; 2], Everup) {
    let origins = ["a", "b"].map(Origin::start);
    let config = Config::shop(origins.iter().map(Origin::address))
        .health("interval = \"1h\"")
        .set("balance = \"round-robin\"")
        .set(service);
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (origins, everup)
}

/// What is said of it, as soon as something is.
fn explained(everup: &Everup, id: &str) -> String {
    until_some("it is remembered", || {
        let said = everup.verb(&["explain", id]);
        (said.code == Some(0)).then_some(said.out)
    })
}

#[test]
fn a_retried_request_is_told_attempt_by_attempt() {
    let ([a, b], everup) = two("");
    a.behave(Behaviour::Close);
    for number in 0..6 {
        let id = format!("retried-{number}");
        assert_eq!(request(everup.address(), "GET", "/x?y", &[("X-Request-Id", &id)], "").status, 200);
    }
    // Threads take turns each for itself: with so many, one has met the instance that closes.
    let text = until_some("one was retried", || {
        (0..6).find_map(|number| {
            let said = everup.verb(&["explain", &format!("retried-{number}")]);
            (said.code == Some(0)).then_some(said.out)
        })
    });
    for part in [
        ": GET ",
        "to service shop",
        &format!("attempt 1 (table 3): {} broke off before it had answered", a.address()),
        &format!("attempt 2 (table 3): {} answered with 200", b.address()),
        "verdict: retried, after 2 attempts: the client got 200",
    ] {
        let part = part.replace("table 3", "table");
        let plain = without_table_numbers(&text);
        assert!(plain.contains(&part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("?y"), "{text}");
}

/// How many tables there were by then is no matter here.
fn without_table_numbers(text: &str) -> String {
    let mut parts = text.split("(table ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain += "(table";
        plain += part.trim_start_matches(|letter: char| letter.is_ascii_digit());
    }
    plain
}

#[test]
fn a_failed_request_is_found_by_the_id_on_its_error_page() {
    let ([a, b], everup) = two("park = { time = \"100ms\" }");
    for origin in [&a, &b] {
        origin.behave(Behaviour::Reset);
    }
    let answer = request(everup.address(), "POST", "/buy", &[], "one book");
    assert_eq!(answer.status, 502);
    let id = answer.header("x-request-id").unwrap().to_owned();
    let text = explained(&everup, &id);
    assert!(text.contains("verdict: refused, after 1 attempt: everup itself answered with 502"), "{text}");
    let json = everup.verb(&["explain", &id, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["id"], id);
    assert_eq!(
        (&json["requests"][0]["status"], &json["requests"][0]["verdict"]),
        (&502.into(), &"refused".into())
    );
    assert_eq!(json["requests"][0]["events"][0]["kind"], "failed");
}

#[test]
fn a_parked_request_tells_how_long_it_waited() {
    let mut origin = Origin::start("a");
    let mut everup = Everup::with(Config::shop([origin.address()]).set("park = { time = \"30s\" }")).start();
    origin.die();
    everup.wait_for(&origin.address().to_string(), InstanceState::Down);
    let address = everup.address();
    let waiting =
        std::thread::spawn(move || request(address, "GET", "/", &[("X-Request-Id", "parked-1")], ""));
    everup.wait_until("it waits", |status| status.services[0].parked == 1);
    origin.revive();
    assert_eq!(waiting.join().unwrap().status, 200);
    let text = explained(&everup, "parked-1");
    assert!(text.contains("waited: no instance could take it"), "{text}");
    assert!(text.contains("verdict: parked"), "{text}");
}

#[test]
fn a_request_of_which_nothing_is_remembered_is_refused_in_a_clear_sentence() {
    let (_origins, everup) = two("");
    get(everup.address(), "/");
    let said = everup.verb(&["explain", "nobody-knows"]);
    assert_eq!(said.code, Some(1));
    let sentence = "nothing is remembered of request nobody-knows: only requests that failed, were cut, retried or parked";
    assert!(said.err.contains(sentence), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
}
