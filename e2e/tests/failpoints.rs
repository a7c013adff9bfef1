//! Every task of the control side fails inside once, while requests come. None of them is lost, and the task works afterwards.

use everup_e2e::api::{InstanceState, InstanceStatus};
use everup_e2e::{Config, Everup, Load, Mode, get, until};
use rustix::process::Signal;

/// Tasks that come by their failpoint by themselves, within seconds.
const BY_THEMSELVES: [&str; 9] = [
    "news",
    "controller",
    "supervisor",
    "deployer",
    "journal",
    "tls-files",
    "health",
    "health.probe",
    "rotation",
];

fn config() -> Config {
    Config::runs(3).more("[access_log]\nto = \"access.log\"\n[service.shop.deploy]\npause_between = \"0s\"\nmin_healthy = \"100ms\"\n")
}

fn loads(everup: &Everup) -> [Load; 2] {
    [
        everup.load("/whoami").mode(Mode::Mixed).rate(100.0),
        everup.load("/echo").mode(Mode::Mixed).rate(50.0).sending("POST", "a book"),
    ]
}

#[track_caller]
fn fails(everup: &Everup, name: &str) {
    until(&format!("{name} has failed inside"), || !everup.is_armed(name));
}

/// Whoever manages instances, probes them and publishes tables does so still: an instance that is stopped in order by a
/// drain, and killed then, so that no request is with it, comes back.
#[track_caller]
fn works(everup: &mut Everup, after: &str, instance: usize) {
    // Each in turn: one that dies again and again is started later and later.
    let name = format!("shop-{}", 1 + instance % 3);
    let drained = everup.verb(&["drain", "shop", &name]);
    assert_eq!(drained.code, Some(0), "after {after}: {drained:?}");
    let before = everup.instance_process(&name);
    before.kill();
    assert_eq!(everup.verb(&["undrain", "shop", &name]).code, Some(0), "after {after}");
    everup.wait_until(&format!("{name} is back after {after}"), |status| {
        let shop = &status.services[0].instances;
        shop.iter().all(|one| one.state == InstanceState::Up && one.pid != Some(before.pid))
    });
}

#[test]
fn a_task_that_fails_inside_loses_no_request_and_works_again() {
    let mut everup = Everup::with(config()).start();
    everup.wait_all_up();
    let worker = everup.status().worker_pid;
    let running = loads(&everup).map(|load| load.start().unwrap());
    for (turn, name) in BY_THEMSELVES.into_iter().enumerate() {
        everup.arm(name, "panic");
        fails(&everup, name);
        works(&mut everup, name, turn);
    }
    // What is known of instances is written when it has changed.
    everup.arm("state-file", "panic");
    assert_eq!(everup.verb(&["drain", "shop", "shop-2"]).code, Some(0));
    fails(&everup, "state-file");
    assert_eq!(everup.verb(&["undrain", "shop", "shop-2"]).code, Some(0));
    // The keeper tells of an exit only once.
    everup.arm("supervisor.news", "panic");
    works(&mut everup, "supervisor.news", 0);
    fails(&everup, "supervisor.news");
    for ledger in running.map(|load| load.stop().unwrap()) {
        assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
    }
    assert_eq!(everup.status().worker_pid, worker);
    let panics = everup.said().matches("the failpoint ").count();
    assert_eq!(panics, BY_THEMSELVES.len() + 2, "{}", everup.said());
}

#[test]
fn servers_and_writers_that_fail_inside_serve_and_write_again() {
    let mut everup = Everup::with(config()).start();
    everup.wait_all_up();
    let worker = everup.status().worker_pid;
    let metrics = everup.metrics();
    let running = loads(&everup).map(|load| load.start().unwrap());
    // Whoever asks is told; the next one is served.
    everup.arm("status", "panic");
    everup.verb(&["status"]);
    fails(&everup, "status");
    everup.arm("metrics.page", "panic");
    assert_eq!(get(metrics, "/metrics").status, 503);
    assert_eq!(get(metrics, "/metrics").status, 200);
    // Between two connections: nobody notices.
    for name in ["admin", "metrics"] {
        everup.arm(name, "panic");
        until(&format!("the server {name} has failed inside"), || {
            everup.verb(&["status"]).code == Some(0)
                && get(metrics, "/healthz").status == 200
                && !everup.is_armed(name)
        });
    }
    let log = everup.directory().join("access.log");
    let size = || std::fs::metadata(&log).map_or(0, |file| file.len());
    everup.arm("access-log", "panic");
    fails(&everup, "access-log");
    let before = size();
    until("the access log is written again", || size() > before);
    // A reload is refused, the next one is not.
    everup.arm("reload", "panic");
    everup.configure(config().set("park = { requests = 7 }"));
    let refused = everup.verb(&["reload"]);
    assert!(refused.code == Some(1) && refused.err.contains("the worker failed inside"), "{refused:?}");
    assert_eq!(everup.verb(&["reload"]).code, Some(0));
    for ledger in running.map(|load| load.stop().unwrap()) {
        assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
    }
    assert_eq!(everup.status().worker_pid, worker);
    works(&mut everup, "all of them", 0);
    everup.arm("shutdown", "panic");
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left.len()), (Some(0), 0), "{}", stopped.said);
}

#[test]
fn a_store_that_fails_inside_ends_no_deployment_halfway() {
    for name in ["store", "store.audit"] {
        let mut everup = Everup::with(config()).start();
        everup.wait_all_up();
        let running = loads(&everup).map(|load| load.start().unwrap());
        everup.arm(name, "panic");
        // What is not stored yet begins as soon as it is.
        let said = everup.verb(&["deploy", "shop", "v2"]);
        fails(&everup, name);
        everup.wait_until("the deployment is over", |status| {
            let shop = &status.services[0];
            let is_new = |one: &InstanceStatus| {
                one.state == InstanceState::Up && one.revision.as_deref() == Some("v2")
            };
            shop.instances.len() == 3 && shop.instances.iter().all(is_new)
        });
        let again = everup.verb(&["deploy", "shop", "v3"]);
        assert_eq!(again.code, Some(0), "{said:?} {again:?} {}", everup.said());
        for ledger in running.map(|load| load.stop().unwrap()) {
            assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
        }
    }
}
