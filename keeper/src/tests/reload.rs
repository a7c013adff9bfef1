//! Stories of another configuration, up to the worker's part in it, which the test plays.

use std::fs;

use everup_core::keeper::{SocketRole, ToKeeper, ToWorker};

use super::FOREVER;
use super::stage::{Actor, Stage};

/// The stage's configuration with two listeners and so many instances.
fn two_listeners(replicas: usize) -> String {
    let listener = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n";
    let run = "command = [\"sleep\", \"1000\"]\nenvironment = { GREETING = \"{service} on {port}\" }\n\
               log = { size = \"1MiB\", files = 1 }";
    format!(
        "[node]\nwatchdog = \"off\"\n{listener}{listener}[service.shop.run]\nreplicas = {replicas}\n{run}\n"
    )
}

fn write(stage: &Stage, text: &str) {
    let new = stage.home().join("everup.toml.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, stage.home().join("everup.toml")).unwrap();
}

/// What the keeper says up to its proposal: text, other messages as words, and the proposal.
fn proposal(worker: &mut Actor) -> (String, Vec<String>, ToWorker) {
    let (mut text, mut words) = (String::new(), Vec::new());
    loop {
        match worker.hear() {
            ToWorker::ConfigText { piece } => text += &piece,
            ToWorker::Change { change } => words.push(change.to_string()),
            ToWorker::Kept { before, now } => words.push(format!("{before:?} is {now:?}")),
            ToWorker::Sockets { role, .. } => words.push(format!("new {role:?}")),
            last @ ToWorker::NewConfig { .. } => return (text, words, last),
            other => panic!("{other:?}"),
        }
    }
}

fn new_config(number: u64, ask: u64, dry: bool) -> ToWorker {
    ToWorker::NewConfig { number, ask: Some(ask), dry, refused: None }
}

fn start_second() -> ToKeeper {
    let id = everup_core::ids::InstanceId::new("shop", "shop-2");
    ToKeeper::Start { id, port: 20_007, revision: "v1".into() }
}

#[test]
fn a_worker_that_changed_is_followed_by_one_with_the_new_configuration() {
    let mut stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    let text = two_listeners(2);
    write(&stage, &text);
    worker.say(&ToKeeper::Reload { ask: 7, dry: false });
    let (told, words, last) = proposal(&mut worker);
    let listener = |listener| SocketRole::Listener { listener, bind: 0 };
    assert_eq!((told, last), (text.clone(), new_config(1, 7, false)));
    assert_eq!(
        words,
        [
            "listener 127.0.0.1:0: added".to_owned(),
            "instance shop/shop-2: added".to_owned(),
            format!("{:?} is {:?}", listener(0), listener(0)),
            format!("new {:?}", listener(1)),
            format!("{:?} is {:?}", SocketRole::Admin, SocketRole::Admin),
        ]
    );
    worker.say(&start_second());
    assert!(matches!(worker.hear(), ToWorker::StartFailed { .. }), "it does not run yet");
    worker.say(&ToKeeper::Reloaded { number: 1, refused: None });
    assert_eq!(worker.hear(), ToWorker::Committed { number: 1 });
    worker.say(&start_second());
    let ToWorker::Started { pid, .. } = worker.hear() else { panic!("not started") };
    stage.clean_up(pid);
    let address = worker.born.address();
    worker.kill();

    let next = stage.worker();
    assert_eq!((next.born.config_text.clone(), next.born.address()), (text, address));
    assert_eq!(next.born.sockets.len(), 3);
}

#[test]
fn a_worker_that_dies_before_it_changed_is_followed_by_one_with_the_old_configuration() {
    let stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    let old = worker.born.config_text.clone();
    write(&stage, &two_listeners(1));
    worker.say(&ToKeeper::Reload { ask: 1, dry: false });
    proposal(&mut worker);
    worker.kill();

    let mut next = stage.worker();
    assert_eq!((next.born.config_text == old, next.born.sockets.len()), (true, 2));
    next.say(&ToKeeper::Ready);
    next.say(&ToKeeper::Reload { ask: 1, dry: false });
    assert_eq!(proposal(&mut next).2, new_config(2, 1, false), "and can change then");
}

#[test]
fn one_configuration_comes_after_the_other_and_a_plan_changes_nothing() {
    let stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    write(&stage, &two_listeners(1));
    for (ask, dry) in [(1, true), (2, false), (3, false)] {
        worker.say(&ToKeeper::Reload { ask, dry });
    }
    let (_, words, last) = proposal(&mut worker);
    assert_eq!((words, last), (vec!["listener 127.0.0.1:0: added".to_owned()], new_config(1, 1, true)));
    assert_eq!(proposal(&mut worker).2, new_config(2, 2, false));
    // The third one waits for the second: nothing else is said before.
    worker.settle();
    worker.say(&ToKeeper::Reloaded { number: 2, refused: Some("the disk is full".into()) });
    let (_, words, last) = proposal(&mut worker);
    assert_eq!(last, new_config(3, 3, false));
    assert_eq!(words[0], "listener 127.0.0.1:0: added", "the second one was not done");
    worker.say(&ToKeeper::Reloaded { number: 3, refused: None });
    assert_eq!(worker.hear(), ToWorker::Committed { number: 3 });
    assert!(stage.words().contains("the configuration was not changed: the disk is full"));
}

#[test]
fn a_file_with_mistakes_is_refused_with_its_text_and_a_missing_one_without() {
    let stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    worker.say(&ToKeeper::Reload { ask: 1, dry: false });
    let refused = |worker: &mut Actor| match proposal(worker) {
        (text, words, ToWorker::NewConfig { refused: Some(why), .. }) if words.is_empty() => (text, why),
        other => panic!("{other:?}"),
    };
    let (text, why) = refused(&mut worker);
    assert!(text.is_empty() && why.contains("No such file"), "{why}");
    write(&stage, "nonsense = 1\n");
    worker.say(&ToKeeper::Reload { ask: 2, dry: true });
    let (text, why) = refused(&mut worker);
    assert!(text == "nonsense = 1\n" && why.contains("mistake"), "{why}");
    stage.signal_keeper(libc::SIGHUP);
    loop {
        if stage.words().contains("the configuration was not changed") {
            break;
        }
        std::thread::yield_now();
    }
    assert!(stage.words().contains("everup.toml:1: unknown key `nonsense`"), "{}", stage.words());
}
