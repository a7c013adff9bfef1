//! The supervisor with a keeper played by the test: ports, logs, restarts and the order of stopping.

use std::io::Write;

use everup_core::config::{self, Log, Service};
use everup_core::keeper::ExitStatus;

use super::*;

const NOW: Time = Time::from_millis(1_000);

fn service(name: &str, replicas: usize) -> Service {
    let text = format!(
        r#"
        [[listener]]
        bind = ["127.0.0.1:0"]
        service = "{name}"

        [service.{name}.run]
        command = ["shop"]
        replicas = {replicas}
        log = {{ size = "1MiB", files = 1 }}
        "#
    );
    config::parse(&text).unwrap().services.remove(0)
}

/// A supervisor of one `shop` instance with its logs in a directory of its own.
fn supervisor() -> (tempfile::TempDir, Supervisor) {
    let home = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(home.path().join("log"), 7, &[service("shop", 1)]).unwrap();
    (home, supervisor)
}

fn shop_1() -> InstanceId {
    InstanceId::new("shop", "shop-1")
}

/// What is to be told to the keeper, without the descriptors.
fn told(supervisor: &mut Supervisor) -> Vec<ToKeeper> {
    std::iter::from_fn(|| supervisor.poll_output())
        .filter_map(|output| match output {
            Output::Tell(message, _) => Some(message),
            Output::Changed(_) => None,
        })
        .collect()
}

fn port_of(message: &ToKeeper) -> u16 {
    match message {
        ToKeeper::Start { port, .. } => *port,
        other => panic!("no start: {other:?}"),
    }
}

fn shown(supervisor: &Supervisor) -> Change {
    supervisor.instances().next().unwrap()
}

fn started(pid: u32) -> ToWorker {
    ToWorker::Started { id: shop_1(), pid }
}

fn exited(pid: u32) -> ToWorker {
    ToWorker::Exited { id: shop_1(), pid, status: ExitStatus::Code(1) }
}

fn signal(signal: StopSignal) -> ToKeeper {
    ToKeeper::Signal { id: shop_1(), signal }
}

#[test]
fn every_replica_of_every_service_that_is_run_is_known_and_started() {
    let home = tempfile::tempdir().unwrap();
    let mut fixed = service("fixed", 1);
    fixed.run = None;
    let services = [service("shop", 2), fixed, service("api", 1)];
    let mut supervisor = Supervisor::new(home.path().into(), 7, &services).unwrap();
    assert!(supervisor.all_stopped());
    supervisor.start_all(NOW);
    let names: Vec<_> = supervisor.instances().map(|change| change.id.to_string()).collect();
    assert_eq!(names, ["api/api-1", "shop/shop-1", "shop/shop-2"]);
    let starts = told(&mut supervisor);
    let ports: std::collections::BTreeSet<_> = starts.iter().map(port_of).collect();
    assert_eq!((starts.len(), ports.len()), (3, 3));
}

#[test]
fn a_start_brings_the_log_file_along_and_says_who_and_where() {
    let (home, mut supervisor) = supervisor();
    supervisor.start_all(NOW);
    let mut outputs: Vec<_> = std::iter::from_fn(|| supervisor.poll_output()).collect();
    let Some(Output::Tell(ToKeeper::Start { id, port, revision }, Some(log))) = outputs.pop() else {
        panic!("the last output is no start");
    };
    assert_eq!((id, revision.as_str()), (shop_1(), "v1"));
    File::from(log).write_all(b"hello\n").unwrap();
    assert_eq!(std::fs::read(home.path().join("log/shop/shop-1.log")).unwrap(), b"hello\n");
    assert_eq!(supervisor.last_lines(&shop_1(), 5), ["hello"]);
    assert_eq!((shown(&supervisor).phase, shown(&supervisor).port), (Phase::Starting, Some(port)));

    supervisor.handle(NOW, &started(42));
    assert_eq!((shown(&supervisor).phase, shown(&supervisor).pid), (Phase::Running, Some(42)));
}

#[test]
fn a_dead_process_is_followed_by_one_with_another_port_after_the_pause() {
    let (_home, mut supervisor) = supervisor();
    supervisor.start_all(NOW);
    let first = port_of(&told(&mut supervisor)[0]);
    supervisor.handle(NOW, &started(42));
    supervisor.handle(NOW, &exited(42));
    assert_eq!(told(&mut supervisor), []);
    let change = shown(&supervisor);
    assert_eq!((change.phase, change.pid, change.port), (Phase::Backoff, None, None));
    assert_eq!(change.last_exit, Some(LastExit::Exited(ExitStatus::Code(1))));

    let due = supervisor.next_wakeup().unwrap();
    assert_eq!(due, NOW + Duration::from_millis(200));
    supervisor.wake(NOW);
    assert_eq!(told(&mut supervisor), []);
    supervisor.wake(due);
    assert_ne!(port_of(&told(&mut supervisor)[0]), first);
    assert_eq!(shown(&supervisor).restarts, 1);
}

#[test]
fn the_death_of_another_process_than_the_present_one_is_ignored() {
    let (_home, mut supervisor) = supervisor();
    supervisor.start_all(NOW);
    supervisor.handle(NOW, &started(42));
    supervisor.handle(NOW, &exited(41));
    assert_eq!(shown(&supervisor).pid, Some(42));
}

