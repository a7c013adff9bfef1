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
