//! A new configuration with which workers die again and again: the one before it comes back.

use everup_e2e::{Config, Everup, Sample, get};

/// Workers of a node with this name die as soon as they begin.
const DEADLY: &str = "worker.of.deadly";

#[test]
fn a_configuration_with_which_workers_die_gives_way_to_the_one_before() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let start = Everup::with(config()).variable("EVERUP_FAILPOINT", format!("{DEADLY}:panic"));
    let mut everup = start.start();
    let first = everup.status().worker_pid;
    // The worker that is there takes it in; those after it die.
    everup.reload(config().set("balance = \"ip-hash\"").more("[node]\nname = \"deadly\"\n"));
    assert_eq!(everup.service("shop").balance, "ip-hash");
    everup.arm("controller", "kill");
    let status = everup.wait_until("a worker serves by the configuration before", |status| {
        status.worker_pid != first && status.services[0].balance != "ip-hash"
    });
    assert_eq!(status.warnings.len(), 1, "{status:?}");
    assert!(status.warnings[0].contains("the configuration from before the last reload runs"), "{status:?}");
    let shown = everup.verb(&["status"]).out;
    assert!(shown.contains("WARNING the configuration from before the last reload runs"), "{shown}");
    assert!(everup.said().contains("WARNING: the configuration from before"), "{}", everup.said());
    assert_eq!(get(everup.address(), "/whoami").status, 200);
    // A mended file is taken, and the warning goes.
    everup.reload(config().set("balance = \"ip-hash\""));
    let status = everup.status();
    assert_eq!((status.warnings.len(), &*status.services[0].balance), (0, "ip-hash"));
}
