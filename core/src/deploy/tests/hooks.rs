//! Hooks: where they are run, what follows from their failure, and what is done when nobody knows how far one came.

use super::steps::{Play, S, up, with};
use super::*;

const ALL: &str = "min_healthy = \"1s\"\npause_between = \"0s\"\nbefore = [\"b\", \"{revision}\"]\nbefore_switch = [\"bs\"]\n\
                   per_batch = [\"pb\"]\nafter_switch = [\"as\"]\nafter = [\"a\", \"{service}\"]\non_rollback = [\"r\"]";

fn about(stage: &Play) -> Vec<String> {
    stage.hook.as_ref().unwrap().slots.iter().map(|slot| stage.machine.name(slot)).collect()
}

#[test]
fn every_hook_has_its_place_and_nothing_goes_on_before_it_has_passed() {
    let mut stage = Play::deploying(&format!("{ALL}\nbatch = 1"));
    assert_eq!(stage.told(), ["hook 1 b v2"]);
    stage.after(60 * S);
    assert_eq!(stage.told(), Vec::<String>::new());
    stage.hook_ends(true);
    assert_eq!(stage.told(), ["start shop-v2-1"]);
    stage.sees("v2", 1, up());
    stage.after(S);
    assert_eq!((stage.told(), about(&stage)), (vec!["hook 2 bs".to_owned()], vec!["shop-v2-1".to_owned()]));
    stage.hook_ends(true);
    assert_eq!(stage.told(), ["route shop-2 shop-v2-1", "stop shop-1"]);
    stage.sees("v1", 1, with(Process::Absent));
    assert_eq!(
        (stage.told(), about(&stage)),
        (vec!["forget shop-1".into(), "hook 3 pb".into()], vec!["shop-v2-1".into()])
    );
    stage.hook_ends(true);
    stage.sees("v2", 2, up());
    stage.after(S);
    assert_eq!(
        (stage.told(), about(&stage)),
        (vec!["start shop-v2-2".into(), "hook 4 bs".into()], vec!["shop-v2-2".into()])
    );
    stage.hook_ends(true);
    stage.sees("v1", 2, with(Process::Absent));
    assert_eq!(about(&stage), ["shop-v2-2"]);
    stage.hook_ends(true);
    assert_eq!(about(&stage), ["shop-v2-1", "shop-v2-2"]);
    assert_eq!(&*stage.machine.row().stable, "v1", "`after_switch` comes before the commit");
    stage.told();
    stage.hook_ends(true);
    assert_eq!((stage.told(), &*stage.machine.row().stable), (vec!["hook 7 a shop".to_owned()], "v2"));
    stage.hook_ends(true);
    assert_eq!(stage.at(), "done: v2 serves");
    let runs = &stage.machine.row().deployment.as_ref().unwrap().hook_runs;
    assert!(runs.len() == 7 && runs.iter().all(|run| run.passed), "{runs:?}");
}

#[test]
fn a_hook_that_fails_before_requests_move_undoes_everything() {
    let mut stage = Play::deploying(&format!("{ALL}\nstrategy = \"blue-green\""));
    stage.hook_ends(true);
    stage.sees("v2", 1, up());
    stage.sees("v2", 2, up());
    stage.after(S);
    stage.told();
    stage.hook_ends(false);
    assert_eq!(stage.told(), ["stop shop-v2-1", "stop shop-v2-2"]);
    stage.sees("v2", 1, with(Process::Absent));
    stage.sees("v2", 2, with(Process::Absent));
    assert_eq!(stage.told(), ["forget shop-v2-1", "forget shop-v2-2", "hook 3 r"]);
    stage.hook_ends(false);
    assert_eq!(stage.at(), "rolled back to v1: hook `before_switch`: exited with code 1");
    assert_eq!(stage.machine.row().deployment.as_ref().unwrap().log, ["it said so"]);
}

#[test]
fn on_fail_hold_also_holds_when_a_hook_fails_and_the_operator_decides() {
    let start = || {
        let mut stage = Play::deploying("before = [\"b\"]\non_fail = \"hold\"\nbatch = 1");
        stage.told();
        stage.hook_ends(false);
        assert_eq!(stage.at(), "held: hook `before`: exited with code 1");
        stage
    };
    let mut stage = start();
    stage.order(Order::Resume).unwrap();
    assert_eq!(stage.told(), ["hook 2 b"], "it is run again");
    stage.hook_ends(true);
    assert_eq!(stage.told(), ["start shop-v2-1"]);
    let mut stage = start();
    assert_eq!(stage.order(Order::Promote).unwrap(), "goes on without that hook");
    assert_eq!(stage.told(), ["start shop-v2-1"]);
    let mut stage = start();
    stage.order(Order::Abort).unwrap();
    assert!(stage.at().starts_with("rolled back"), "{}", stage.at());
}

