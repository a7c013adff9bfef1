//! What everup tells: status for people and machines, metrics, health of the node.

use std::os::unix::fs::PermissionsExt;

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Everup, Origin, get};

fn one() -> (Origin, Everup) {
    let origin = Origin::start("a");
    let mut everup = Everup::with(Config::shop([origin.address()])).start();
    everup.wait_all_up();
    (origin, everup)
}

#[test]
fn status_names_listeners_services_and_instances_with_their_state() {
    let (origin, everup) = one();
    let told = everup.verb(&["status"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for part in [everup.address().to_string(), "shop".into(), origin.address().to_string(), "up".into()] {
        assert!(told.out.contains(&part), "`{part}` is not in:\n{}", told.out);
    }
}

#[test]
fn status_as_json_is_the_same_for_machines() {
    let (origin, everup) = one();
    (0..5).for_each(|_| drop(get(everup.address(), "/")));
    let told = everup.verb(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(status["keeper_pid"], everup.keeper().pid);
    assert_eq!(status["listeners"][0]["addresses"][0], everup.address().to_string());
    let shop = &status["services"][0];
    assert_eq!((shop["name"].as_str(), shop["requests"].as_u64()), (Some("shop"), Some(5)), "{status}");
    assert_eq!(shop["instances"][0]["name"], origin.address().to_string());
    assert_eq!(shop["instances"][0]["state"], "up");
}

#[test]
fn status_gives_the_reason_for_what_is_down() {
    let (mut origin, mut everup) = one();
    origin.die();
    everup.wait_for(&origin.address().to_string(), InstanceState::Down);
    let told = everup.verb(&["status"]);
    assert!(told.out.contains("down") && told.out.contains("connection refused"), "{}", told.out);
}

#[test]
fn the_admin_socket_is_for_its_owner_only() {
    let (_origin, everup) = one();
    let mode = std::fs::metadata(everup.admin()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn metrics_count_requests_by_service() {
    let (_origin, everup) = one();
    (0..7).for_each(|_| drop(get(everup.address(), "/")));
    let metrics = get(everup.metrics(), "/metrics");
    let text = metrics.text();
    assert_eq!(metrics.status, 200);
    assert!(text.contains("everup_requests_total{service=\"shop\"} 7"), "{text}");
    for name in [
        "everup_instance_up",
        "everup_request_duration_seconds_bucket",
        "everup_build_info",
        "everup_connections",
    ] {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
}

#[test]
fn healthz_is_about_the_worker_and_readyz_about_the_services() {
    let (mut origin, mut everup) = one();
    let status = |path| get(everup.metrics(), path).status;
    assert_eq!([status("/healthz"), status("/readyz")], [200, 200]);
    origin.die();
    let name = origin.address().to_string();
    let metrics = everup.metrics();
    everup.wait_for(&name, InstanceState::Down);
    let unready = get(metrics, "/readyz");
    assert_eq!((unready.status, get(metrics, "/healthz").status), (503, 200));
    assert!(unready.text().contains("shop"), "{}", unready.text());
    origin.revive();
    everup.wait_for(&name, InstanceState::Up);
    assert_eq!(get(metrics, "/readyz").status, 200);
}

#[test]
fn the_metrics_address_only_reads() {
    let (_origin, everup) = one();
    let path = "/v1/status";
    assert_eq!(get(everup.metrics(), path).status, 404);
    assert!(matches!(everup_e2e::request(everup.metrics(), "POST", "/metrics", &[], "").status, 404 | 405));
}

#[test]
fn a_verb_without_an_everup_says_so_in_one_line() {
    for verb in [&["status"][..], &["drain", "shop", "a"]] {
        let told = everup_e2e::everup(verb.iter().copied().chain(["--admin", "/nonexistent/admin.sock"]));
        assert_eq!((told.code, told.err.lines().count()), (Some(1), 1), "{told:?}");
    }
}
