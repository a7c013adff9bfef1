//! Hooks of deployments with the built binary: what they are told, what their failure costs, and who ends them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everup_e2e::api::DeploymentState;
use everup_e2e::{Everup, Mode, Process, Said, until};

/// A deployment's hooks, each a script. `DIR` in it stands for a directory of this stage.
struct Stage {
    everup: Everup,
    directory: tempfile::TempDir,
}

fn stage(more: &str, hooks: &[(&str, &str)]) -> Stage {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let path = directory.path().display().to_string();
    let hooks: String = hooks
        .iter()
        .map(|(hook, script)| {
            format!("{hook} = [\"/bin/sh\", \"-c\", '''{}''']\n", script.replace("DIR", &path))
        })
        .collect();
    let text = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop.health]\nhttp = \"/healthz\"\n\
         interval = \"200ms\"\n[service.shop.run]\ncommand = [\"{{everup}}\", \"sample-app\", \"--port\", \"{{port}}\"]\n\
         replicas = 2\n[service.shop.deploy]\nmin_healthy = \"300ms\"\npause_between = \"0s\"\nbatch = 1\n{more}\n{hooks}"
    );
    let mut everup = Everup::with(text).start();
    everup.wait_all_up();
    Stage { everup, directory }
}

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        std::fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn deploy(&self, code: i32) -> Said {
        let said = self.everup.verb(&["deploy", "shop", "v2", "--reason", "because"]);
        assert_eq!(said.code, Some(code), "{said:?}\n{}", self.everup.said());
        said
    }

    /// The processes that a hook wrote down.
    fn processes(&self, name: &str) -> Vec<Process> {
        let ids = self.lines(name).into_iter().flat_map(|line| {
            line.split_whitespace()
                .map(|id| id.parse::<u32>().expect("hooks write numbers"))
                .collect::<Vec<_>>()
        });
        ids.filter_map(Process::with_id).collect()
    }
}

fn has(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
}

const NOTE: &str = "echo $EVERUP_HOOK $EVERUP_RUN: $EVERUP_INSTANCES >> DIR/told";

