//! Short samples of the long drills, always of the same seed. What they promise about time is left to the long ones:
//! a busy machine breaks it.

use std::path::Path;
use std::process::Command;

/// Runs `drills sample NAME`, which cargo builds with the tests.
#[track_caller]
fn sample(name: &str) {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests run from target/PROFILE/deps");
    let mut drills = Command::new(profile.join("examples/drills"));
    let output = drills.args(["sample", name]).env("EVERUP_SEED", "ca11").output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn whatever_instances_do_wrong_no_get_fails_and_no_post_runs_twice() {
    sample("faults");
}

#[test]
fn whoever_of_everup_is_killed_only_requests_in_flight_in_a_killed_worker_fail() {
    sample("crash");
}

#[test]
fn websockets_through_everup_behave_as_direct_ones() {
    sample("websocket");
}

#[test]
fn reloads_of_every_kind_lose_no_request_no_connection_and_no_message_also_over_tls() {
    sample("reload");
}
