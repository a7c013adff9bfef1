//! What everup believes of its instances, and why.

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Everup, Origin, Sample, get, until};

#[test]
fn an_instance_that_fails_its_check_is_down_with_the_reason_and_comes_back() {
    let origins = [Origin::start("a"), Origin::start("b")];
    let config = Config::shop(origins.iter().map(Origin::address)).health("http = \"/healthz\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let name = origins[0].address().to_string();
    origins[0].sick(true);
    let down = everup.wait_for(&name, InstanceState::Down);
    assert!(down.reason.contains("503"), "{down:?}");
    let before = origins[0].count();
    (0..10).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), "b"));
    assert_eq!(origins[0].count(), before);
    origins[0].sick(false);
    everup.wait_for(&name, InstanceState::Up);
}

#[test]
fn a_refused_connection_is_known_at_once_without_waiting_for_the_next_check() {
    let mut origins = [Origin::start("a"), Origin::start("b")];
    let config = Config::shop(origins.iter().map(Origin::address))
        .health("interval = \"1h\"")
        .health("timeout = \"1s\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    origins[0].die();
    (0..10).for_each(|_| assert_eq!(get(everup.address(), "/").instance(), "b"));
    let down = everup.wait_for(&origins[0].address().to_string(), InstanceState::Down);
    assert!(down.reason.contains("refused"), "{down:?}");
}

#[test]
fn a_frozen_instance_is_found_by_a_check_that_times_out() {
    let sample = Sample::start("a");
    let config = Config::shop([sample.address()]).health("http = \"/healthz\"").health("timeout = \"200ms\"");
    let mut everup = Everup::with(config.health("interval = \"200ms\"")).start();
    let name = sample.address().to_string();
    everup.wait_for(&name, InstanceState::Up);
    sample.freeze();
    let down = everup.wait_for(&name, InstanceState::Down);
    assert!(down.reason.contains("timed out"), "{down:?}");
    sample.thaw();
    everup.wait_for(&name, InstanceState::Up);
}

#[test]
fn a_command_decides_by_its_exit_code() {
    let origin = Origin::start("a");
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("healthy");
    std::fs::write(&flag, "").unwrap();
    let check = format!("command = [\"/usr/bin/test\", \"-e\", \"{}\"]", flag.display());
    let mut everup = Everup::with(Config::shop([origin.address()]).health(&check)).start();
    let name = origin.address().to_string();
    everup.wait_for(&name, InstanceState::Up);
    std::fs::remove_file(&flag).unwrap();
    let down = everup.wait_for(&name, InstanceState::Down);
    assert!(!down.reason.is_empty(), "{down:?}");
    std::fs::write(&flag, "").unwrap();
    everup.wait_for(&name, InstanceState::Up);
}

#[test]
fn fall_failures_in_a_row_are_needed_to_be_down() {
    let origins = [Origin::start("a"), Origin::start("b")];
    let config =
        Config::shop(origins.iter().map(Origin::address)).health("http = \"/healthz\"").health("fall = 100");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    origins[0].sick(true);
    let seen = origins[0].health_checks();
    until("it failed several checks", || origins[0].health_checks() > seen + 5);
    assert_eq!(everup.instance(&origins[0].address().to_string()).state, InstanceState::Up);
}

#[test]
fn a_started_instance_gets_no_request_before_it_passed_its_checks() {
    let command = r#"["/bin/sh", "-c", "sleep 1; exec {everup} sample-app --port {port}"]"#;
    let everup = Everup::with(Config::runs_command(1, command).health("rise = 2")).start_unready();
    assert_ne!(everup.instance("shop-1").state, InstanceState::Up);
    // Waits (parked) until the instance is up; a request sent before would be refused.
    assert_eq!(get(everup.address(), "/whoami").instance(), "shop-1");
    assert_eq!(everup.instance("shop-1").restarts, 0);
}
