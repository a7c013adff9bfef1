//! A whole worker within this process; the test plays keeper and instance.
#![expect(clippy::unwrap_used, reason = "a test may say so when something is not as it should be")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use everup_admin::Client;
use everup_admin::api::{InstanceState, Status};
use everup_app::{AppError, Link, Notice, run_worker};
use everup_core::keeper::{PROTOCOL, SocketRole, ToKeeper, ToWorker};
use everup_link::knock;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The keeper's side of one worker.
struct Keeper {
    link: Link,
    listener: SocketAddr,
    admin: PathBuf,
    _state: tempfile::TempDir,
    worker: JoinHandle<Result<(), AppError>>,
}

/// An instance that answers every request with 200; its address.
fn instance() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn start(instance: SocketAddr, interval: &str, notes: Option<String>, presenter: fn(Notice<'_>)) -> Keeper {
    let state = tempfile::tempdir().unwrap();
    let admin_path = state.path().join("admin.sock");
    let admin = UnixListener::bind(&admin_path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n\
         [service.shop]\ninstances = [\"{instance}\"]\n\
         [service.shop.health]\ntcp = true\ninterval = \"{interval}\"\n"
    );
    let (link, end) = Link::pair().unwrap();
    let state_path = state.path().to_owned();
    let worker = std::thread::spawn(move || {
        run_worker(Link::from_descriptor(end).unwrap(), &state_path, Box::new(presenter))
    });
    let hello = ToWorker::Hello {
        protocol: PROTOCOL,
        config_path: "everup.toml".into(),
        keeper_pid: std::process::id(),
        restarts: u32::from(notes.is_some()),
    };
    let tell = |message: ToWorker| link.send(&message, &[]).unwrap();
    tell(hello);
    tell(ToWorker::ConfigText { piece: config });
    let role = SocketRole::Listener { listener: 0, bind: 0 };
    link.send(&ToWorker::Sockets { role, address: address.to_string() }, &[listener.as_fd()]).unwrap();
    let sockets = ToWorker::Sockets { role: SocketRole::Admin, address: admin_path.display().to_string() };
    link.send(&sockets, &[admin.as_fd()]).unwrap();
    notes.into_iter().for_each(|notes| tell(ToWorker::Notes { notes }));
    tell(ToWorker::Begin);
    Keeper { link, listener: address, admin: admin_path, _state: state, worker }
}

impl Keeper {
    fn ask<T, F: Future<Output = T>>(&self, question: impl FnOnce(Client) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { question(Client::connect(&self.admin).await.unwrap()).await })
    }

    fn status(&self) -> Status {
        self.ask(|client| async move { client.status().await.unwrap() })
    }

    /// Asks until `wanted` holds.
    fn status_with(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{status:#?}");
            std::thread::yield_now();
        }
    }

    fn get(&self) -> String {
        let mut stream = TcpStream::connect(self.listener).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Stops the worker; what it said, in order.
    fn shutdown(self) -> Vec<ToKeeper> {
        self.link.send(&ToWorker::Shutdown { hasten: false }, &[]).unwrap();
        let said = std::iter::from_fn(|| self.link.receive().unwrap()).map(|(message, _)| message).collect();
        self.worker.join().unwrap().unwrap();
        said
    }
}

fn up(status: &Status) -> bool {
    status.services[0].instances[0].state == InstanceState::Up
}

fn quiet(_: Notice<'_>) {}

#[test]
fn a_worker_serves_and_ends_in_order() {
    let keeper = start(instance(), "1s", None, quiet);
    keeper.status_with(up);
    assert!(keeper.get().starts_with("HTTP/1.1 200"));
    assert_eq!(keeper.status().services[0].requests, 1);
    let said = keeper.shutdown();
    assert_eq!(said.first(), Some(&ToKeeper::Ready));
    assert_eq!(said.last(), Some(&ToKeeper::Finished));
}

#[test]
fn the_next_worker_serves_with_what_the_last_one_believed_before_any_probe() {
    let (backend, hour) = (instance(), "1h");
    let first = start(backend, hour, None, quiet);
    let generation = first.status_with(up).generation;
    let notes = first.shutdown().into_iter().filter_map(|said| match said {
        ToKeeper::Remember { notes } => Some(notes),
        _ => None,
    });
    let second = start(backend, hour, notes.last(), quiet);
    let status = second.status();
    assert!(up(&status) && status.generation > generation, "{status:#?}");
    assert!(second.get().starts_with("HTTP/1.1 200"));
    second.shutdown();
}

#[test]
fn a_drained_instance_gets_nothing_until_undrain() {
    let keeper = start(instance(), "1s", None, quiet);
    let status = keeper.status_with(up);
    let id = everup_core::ids::InstanceId::new("shop", status.services[0].instances[0].name.as_str());
    let answer = keeper.ask(|client| async move { client.drain(&id, None).await.unwrap() });
    assert!(answer.drained, "{answer:?}");
    assert_eq!(keeper.status().services[0].instances[0].state, InstanceState::Drained);
    let id = everup_core::ids::InstanceId::new("shop", status.services[0].instances[0].name.as_str());
    keeper.ask(|client| async move { client.undrain(&id).await.unwrap() });
    assert!(up(&keeper.status()));
    keeper.shutdown();
}

#[test]
fn a_worker_whose_keeper_is_gone_serves_on_and_gives_the_next_one_all_it_has() {
    let Keeper { link, listener, admin, _state, worker } = start(instance(), "1s", None, quiet);
    let door = _state.path().join("worker.sock");
    drop(link);
    let begun = Instant::now();
    let link = loop {
        match knock(&door).unwrap() {
            Some((link, _)) => break link,
            None => assert!(begun.elapsed() < PATIENCE, "nobody opens"),
        }
    };
    let keeper = Keeper { link, listener, admin, _state, worker };
    assert!(keeper.status_with(up).keeper_gone);
    assert!(keeper.get().starts_with("HTTP/1.1 200"));
    let hello = |protocol| ToWorker::Hello {
        protocol,
        config_path: "/other/everup.toml".into(),
        keeper_pid: std::process::id(),
        restarts: 0,
    };
    // One of another version is told so and not let in.
    let (stranger, _) = knock(&door).unwrap().unwrap();
    stranger.send(&hello(PROTOCOL + 1), &[]).unwrap();
    let (said, _) = stranger.receive::<ToKeeper>().unwrap().unwrap();
    assert_eq!(said, ToKeeper::Orphan { protocol: PROTOCOL, restarts: 0 });
    assert!(stranger.receive::<ToKeeper>().unwrap().is_none());
    let (link, _) = knock(&door).unwrap().unwrap();
    let keeper = Keeper { link, ..keeper };
    keeper.link.send(&hello(PROTOCOL), &[]).unwrap();
    let (mut said, mut text, mut sockets) = (Vec::new(), String::new(), 0);
    while said.last() != Some(&ToKeeper::Ready) {
        let (message, descriptors) = keeper.link.receive::<ToKeeper>().unwrap().unwrap();
        sockets += descriptors.len();
        if let ToKeeper::Runs { piece } = &message {
            text += piece;
        }
        said.push(message);
    }
    assert!(text.contains("[service.shop.health]"), "{text}");
    assert_eq!((said[0].clone(), sockets), (ToKeeper::Orphan { protocol: PROTOCOL, restarts: 0 }, 2));
    let status = keeper.status();
    assert_eq!((status.keeper_gone, &*status.config), (false, "/other/everup.toml"));
    assert!(!door.exists());
    assert_eq!(keeper.shutdown().last(), Some(&ToKeeper::Finished));
}

#[test]
fn a_panic_in_the_control_code_stops_neither_traffic_nor_control() {
    fn fails_each_time(notice: Notice<'_>) {
        if let Notice::Summary(_) = notice {
            panic!("a fault of ours, once a second");
        }
    }
    let keeper = start(instance(), "1s", None, fails_each_time);
    keeper.status_with(up);
    // A new controller publishes a table at once; without a panic nothing would.
    let before = keeper.status().generation;
    keeper.status_with(|status| status.generation > before);
    assert!(keeper.get().starts_with("HTTP/1.1 200"));
    let status = keeper.status();
    assert!(up(&status) && status.services[0].requests == 1, "{status:#?}");
    let said = keeper.shutdown();
    assert_eq!(said.last(), Some(&ToKeeper::Finished));
}
