//! Messages and descriptors over a real socket pair, and a peer that talks nonsense.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use everup_core::ids::InstanceId;
use everup_core::keeper::{ExitStatus, PROTOCOL, SocketRole, ToKeeper, ToWorker};

use super::*;

fn ends() -> (Link, Link) {
    let (ours, theirs) = Link::pair().unwrap();
    (ours, Link::from_descriptor(theirs).unwrap())
}

fn hello(protocol: u32) -> ToWorker {
    ToWorker::Hello { protocol, config_path: "/etc/everup.toml".into(), keeper_pid: 7, restarts: 2 }
}

#[test]
fn a_message_arrives_whole_with_its_descriptor() {
    let (keeper, worker) = ends();
    let (mut near, far) = UnixStream::pair().unwrap();
    let start =
        ToKeeper::Start { id: InstanceId::new("shop", "shop-1"), port: 20_001, revision: "v1".into() };
    worker.send(&start, &[far.as_fd()]).unwrap();
    drop(far);

    let (message, mut descriptors) = keeper.receive::<ToKeeper>().unwrap().unwrap();
    assert_eq!(message, start);
    assert_eq!(descriptors.len(), 1);
    let flags = rustix::io::fcntl_getfd(&descriptors[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));

    let mut far = UnixStream::from(descriptors.remove(0));
    far.write_all(b"x").unwrap();
    let mut byte = [0];
    near.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn the_largest_notes_fit_even_when_every_byte_is_a_quote() {
    let (keeper, worker) = ends();
    let sent = ToKeeper::Remember { notes: "\"".repeat(NOTES_BYTES) };
    assert!(worker.try_send(&sent, &[]).unwrap());
    assert_eq!(keeper.receive::<ToKeeper>().unwrap().unwrap().0, sent);
}

#[test]
fn a_message_above_the_limit_is_refused_and_not_sent() {
    let (keeper, worker) = ends();
    let refused = worker.send(&ToKeeper::Remember { notes: "x".repeat(DATAGRAM_BYTES) }, &[]);
    assert!(matches!(refused, Err(LinkError::TooLarge { bytes }) if bytes > DATAGRAM_BYTES));
    assert!(matches!(keeper.try_receive::<ToKeeper>().unwrap(), Received::Nothing));
}

#[test]
fn too_many_descriptors_are_refused() {
    let (_keeper, worker) = ends();
    let many = [worker.as_fd(); DESCRIPTORS + 1];
    let refused = worker.send(&ToKeeper::Ready, &many);
    assert!(matches!(refused, Err(LinkError::TooManyDescriptors { count }) if count == DESCRIPTORS + 1));
}

#[test]
fn what_was_sent_before_the_peer_died_is_read_before_its_death_is_told() {
    let (keeper, worker) = ends();
    worker.send(&ToKeeper::Ready, &[]).unwrap();
    drop(worker);
    assert!(matches!(keeper.try_receive().unwrap(), Received::Message(ToKeeper::Ready, _)));
    assert!(matches!(keeper.try_receive::<ToKeeper>().unwrap(), Received::Gone));
    assert!(keeper.receive::<ToKeeper>().unwrap().is_none());
    assert!(matches!(keeper.send(&ToWorker::Begin, &[]), Err(LinkError::Gone)));
}

#[test]
fn the_last_words_of_a_peer_that_had_not_read_everything_are_read() {
    let (keeper, worker) = ends();
    keeper.send(&ToWorker::Begin, &[]).unwrap();
    worker.send(&ToKeeper::Finished, &[]).unwrap();
    drop(worker);
    assert!(matches!(keeper.try_receive().unwrap(), Received::Message(ToKeeper::Finished, _)));
    assert!(matches!(keeper.try_receive::<ToKeeper>().unwrap(), Received::Gone));
}

#[test]
fn a_peer_that_does_not_read_fills_the_line_and_blocks_nobody() {
    let (keeper, worker) = ends();
    let mut sent = 0;
    while keeper.try_send(&ToWorker::Shutdown { hasten: false }, &[]).unwrap() {
        sent += 1;
    }
    assert!(sent > 0);
    for _ in 0..sent {
        assert!(matches!(worker.try_receive::<ToWorker>().unwrap(), Received::Message(..)));
    }
    assert!(keeper.try_send(&ToWorker::Begin, &[]).unwrap());
}

#[test]
fn bytes_that_are_no_message_are_an_error_and_the_next_message_is_read() {
    let (keeper, worker) = ends();
    rustix::net::send(&worker, b"{\"Nonsense\":1}", SendFlags::empty()).unwrap();
    worker.send(&ToKeeper::Ready, &[]).unwrap();
    assert!(matches!(keeper.receive::<ToKeeper>(), Err(LinkError::Malformed(_))));
    assert!(matches!(keeper.receive().unwrap(), Some((ToKeeper::Ready, _))));
}

#[test]
fn a_datagram_above_the_limit_is_told_as_cut_short() {
    let (keeper, worker) = ends();
    rustix::net::send(&worker, &vec![b' '; DATAGRAM_BYTES + 1], SendFlags::empty()).unwrap();
    assert!(matches!(keeper.receive::<ToKeeper>(), Err(LinkError::Truncated)));
}

#[test]
fn a_descriptor_that_is_no_link_is_refused() {
    let (stream, _other) = UnixStream::pair().unwrap();
    assert!(matches!(Link::from_descriptor(stream.into()), Err(LinkError::NotInherited)));
}

#[test]
fn a_worker_inherits_everything_that_was_sent_before_begin() {
    let (keeper, worker) = ends();
    let role = SocketRole::Listener { listener: 0, bind: 1 };
    let sockets = |role| ToWorker::Sockets { role, address: "127.0.0.1:80".into() };
    let id = InstanceId::new("shop", "shop-1");
    keeper.send(&hello(PROTOCOL), &[]).unwrap();
    keeper.send(&ToWorker::ConfigText { piece: "[no".into() }, &[]).unwrap();
    keeper.send(&ToWorker::ConfigText { piece: "de]".into() }, &[]).unwrap();
    keeper.send(&sockets(role), &[keeper.as_fd(); DESCRIPTORS]).unwrap();
    keeper.send(&sockets(role), &[keeper.as_fd()]).unwrap();
    keeper.send(&sockets(SocketRole::Admin), &[keeper.as_fd()]).unwrap();
    let adopt = ToWorker::Adopt { id: id.clone(), pid: 9, port: 20_000, revision: "v1".into() };
    keeper.send(&adopt, &[]).unwrap();
    keeper.send(&ToWorker::Notes { notes: "n".into() }, &[]).unwrap();
    keeper.send(&ToWorker::Begin, &[]).unwrap();

    let inherited = receive_start(&worker).unwrap();
    assert_eq!(inherited.config_path, "/etc/everup.toml");
    assert_eq!((inherited.keeper_pid, inherited.restarts), (7, 2));
    assert_eq!(inherited.config_text, "[node]");
    let counts: Vec<_> = inherited.sockets.iter().map(|s| (s.role, s.descriptors.len())).collect();
    assert_eq!(counts, [(role, DESCRIPTORS + 1), (SocketRole::Admin, 1)]);
    assert_eq!(inherited.adopted, [Adopted { id, pid: 9, port: 20_000, revision: "v1".into() }]);
    assert_eq!(inherited.notes.as_deref(), Some("n"));
}

#[test]
fn a_worker_refuses_a_keeper_of_another_protocol() {
    let (keeper, worker) = ends();
    keeper.send(&hello(PROTOCOL + 1), &[]).unwrap();
    let refused = receive_start(&worker).unwrap_err();
    assert!(matches!(refused, LinkError::Protocol { theirs, ours: PROTOCOL } if theirs == PROTOCOL + 1));
    assert!(refused.to_string().contains("different versions of everup"));
}

#[test]
fn a_worker_refuses_a_start_that_is_out_of_order() {
    let (keeper, worker) = ends();
    keeper.send(&ToWorker::Begin, &[]).unwrap();
    assert!(matches!(receive_start(&worker), Err(LinkError::OutOfOrder(_))));

    let (keeper, worker) = ends();
    let id = InstanceId::new("shop", "shop-1");
    keeper.send(&hello(PROTOCOL), &[]).unwrap();
    keeper.send(&ToWorker::Exited { id, pid: 1, status: ExitStatus::Code(0) }, &[]).unwrap();
    assert!(matches!(receive_start(&worker), Err(LinkError::OutOfOrder(_))));
}

#[test]
fn a_worker_whose_keeper_dies_during_the_start_is_told() {
    let (keeper, worker) = ends();
    keeper.send(&hello(PROTOCOL), &[]).unwrap();
    drop(keeper);
    assert!(matches!(receive_start(&worker), Err(LinkError::Gone)));
}
