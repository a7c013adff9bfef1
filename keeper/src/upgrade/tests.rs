//! What needs no other binary. The rest is in `e2e/tests/upgrade.rs`.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::lock::StateLock;
use crate::signals::Signals;
use crate::sockets::Held;
use crate::tests::{FOREVER, options_in};
use crate::users::Users;

fn keeper(home: &Path) -> Keeper {
    let mut options = options_in(home, FOREVER);
    options.worker = "/bin/true".into();
    let users = Users::choose(&options.config).unwrap();
    let lock = StateLock::take(&options.state, None).unwrap();
    let held = Held::bind(&options, crate::activation::Given::default()).unwrap();
    Keeper::new(options, users, held, lock, Signals::catch().unwrap())
}

#[test]
fn a_worker_knows_those_that_leave_before_it_begins_and_they_learn_of_it_when_it_is_there() {
    let home = tempfile::tempdir().unwrap();
    let mut keeper = keeper(home.path());
    let (link, end) = Link::pair().unwrap();
    let leaves = Link::from_descriptor(end).unwrap();
    // No process has this number.
    let worker = Worker::new(i32::MAX.cast_unsigned(), link, None);
    keeper.leaving.push(Leaving { worker, until: Instant::now() + Duration::from_secs(1) });

    let (worker, lines) = keeper.new_worker().unwrap();
    let told: Vec<_> = worker.unread().collect();
    let [.., ToWorker::Predecessor { pid, stores: None, .. }, ToWorker::Begin] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*pid, i32::MAX.cast_unsigned());
    keeper.flush_others();
    assert!(matches!(leaves.try_receive::<ToKeeper>().unwrap(), Received::Nothing));
    keeper.connect_leaving(lines);
    keeper.flush_others();
    let Received::Message(ToWorker::Leave, descriptors) = leaves.try_receive().unwrap() else { panic!() };
    assert_eq!(descriptors.len(), 1);
}

#[test]
fn an_old_worker_that_may_not_know_that_it_is_in_charge_again_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let mut keeper = keeper(home.path());
    let mut process = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let (link, _end) = Link::pair().unwrap();
    keeper.worker = Some(Worker::new(process.id(), link, None));
    let asked = Asked { ask: 1, path: "/new".into(), before: "/old".into() };
    let step = Step::Returning { why: "it was not prepared".into() };
    let until = Instant::now() + FLUSH;
    keeper.upgrade = Some(Upgrade { asked, step, until, from: None, lines: Lines::new() });
    keeper.tell(ToWorker::TakeBack);
    keeper.go_back();
    assert_eq!(process.try_wait().unwrap(), None);
    if let Some(upgrade) = &mut keeper.upgrade {
        upgrade.until = Instant::now();
    }
    keeper.go_back();
    let killed = keeper.worker.as_ref().is_some_and(|worker| worker.condemned);
    let _ = process.kill();
    assert!(killed);
    assert_eq!(process.wait().unwrap().signal(), Some(9));
}
