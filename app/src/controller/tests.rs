//! What the controller does with news, one behaviour per test; the tests play worker and clock.

use std::time::SystemTime;

use everup_core::keeper::ExitStatus;
use everup_core::time::Time;
use everup_gateway::Availability;

use super::*;

mod outlier;
mod reload;

const CONFIG: &str = r#"
[[listener]]
bind = ["127.0.0.1:8080"]
service = "shop"

[service.shop]
balance = "weighted-round-robin"
instances = ["10.0.0.1:9001", { address = "10.0.0.2:9001", weight = 3 }]
drain = { time = "30s" }

[service.api]
run = { command = ["api", "{port}"], replicas = 2, revision = "v1" }
health = { http = "/", rise = 2 }

[[listener]]
bind = ["127.0.0.1:8081"]
service = "api"
"#;

fn config() -> config::Config {
    config::parse(CONFIG).expect("the test's configuration is valid")
}

/// Freshly made services, for the tests of other files.
pub(crate) fn services() -> Vec<Service> {
    let services = config().services.into_iter();
    let mut services: Vec<_> =
        services.map(|one| Service::new(one, 1, &Notes::default(), SystemTime::UNIX_EPOCH)).collect();
    services.sort_by(|a, b| b.settings.name.cmp(&a.settings.name));
    services
}

fn now(ms: u64) -> Now {
    // Only differences matter.
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let after = Duration::from_millis(ms);
    let instant = *START.get_or_init(std::time::Instant::now) + after;
    Now { time: Time::from_millis(ms), instant, wall: SystemTime::UNIX_EPOCH + after }
}

fn id(text: &str) -> InstanceId {
    let (service, instance) = text.split_once('/').unwrap();
    InstanceId::new(service, instance)
}

fn controller(notes: &Notes) -> Controller {
    let mut controller = Controller::new(&config(), 1, notes, now(0));
    controller.first_table();
    outputs(&mut controller);
    controller
}

fn outputs(controller: &mut Controller) -> Vec<Output> {
    std::iter::from_fn(|| controller.poll_output()).collect()
}

/// On a fixed instance, or on a process that listens at 20000.
fn verdict(name: &str, verdict: Verdict) -> Input {
    let address = id(name).instance.parse().unwrap_or_else(|_| local(20_000));
    verdict_on(name, address, verdict)
}

fn verdict_on(name: &str, address: SocketAddr, verdict: Verdict) -> Input {
    Input::Verdict(VerdictChange { id: id(name), address, verdict, wall: SystemTime::UNIX_EPOCH })
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn process(name: &str, phase: Phase, pid: Option<u32>, port: Option<u16>) -> Change {
    Change {
        id: id(name),
        phase,
        pid,
        port,
        revision: "v1".into(),
        restarts: 0,
        crash_loop: false,
        last_exit: None,
        since: Time::ZERO,
    }
}

/// The availability of an instance in the newest table, and that table's generation.
fn published(outputs: &[Output], name: &str) -> Option<(u64, Availability)> {
    let mut snapshots = outputs.iter().filter_map(|output| match output {
        Output::Publish(snapshot) => Some(snapshot),
        _ => None,
    });
    let snapshot = snapshots.next_back()?;
    let mut instances = snapshot.services.iter().flat_map(|service| &service.instances);
    Some((snapshot.generation.0, instances.find(|one| one.id == id(name))?.state))
}

#[test]
fn a_verdict_changes_the_table_once_for_all_news_that_came_together() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    controller.handle(now(1), verdict("shop/10.0.0.2:9001", Verdict::Up));
    let outputs = outputs(&mut controller);
    assert_eq!(published(&outputs, "shop/10.0.0.1:9001"), Some((2, Availability::Takes)));
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Publish(_))).count(), 1);
    assert!(matches!(outputs.last(), Some(Output::Remember(_))));
}

#[test]
fn the_same_verdict_again_changes_nothing() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    outputs(&mut controller);
    controller.handle(now(2), verdict("shop/10.0.0.1:9001", Verdict::Up));
    assert!(outputs(&mut controller).is_empty());
}

#[test]
fn another_reason_for_the_same_verdict_is_remembered_and_needs_no_new_table() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Down(Reason::ConnectRefused)));
    outputs(&mut controller);
    controller.handle(now(2), verdict("shop/10.0.0.1:9001", Verdict::Down(Reason::ProbeTimeout)));
    assert!(matches!(outputs(&mut controller)[..], [Output::Remember(_)]));
}