#[test]
fn every_hook_is_run_at_its_place_and_told_what_it_is_about() {
    let full = "echo $EVERUP_HOOK $EVERUP_RUN: $EVERUP_SERVICE $EVERUP_PREVIOUS $EVERUP_REVISION {revision} \
                $EVERUP_STRATEGY $EVERUP_REASON >> DIR/told; echo $EVERUP_DEPLOYMENT > DIR/id; ls -l /proc/$$/fd > DIR/open";
    let hooks = [
        ("before", full),
        (
            "before_switch",
            "echo $EVERUP_HOOK $EVERUP_RUN: $EVERUP_INSTANCES >> DIR/told; echo $EVERUP_ADDRESSES > DIR/where",
        ),
        ("per_batch", NOTE),
        ("after_switch", NOTE),
        ("after", "echo $EVERUP_HOOK $EVERUP_RUN: $EVERUP_INSTANCES >> DIR/told; echo all is well"),
        ("on_rollback", NOTE),
    ];
    let stage = stage("", &hooks);
    let plan = stage.everup.verb(&["plan", "shop", "v2"]);
    assert!(plan.out.contains("run the hook `before_switch`, at most 5 min"), "{plan:?}");
    stage.deploy(0);
    assert_eq!(
        stage.lines("told"),
        [
            "before 1: shop v1 v2 v2 rolling because",
            "before_switch 2: shop-v2-1",
            "per_batch 3: shop-v2-1",
            "before_switch 4: shop-v2-2",
            "per_batch 5: shop-v2-2",
            "after_switch 6: shop-v2-1 shop-v2-2",
            "after 7: shop-v2-1 shop-v2-2",
        ]
    );
    let place: std::net::SocketAddr = stage.lines("where")[0].parse().unwrap();
    assert!(place.ip().is_loopback() && place.port() >= 20000, "{place}");
    let open = stage.lines("open").join("\n");
    assert!(open.contains("/dev/null"), "{open}");
    for everups in ["socket:", "anon_inode:", ".redb", ".log"] {
        assert!(!open.contains(everups), "it has something of everup's open: {open}");
    }
    let past = stage.everup.verb(&["history", "shop", "--json"]);
    let past: serde_json::Value = serde_json::from_str(&past.out).unwrap();
    assert_eq!(stage.lines("id"), [past[0]["id"].as_str().unwrap()]);
    let hooks = past[0]["hooks"].as_array().unwrap();
    assert_eq!(hooks.len(), 7);
    assert_eq!(hooks[6]["output"][0], "all is well");
    let told = stage.everup.verb(&["explain", past[0]["id"].as_str().unwrap()]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for wanted in [
        "because: up without a break: shop-v2-1 for 0.",
        "; 300 ms are needed",
        "because: every thread uses table ",
        "hook `after`, run 7 at +",
        "  | all is well",
        "verdict: done: v2 serves",
    ] {
        assert!(told.out.contains(wanted), "{wanted:?} in {told:?}");
    }
}

#[test]
fn a_hook_that_fails_before_the_switch_rolls_back_and_the_version_never_gets_a_request() {
    let fails = "echo the page is white; exit 3";
    let mut stage = stage("strategy = \"blue-green\"", &[("before_switch", fails), ("on_rollback", NOTE)]);
    let load = stage.everup.load("/whoami").mode(Mode::Mixed).rate(100.0).start().unwrap();
    let said = stage.deploy(3);
    assert!(said.out.contains("hook `before_switch`: exited with code 3"), "{said:?}");
    assert!(said.out.contains("| the page is white"), "{said:?}");
    assert_eq!(stage.lines("told"), ["on_rollback 2: shop-1 shop-2"]);
    stage.everup.wait_all_up();
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
    let names: Vec<_> = ledger.who().into_keys().collect();
    assert!(names.iter().all(|name| ["shop-1", "shop-2"].contains(&name.as_str())), "{names:?}");
}

#[test]
fn a_hook_that_fails_after_the_switch_is_held_until_somebody_decides() {
    let once = "test -e DIR/again && exit 0; touch DIR/again; echo not yet; exit 1";
    let stage = stage("", &[("after_switch", once), ("after", "exit 9")]);
    let said = stage.deploy(4);
    assert!(said.out.contains("held: hook `after_switch`: exited with code 1"), "{said:?}");
    let resumed = stage.everup.verb(&["resume", "shop", "--watch"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.out.contains("hook `after`: exited with code 9"), "told, no more: {resumed:?}");
}

#[test]
fn a_hook_that_hangs_is_killed_with_everything_that_it_started() {
    let hangs = "sleep 1000 & echo $$ $! > DIR/pids; wait";
    let stage = stage("hook_timeout = \"1s\"", &[("before", hangs)]);
    let began = Instant::now();
    let said = stage.deploy(3);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(said.out.contains("hook `before`: took longer than 1 s and was killed"), "{said:?}");
    assert!(has(&stage.path("pids")));
    until("both are gone", || stage.processes("pids").iter().all(|process| !process.is_alive()));
    // Neither what it leaves behind nor a program that is not there.
    let left = self::stage("", &[("before", "sleep 1000 & echo $! > DIR/pids")]);
    left.deploy(0);
    until("what it left is gone", || left.processes("pids").iter().all(|process| !process.is_alive()));
}

#[test]
fn a_hook_whose_worker_is_killed_ends_with_it_and_is_run_again_only_if_it_may_be() {
    let slow = "echo $$ >> DIR/pids; sleep 2; echo done >> DIR/told";
    for (more, code) in [("", 4), ("hooks_repeatable = true", 0)] {
        let mut stage = stage(more, &[("before", slow)]);
        assert_eq!(stage.everup.verb(&["deploy", "shop", "v2", "--detach"]).code, Some(0));
        until("the hook runs", || has(&stage.path("pids")));
        let hook = stage.processes("pids");
        Process::with_id(stage.everup.status().worker_pid).unwrap().kill();
        until("the hook is gone, too", || hook.iter().all(|process| !process.is_alive()));
        stage.everup.wait_until("the next worker decided", |status| {
            let deployment = status.services[0].deployment.as_ref();
            let is_held = deployment.is_some_and(|one| one.state == DeploymentState::Held);
            status.worker_restarts == 1 && if code == 4 { is_held } else { deployment.is_none() }
        });
        if code == 4 {
            let shown = stage.everup.verb(&["status"]);
            assert!(shown.out.contains("may have run: everup's worker ended meanwhile"), "{shown:?}");
            assert_eq!(stage.lines("told"), Vec::<String>::new());
            assert_eq!(stage.everup.verb(&["resume", "shop", "--watch"]).code, Some(0));
        }
        assert_eq!(stage.lines("told"), ["done"]);
        assert_eq!(stage.everup.service("shop").instances[0].revision.as_deref(), Some("v2"));
    }
}

#[test]
fn an_everup_that_ends_takes_a_hook_with_it_and_an_abort_does_too() {
    let hangs = "echo $$ > DIR/pids; sleep 1000";
    for aborts in [true, false] {
        let stage = stage("", &[("before", hangs)]);
        assert_eq!(stage.everup.verb(&["deploy", "shop", "v2", "--detach"]).code, Some(0));
        until("the hook runs", || has(&stage.path("pids")));
        let hook = stage.processes("pids");
        assert!(!hook.is_empty());
        let Stage { everup, directory: _directory } = stage;
        let upgrade = everup.verb(&["upgrade"]);
        assert_eq!(upgrade.code, Some(1), "{upgrade:?}");
        assert!(
            upgrade.err.contains("the hook `before` of deployment "),
            "it would be ended by that: {upgrade:?}"
        );
        if aborts {
            assert_eq!(everup.verb(&["abort", "shop", "--watch"]).code, Some(0));
        } else {
            let stopped = everup.stop_with(rustix::process::Signal::TERM);
            assert_eq!((stopped.code, stopped.left.len()), (Some(0), 0), "{stopped:?}");
        }
        until("the hook is gone", || hook.iter().all(|process| !process.is_alive()));
    }
}

#[test]
fn new_instances_are_warmed_up_before_they_get_requests_and_one_that_answers_badly_is_rolled_back() {
    let good = stage("warm_up = \"/whoami\"\nwarm_up_requests = 3", &[("before_switch", NOTE)]);
    let said = good.deploy(0);
    assert!(said.out.contains("warm each of them up with 3 requests for /whoami"), "{said:?}");
    assert!(said.out.contains("hook `warm_up`: 3 requests answered by shop-v2-2"), "{said:?}");
    assert_eq!(good.lines("told"), ["before_switch 2: shop-v2-1", "before_switch 4: shop-v2-2"]);
    let bad = stage("warm_up = \"/no-such-page\"", &[]);
    let load = bad.everup.load("/whoami").mode(Mode::Mixed).rate(100.0).start().unwrap();
    let said = bad.deploy(3);
    let why = "hook `warm_up`: shop-v2-1, request 1 of 10 for /no-such-page: answered 404";
    assert!(said.out.contains(why), "{said:?}");
    let ledger = load.stop().unwrap();
    assert_eq!(ledger.lost(), 0, "{ledger}");
    assert!(ledger.who().into_keys().all(|name| !name.contains("v2")), "{ledger}");
}