#[test]
fn an_adopted_process_is_shown_with_its_past_and_not_started_again() {
    let (_home, mut supervisor) = supervisor();
    supervisor.adopt(NOW, &shop_1(), 42, 20_500, "v0", 3);
    supervisor.start_all(NOW);
    assert_eq!(told(&mut supervisor), []);
    let change = shown(&supervisor);
    assert_eq!((change.phase, change.pid, change.port), (Phase::Running, Some(42), Some(20_500)));
    assert_eq!((change.revision.as_str(), change.restarts), ("v0", 3));
}

#[test]
fn a_process_that_nobody_wants_is_terminated() {
    let (_home, mut supervisor) = supervisor();
    let id = InstanceId::new("gone", "gone-1");
    supervisor.adopt(NOW, &id, 42, 20_500, "v1", 0);
    assert_eq!(told(&mut supervisor), [ToKeeper::Signal { id, signal: StopSignal::Terminate }]);
}

#[test]
fn a_stop_terminates_and_after_the_drain_time_kills() {
    let (_home, mut supervisor) = supervisor();
    supervisor.adopt(NOW, &shop_1(), 42, 20_500, "v1", 0);
    supervisor.stop(NOW, &shop_1());
    assert_eq!(told(&mut supervisor), [signal(StopSignal::Terminate)]);
    let due = supervisor.next_wakeup().unwrap();
    assert_eq!(due, NOW + Duration::from_secs(30));
    supervisor.wake(due);
    assert_eq!(told(&mut supervisor), [signal(StopSignal::Kill)]);
    assert!(!supervisor.all_stopped());
    supervisor.handle(due, &exited(42));
    assert!(supervisor.all_stopped());
    assert_eq!(supervisor.next_wakeup(), None);
}

#[test]
fn stopping_all_takes_no_longer_than_is_said() {
    let (_home, mut supervisor) = supervisor();
    supervisor.adopt(NOW, &shop_1(), 42, 20_500, "v1", 0);
    supervisor.stop_all(NOW, Duration::from_secs(5));
    assert_eq!(supervisor.next_wakeup(), Some(NOW + Duration::from_secs(5)));
    supervisor.stop_all(NOW, Duration::ZERO);
    assert_eq!(supervisor.next_wakeup(), Some(NOW));
}

#[test]
fn a_killed_instance_comes_back() {
    let (_home, mut supervisor) = supervisor();
    supervisor.adopt(NOW, &shop_1(), 42, 20_500, "v1", 0);
    supervisor.kill(NOW, &shop_1());
    assert_eq!(told(&mut supervisor), [signal(StopSignal::Kill)]);
    supervisor.handle(NOW, &exited(42));
    assert!(matches!(told(&mut supervisor)[..], [ToKeeper::Start { .. }]));
}

#[test]
fn a_log_that_cannot_be_opened_is_told_and_tried_again() {
    let (home, mut supervisor) = supervisor();
    std::fs::write(home.path().join("log"), "in the way").unwrap();
    supervisor.start_all(NOW);
    assert_eq!(told(&mut supervisor), []);
    let change = shown(&supervisor);
    assert_eq!((change.phase, change.port), (Phase::Backoff, None));
    assert!(change.last_exit.unwrap().to_string().contains("log/shop/shop-1.log cannot be opened"));

    std::fs::remove_file(home.path().join("log")).unwrap();
    supervisor.wake(supervisor.next_wakeup().unwrap());
    assert_eq!(told(&mut supervisor).len(), 1);
}

#[test]
fn three_starts_that_fail_are_shown_as_a_crash_loop() {
    let (_home, mut supervisor) = supervisor();
    supervisor.start_all(NOW);
    for _ in 0..3 {
        supervisor.handle(NOW, &ToWorker::StartFailed { id: shop_1(), reason: "no such file".into() });
        assert_eq!(shown(&supervisor).port, None);
        supervisor.wake(supervisor.next_wakeup().unwrap());
    }
    assert!(shown(&supervisor).crash_loop);
}

#[test]
fn a_log_is_rotated_while_the_supervisor_lives() {
    let home = tempfile::tempdir().unwrap();
    let mut small = service("shop", 1);
    small.run.as_mut().unwrap().log = Log { size: 10_000, files: 1 };
    let mut supervisor = Supervisor::new(home.path().into(), 7, &[small]).unwrap();
    supervisor.start_all(NOW);
    std::fs::write(home.path().join("shop/shop-1.log"), vec![b'x'; 50_000]).unwrap();
    let rotated = home.path().join("shop/shop-1.log.1");
    while !rotated.exists() {
        std::thread::yield_now();
    }
}

#[test]
fn logs_of_instances_that_are_long_gone_are_deleted_and_no_others() {
    let (home, supervisor) = supervisor();
    let directory = home.path().join("log/shop");
    std::fs::create_dir_all(&directory).unwrap();
    let files =
        ["shop-1.log", "shop-v1.log-1.log", "shop-v2-1.log", "shop-v2-1.log.1", "shop-v3-1.log", "notes.txt"];
    files.iter().for_each(|file| std::fs::write(directory.join(file), "x").unwrap());
    supervisor.delete_logs("shop", |name| name != "shop-v3-1");
    supervisor.delete_logs("other", |_| true);
    let mut left: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["notes.txt", "shop-1.log", "shop-v3-1.log"]);
}
