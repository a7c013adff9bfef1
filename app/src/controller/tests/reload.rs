//! What another configuration does to what is known: what both have stays as it is, what was removed leaves in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use everup_gateway::Stay;

use super::*;

/// The configuration of the other tests, but for what is replaced.
fn changed(replaced: &[(&str, &str)]) -> config::Config {
    let text = replaced.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    config::parse(&text).expect("the changed configuration is valid")
}

/// Both fixed instances are up.
fn started() -> Controller {
    let mut controller = controller(&Notes::default());
    controller.handle(now(1), verdict("shop/10.0.0.1:9001", Verdict::Up));
    controller.handle(now(1), verdict("shop/10.0.0.2:9001", Verdict::Up));
    outputs(&mut controller);
    acknowledge(&mut controller, 1);
    controller
}

fn acknowledge(controller: &mut Controller, at: u64) {
    outputs(controller);
    let generation = controller.generation();
    controller.handle(now(at), Input::Acknowledged(generation));
}

fn states(snapshot: &Snapshot) -> BTreeMap<String, Availability> {
    let instances = snapshot.services.iter().flat_map(|service| &service.instances);
    instances.map(|one| (one.id.to_string(), one.state)).collect()
}

fn dismissed(controller: &mut Controller) -> Vec<String> {
    let dismissed = |output| match output {
        Output::Dismiss(id) => Some(id.to_string()),
        _ => None, // not about instances that leave
    };
    outputs(controller).into_iter().filter_map(dismissed).collect()
}

#[test]
fn what_did_not_change_keeps_its_objects() {
    let mut controller = started();
    controller.handle(now(2), order_drain("shop/10.0.0.1:9001"));
    controller.handle(now(2), order_weigh("shop/10.0.0.2:9001", 7));
    outputs(&mut controller);
    let before: Vec<_> = controller
        .services()
        .iter()
        .map(|one| (Arc::clone(&one.settings), Arc::clone(&one.shared)))
        .collect();
    let new = changed(&[("rise = 2", "rise = 3")]);
    let snapshot = controller.reload(now(3), &config(), &new, Vec::new());
    for (after, (settings, shared)) in controller.services().iter().zip(&before) {
        assert!(Arc::ptr_eq(&after.shared, shared));
        assert_eq!(Arc::ptr_eq(&after.settings, settings), &*after.settings.name == "shop");
    }
    let shop = snapshot.services.iter().find(|service| &*service.name == "shop").unwrap();
    let first = &shop.instances[0];
    assert_eq!((first.state, shop.instances[1].weight), (Availability::Draining, 7));
    assert!(Arc::ptr_eq(&first.shared, &controller.instance_mut(&id("shop/10.0.0.1:9001")).unwrap().shared));
    let watched = outputs(&mut controller).into_iter().filter(|output| matches!(output, Output::Watch(_)));
    assert_eq!(watched.count(), 0, "of api, whose checks changed, no process runs; of shop nothing changed");
}

#[test]
fn an_instance_that_is_replaced_serves_until_its_successor_does() {
    let mut controller = started();
    let both = "\"10.0.0.1:9001\", { address = \"10.0.0.2:9001\", weight = 3 }";
    let new = changed(&[(both, "\"10.0.0.3:9001\"")]);
    let snapshot = controller.reload(now(10), &config(), &new, Vec::new());
    let takes = Availability::Takes;
    assert_eq!(states(&snapshot)["shop/10.0.0.1:9001"], takes);
    assert_eq!(states(&snapshot)["shop/10.0.0.3:9001"], Availability::Down);
    assert!(controller.is_draining());
    acknowledge(&mut controller, 11);
    controller
        .handle(now(20), verdict_on("shop/10.0.0.3:9001", "10.0.0.3:9001".parse().unwrap(), Verdict::Up));
    let Some(Output::Publish(table)) =
        outputs(&mut controller).into_iter().find(|one| matches!(one, Output::Publish(_)))
    else {
        panic!("nothing was published")
    };
    let draining = Availability::Draining;
    assert_eq!(
        states(&table).into_iter().filter(|(id, _)| id.starts_with("shop")).collect::<Vec<_>>(),
        [
            ("shop/10.0.0.1:9001".to_owned(), draining),
            ("shop/10.0.0.2:9001".to_owned(), draining),
            ("shop/10.0.0.3:9001".to_owned(), takes)
        ]
    );
    controller.handle(now(21), Input::Tick);
    assert_eq!(dismissed(&mut controller), [""; 0], "nobody has acknowledged that table");
    let generation = controller.generation();
    controller.handle(now(22), Input::Acknowledged(generation));
    assert_eq!(dismissed(&mut controller), ["shop/10.0.0.1:9001", "shop/10.0.0.2:9001"]);
    assert_eq!(controller.services()[0].instances.len(), 1);
    assert!(!controller.is_draining());
}

