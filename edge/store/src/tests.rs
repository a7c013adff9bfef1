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
    let begin = Begin { id: id.into(), to: to.into(), by: "ann".into(), reason: "a reason".into(), settings };
    machine.begin(Time::from_millis(7), begin).unwrap();
    match machine.poll_output() {
        Some(Output::Store(row)) => *row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_read_by_the_next_process() {
    let state = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(state.path()).unwrap();
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
    let (store, _) = Store::open(state.path()).unwrap();
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
    let transaction = store.database.begin_write().unwrap();
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
    writer.write("shop".to_owned(), Box::new(deploying("v3", "01B")));
    drop(writer);
    let (_, known) = Store::open(state.path()).unwrap();
    assert_eq!(known["shop"].history.len(), 2);
}
