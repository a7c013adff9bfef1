//! Command checks.

use std::path::Path;
use std::time::Duration;

use everup_core::config::{Check, Health};
use everup_core::health::{Reason, Verdict};

use super::instances::nobody;
use super::verdicts::{Verdicts, quick, until};

fn shell(script: &str) -> Health {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Health { timeout: Duration::from_secs(20), ..quick(Check::Command(command)) }
}

fn first_verdict(check: Health) -> Verdict {
    let mut verdicts = Verdicts::new();
    verdicts.watch("shop-1", "127.0.0.1:20001".parse().unwrap(), check, Verdict::Unknown);
    verdicts.next().1
}

fn failed(why: &str) -> Verdict {
    Verdict::Down(Reason::ProbeFailed(why.to_owned()))
}

#[test]
fn exit_code_0_passes() {
    assert_eq!(first_verdict(shell("echo fine; exit 0")), Verdict::Up);
}

#[test]
fn another_exit_code_fails_with_what_was_said() {
    assert_eq!(first_verdict(shell("echo; echo disk full >&2; exit 2")), failed("exit code 2: disk full"));
    assert_eq!(first_verdict(shell("exit 7")), failed("exit code 7"));
    assert_eq!(first_verdict(shell("kill -9 $$")), failed("killed by signal 9"));
}

#[test]
fn the_command_knows_whom_it_checks() {
    let script = r#"echo "$SERVICE $INSTANCE $ADDRESS $HOST $PORT"; exit 1"#;
    let said = "exit code 1: shop shop-1 127.0.0.1:20001 127.0.0.1 20001";
    assert_eq!(first_verdict(shell(script)), failed(said));
}

#[test]
fn a_command_that_does_not_exist_fails_by_name() {
    let missing = quick(Check::Command(vec!["/nowhere/check.sh".to_owned()]));
    let Verdict::Down(Reason::ProbeFailed(why)) = first_verdict(missing) else { panic!("not failed") };
    assert!(why.starts_with("cannot run /nowhere/check.sh: "), "{why}");
}

#[test]
fn output_without_end_neither_blocks_nor_fills_the_reason() {
    assert_eq!(first_verdict(shell("yes | head -c 1000000; exit 3")), failed("exit code 3: y"));
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_everything_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let script = format!("sleep 1000 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", pids.display());
    let mut verdicts = Verdicts::new();
    let check = Health {
        fall: 1,
        timeout: Duration::from_secs(2),
        interval: Duration::from_secs(3600),
        ..shell(&script)
    };
    verdicts.watch("a", nobody(), check, Verdict::Unknown);
    assert_eq!(verdicts.next().1, Verdict::Down(Reason::ProbeTimeout));
    let text = std::fs::read_to_string(pids).unwrap();
    for pid in text.split_whitespace() {
        until("it is gone", || !runs(pid));
    }
}

#[test]
fn a_check_that_nobody_wants_any_more_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", pid.display());
    let verdicts = Verdicts::new();
    let check = Health { timeout: Duration::from_secs(3600), ..shell(&script) };
    verdicts.watch("a", nobody(), check, Verdict::Unknown);
    until("it runs", || pid.exists());
    let number = std::fs::read_to_string(pid).unwrap();
    drop(verdicts);
    until("it is gone", || !runs(number.trim()));
}

/// Whether the process exists and is no zombie.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
