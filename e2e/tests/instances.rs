//! The instances that everup runs itself: what they are given, what is kept of what they say, and how they go.

use std::fs;
use std::path::PathBuf;

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Everup, Process, get, until};
use rustix::process::Signal;

fn log_of(everup: &Everup, name: &str) -> PathBuf {
    everup.directory().join(format!("state/log/shop/{name}.log"))
}

/// A shell script that ends in the sample application.
fn script(script: &str) -> String {
    format!(r#"["/bin/sh", "-c", '{script}; exec {{everup}} sample-app --port {{port}}']"#)
}

#[test]
fn a_crash_loop_is_told_in_status_with_the_last_log_lines() {
    let command = r#"["{everup}", "sample-app", "--port", "{port}", "--fail-start"]"#;
    let mut everup = Everup::with(Config::runs_command(1, command)).start_unready();
    let looping = everup.wait_for("shop-1", InstanceState::CrashLooping);
    assert!(looping.log.iter().any(|line| line.contains("cannot reach the database")), "{looping:?}");
    assert!(looping.reason.contains("code 1") && looping.restarts >= 2, "{looping:?}");
    let told = everup.verb(&["status"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(
        told.out.contains("crash-looping") && told.out.contains("cannot reach the database"),
        "{}",
        told.out
    );
}

#[test]
fn a_command_that_does_not_exist_is_told_as_the_reason() {
    let config = Config::runs_command(1, r#"["/nonexistent/server", "{port}"]"#);
    let mut everup = Everup::with(config).start_unready();
    everup.wait_until("the reason names the command", |status| {
        status.services[0].instances[0].reason.contains("/nonexistent/server")
    });
}

#[test]
fn an_instance_is_given_its_port_name_revision_and_environment() {
    let config =
        Config::runs_command(2, &script("env; echo arguments {instance} {revision} {service} {port}"))
            .run("environment = { GREETING = \"hello {instance}\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    for name in ["shop-1", "shop-2"] {
        let port = everup.instance(name).address.rsplit(':').next().unwrap().to_owned();
        let log = fs::read_to_string(log_of(&everup, name)).unwrap();
        for line in [
            format!("GREETING=hello {name}"),
            format!("PORT={port}"),
            "EVERUP_SERVICE=shop".to_owned(),
            format!("EVERUP_INSTANCE={name}"),
            "EVERUP_REVISION=v1".to_owned(),
            format!("arguments {name} v1 shop {port}"),
        ] {
            assert!(log.lines().any(|known| known == line), "`{line}` is not in:\n{log}");
        }
        assert_eq!(everup.instance(name).revision.as_deref(), Some("v1"));
    }
}

#[test]
fn ports_are_outside_the_ephemeral_range_and_differ() {
    let mut everup = Everup::with(Config::runs(3)).start();
    let status = everup.wait_all_up();
    let port = |address: &str| address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let mut ports: Vec<u16> = status.services[0].instances.iter().map(|one| port(&one.address)).collect();
    assert!(ports.iter().all(|port| (20_000..30_000).contains(port)), "{ports:?}");
    ports.dedup();
    assert_eq!(ports.len(), 3);
}

#[test]
fn a_killed_instance_is_started_again_and_counted() {
    let mut everup = Everup::with(Config::runs(1)).start();
    everup.wait_all_up();
    let process = everup.instance_process("shop-1");
    process.kill();
    everup.wait_until("it is back as another process", |status| {
        let instance = &status.services[0].instances[0];
        instance.state == InstanceState::Up && instance.pid != Some(process.pid) && instance.restarts == 1
    });
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

#[test]
fn log_files_are_rotated_by_size_and_no_line_is_lost_where_one_begins() {
    let lines = 8000;
    let write = format!(
        "i=0; while [ $i -lt {lines} ]; do echo line $i of a log that is to be rotated; i=$((i+1)); done"
    );
    let config = Config::runs_command(1, &script(&write)).run("log = { size = \"64KiB\", files = 2 }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let log = log_of(&everup, "shop-1");
    let with = |number: usize| log.with_extension(format!("log.{number}"));
    until("the log is rotated", || {
        with(1).exists() && log.metadata().is_ok_and(|file| file.len() < 64 * 1024)
    });
    assert!(!with(3).exists());
    let mut text = String::new();
    for file in [with(2), with(1), log] {
        text += &fs::read_to_string(file).unwrap_or_default();
    }
    let number = |line: &str| {
        line.strip_prefix("line ").and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok())
    };
    let numbers: Vec<usize> = text.lines().filter_map(number).collect();
    assert!(numbers.len() > 1000, "{} lines are kept", numbers.len());
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "of {} lines", numbers.len());
    assert_eq!(numbers.last(), Some(&(lines - 1)));
}

#[test]
fn an_instance_that_ignores_sigterm_is_killed_after_drain_time() {
    let command =
        r#"["/bin/sh", "-c", 'trap "" TERM; {everup} sample-app --port {port} & while :; do sleep 1; done']"#;
    let config = Config::runs_command(1, command).set("drain = { time = \"1s\" }");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(0), &[][..]), "{}", stopped.said);
}

#[test]
fn an_instance_gets_sigterm_first_and_may_finish() {
    let command = r#"["/bin/sh", "-c", 'trap "echo said goodbye; kill $!; exit 0" TERM; {everup} sample-app --port {port} & wait']"#;
    let mut everup = Everup::with(Config::runs_command(1, command)).start();
    everup.wait_all_up();
    let log = log_of(&everup, "shop-1");
    let shell = everup.instance_process("shop-1");
    everup.signal(Signal::TERM);
    until("it is gone", || !shell.is_alive());
    assert!(fs::read_to_string(log).unwrap().contains("said goodbye"));
}

#[test]
fn children_of_an_instance_go_with_it() {
    let command = r#"["/bin/sh", "-c", 'sleep 1000 & echo $!; exec {everup} sample-app --port {port}']"#;
    let mut everup = Everup::with(Config::runs_command(1, command).set("drain = { time = \"1s\" }")).start();
    everup.wait_all_up();
    let log = fs::read_to_string(log_of(&everup, "shop-1")).unwrap();
    let child = Process::with_id(log.lines().next().unwrap().parse().unwrap()).unwrap();
    let stopped = everup.stop_with(Signal::TERM);
    assert_eq!(stopped.left, [], "{}", stopped.said);
    assert!(!child.is_alive());
}