#[test]
fn a_started_process_is_watched_and_takes_requests_only_once_it_is_up() {
    let mut controller = controller(&Notes::default());
    let started = process("api/api-1", Phase::Running, Some(7), Some(20_000));
    controller.handle(now(1), Input::Changed(started));
    let watched = outputs(&mut controller);
    assert!(matches!(&watched[0], Output::Watch(watch)
        if watch.address.to_string() == "127.0.0.1:20000" && watch.joins_after == 2 && watch.initial == Verdict::Unknown));
    assert_eq!(published(&watched, "api/api-1").map(|(_, state)| state), Some(Availability::Down));
    controller.handle(now(2), verdict("api/api-1", Verdict::Up));
    let up = outputs(&mut controller);
    assert!(matches!(&up[0], Output::BecameUp(up) if *up == id("api/api-1")));
    assert_eq!(published(&up, "api/api-1").map(|(_, state)| state), Some(Availability::Takes));
}

#[test]
fn an_exit_takes_the_instance_out_at_once_and_late_news_of_it_are_ignored() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), Input::Changed(process("api/api-1", Phase::Running, Some(7), Some(20_000))));
    controller.handle(now(2), verdict("api/api-1", Verdict::Up));
    outputs(&mut controller);
    let mut exited = process("api/api-1", Phase::Backoff, None, None);
    exited.last_exit = Some(everup_core::instance::LastExit::Exited(ExitStatus::Signal(9)));
    controller.handle(now(3), Input::Changed(exited));
    let exit = outputs(&mut controller);
    assert!(matches!(&exit[0], Output::Unwatch(gone) if *gone == id("api/api-1")));
    assert_eq!(published(&exit, "api/api-1").map(|(_, state)| state), Some(Availability::Down));
    controller.handle(now(3), verdict("api/api-1", Verdict::Up));
    assert!(outputs(&mut controller).is_empty());
    assert_eq!(
        controller.services()[controller.places[&id("api/api-1")].0].instances[0].reason(),
        "killed by signal 9"
    );
}

#[test]
fn news_of_the_address_of_an_earlier_process_say_nothing_about_the_next_one() {
    let mut controller = controller(&Notes::default());
    for port in [20_000, 20_001] {
        let running = process("api/api-1", Phase::Running, Some(u32::from(port)), Some(port));
        controller.handle(now(1), Input::Changed(running));
    }
    controller.handle(now(2), verdict_on("api/api-1", local(20_001), Verdict::Up));
    outputs(&mut controller);
    let refused = |port| {
        let (id, reason) = (id("api/api-1"), Reason::ConnectRefused);
        Input::Noticed(GatewayEvent::ConnectFailed { id, address: local(port), reason })
    };
    controller.handle(now(3), refused(20_000));
    let down = Verdict::Down(Reason::ConnectRefused);
    controller.handle(now(3), verdict_on("api/api-1", local(20_000), down));
    assert!(outputs(&mut controller).is_empty());
    controller.handle(now(4), refused(20_001));
    assert!(matches!(&outputs(&mut controller)[..], [Output::ConnectFailed(..)]));
}

#[test]
fn a_drain_is_answered_when_the_table_without_the_instance_is_acknowledged() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    outputs(&mut controller);
    let (reply, mut answer) = oneshot::channel();
    let order = Order::Drain { id: id("shop/10.0.0.1:9001"), wait: None, reply };
    controller.handle(now(10), Input::Order(order));
    let (generation, state) = published(&outputs(&mut controller), "shop/10.0.0.1:9001").unwrap();
    assert_eq!(state, Availability::Draining);
    assert!(answer.try_recv().is_err() && controller.is_draining());
    controller.handle(now(20), Input::Acknowledged(Generation(generation)));
    assert_eq!(
        answer.try_recv(),
        Ok(Ok(DrainOutcome { in_flight: 0, tunnels: 0, waited: Duration::from_millis(10) }))
    );
    assert!(!controller.is_draining());
}

#[test]
fn a_drain_holds_for_the_next_worker_until_undrain() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    let (reply, _answer) = oneshot::channel();
    let order = Order::Drain { id: id("shop/10.0.0.1:9001"), wait: None, reply };
    controller.handle(now(10), Input::Order(order));
    let notes = Notes::read(Some(&controller.notes().write()));
    let mut next = Controller::new(&config(), 1, &notes, now(0));
    let first = [Output::Publish(next.first_table())];
    let state = published(&first, "shop/10.0.0.1:9001").map(|(_, state)| state);
    assert_eq!(state, Some(Availability::Draining));
    let (reply, mut answer) = oneshot::channel();
    next.handle(now(1), Input::Order(Order::Undrain { id: id("shop/10.0.0.1:9001"), reply }));
    assert_eq!(answer.try_recv(), Ok(Ok("takes requests again".to_owned())));
    let state = published(&outputs(&mut next), "shop/10.0.0.1:9001").map(|(_, state)| state);
    assert_eq!(state, Some(Availability::Takes));
}

