//! Who gets the requests.

use std::collections::BTreeMap;

use everup_e2e::api::InstanceState;
use everup_e2e::{Behaviour, Config, Connection, Everup, Origin, get, until};

/// Three origins and an everup that balances over them like this.
fn three(balance: &str) -> (Vec<Origin>, Everup) {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::start).into();
    let config = Config::shop(origins.iter().map(Origin::address)).set(&format!("balance = \"{balance}\""));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (origins, everup)
}

/// Who answered so many requests, sent one after the other on one connection: one data-plane thread decides.
fn who(everup: &Everup, requests: usize) -> BTreeMap<String, usize> {
    let mut connection = Connection::open(everup.address());
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        connection.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        *counts.entry(connection.answer().instance().to_owned()).or_insert(0) += 1;
    }
    counts
}

fn counts(pairs: [(&str, usize); 3]) -> BTreeMap<String, usize> {
    pairs.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn round_robin_gives_everybody_the_same() {
    let (_origins, everup) = three("round-robin");
    assert_eq!(who(&everup, 30), counts([("a", 10), ("b", 10), ("c", 10)]));
}

#[test]
fn weighted_round_robin_gives_by_weight() {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::start).into();
    let weighed = origins.iter().map(Origin::address).zip([1, 2, 7]);
    let config = Config::shop_weighed(weighed).set("balance = \"weighted-round-robin\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    assert_eq!(who(&everup, 50), counts([("a", 5), ("b", 10), ("c", 35)]));
}

#[test]
fn least_connections_avoids_whoever_is_busy() {
    let (origins, everup) = three("least-connections");
    origins.iter().for_each(|origin| origin.on("/hang", Behaviour::Hang));
    let mut busy = Connection::open(everup.address());
    busy.send("GET /hang HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    until("one is busy", || origins.iter().any(|origin| origin.count() == 1));
    let busy = origins.iter().zip(["a", "b", "c"]).find(|(origin, _)| origin.count() == 1).unwrap().1;
    let answered = who(&everup, 20);
    assert_eq!(answered.get(busy), None, "{busy} is busy: {answered:?}");
    assert_eq!(answered.len(), 2, "{answered:?}");
}

#[test]
fn ip_hash_sends_one_client_to_one_instance() {
    let (_origins, everup) = three("ip-hash");
    let first = get(everup.address(), "/").instance().to_owned();
    for _ in 0..10 {
        assert_eq!(get(everup.address(), "/").instance(), first);
    }
    assert_eq!(who(&everup, 10), BTreeMap::from([(first, 10)]));
}

#[test]
fn an_instance_that_died_gets_nothing_and_one_that_came_back_gets_its_share() {
    let (mut origins, mut everup) = three("round-robin");
    origins[1].die();
    let name = origins[1].address().to_string();
    everup.wait_for(&name, InstanceState::Down);
    assert_eq!(who(&everup, 20), BTreeMap::from([("a".to_owned(), 10), ("c".to_owned(), 10)]));
    origins[1].revive();
    everup.wait_for(&name, InstanceState::Up);
    assert_eq!(who(&everup, 30), counts([("a", 10), ("b", 10), ("c", 10)]));
}

#[test]
fn maglev_sends_one_client_to_one_instance() {
    let (_origins, everup) = three("maglev");
    let first = get(everup.address(), "/").instance().to_owned();
    assert_eq!(who(&everup, 10), BTreeMap::from([(first, 10)]));
}

#[test]
fn p2c_ewma_uses_everybody_who_answers_alike() {
    let (_origins, everup) = three("p2c-ewma");
    let answered = who(&everup, 60);
    assert_eq!((answered.len(), answered.values().sum::<usize>()), (3, 60), "{answered:?}");
}

#[test]
fn a_backup_serves_only_while_no_other_instance_does() {
    let mut origins: Vec<Origin> = ["a", "b"].map(Origin::start).into();
    let (a, b) = (origins[0].address(), origins[1].address());
    let config = Config::shop_with(&format!("[\"{a}\", {{ address = \"{b}\", backup = true }}]"));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    assert!(everup.status().services[0].instances[1].backup);
    assert_eq!(who(&everup, 10), BTreeMap::from([("a".to_owned(), 10)]));
    origins[0].die();
    everup.wait_for(&a.to_string(), InstanceState::Down);
    assert_eq!(who(&everup, 10), BTreeMap::from([("b".to_owned(), 10)]));
    origins[0].revive();
    everup.wait_for(&a.to_string(), InstanceState::Up);
    assert_eq!(who(&everup, 10), BTreeMap::from([("a".to_owned(), 10)]));
}

#[test]
fn what_is_more_than_an_instance_may_have_waits_and_what_is_more_than_may_wait_is_refused() {
    let origin = Origin::start("a");
    origin.on("/hang", Behaviour::Hang);
    let config = Config::shop([origin.address()])
        .set("max_connections = 1")
        .set("queue = { time = \"500ms\", requests = 1 }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let mut busy = Connection::open(everup.address());
    busy.send("GET /hang HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    until("it is there", || origin.count() == 1);
    let mut waits = Connection::open(everup.address());
    waits.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    until("it waits", || everup.status().services[0].queued == 1);
    assert_eq!(get(everup.address(), "/").status, 503, "the queue is full");
    assert_eq!(waits.answer().status, 503, "its time is over");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_weight_is_changed_while_everup_runs_without_touching_the_file() {
    let (origins, everup) = three("weighted-round-robin");
    let name = origins[0].address().to_string();
    let done = everup.verb(&["weight", "shop", &name, "4"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    until("it is in force", || everup.status().services[0].instances[0].weight == 4);
    assert_eq!(who(&everup, 60), counts([("a", 40), ("b", 10), ("c", 10)]));
    assert_eq!(everup.verb(&["weight", "shop", "nobody", "4"]).code, Some(1));
    assert_eq!(everup.verb(&["weight", "shop", &name, "257"]).code, Some(2));
}

#[test]
fn a_weight_that_means_nothing_is_refused() {
    let (origins, everup) = three("round-robin");
    let refused = everup.verb(&["weight", "shop", &origins[0].address().to_string(), "4"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("does not heed weights"), "{refused:?}");
}

#[test]
fn an_instance_that_came_back_starts_slowly_if_it_is_told_to() {
    let mut origins: Vec<Origin> = ["a", "b", "c"].map(Origin::start).into();
    let config = Config::shop(origins.iter().map(Origin::address)).set("slow_start = \"10m\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    assert_eq!(
        who(&everup, 30),
        counts([("a", 10), ("b", 10), ("c", 10)]),
        "nobody is spared when all are new"
    );
    origins[1].die();
    let name = origins[1].address().to_string();
    everup.wait_for(&name, InstanceState::Down);
    origins[1].revive();
    everup.wait_for(&name, InstanceState::Up);
    let answered = who(&everup, 300);
    // A tenth of the others' turns at first: 14 of 300 on average.
    let of_b = answered.get("b").copied().unwrap_or(0);
    assert!((1..=45).contains(&of_b), "{answered:?}");
}
