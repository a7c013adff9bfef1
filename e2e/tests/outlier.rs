//! Instances that pass their checks and answer badly: who is left out, for how long, and who never is.

use everup_e2e::api::{InstanceState, InstanceStatus};
use everup_e2e::{Behaviour, Config, Everup, Origin, Process, get, until};

fn origins<const N: usize>() -> [Origin; N] {
    std::array::from_fn(|index| Origin::start(&index.to_string()))
}

fn config(origins: &[Origin]) -> Config {
    Config::shop(origins.iter().map(Origin::address)).health("http = \"/healthz\"")
}

fn name(origin: &Origin) -> String {
    origin.address().to_string()
}

/// Asks until the instance is ejected.
fn ejected(everup: &Everup, origin: &Origin) -> InstanceStatus {
    let name = name(origin);
    until("it is ejected", || {
        (0..10).for_each(|_| drop(get(everup.address(), "/")));
        everup.instance(&name).state == InstanceState::Ejected
    });
    everup.instance(&name)
}

fn metric(everup: &Everup, family: &str, origin: &Origin) -> String {
    let page = get(everup.metrics(), "/metrics").text();
    let start = format!("{family}{{service=\"shop\",instance=\"{}\"}} ", name(origin));
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {start} in\n{page}")).to_owned()
}

#[test]
fn an_instance_that_answers_500_is_left_out_comes_back_and_is_left_out_longer() {
    let origins = origins::<3>();
    let settings = "outlier = { time = \"2s\" }";
    let mut everup = Everup::with(config(&origins).set(settings)).start();
    everup.wait_all_up();
    origins[0].behave(Behaviour::Status(500));
    let first = ejected(&everup, &origins[0]);
    assert!(first.reason.contains("bad answers in a row"), "{first:?}");
    assert!(first.returns_in_seconds.is_some_and(|left| left <= 2.0), "{first:?}");
    assert_eq!(metric(&everup, "everup_instance_ejected", &origins[0]), "1");
    assert_eq!(metric(&everup, "everup_ejections_total", &origins[0]), "1");
    let said = everup.verb(&["status"]);
    assert!(said.out.contains("ejected") && said.out.contains("returns in"), "{said:?}");
    everup.wait_for(&name(&origins[0]), InstanceState::Up);
    let second = ejected(&everup, &origins[0]);
    assert!(second.returns_in_seconds.is_some_and(|left| left > 2.0), "{second:?}");
    let seen = origins[0].count();
    (0..20).for_each(|_| assert_eq!(get(everup.address(), "/").status, 200));
    assert_eq!(origins[0].count(), seen);
    origins[0].behave(Behaviour::Answer);
    everup.wait_all_up();
    until("it is used again", || get(everup.address(), "/").instance() == "0");
    assert!(everup.said().contains("ejected"), "{}", everup.said());
}

#[test]
fn an_instance_that_breaks_off_is_left_out_and_no_get_fails() {
    let origins = origins::<2>();
    let mut everup = Everup::with(config(&origins)).start();
    everup.wait_all_up();
    origins[0].behave(Behaviour::Close);
    let name = name(&origins[0]);
    until("it is ejected", || {
        (0..10).for_each(|_| assert_eq!(get(everup.address(), "/").status, 200));
        everup.instance(&name).state == InstanceState::Ejected
    });
}

#[test]
fn when_all_answer_500_nobody_is_left_out() {
    let origins = origins::<3>();
    let mut everup = Everup::with(config(&origins)).start();
    everup.wait_all_up();
    origins.iter().for_each(|origin| origin.behave(Behaviour::Status(500)));
    for _ in 0..60 {
        assert_eq!(get(everup.address(), "/").status, 500);
    }
    let instances = everup.service("shop").instances;
    assert!(instances.iter().all(|one| one.state == InstanceState::Up), "{instances:?}");
    origins.iter().for_each(|origin| assert!(origin.count() >= 10, "{}", origin.count()));
}

#[test]
fn with_outlier_off_nobody_is_left_out() {
    let origins = origins::<3>();
    let mut everup = Everup::with(config(&origins).set("outlier = \"off\"")).start();
    everup.wait_all_up();
    origins[0].behave(Behaviour::Status(500));
    let failed = (0..60).filter(|_| get(everup.address(), "/").status == 500).count();
    assert!(failed >= 15, "{failed}");
    assert_eq!(everup.instance(&name(&origins[0])).state, InstanceState::Up);
}

#[test]
fn an_ejected_instance_is_used_rather_than_let_requests_wait() {
    let mut origins = origins::<2>();
    let mut everup = Everup::with(config(&origins).set("outlier = { time = \"5m\" }")).start();
    everup.wait_all_up();
    origins[0].on("/bad", Behaviour::Status(500));
    let bad = name(&origins[0]);
    until("it is ejected", || {
        (0..10).for_each(|_| drop(get(everup.address(), "/bad")));
        everup.instance(&bad).state == InstanceState::Ejected
    });
    origins[1].die();
    assert_eq!(get(everup.address(), "/").instance(), "0");
}

#[test]
fn a_new_worker_knows_who_is_ejected() {
    let origins = origins::<3>();
    let mut everup = Everup::with(config(&origins).set("outlier = { time = \"5m\" }")).start();
    everup.wait_all_up();
    origins[0].behave(Behaviour::Status(500));
    ejected(&everup, &origins[0]);
    let killed = Process::with_id(everup.status().worker_pid).expect("the worker runs");
    killed.kill();
    everup.wait_until("another worker serves", |status| status.worker_pid != killed.pid && status.ready);
    let still = everup.instance(&name(&origins[0]));
    assert_eq!(still.state, InstanceState::Ejected, "{still:?}");
    assert!(still.returns_in_seconds.is_some_and(|left| left > 200.0), "{still:?}");
    let seen = origins[0].count();
    (0..20).for_each(|_| assert_eq!(get(everup.address(), "/").status, 200));
    assert_eq!(origins[0].count(), seen);
}

#[test]
fn a_new_everup_on_the_same_state_directory_knows_who_was_ejected_and_who_was_down() {
    let state = tempfile::tempdir().unwrap();
    let origins = origins::<4>();
    let start = || Everup::with(config(&origins).set("outlier = { time = \"5m\" }")).state(state.path());
    let mut everup = start().start();
    everup.wait_all_up();
    origins[0].behave(Behaviour::Status(500));
    ejected(&everup, &origins[0]);
    origins[1].sick(true);
    everup.wait_for(&name(&origins[1]), InstanceState::Down);
    drop(everup);
    let (seen, sick) = (origins[0].count(), origins[1].count());
    let mut everup = start().start();
    everup.wait_for(&name(&origins[0]), InstanceState::Ejected);
    (0..20).for_each(|_| assert_eq!(get(everup.address(), "/").status, 200));
    assert_eq!((origins[0].count(), origins[1].count()), (seen, sick));
    origins[1].sick(false);
    everup.wait_for(&name(&origins[1]), InstanceState::Up);
}
