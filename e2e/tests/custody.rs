//! A request that everup accepted is everup's to answer, whatever happens to the instances: who is retried, who
//! waits, who fails, and that nothing runs twice.

use std::collections::BTreeSet;

use everup_e2e::api::InstanceState;
use everup_e2e::{Behaviour, Config, Connection, Everup, Ledger, Mode, Origin, Sample, get, request, until};

fn samples(names: &[&str]) -> (Vec<Sample>, Everup) {
    let samples: Vec<Sample> = names.iter().map(|name| Sample::start(name)).collect();
    let config = Config::shop(samples.iter().map(Sample::address)).health("http = \"/healthz\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (samples, everup)
}

/// Two origins whose failures no health check reports for an hour, and nobody holds against them.
fn unwatched(behaviours: [Behaviour; 2]) -> ([Origin; 2], Everup) {
    let origins = ["a", "b"].map(Origin::start);
    let config = Config::shop(origins.iter().map(Origin::address))
        .health("interval = \"1h\"")
        .health("timeout = \"1s\"");
    let config = config.set("balance = \"round-robin\"").set("outlier = \"off\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    origins.iter().zip(behaviours).for_each(|(origin, behaviour)| origin.behave(behaviour));
    (origins, everup)
}

#[test]
fn no_get_is_lost_when_instances_are_killed_and_started_again_under_load() {
    let (mut samples, mut everup) = samples(&["a", "b", "c"]);
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    until("the load runs", || load.settled() > 50);
    for sample in &mut samples {
        let name = sample.address().to_string();
        sample.kill();
        everup.wait_for(&name, InstanceState::Down);
        sample.start_again();
        everup.wait_for(&name, InstanceState::Up);
    }
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
    assert_eq!(ledger.who().len(), 3, "{ledger}");
}

#[test]
fn no_get_is_lost_when_an_instance_freezes_under_load() {
    let (samples, mut everup) = samples(&["a", "b", "c"]);
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    until("the load runs", || load.settled() > 50);
    let name = samples[0].address().to_string();
    samples[0].freeze();
    everup.wait_for(&name, InstanceState::Down);
    samples[0].thaw();
    everup.wait_for(&name, InstanceState::Up);
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

#[test]
fn no_get_is_lost_when_everups_own_instances_die_under_load() {
    let mut everup = Everup::with(Config::runs(3)).start();
    everup.wait_all_up();
    let load = everup.load("/whoami").mode(Mode::Mixed).start().unwrap();
    until("the load runs", || load.settled() > 50);
    for name in ["shop-1", "shop-2", "shop-3"] {
        let process = everup.instance_process(name);
        process.kill();
        everup.wait_until("it is back", |status| {
            let mut instances = status.services[0].instances.iter();
            instances
                .any(|one| one.name == name && one.state == InstanceState::Up && one.pid != Some(process.pid))
        });
    }
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

#[test]
fn a_get_that_got_no_answer_is_asked_elsewhere_and_a_post_is_not() {
    for failing in [Behaviour::Close, Behaviour::Reset] {
        let ([a, b], everup) = unwatched([failing.clone(), Behaviour::Answer]);
        for number in 0..10 {
            assert_eq!(get(everup.address(), &format!("/get/{number}")).instance(), "b", "{failing:?}");
        }
        let statuses: Vec<u16> = (0..10)
            .map(|number| request(everup.address(), "POST", &format!("/post/{number}"), &[], "x").status)
            .collect();
        for (number, status) in statuses.iter().enumerate() {
            let path = format!("/post/{number}");
            let at =
                |origin: &Origin| origin.requests().iter().filter(|request| request.target == path).count();
            match status {
                200 => assert_eq!((at(&a), at(&b)), (0, 1), "{failing:?} {path}"),
                status => assert_eq!((*status, at(&a), at(&b)), (502, 1, 0), "{failing:?} {path}"),
            }
        }
        assert!(statuses.contains(&200) && statuses.contains(&502), "{failing:?}: {statuses:?}");
    }
}

#[test]
fn a_post_that_was_refused_was_never_written_and_is_answered_by_another() {
    let ([mut a, b], everup) = unwatched([Behaviour::Answer, Behaviour::Answer]);
    a.die();
    for number in 0..6 {
        let answer = request(everup.address(), "POST", &format!("/post/{number}"), &[], "a body");
        assert_eq!((answer.status, answer.instance()), (200, "b"));
    }
    assert_eq!(b.requests().iter().filter(|request| request.body == b"a body" && request.whole).count(), 6);
}

#[test]
fn an_answer_that_has_begun_is_never_begun_again() {
    let ([a, b], everup) = unwatched([Behaviour::Half, Behaviour::Half]);
    let mut connection = Connection::open(everup.address());
    connection.send("GET /half HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(connection.try_answer().is_err(), "a cut answer must not look whole");
    assert_eq!(a.count() + b.count(), 1);
}

#[test]
fn an_instances_own_error_is_its_answer() {
    let ([a, b], everup) = unwatched([Behaviour::Status(500), Behaviour::Status(500)]);
    assert_eq!(get(everup.address(), "/").status, 500);
    assert_eq!(a.count() + b.count(), 1);
}

/// POSTs under load while origins die and come back.
#[test]
fn a_post_fails_only_at_an_instance_that_died_and_none_runs_twice() {
    let mut origins = ["a", "b", "c"].map(Origin::start);
    let config = Config::shop(origins.iter().map(Origin::address)).health("http = \"/healthz\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let load = everup.load("/buy").mode(Mode::Mixed).sending("POST", "one book").start().unwrap();
    until("the load runs", || load.settled() > 50);
    // Only one of them ever dies.
    let name = origins[0].address().to_string();
    let deaths = 3;
    for _ in 0..deaths {
        origins[0].die();
        everup.wait_for(&name, InstanceState::Down);
        origins[0].revive();
        everup.wait_for(&name, InstanceState::Up);
    }
    let ledger = load.stop().unwrap();
    let ids = |origin: &Origin| -> Vec<String> {
        origin.requests().iter().filter_map(|request| request.id().map(str::to_owned)).collect()
    };
    let all: Vec<String> = origins.iter().flat_map(ids).collect();
    assert!(ledger.duplicates(all.iter().map(String::as_str)).is_empty(), "ran twice: {ledger}");
    let survivors: BTreeSet<String> = origins[1..].iter().flat_map(ids).collect();
    let lost = lost_ids(&ledger);
    assert_eq!(lost.intersection(&survivors).count(), 0, "reached a living instance and was lost: {ledger}");
    // At 200 requests per second and origins that answer at once, hardly any is in flight when one dies.
    assert!(lost.len() <= 10 * deaths, "{ledger}");
    let whole = |origin: &Origin| {
        origin.requests().iter().filter(|request| request.whole && request.body == b"one book").count()
    };
    assert!(origins.iter().map(whole).sum::<usize>() as u64 >= ledger.ok(), "{ledger}");
}

fn lost_ids(ledger: &Ledger) -> BTreeSet<String> {
    ledger.losses().map(|(entry, _)| ledger.id(entry.number)).collect()
}

#[test]
fn requests_wait_while_all_instances_are_gone_and_are_answered_when_one_is_back() {
    let mut origins = ["a", "b"].map(Origin::start);
    let config = Config::shop(origins.iter().map(Origin::address)).set("park = { time = \"30s\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let load = everup.load("/").mode(Mode::Mixed).rate(50.0).start().unwrap();
    until("the load runs", || load.settled() > 20);
    origins.iter_mut().for_each(Origin::die);
    everup.wait_until("requests wait", |status| status.services[0].parked >= 100);
    origins[1].revive();
    everup.wait_until("none waits any more", |status| status.services[0].parked == 0);
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
}

#[test]
fn a_parked_post_is_sent_once_with_its_body_when_an_instance_is_back() {
    let mut origin = Origin::start("a");
    let mut everup = Everup::with(Config::shop([origin.address()]).set("park = { time = \"30s\" }")).start();
    origin.die();
    everup.wait_for(&origin.address().to_string(), InstanceState::Down);
    let address = everup.address();
    let waiting = std::thread::spawn(move || request(address, "POST", "/buy", &[], "one book"));
    everup.wait_until("it waits", |status| status.services[0].parked == 1);
    origin.revive();
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(origin.the_request("/buy").body, b"one book");
}

#[test]
fn after_park_time_the_answer_is_503_with_retry_after() {
    let mut origin = Origin::start("a");
    let everup = Everup::with(Config::shop([origin.address()]).set("park = { time = \"200ms\" }")).start();
    origin.die();
    let answer = get(everup.address(), "/");
    assert_eq!(answer.status, 503);
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{answer:?}");
}

#[test]
fn more_than_park_requests_do_not_wait() {
    let mut origin = Origin::start("a");
    let config = Config::shop([origin.address()]).set("park = { time = \"30s\", requests = 1 }");
    let mut everup = Everup::with(config).start();
    origin.die();
    let mut first = Connection::open(everup.address());
    first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    everup.wait_until("the first waits", |status| status.services[0].parked == 1);
    assert_eq!(get(everup.address(), "/").status, 503);
    origin.revive();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn an_instance_that_hangs_past_timeout_attempt_is_given_up_for_a_get() {
    let origins = ["a", "b"].map(Origin::start);
    let config = Config::shop(origins.iter().map(Origin::address))
        .set("balance = \"round-robin\"")
        .set("timeout = { attempt = \"300ms\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    origins[0].behave(Behaviour::Hang);
    (0..4).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), "b"));
    assert!(origins[0].count() > 0);
}

#[test]
fn a_request_that_takes_longer_than_timeout_request_is_504() {
    let origin = Origin::start("a");
    let config = Config::shop([origin.address()]).set("timeout = { request = \"300ms\" }");
    let everup = Everup::with(config).start();
    origin.behave(Behaviour::Hang);
    assert_eq!(get(everup.address(), "/").status, 504);
}