#[test]
fn a_new_worker_serves_at_once_with_the_old_verdicts_of_the_same_processes() {
    let mut last = controller(&Notes::default());
    for (name, pid) in [("api/api-1", 7), ("api/api-2", 8)] {
        last.handle(
            now(1),
            Input::Changed(process(name, Phase::Running, Some(pid), Some(20_000 + pid as u16))),
        );
        last.handle(now(2), verdict_on(name, local(20_000 + pid as u16), Verdict::Up));
    }
    let notes = last.notes();
    let mut next = Controller::new(&config(), 1, &notes, now(0));
    next.adopt(process("api/api-1", Phase::Running, Some(7), Some(20_007)), &notes);
    next.adopt(process("api/api-2", Phase::Running, Some(9), Some(20_009)), &notes);
    let first = [Output::Publish(next.first_table())];
    assert_eq!(published(&first, "api/api-1").map(|(_, state)| state), Some(Availability::Takes));
    assert_eq!(published(&first, "api/api-2").map(|(_, state)| state), Some(Availability::Down));
}

#[test]
fn generations_grow_over_workers() {
    let last = controller(&Notes::new(Generation(41), std::iter::empty()));
    let mut next = Controller::new(&config(), 1, &last.notes(), now(0));
    assert_eq!(next.first_table().generation, Generation(43));
}

#[test]
fn unknown_names_are_refused_with_the_names_there_are() {
    let mut controller = controller(&Notes::default());
    for (name, line) in [
        ("shop/shop-1", "shop has no instance shop-1; it has 10.0.0.1:9001, 10.0.0.2:9001"),
        ("cart/cart-1", "there is no service cart; there is "),
    ] {
        let (reply, mut answer) = oneshot::channel();
        controller.handle(now(1), Input::Order(Order::Drain { id: id(name), wait: None, reply }));
        let Ok(Err(Refusal::NotFound(told))) = answer.try_recv() else { panic!("{name} was not refused") };
        assert!(told.starts_with(line), "{told}");
    }
}

#[test]
fn only_a_running_process_of_ours_can_be_killed() {
    let mut controller = controller(&Notes::default());
    let kill = |controller: &mut Controller, name| {
        let (reply, mut answer) = oneshot::channel();
        controller.handle(now(1), Input::Order(Order::Kill { id: id(name), reply }));
        answer.try_recv().unwrap()
    };
    assert!(matches!(kill(&mut controller, "shop/10.0.0.1:9001"), Err(Refusal::Conflict(_))));
    assert!(matches!(kill(&mut controller, "api/api-1"), Err(Refusal::Conflict(_))));
    controller.handle(now(1), Input::Changed(process("api/api-1", Phase::Running, Some(7), Some(20_000))));
    outputs(&mut controller);
    assert_eq!(kill(&mut controller, "api/api-1"), Ok("killed process 7".to_owned()));
    assert!(matches!(&outputs(&mut controller)[..], [Output::Kill(killed)] if *killed == id("api/api-1")));
}

#[test]
fn ready_is_when_every_service_has_an_instance_that_takes_requests() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    assert_eq!(controller.ready(), Err(NotReady("no instance of api is up".to_owned())));
    controller.handle(now(1), Input::Changed(process("api/api-1", Phase::Running, Some(7), Some(20_000))));
    controller.handle(now(1), verdict("api/api-1", Verdict::Up));
    assert_eq!(controller.ready(), Ok(()));
}

#[test]
fn a_renewed_controller_publishes_what_is_known_elsewhere_with_the_same_counters() {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    outputs(&mut controller);
    let notes = controller.notes();
    let (generation, shared) = (controller.generation(), Arc::clone(&controller.services()[0].shared));
    controller.renew(&config(), &notes, now(2));
    let renewed = outputs(&mut controller);
    let (next, state) = published(&renewed, "shop/10.0.0.1:9001").unwrap();
    assert_eq!((next, state), (generation.0 + 1, Availability::Takes));
    assert!(Arc::ptr_eq(&shared, &controller.services()[0].shared));
}
