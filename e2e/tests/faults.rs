//! A sample of `cargo xtask drills faults`, always of the same seed: kills, freezes, slowness, half-open connections, full accept
//! queues and resets under an open load. No GET fails and no POST runs twice.

use std::path::Path;
use std::process::Command;

#[test]
fn whatever_instances_do_wrong_no_get_fails_and_no_post_runs_twice() {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests run from target/PROFILE/deps");
    // Cargo builds a package's examples with its tests.
    let mut drills = Command::new(profile.join("examples/drills"));
    let output = drills.args(["sample", "faults"]).env("EVERUP_SEED", "ca11").output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
