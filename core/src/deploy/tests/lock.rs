//! A locked service: nothing new comes, what is under way goes on, and the way back is open.

use super::steps::{Play, S, up, with};
use super::*;

fn begin(stage: &mut Play, to: &str, is_rollback: bool) -> Result<String, String> {
    let settings = settings("strategy = \"blue-green\"\nmin_healthy = \"1s\"");
    let (by, reason) = ("bob".into(), String::new());
    let begun = stage
        .machine
        .begin(stage.now, Begin { id: to.into(), to: to.into(), by, reason, settings, is_rollback });
    stage.settle();
    begun
}

#[test]
fn a_locked_service_refuses_a_deployment_with_who_when_and_why_until_it_is_unlocked() {
    let mut stage = Play::new(Row::new("v1"));
    assert_eq!(stage.machine.unlock(stage.now), Err("shop is not locked".into()));
    stage.machine.lock(stage.now, "ann", "a big sale").unwrap();
    stage.settle();
    let why = "locked by ann since 2027-01-15 08:00:00Z: a big sale";
    let refused = Err(format!("shop is {why}; `everup unlock shop` ends that"));
    assert_eq!(begin(&mut stage, "v2", false), refused);
    assert_eq!(stage.machine.lock(stage.now, "bob", ""), Err(format!("shop is {why} already")));
    // The next worker knows it, too.
    let mut next = Play::new(stage.machine.durable().clone());
    assert_eq!(begin(&mut next, "v2", false), refused);
    assert_eq!(next.machine.unlock(next.now), Ok(format!("unlocked; it was {why}")));
    next.settle();
    assert!(begin(&mut next, "v2", false).is_ok());
}

#[test]
fn a_lock_leaves_what_is_under_way_and_the_way_back_alone() {
    let mut stage = Play::new(Row::new("v1"));
    begin(&mut stage, "v2", false).unwrap();
    let said = stage.machine.lock(stage.now, "ann", "").unwrap();
    assert!(said.contains("goes on"), "{said}");
    stage.settle();
    stage.sees("v2", 1, up());
    stage.sees("v2", 2, up());
    stage.after(S);
    assert_eq!(&*stage.machine.row().stable, "v2", "{}", stage.at());
    assert!(begin(&mut stage, "v3", false).is_err());
    stage.after(600 * S);
    stage.sees("v1", 1, with(Process::Absent));
    stage.sees("v1", 2, with(Process::Absent));
    assert_eq!(stage.at(), "done: v2 serves");
    assert!(begin(&mut stage, "v1", false).is_err());
    assert!(begin(&mut stage, "v1", true).is_ok());
}
