//! What happened lately, as the admin API and `everup status` tell it.

use everup_admin::Client;
use everup_e2e::api::{EventKind, Events, InstanceState};
use everup_e2e::{Config, Everup, Process, until_some};

fn events(everup: &Everup, after: u64) -> Events {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ask =
        || runtime.block_on(async { Client::connect(everup.admin()).await.ok()?.events(after).await.ok() });
    until_some("events are told", ask)
}

fn kinds_of(events: &Events, instance: &str) -> Vec<EventKind> {
    let of = |event: &&everup_e2e::api::Event| event.instance.as_deref() == Some(instance);
    events.events.iter().filter(of).map(|event| event.kind).collect()
}

#[test]
fn a_killed_instance_is_told_with_its_end_and_its_return() {
    let mut everup = Everup::with(Config::runs(2)).start();
    everup.wait_all_up();
    let before = events(&everup, 0);
    assert_eq!(before.events[0].kind, EventKind::WorkerStarted);
    assert!(kinds_of(&before, "shop-1").ends_with(&[EventKind::Up]), "{before:?}");
    let process = everup.instance_process("shop-1");
    process.kill();
    everup.wait_until("it is back as another process", |status| {
        let instance = &status.services[0].instances[0];
        instance.state == InstanceState::Up && instance.pid != Some(process.pid)
    });
    let since = events(&everup, before.last);
    let kinds = kinds_of(&since, "shop-1");
    assert!(kinds.contains(&EventKind::Restarted) && kinds.ends_with(&[EventKind::Up]), "{since:?}");
    assert!(since.events.iter().any(|event| event.text.contains("signal 9")), "{since:?}");
    assert!(since.events.iter().all(|event| event.number > before.last));
    assert_eq!(events(&everup, since.last).events, []);
    let status = everup.verb(&["status"]).out;
    assert!(status.contains("last events (UTC)") && status.contains("shop/shop-1  up"), "{status}");
}

#[test]
fn a_new_worker_begins_with_higher_numbers() {
    let mut everup = Everup::with(Config::runs(1)).start();
    everup.wait_all_up();
    let before = events(&everup, 0);
    let worker = everup.status().worker_pid;
    Process::with_id(worker).unwrap().kill();
    everup.wait_until("another worker serves", |status| status.worker_pid != worker);
    let since = events(&everup, before.last);
    assert_eq!(since.events[0].kind, EventKind::WorkerReplaced, "{since:?}");
}
