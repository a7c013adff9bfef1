//! The table as text, column by column.

use super::*;

fn instance(name: &str, state: InstanceState, reason: &str) -> InstanceStatus {
    InstanceStatus {
        name: name.into(),
        address: "127.0.0.1:20000".into(),
        state,
        reason: reason.into(),
        returns_in_seconds: None,
        weight: 1,
        backup: false,
        requests: 1200,
        in_flight: 3,
        tunnels: 0,
        pid: Some(77),
        revision: Some("v1".into()),
        restarts: 0,
        since_seconds: 75.0,
        log: Vec::new(),
    }
}

fn status() -> Status {
    let mut looping = instance("shop-2", InstanceState::CrashLooping, "exited with code 1");
    looping.pid = None;
    looping.restarts = 4;
    looping.log = vec!["cannot open \x1b[2Jdata base".into()];
    let service = ServiceStatus {
        name: "shop".into(),
        balance: "least-connections".into(),
        leaves: false,
        requests_per_second: 12.34,
        in_flight: 3,
        parked: 0,
        queued: 0,
        requests: 100,
        errors: 1,
        retries: 2,
        p50_ms: Some(1.234),
        p99_ms: None,
        instances: vec![instance("shop-1", InstanceState::Up, ""), looping],
        lock: None,
        deployment: None,
    };
    Status {
        node: "lb1".into(),
        version: "0.1.0".into(),
        config: "everup.toml".into(),
        worker_pid: 2,
        keeper_pid: 1,
        worker_restarts: 1,
        generation: 4,
        uptime_seconds: 3700.0,
        ready: true,
        keeper_gone: false,
        warnings: Vec::new(),
        stopping: false,
        connections: 1,
        metrics: None,
        listeners: vec![ListenerStatus {
            protocol: "http".into(),
            addresses: vec!["127.0.0.1:8080".into(), "[::1]:8080".into()],
            routes: 2,
            service: Some("shop".into()),
            tls: false,
        }],
        services: vec![service],
        leaving: Vec::new(),
    }
}

#[test]
fn the_table_is_aligned_and_tells_state_reason_and_last_log_lines() {
    let expected = "\
lb1: ready for 1h 1m, everup 0.1.0, keeper 1, worker 2, replaced once, table 4, 1 connection
http 127.0.0.1:8080, [::1]:8080 -> shop (2 routes)

shop  least-connections  12.3 requests/s  3 in flight  0 parked  1 error  2 retries  p50 1.23 ms  p99 -
  INSTANCE  STATE          SINCE   ADDRESS          REQUESTS  IN FLIGHT  PID  REVISION  RESTARTS
  shop-1    up             1m 15s  127.0.0.1:20000      1200          3   77  v1
  shop-2    crash-looping  1m 15s  127.0.0.1:20000      1200          3       v1        4         exited with code 1
      log: cannot open \u{fffd}[2Jdata base
";
    assert_eq!(render(&status(), false), expected);
}

#[test]
fn a_keeper_that_is_gone_and_warnings_stand_on_top() {
    let text = render(&Status { keeper_gone: true, warnings: vec!["mend it".into()], ..status() }, false);
    let lines: Vec<_> = text.lines().take(3).collect();
    assert!(lines[0].contains(", keeper: gone, worker 2"), "{text}");
    assert!(lines[1].starts_with("WARNING the keeper is gone: traffic goes on"), "{text}");
    assert_eq!(lines[2], "WARNING mend it");
}

#[test]
fn escape_sequences_stand_only_in_a_coloured_table() {
    assert!(!render(&status(), false).contains('\x1b'));
    assert!(render(&status(), true).contains("\x1b[31mcrash-looping"));
}

#[test]
fn a_fixed_instance_is_named_by_its_address_once() {
    let mut status = status();
    for instance in &mut status.services[0].instances {
        instance.name = "10.0.0.1:9001".into();
        instance.address = "10.0.0.1:9001".into();
    }
    assert!(!render(&status, false).contains("ADDRESS"));
}

#[test]
fn durations_are_told_in_their_two_largest_units() {
    let told: Vec<_> = [0.0, 59.9, 61.0, 7500.0, 273_000.0, -1.0].into_iter().map(lasting).collect();
    assert_eq!(told, ["0s", "59s", "1m 1s", "2h 5m", "3d 3h", "0s"]);
}