#[test]
fn without_a_successor_it_serves_for_the_drain_time() {
    let mut controller = started();
    let both = "\"10.0.0.1:9001\", { address = \"10.0.0.2:9001\", weight = 3 }";
    controller.reload(now(0), &config(), &changed(&[(both, "\"10.0.0.3:9001\"")]), Vec::new());
    acknowledge(&mut controller, 1);
    controller.handle(now(29_999), Input::Tick);
    assert_eq!(controller.services()[0].instances[1].availability(), Availability::Takes);
    controller.handle(now(30_000), Input::Tick);
    assert_eq!(controller.services()[0].instances[1].availability(), Availability::Draining);
}

/// The second listener and its service go.
fn without_api() -> config::Config {
    let text = CONFIG.split("[service.api]").next().unwrap();
    config::parse(text).unwrap()
}

#[test]
fn a_removed_service_stays_in_the_table_as_long_as_something_leads_there() {
    let mut controller = started();
    let snapshot = controller.reload(now(10), &config(), &without_api(), Vec::new());
    assert_eq!(
        snapshot.listeners.iter().map(|one| one.stay).collect::<Vec<_>>(),
        [Stay::Stays, Stay::Leaves]
    );
    assert_eq!(snapshot.listeners[1].routes.default_service(), Some(1), "its connections still find it");
    assert!(controller.ready().is_ok(), "what leaves need not be up");
    acknowledge(&mut controller, 11);
    controller.handle(now(12), Input::Tick);
    assert_eq!(controller.services().len(), 2, "the listener has not gone");
    controller.handle(now(30_010), Input::Tick);
    let gone = outputs(&mut controller);
    assert!(!gone.iter().any(|output| matches!(output, Output::Dismiss(_))), "not acknowledged");
    assert_eq!(controller.services().len(), 1);
    let generation = controller.generation();
    controller.handle(now(30_020), Input::Acknowledged(generation));
    assert_eq!(dismissed(&mut controller), ["api/api-1", "api/api-2"]);
    assert_eq!(controller.slots[1].stay, Stay::Gone);
    assert!(!controller.is_draining());
}

#[test]
fn a_service_that_comes_back_before_it_is_gone_stays() {
    let mut controller = started();
    let shared =
        Arc::clone(&controller.services().iter().find(|one| &*one.settings.name == "api").unwrap().shared);
    controller.reload(now(10), &config(), &without_api(), Vec::new());
    acknowledge(&mut controller, 11);
    let snapshot = controller.reload(now(20), &without_api(), &config(), Vec::new());
    assert!(snapshot.services.iter().any(|service| Arc::ptr_eq(&service.shared, &shared)));
    let stays: Vec<_> = snapshot.listeners.iter().map(|one| one.stay).collect();
    assert_eq!(stays, [Stay::Stays, Stay::Leaves, Stay::Stays], "a place is never given away twice");
    acknowledge(&mut controller, 21);
    controller.handle(now(60_000), Input::Tick);
    assert_eq!(dismissed(&mut controller), [""; 0]);
    assert_eq!(controller.services().len(), 2);
}

#[test]
fn a_controller_that_fails_leaves_connections_their_listeners() {
    let mut controller = started();
    controller.reload(now(10), &config(), &without_api(), Vec::new());
    controller.reload(now(20), &without_api(), &config(), Vec::new());
    controller.renew(&config(), &Notes::default(), now(30));
    let Some(Output::Publish(table)) =
        outputs(&mut controller).into_iter().find(|one| matches!(one, Output::Publish(_)))
    else {
        panic!("nothing was published")
    };
    let stays: Vec<_> = table.listeners.iter().map(|one| one.stay).collect();
    assert_eq!(stays, [Stay::Stays, Stay::Gone, Stay::Stays]);
    assert_eq!(controller.listeners, [0, 2]);
}

fn order_drain(name: &str) -> Input {
    let (reply, _) = oneshot::channel();
    Input::Order(Order::Drain { id: id(name), wait: Some(Duration::ZERO), reply })
}

fn order_weigh(name: &str, weight: u32) -> Input {
    let (reply, _) = oneshot::channel();
    Input::Order(Order::Weigh { id: id(name), weight, reply })
}
