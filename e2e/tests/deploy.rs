//! Deployments with the built binary: under load, of good and bad versions, with killed workers and broken stores.

use std::time::Duration;

use everup_e2e::api::{DeploymentState, InstanceState};
use everup_e2e::{Connection, Everup, Mode, Process, Start, get, repository, until};

/// What a revision does depends on its name; `more` goes to the `deploy` section.
fn shop(replicas: usize, more: &str) -> Start {
    shop_with("", replicas, more)
}

fn shop_with(service: &str, replicas: usize, more: &str) -> Start {
    Everup::with(config(service, replicas, more))
}

fn config(service: &str, replicas: usize, more: &str) -> String {
    let script = "case {revision} in exits*) echo no data base; exit 7;; never*) sleep 1000;; \
                  dies*) {everup} sample-app --port {port} & sleep 3; kill -9 $!; exit 9;; esac; \
                  exec {everup} sample-app --port {port}";
    let pause = if more.contains("pause_between") { "" } else { "pause_between = \"100ms\"\n" };
    format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop]\n{service}\n\
         [service.shop.health]\nhttp = \"/healthz\"\ninterval = \"200ms\"\n[service.shop.run]\n\
         command = [\"/bin/sh\", \"-c\", '{script}']\nreplicas = {replicas}\n[service.shop.deploy]\n\
         min_healthy = \"300ms\"\n{pause}{more}\n"
    )
}

/// The revisions that answer, by instance.
fn who(everup: &Everup) -> Vec<String> {
    let mut who: Vec<_> = everup.service("shop").instances.iter().map(|one| one.name.clone()).collect();
    who.sort();
    who
}

fn is_all(everup: &Everup, revision: &str, replicas: usize) -> bool {
    let instances = everup.service("shop").instances;
    let right = |one: &everup_e2e::api::InstanceStatus| {
        one.revision.as_deref() == Some(revision) && one.state == InstanceState::Up
    };
    instances.len() == replicas && instances.iter().all(right)
}

#[track_caller]
fn deploy(everup: &Everup, revision: &str, code: i32) -> String {
    let said = everup.verb(&["deploy", "shop", revision]);
    assert_eq!(said.code, Some(code), "{said:?}\n{}", everup.said());
    said.out
}