#[test]
fn what_fails_after_the_switch_is_held_and_after_the_commit_told() {
    let mut stage = Play::deploying(&format!("{ALL}\nstrategy = \"blue-green\""));
    stage.hook_ends(true);
    stage.sees("v2", 1, up());
    stage.sees("v2", 2, up());
    stage.after(S);
    stage.hook_ends(true);
    stage.hook_ends(false);
    assert_eq!(stage.at(), "held: hook `after_switch`: exited with code 1");
    stage.order(Order::Promote).unwrap();
    stage.hook_ends(false);
    assert!(stage.at().starts_with("keep v1"), "{}", stage.at());
}

#[test]
fn a_hook_of_a_deployment_that_goes_back_is_ended() {
    let mut stage = Play::deploying("before = [\"b\"]\nbatch = 1");
    stage.told();
    stage.order(Order::Abort).unwrap();
    assert_eq!(stage.told(), ["end the hook"]);
    let late = stage.machine.row().version;
    stage.hook_ends(true);
    assert_eq!(stage.machine.row().version, late, "nobody waits for it any more");
}

/// Another worker finds the row; whether the hook ran, nobody knows.
fn taken_over(stage: &Play) -> Play {
    Play::new(stage.machine.row().clone())
}

#[test]
fn a_hook_that_may_have_run_is_held_and_a_repeatable_one_is_run_again() {
    for (more, at, told) in [
        ("", "held: hook `before` may have run: everup's worker ended meanwhile", vec![]),
        ("hooks_repeatable = true", "run the hook `before`, at most 5 min: b", vec!["hook 2 b"]),
    ] {
        let stage = Play::deploying(&format!("before = [\"b\"]\nbatch = 1\n{more}"));
        let mut next = taken_over(&stage);
        next.after(S);
        assert_eq!((next.at(), next.told()), (at.to_owned(), told.into_iter().map(String::from).collect()));
    }
    let mut stage = Play::deploying("before = [\"b\"]\nbatch = 1");
    stage.hook_ends(true);
    let mut next = taken_over(&stage);
    next.after(S);
    assert_eq!(next.told(), ["start shop-v2-1"], "its result was stored");
}

#[test]
fn a_hook_is_not_run_before_that_is_stored() {
    let mut stage = Play::new(Row::new("v1"));
    stage.answers = false;
    let settings = settings("before = [\"b\"]");
    let begin = Begin {
        id: "d1".into(),
        to: "v2".into(),
        by: "ann".into(),
        reason: String::new(),
        settings,
        is_rollback: false,
    };
    stage.machine.begin(stage.now, begin).unwrap();
    stage.settle();
    assert_eq!(stage.told(), ["store"]);
    stage.machine.handle(stage.now, Input::Stored(1));
    stage.settle();
    assert_eq!(stage.told(), ["hook 1 b"]);
}

#[test]
fn new_instances_are_warmed_up_before_anything_else_meets_them_and_after_a_crash_again() {
    let mut stage =
        Play::deploying("warm_up = \"/warm\"\nbefore_switch = [\"bs\"]\nbatch = 2\nmin_healthy = \"1s\"");
    stage.sees("v2", 1, up());
    stage.sees("v2", 2, up());
    stage.told();
    stage.after(S);
    assert_eq!(
        (stage.told(), about(&stage)),
        (vec!["warm up 1 /warm".into()], vec!["shop-v2-1".into(), "shop-v2-2".into()])
    );
    let mut next = taken_over(&stage);
    next.sees("v2", 1, up());
    next.sees("v2", 2, up());
    next.after(S);
    assert!(next.told().contains(&"warm up 2 /warm".to_owned()), "{}", next.at());
    stage.hook_ends(true);
    assert_eq!(stage.told(), ["hook 2 bs"]);
    let mut cold = taken_over(&next);
    cold.sees("v2", 1, up());
    cold.sees("v2", 2, up());
    cold.after(S);
    cold.hook_ends(false);
    assert_eq!(cold.at(), "goes back to v1: hook `warm_up`: exited with code 1");
}
