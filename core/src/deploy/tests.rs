//! Recipes, the machine step by step, and whole deployments in random worlds.

mod hooks;
mod lock;
mod steps;
mod world;

use super::*;
use crate::config::{self, Deploy};

/// A service of the configuration with these settings in its `deploy`.
pub(super) fn service(deploy: &str, replicas: usize) -> config::Service {
    let text = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop.health]\nhttp = \"/healthz\"\n\
         [service.shop.run]\ncommand = [\"shop\"]\nreplicas = {replicas}\n[service.shop.deploy]\n{deploy}\n"
    );
    config::parse(&text).unwrap().services.remove(0)
}

pub(super) fn settings(deploy: &str) -> Deploy {
    service(deploy, 1).deploy
}

fn in_words(deploy: &str, replicas: usize) -> Vec<String> {
    Plan::new(&service(deploy, replicas), replicas, "v1", "v2").steps
}

#[test]
fn rolling_starts_new_ones_before_old_ones_go() {
    assert_eq!(
        in_words("batch = 2\npause_between = \"5s\"", 3),
        [
            "start instances 1 to 2 of v2",
            "wait until they are up for 3 s, at most 63 s",
            "give instances 1 to 2 of v2 the requests of instances 1 to 2 of v1, and wait until every thread knows",
            "wait until they have no requests left, and end them",
            "watch it serve for 5 s",
            "start instance 3 of v2",
            "wait until they are up for 3 s, at most 63 s",
            "give instance 3 of v2 the requests of instance 3 of v1, and wait until every thread knows",
            "wait until they have no requests left, and end them",
            "v2 is the service's revision",
            "end what is left of v1",
        ]
    );
}

#[test]
fn rolling_without_room_ends_old_ones_first() {
    let steps = in_words("batch = 1\nsurge = 0\nmax_unavailable = 1\npause_between = \"0s\"", 2);
    assert_eq!(
        steps[..6],
        [
            "give instance 1 of v1 no more requests, and wait until every thread knows",
            "wait until they have no requests left, and end them",
            "start instance 1 of v2",
            "wait until they are up for 3 s, at most 63 s",
            "give instance 1 of v2 requests",
            "wait until they have no requests left, and end them",
        ]
    );
}

#[test]
fn blue_green_switches_all_at_once_and_keeps_the_old_ones() {
    assert_eq!(
        in_words("strategy = \"blue-green\"\napprove = \"manual\"", 3),
        [
            "start instances 1 to 3 of v2",
            "wait until they are up for 3 s, at most 63 s",
            "wait for `everup promote`",
            "give instances 1 to 3 of v2 the requests of instances 1 to 3 of v1, and wait until every thread knows",
            "wait until they have no requests left; keep the processes of v1",
            "v2 is the service's revision",
            "keep v1 without requests for 10 min, for a rollback",
            "end what is left of v1",
        ]
    );
}

#[test]
fn whatever_the_settings_a_recipe_ends_with_all_new_and_never_takes_too_many_away() {
    for replicas in 1..=9 {
        for batch in ["1", "3", "\"25%\"", "\"100%\""] {
            for surge in ["", "surge = 0", "surge = 1", "surge = \"50%\""] {
                for unavailable in ["0", "1", "\"40%\""] {
                    let text = format!("batch = {batch}\n{surge}\nmax_unavailable = {unavailable}");
                    if surge == "surge = 0" && unavailable == "0" {
                        continue;
                    }
                    judge_recipe(&Recipe::new(&settings(&text), replicas), &text);
                }
            }
        }
    }
}

fn judge_recipe(recipe: &Recipe, text: &str) {
    let (mut target, mut admitted, mut retired) = (0, 0, 0);
    for step in &recipe.steps {
        match step {
            Step::Start { target: next } => {
                assert!(*next > target, "{text}");
                target = *next;
            }
            Step::Shift { admitted: new, retired: old } => {
                assert!(*new >= admitted && *old >= retired && *new <= target, "{text}: {recipe:?}");
                (admitted, retired) = (*new, *old);
                let serving = admitted + recipe.replicas - retired;
                assert!(serving + recipe.unavailable >= recipe.replicas, "{text}: {recipe:?}");
            }
            Step::Verify
            | Step::Approve
            | Step::Hook { .. }
            | Step::Drain
            | Step::Rest { .. }
            | Step::Commit
            | Step::Keep { .. }
            | Step::End => {}
        }
    }
    assert_eq!((target, admitted, retired), (recipe.replicas, recipe.replicas, recipe.replicas), "{text}");
}

#[test]
fn a_plan_says_why_it_may_not_be_without_a_lost_request() {
    let plan = |text: &str| {
        let service = config::parse(text).unwrap().services.remove(0);
        Plan::new(&service, 3, "v1", "v2").doubts
    };
    let head = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop]\n";
    let run = "[service.shop.run]\ncommand = [\"shop\"]\n";
    assert_eq!(plan(&format!("{head}health = {{ http = \"/healthz\" }}\n{run}")), Vec::<String>::new());
    let doubts = plan(&format!("{head}drain = {{ time = \"5s\" }}\n{run}"));
    assert!(doubts[0].contains("only connects") && doubts[1].contains("30 s"), "{doubts:?}");
}

#[test]
fn a_plan_counts_processes_and_time() {
    let of = |deploy: &str| {
        let plan = Plan::new(&service(deploy, 4), 4, "v1", "v2");
        (plan.processes, plan.at_least.as_secs())
    };
    assert_eq!(of("batch = 1"), (5, 4 * 3 + 3 * 2));
    assert_eq!(of("strategy = \"blue-green\""), (8, 3));
    assert_eq!(of("batch = 1\nkeep_previous = \"5m\""), (8, 4 * 3 + 3 * 2));
}

#[test]
fn instances_of_the_first_revision_are_named_without_it_and_every_name_is_found_again() {
    for (revision, number, name) in
        [("v1", 2, "shop-2"), ("v2", 1, "shop-v2-1"), ("1", 1, "shop-1-1"), ("1-1", 1, "shop-1-1-1")]
    {
        let slot = Slot::new(&revision.into(), number);
        assert_eq!(slot.name("shop", "v1"), name);
        assert_eq!(Slot::of(name, revision), Some(slot));
    }
    for (name, is) in
        [("shop-3", true), ("shop-v2-1", true), ("shop-v3-1", false), ("shop-v2-", false), ("x-v2-1", false)]
    {
        assert_eq!(Slot::is_name(name, "shop", "v2"), is, "{name}");
    }
    assert_eq!(Slot::of("shop-0", "v1"), None);
    assert_eq!(Slot::of("shop", "v1"), None);
}
