//! Ejection, as far as the controller has a part in it: who is told, what is published and what is remembered.

use everup_admin::api::InstanceState;
use everup_core::health::outlier::Cause;

use super::*;

const A: &str = "shop/10.0.0.1:9001";
const B: &str = "shop/10.0.0.2:9001";

/// Both instances of the shop are up, and it has settled.
fn both_up(notes: &Notes) -> Controller {
    let mut controller = controller(notes);
    controller.begin_outliers(now(0));
    controller.handle(now(1), verdict(A, Verdict::Up));
    controller.handle(now(1), verdict(B, Verdict::Up));
    controller.handle(now(6000), Input::Tick);
    outputs(&mut controller);
    controller
}

fn instance<'a>(controller: &'a Controller, name: &str) -> &'a Instance {
    let &(s, i) = &controller.places[&id(name)];
    &controller.services[s].instances[i]
}

/// Five bad answers in a row.
fn answers_badly(controller: &Controller, name: &str) {
    for _ in 0..5 {
        instance(controller, name).shared.lengthen_streak();
    }
}

/// The same, told by the data plane.
fn fails(controller: &mut Controller, ms: u64, name: &str) {
    answers_badly(controller, name);
    let address = id(name).instance.parse().unwrap();
    let event = GatewayEvent::Failing { id: id(name), address };
    controller.handle(now(ms), Input::Noticed(event));
}

fn remembered(outputs: &[Output]) -> Notes {
    let mut texts = outputs.iter().filter_map(|output| match output {
        Output::Remember(text) => Some(text),
        _ => None,
    });
    Notes::read(Some(texts.next_back().expect("something is remembered")))
}

#[test]
fn who_fails_is_ejected_at_once_and_returns_when_its_time_is_over() {
    let mut controller = both_up(&Notes::default());
    fails(&mut controller, 7000, A);
    assert_eq!(published(&outputs(&mut controller), A).map(|(_, state)| state), Some(Availability::Ejected));
    let ejected = instance(&controller, A);
    assert_eq!((ejected.state(), ejected.ejections_total), (InstanceState::Ejected, 1));
    assert_eq!(ejected.reason(), "5 bad answers in a row");
    assert_eq!(ejected.shared.streak(), 0);
    assert_eq!(controller.ready().err().map(|not| not.0), Some("no instance of api is up".to_owned()));
    assert_eq!(controller.next_wakeup(), Some(Time::from_millis(10_001)));
    controller.handle(now(16_999), Input::Tick);
    assert_eq!(published(&outputs(&mut controller), A), None);
    controller.handle(now(17_000), Input::Tick);
    assert_eq!(published(&outputs(&mut controller), A).map(|(_, state)| state), Some(Availability::Takes));
    assert_eq!(instance(&controller, A).state(), InstanceState::Up);
}

#[test]
fn news_about_an_address_that_is_not_its_own_ejects_nobody() {
    let mut controller = both_up(&Notes::default());
    answers_badly(&controller, A);
    let event = GatewayEvent::Failing { id: id(A), address: local(1) };
    controller.handle(now(7000), Input::Noticed(event));
    assert!(outputs(&mut controller).is_empty());
}

#[test]
fn an_ejected_instance_returns_when_the_other_is_down_or_drained() {
    let mut down = both_up(&Notes::default());
    fails(&mut down, 7000, A);
    down.handle(now(7001), verdict(B, Verdict::Down(Reason::ProbeTimeout)));
    assert_eq!(published(&outputs(&mut down), A).map(|(_, state)| state), Some(Availability::Takes));
    let mut drained = both_up(&Notes::default());
    fails(&mut drained, 7000, A);
    let (reply, _answer) = oneshot::channel();
    drained.handle(now(7001), Input::Order(Order::Drain { id: id(B), wait: None, reply }));
    assert_eq!(published(&outputs(&mut drained), A).map(|(_, state)| state), Some(Availability::Takes));
}

#[test]
fn down_says_more_than_ejected() {
    let mut controller = both_up(&Notes::default());
    fails(&mut controller, 7000, A);
    controller.handle(now(7001), verdict(A, Verdict::Down(Reason::ProbeTimeout)));
    assert_eq!(published(&outputs(&mut controller), A).map(|(_, state)| state), Some(Availability::Down));
    assert_eq!(instance(&controller, A).state(), InstanceState::Down);
}

#[test]
fn the_next_worker_goes_on_with_the_ejection_and_its_growth() {
    let mut old = both_up(&Notes::default());
    fails(&mut old, 7000, A);
    let notes = remembered(&outputs(&mut old));
    let mut new = Controller::new(&config(), 1, &notes, now(9000));
    new.begin_outliers(Now { time: Time::ZERO, ..now(9000) });
    let ejected = instance(&new, A).ejected.expect("it is still ejected");
    assert_eq!((ejected.cause, ejected.until), (Cause::Failures(5), now(17_000).wall));
    let table = new.first_table();
    assert_eq!(published(&[Output::Publish(table)], A).map(|(_, state)| state), Some(Availability::Ejected));
    let after = Now { time: Time::from_millis(8000), ..now(17_000) };
    new.handle(after, Input::Tick);
    assert_eq!(published(&outputs(&mut new), A).map(|(_, state)| state), Some(Availability::Takes));
    assert_eq!(instance(&new, A).ejections, 1);
}

#[test]
fn an_instance_that_comes_and_goes_is_held_back() {
    let mut controller = both_up(&Notes::default());
    for round in 0..6 {
        let ms = 7000 + round;
        controller.handle(now(ms), verdict(A, Verdict::Down(Reason::ProbeTimeout)));
        controller.handle(now(ms), verdict(A, Verdict::Up));
    }
    assert_eq!(published(&outputs(&mut controller), A).map(|(_, state)| state), Some(Availability::Ejected));
    assert_eq!(instance(&controller, A).reason(), "went down 6 times lately");
}

#[test]
fn another_process_starts_without_the_faults_of_the_last() {
    let mut controller = controller(&Notes::default());
    controller.begin_outliers(now(0));
    for (name, pid, port) in [("api/api-1", 1, 20_001), ("api/api-2", 2, 20_002)] {
        let change = process(name, Phase::Running, Some(pid), Some(port));
        controller.handle(now(1), Input::Changed(change));
        controller.handle(now(2), verdict_on(name, local(port), Verdict::Up));
    }
    answers_badly(&controller, "api/api-1");
    let event = GatewayEvent::Failing { id: id("api/api-1"), address: local(20_001) };
    controller.handle(now(7000), Input::Noticed(event));
    assert_eq!(instance(&controller, "api/api-1").state(), InstanceState::Ejected);
    let change = process("api/api-1", Phase::Running, Some(3), Some(20_003));
    controller.handle(now(7001), Input::Changed(change));
    let fresh = instance(&controller, "api/api-1");
    assert_eq!((fresh.ejected, fresh.ejections), (None, 0));
}
