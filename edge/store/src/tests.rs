//! The file: what is written is read again, whatever happens to the process, and what cannot be read is not touched.

use std::sync::mpsc::channel;
use std::time::Duration;

use everup_core::config;
use everup_core::deploy::{Begin, Given, Input, Machine, Output, Process, Seen, Slot};
use everup_core::ids::Generation;
use everup_core::time::Time;

use super::*;

/// The row of a service that deploys `to`, with this id.
fn deploying(to: &str, id: &str) -> Row {
    let text = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop.run]\ncommand = [\"shop\"]\n";
    let settings = config::parse(text).unwrap().services.remove(0).deploy;
    let given = Given { service: "shop".into(), replicas: 1, drain: Duration::from_secs(1) };
    let mut machine = Machine::new(given, Row::new("v1"), Generation(0));
    let up = Seen { process: Process::Running, up: true, ..Seen::default() };
    machine.handle(Time::ZERO, Input::Instance { slot: Slot::new(&"v1".into(), 1), seen: up });
    let begin = Begin {
        id: id.into(),
        to: to.into(),
        by: "ann".into(),
        reason: "a reason".into(),
        settings,
        is_rollback: false,
    };
    machine.begin(Time::from_millis(7), begin).unwrap();
    match machine.poll_output() {
        Some(Output::Store(row)) => *row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_read_by_the_next_process() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, known) = Store::open(state.path()).unwrap();
    assert!(known.is_empty());
    let row = deploying("v2", "01A");
    store.write("shop", &row).unwrap();
    store.write("shop-2", &deploying("v9", "01B")).unwrap();
    store.audit("ann: deploy shop v2").unwrap();
    drop(store);
    let (_, known) = Store::open(state.path()).unwrap();
    assert_eq!(known["shop"].row, row);
    assert_eq!(known["shop"].history, [row.deployment.unwrap()]);
    assert_eq!(known["shop-2"].history.len(), 1);
}

#[test]
fn only_the_last_deployments_are_kept_and_those_of_others_stay() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(state.path()).unwrap();
    store.write("a", &deploying("v2", "0")).unwrap();
    store.write("z", &deploying("v2", "0")).unwrap();
    for number in 0..DEPLOYMENTS + 3 {
        store.write("shop", &deploying("v2", &format!("{number:05}"))).unwrap();
    }
    drop(store);
    let (_, known) = Store::open(state.path()).unwrap();
    let ids: Vec<_> = known["shop"].history.iter().map(|one| one.id.as_str()).collect();
    assert_eq!((ids.len(), ids[0]), (DEPLOYMENTS, "00003"));
    assert_eq!((known["a"].history.len(), known["z"].history.len()), (1, 1));
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("deploys.redb");
    std::fs::write(&path, "this is no data base, but somebody may want to look at it").unwrap();
    let refused = Store::open(state.path()).unwrap_err().to_string();
    assert!(refused.contains("deploys.redb cannot be opened"), "{refused}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("this is no data base"));
}

#[test]
fn a_file_of_a_newer_everup_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(state.path()).unwrap();
    let transaction = store.database.as_ref().unwrap().begin_write().unwrap();
    transaction.open_table(ABOUT).unwrap().insert("format", FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(store);
    assert!(Store::open(state.path()).unwrap_err().to_string().contains("newer everup"));
}

#[test]
fn two_processes_cannot_have_it_open() {
    let state = tempfile::tempdir().unwrap();
    let _open = Store::open(state.path()).unwrap();
    let second = Store::open(state.path());
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
}

#[test]
fn the_writer_tells_when_a_row_is_on_the_disk_and_finishes_what_was_ordered() {
    let state = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(state.path()).unwrap();
    let (sender, done) = channel();
    let writer = Writer::spawn(store, move |one| sender.send(one).unwrap()).unwrap();
    writer.write("shop".to_owned(), Box::new(deploying("v2", "01A")));
    writer.audit("ann: deploy".to_owned());
    let Done { service, version, result } = done.recv().unwrap();
    assert_eq!((service.as_str(), version), ("shop", 1));
    result.unwrap();
    let next = Row { version: 2, ..deploying("v3", "01B") };
    writer.write("shop".to_owned(), Box::new(next));
    drop(writer);
    let (_, known) = Store::open(state.path()).unwrap();
    assert_eq!(known["shop"].history.len(), 2);
}

#[test]
fn a_file_with_wrong_bytes_is_refused_or_read_but_never_ends_the_worker() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(state.path()).unwrap();
    for number in 0..30 {
        store.write("shop", &deploying("v2", &format!("{number:05}"))).unwrap();
        store.audit("ann: deploy shop v2").unwrap();
    }
    drop(store);
    let path = state.path().join("deploys.redb");
    let whole = std::fs::read(&path).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..100 {
        let mut bytes = whole.clone();
        if round % 10 == 0 {
            bytes.truncate(usize::try_from(next()).unwrap() % whole.len());
        }
        for _ in 0..1 + next() % 40 {
            let used = bytes.len().clamp(1, 64 * 1024);
            if let Some(byte) = bytes.get_mut(usize::try_from(next()).unwrap() % used) {
                *byte ^= 1 << (next() % 8);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok((mut store, _)) = Store::open(state.path()) {
            // Neither is a panic; what comes of it does not matter.
            let _ = store.write("shop", &deploying("v3", "00099"));
            let _ = store.audit("bob: deploy shop v3");
        }
    }
}

#[test]
fn a_row_that_makes_no_sense_is_refused() {
    let wrong: [fn(&mut Deployment); 6] = [
        |deployment| deployment.recipe.replicas = usize::MAX,
        |deployment| deployment.recipe.unavailable = 2,
        |deployment| deployment.target = 1_000_000,
        |deployment| deployment.at = 100,
        |deployment| deployment.recipe.steps.clear(),
        |deployment| deployment.to = "../x".into(),
    ];
    for make_wrong in wrong {
        let state = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(state.path()).unwrap();
        let mut row = deploying("v2", "01A");
        make_wrong(row.deployment.as_mut().unwrap());
        store.write("shop", &row).unwrap();
        drop(store);
        let refused = Store::open(state.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Content { .. }), "{refused}");
    }
}

#[test]
fn a_row_that_is_written_again_does_not_take_the_place_of_a_newer_one() {
    let state = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(state.path()).unwrap();
    let writer = Writer::spawn(store, |done| done.result.unwrap()).unwrap();
    let row = deploying("v2", "01A");
    let newer = Row { version: row.version + 1, ..row.clone() };
    for one in [&row, &newer, &row] {
        writer.write("shop".to_owned(), Box::new(one.clone()));
    }
    drop(writer);
    assert_eq!(Store::open(state.path()).unwrap().1["shop"].row, newer);
}