#[test]
fn deployments_of_both_strategies_lose_no_get_and_no_post() {
    let mut everup = shop(3, "batch = 1").start();
    everup.wait_all_up();
    let gets = everup.load("/whoami").mode(Mode::Mixed).rate(200.0).start().unwrap();
    let posts = everup.load("/echo").mode(Mode::Mixed).rate(100.0).sending("POST", "hello").start().unwrap();
    until("the load runs", || gets.settled() > 50 && posts.settled() > 20);
    let said = deploy(&everup, "v2", 0);
    assert!(said.contains("give instance 3 of v2 the requests of instance 3 of v1"), "{said}");
    assert_eq!(who(&everup), ["shop-v2-1", "shop-v2-2", "shop-v2-3"]);
    let said = everup.verb(&["deploy", "shop", "v3", "--strategy", "blue-green"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("v3 serves; v2 is kept"), "{said:?}");
    let back = everup.verb(&["rollback", "shop", "--watch"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    deploy(&everup, "v4", 0);
    assert!(is_all(&everup, "v4", 3), "{:?}", everup.status());
    let settled = gets.settled();
    until("the load goes on", || gets.settled() > settled + 50);
    for load in [gets, posts] {
        let ledger = load.stop().unwrap();
        assert_eq!(ledger.lost(), 0, "{ledger}");
    }
}

#[test]
fn bad_versions_are_rolled_back_without_a_loss_and_never_get_a_request() {
    let mut everup = shop(2, "batch = 1\nstart_timeout = \"2s\"").start();
    everup.wait_all_up();
    let gets = everup.load("/whoami").mode(Mode::Mixed).rate(200.0).start().unwrap();
    let posts = everup.load("/echo").mode(Mode::Mixed).rate(50.0).sending("POST", "hello").start().unwrap();
    let began = std::time::Instant::now();
    let said = deploy(&everup, "exits-1", 3);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(said.contains("died 2 times: exited with code 7") && said.contains("| no data base"), "{said}");
    let id = said.lines().next().and_then(|line| line.split_whitespace().last()).unwrap();
    let told = everup.verb(&["explain", id]).out;
    assert!(
        told.contains("died 2 times in this (at most 1 are forgiven); 2 of 2 old instances are up"),
        "{told}"
    );
    assert!(told.contains("  | no data base"), "{told}");
    let said = deploy(&everup, "never-1", 3);
    assert!(said.contains("was not up in time"), "{said}");
    assert!(is_all(&everup, "v1", 2), "{:?}", everup.status());
    for load in [gets, posts] {
        let ledger = load.stop().unwrap();
        assert_eq!(ledger.lost(), 0, "{ledger}");
        let names: Vec<_> = ledger.who().into_keys().collect();
        assert!(names.iter().all(|name| ["shop-1", "shop-2"].contains(&name.as_str())), "{names:?}");
    }
}

#[test]
fn a_version_that_dies_with_requests_is_rolled_back_and_costs_no_get() {
    let mut everup = shop(2, "batch = 1\npause_between = \"10s\"").start();
    everup.wait_all_up();
    let load = everup.load("/whoami").mode(Mode::Mixed).rate(200.0).start().unwrap();
    let said = deploy(&everup, "dies-1", 3);
    assert!(said.contains("shop-dies-1-1 died"), "{said}");
    assert!(is_all(&everup, "v1", 2), "{:?}", everup.status());
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
    assert!(ledger.who().contains_key("shop-dies-1-1"), "it had requests: {ledger}");
}

#[test]
fn a_version_that_hangs_after_the_switch_goes_back_to_the_kept_instances() {
    // A process that is stopped does not heed SIGTERM.
    let mut everup = shop_with("drain.time = \"2s\"", 2, "strategy = \"blue-green\"").start();
    everup.wait_all_up();
    deploy(&everup, "v2", 0);
    let old: Vec<_> = ["shop-1", "shop-2"].map(|name| everup.instance(name).pid).into();
    for name in ["shop-v2-1", "shop-v2-2"] {
        everup.instance_process(name).signal(rustix::process::Signal::STOP);
    }
    everup.wait_until("all is as it was", |status| {
        let shop = &status.services[0];
        shop.deployment.is_none() && shop.instances.iter().all(|one| one.revision.as_deref() == Some("v1"))
    });
    assert_eq!(old, ["shop-1", "shop-2"].map(|name| everup.instance(name).pid), "the kept ones");
    let past = everup.verb(&["history", "shop"]);
    assert!(past.out.contains("failed its health checks"), "{past:?}");
}

#[test]
fn a_request_in_flight_on_an_old_instance_is_finished_before_it_ends() {
    let mut everup = shop(1, "").start();
    everup.wait_all_up();
    let mut flying = Connection::open(everup.address());
    flying.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    everup.wait_until("it is in flight", |status| status.services[0].in_flight == 1);
    assert_eq!(everup.verb(&["deploy", "shop", "v2", "--detach"]).code, Some(0));
    let status = everup.wait_until("the new one serves", |status| {
        status.services[0]
            .instances
            .iter()
            .any(|one| one.name == "shop-v2-1" && one.state == InstanceState::Up)
    });
    let old = status.services[0].instances.iter().find(|one| one.name == "shop-1").unwrap();
    assert!(old.pid.is_some(), "it waits for the rest of the request: {old:?}");
    assert_eq!(get(everup.address(), "/whoami").instance(), "shop-v2-1");
    flying.send("world");
    let answer = flying.answer();
    assert_eq!((answer.status, answer.instance(), answer.text().as_str()), (200, "shop-1", "helloworld"));
    everup.wait_until("the old one is gone", |status| {
        status.services[0].deployment.is_none() && status.services[0].instances.len() == 1
    });
}

#[test]
fn a_worker_that_is_killed_anywhere_in_a_deployment_is_followed_by_one_that_finishes_it() {
    for (strategy, wait) in [("rolling", 0), ("rolling", 500), ("rolling", 1100), ("blue-green", 700)] {
        let more = format!("strategy = \"{strategy}\"\nbatch = 1\nkeep_previous = \"1s\"");
        let mut everup = shop(2, &more).start();
        everup.wait_all_up();
        assert_eq!(everup.verb(&["deploy", "shop", "v2", "--detach"]).code, Some(0));
        let began = std::time::Instant::now();
        until("it is under way", || began.elapsed() >= Duration::from_millis(wait));
        let worker = Process::with_id(everup.status().worker_pid).unwrap();
        worker.kill();
        everup.wait_until("the next worker finished it", |status| {
            let shop = &status.services[0];
            status.worker_pid != worker.pid && shop.deployment.is_none()
        });
        until("only new ones are left", || is_all(&everup, "v2", 2));
        let past = everup.verb(&["history", "shop"]);
        assert!(past.out.contains("v1 -> v2") && past.out.contains(": done"), "{past:?}");
        assert_eq!(get(everup.address(), "/whoami").status, 200);
    }
}

#[test]
fn a_deployed_revision_is_what_the_next_everup_starts() {
    let state = tempfile::tempdir().unwrap();
    let mut everup = shop(2, "batch = 2").state(state.path()).start();
    everup.wait_all_up();
    deploy(&everup, "v2", 0);
    let stopped = everup.stop_with(rustix::process::Signal::TERM);
    assert_eq!((stopped.code, stopped.left.len()), (Some(0), 0), "{stopped:?}");
    let mut everup = shop(2, "batch = 2").state(state.path()).start();
    everup.wait_all_up();
    assert_eq!(who(&everup), ["shop-v2-1", "shop-v2-2"]);
    let back = everup.verb(&["rollback", "shop", "--watch"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    assert_eq!(who(&everup), ["shop-1", "shop-2"]);
}

#[test]
fn a_deployment_in_which_everything_was_killed_is_finished_by_the_next_everup() {
    let state = tempfile::tempdir().unwrap();
    let start = || shop(2, "batch = 1").state(state.path());
    let mut everup = start().start();
    everup.wait_all_up();
    assert_eq!(everup.verb(&["deploy", "shop", "v2", "--detach"]).code, Some(0));
    everup.wait_until("a new one gets requests", |status| {
        status.services[0].deployment.as_ref().is_some_and(|one| one.new.takes > 0)
    });
    let all = everup_e2e::descendants(everup.keeper().pid);
    everup.keeper().kill();
    all.iter().for_each(|process| process.kill());
    drop(everup);
    let mut everup = start().start();
    everup.wait_until("it is over", |status| status.services[0].deployment.is_none());
    until("only new ones are left", || is_all(&everup, "v2", 2));
}

#[test]
fn a_store_that_cannot_be_opened_refuses_deployments_and_leaves_the_traffic_alone() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("deploys.redb"), "this is no store").unwrap();
    let mut everup = shop(2, "").state(state.path()).start();
    everup.wait_all_up();
    let said = everup.verb(&["deploy", "shop", "v2"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("deploys.redb cannot be opened"), "{said:?}");
    assert_eq!(get(everup.address(), "/whoami").status, 200);
    assert_eq!(who(&everup), ["shop-1", "shop-2"]);
    let killed = everup.instance_process("shop-1");
    killed.kill();
    everup.wait_until("it is back", |status| {
        let shop = &status.services[0].instances;
        shop.iter().all(|one| one.state == InstanceState::Up && one.pid != Some(killed.pid))
    });
    Process::with_id(everup.status().worker_pid).unwrap().kill();
    everup.wait_until("another worker serves", |status| status.ready && status.worker_restarts == 1);
    everup.wait_all_up();
    assert_eq!(who(&everup), ["shop-1", "shop-2"]);
}

#[test]
fn an_operator_can_plan_approve_pause_resume_and_abort() {
    let mut everup = shop(2, "approve = \"manual\"\nbatch = 1").start();
    everup.wait_all_up();
    let plan = everup.verb(&["plan", "shop", "v2"]);
    assert!(
        plan.out.contains("wait for `everup promote`") && plan.out.contains("zero-downtime: yes"),
        "{plan:?}"
    );
    let said = deploy(&everup, "v2", 4);
    assert!(said.contains("v2 waits for you: `everup promote shop`"), "{said}");
    let again = everup.verb(&["deploy", "shop", "v3"]);
    assert!(again.code == Some(1) && again.err.contains("is being deployed from v1 to v2"), "{again:?}");
    assert!(everup.verb(&["status"]).out.contains("v1 -> v2  rolling"));
    assert_eq!(everup.verb(&["pause", "shop"]).code, Some(0));
    assert_eq!(everup.verb(&["promote", "shop"]).code, Some(0));
    let shown = everup.service("shop").deployment.unwrap();
    assert_eq!(shown.state, DeploymentState::Paused, "{shown:?}");
    assert_eq!(shown.new.takes, 0, "{shown:?}");
    assert_eq!(everup.verb(&["resume", "shop"]).code, Some(0));
    everup.wait_until("a new one gets requests", |status| {
        status.services[0].deployment.as_ref().is_some_and(|one| one.new.takes > 0)
    });
    let gone = everup.verb(&["abort", "shop", "--watch"]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(is_all(&everup, "v1", 2), "{:?}", everup.status());
    let nothing = everup.verb(&["abort", "shop"]);
    assert!(nothing.code == Some(1) && nothing.err.contains("nothing is being deployed"), "{nothing:?}");
}

#[test]
fn a_locked_service_refuses_what_is_new_and_lets_what_was_before_come_back() {
    let mut everup = shop(1, "batch = 1").start();
    everup.wait_all_up();
    deploy(&everup, "v2", 0);
    let locked = everup.verb(&["lock", "shop", "--reason", "a big sale"]);
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let again = everup.verb(&["lock", "shop"]);
    assert!(again.code == Some(1) && again.err.contains("already"), "{again:?}");
    let worker = Process::with_id(everup.status().worker_pid).unwrap();
    worker.kill();
    everup.wait_until("another worker serves", |status| status.ready && status.worker_restarts == 1);
    let refused = everup.verb(&["deploy", "shop", "v3"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("shop is locked by ") && refused.err.contains("Z: a big sale"),
        "{refused:?}"
    );
    assert!(everup.verb(&["status"]).out.contains("Z: a big sale"));
    let back = everup.verb(&["rollback", "shop", "--watch"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    assert!(is_all(&everup, "v1", 1), "{:?}", everup.status());
    assert_eq!(everup.verb(&["unlock", "shop"]).code, Some(0));
    assert_eq!(everup.verb(&["unlock", "shop"]).code, Some(1));
    deploy(&everup, "v3", 0);
}

#[test]
fn the_quickstart_can_deploy_its_second_version() {
    let text = std::fs::read_to_string(repository().join("examples/quickstart.toml")).unwrap();
    let line = |line: &str| match line.trim_start().starts_with("bind") {
        true => "bind = [\"127.0.0.1:0\"]".to_owned(),
        false => line.to_owned(),
    };
    let mut everup = Everup::with(text.lines().map(line).collect::<Vec<_>>().join("\n")).start();
    everup.wait_all_up();
    assert!(get(everup.address(), "/whoami").text().contains("v1"));
    let plan = everup.verb(&["plan", "shop", "v2"]);
    assert!(plan.out.contains("zero-downtime: yes"), "{plan:?}");
    deploy(&everup, "v2", 0);
    assert!(get(everup.address(), "/whoami").text().contains("v2"));
}

/// The instances with their processes.
fn processes(everup: &Everup) -> Vec<(String, Option<u32>)> {
    let mut all: Vec<_> =
        everup.service("shop").instances.into_iter().map(|one| (one.name, one.pid)).collect();
    all.sort();
    all
}

#[test]
fn reloads_and_deployments_leave_each_other_alone() {
    let settings = |requests: u32| format!("park = {{ requests = {requests} }}");
    let mut everup = shop_with(&settings(1), 2, "batch = 1").start();
    everup.wait_all_up();
    let load = everup.load("/whoami").mode(Mode::Mixed).rate(100.0).start().unwrap();
    deploy(&everup, "v2", 0);
    let before = processes(&everup);
    assert_eq!(who(&everup), ["shop-v2-1", "shop-v2-2"]);
    let said = everup.reload(config(&settings(2), 2, "batch = 1"));
    assert!(said.out.contains("service shop: park changed"), "{said:?}");
    assert_eq!(processes(&everup), before, "a reload touches no instance");

    // One more of what was deployed, and one less.
    everup.reload(config(&settings(2), 3, "batch = 1"));
    until("there are three", || is_all(&everup, "v2", 3));
    everup.reload(config(&settings(2), 2, "batch = 1"));
    until("there are two", || processes(&everup) == before);
    everup.reload(config(&settings(2), 3, "batch = 1"));
    until("there are three again", || is_all(&everup, "v2", 3));

    // Another strategy holds for the next deployment, of which nothing is taken away while it is under way.
    let blue_green = "strategy = \"blue-green\"\nkeep_previous = \"10m\"";
    everup.reload(config(&settings(2), 3, blue_green));
    deploy(&everup, "v3", 0);
    let before = processes(&everup);
    assert_eq!(before.len(), 6, "{before:?}");
    everup.configure(config(&settings(2), 2, blue_green));
    for verb in ["plan", "reload"] {
        let said = everup.verb(&[verb]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("service shop: `run.replicas` cannot be changed"), "{said:?}");
    }
    everup.reload(config(&settings(3), 3, blue_green));
    assert_eq!(processes(&everup), before);
    assert_eq!(everup.verb(&["promote", "shop"]).code, Some(0));
    until("only the new ones are left", || is_all(&everup, "v3", 3));
    everup.reload(config(&settings(3), 2, blue_green));
    until("there are two again", || is_all(&everup, "v3", 2));
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");

    // The worker's end costs requests that it has. The next one begins with what was reloaded and deployed.
    let before = processes(&everup);
    let worker = Process::with_id(everup.status().worker_pid).unwrap();
    worker.kill();
    everup.wait_until("the next worker is there", |status| status.worker_pid != worker.pid);
    until("it has what was deployed", || is_all(&everup, "v3", 2));
    assert_eq!(processes(&everup), before);
}

#[test]
fn a_service_that_a_reload_brings_can_be_deployed_and_comes_back_as_it_was() {
    let sample = everup_e2e::Sample::start("other");
    let with = config("", 1, "batch = 1");
    let without = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"other\"\n[service.other]\ninstances = [\"{}\"]\n",
        sample.address()
    );
    let mut everup = Everup::with(without.clone()).start();
    everup.wait_all_up();
    everup.reload(with.clone());
    until("it came up", || is_all(&everup, "v1", 1));
    deploy(&everup, "v2", 0);
    let process = everup.instance_process("shop-v2-1");
    everup.reload(without);
    until("it is gone", || !process.is_alive());
    let refused = everup.verb(&["deploy", "shop", "v3"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    everup.reload(with);
    until("what was deployed is back", || is_all(&everup, "v2", 1));
    assert_eq!(who(&everup), ["shop-v2-1"]);
    deploy(&everup, "v3", 0);
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}
