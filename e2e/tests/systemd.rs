//! everup under an init system: what it tells it, and what it takes from it. The init system is played by the test; the
//! protocols are those of sd_notify(3) and sd_listen_fds(3).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;

use everup_e2e::{Config, Everup, PATIENCE, Process, Sample, descendants, get, until};
use rustix::process::Signal;

/// An init system that listens.
struct Init {
    home: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Init {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(home.path().join("notify")).expect("the directory takes a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        Self { home, socket }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("notify")
    }

    /// The next message with this line, and everything else that was in it.
    #[track_caller]
    fn hear(&self, line: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let count = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {line}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.lines().any(|said| said == line) {
                return text;
            }
        }
    }
}

fn environment(process: Process) -> String {
    let bytes = std::fs::read(format!("/proc/{}/environ", process.pid)).expect("it runs");
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

#[test]
fn the_init_system_hears_of_every_change_and_of_life() {
    let init = Init::new();
    let everup = Everup::with(Config::runs(1))
        .variable("NOTIFY_SOCKET", init.path())
        .variable("WATCHDOG_USEC", "400000")
        .start();
    let ready = init.hear("READY=1");
    assert!(ready.contains("\nSTATUS=serving: worker "), "{ready}");
    init.hear("WATCHDOG=1");

    let text = std::fs::read_to_string(everup.config_file()).unwrap();
    for (config, code) in [(text.replace("rise = 1", "rise = 2"), 0), ("nonsense".to_owned(), 1)] {
        std::fs::write(everup.config_file(), config).unwrap();
        assert_eq!(everup.verb(&["reload"]).code, Some(code));
        let reloading = init.hear("RELOADING=1");
        assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
        init.hear("READY=1");
    }
    everup.signal(Signal::HUP);
    init.hear("RELOADING=1");
    init.hear("READY=1");

    let worker = everup.status().worker_pid;
    Process::with_id(worker).unwrap().kill();
    until("the init system hears of the next worker", || {
        let mut bytes = [0; 4096];
        let count = init.socket.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        text.contains("STATUS=serving") && text.contains("(restarts: 1)")
    });

    everup.signal(Signal::TERM);
    let stopping = init.hear("STOPPING=1");
    assert!(
        stopping.contains("\nEXTEND_TIMEOUT_USEC=") && stopping.contains("\nSTATUS=stopping"),
        "{stopping}"
    );
    assert_eq!(everup.wait_for_end().code, Some(0));
}

#[test]
fn neither_worker_nor_instances_can_speak_or_listen_in_the_keepers_name() {
    let init = Init::new();
    let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = socket.local_addr().unwrap().to_string();
    let mut everup = Everup::with(Config::runs(1).bind(&[&address]))
        .variable("NOTIFY_SOCKET", init.path())
        .variable("WATCHDOG_USEC", "30000000")
        .given(&socket)
        .start();
    everup.wait_all_up();
    let below = descendants(everup.keeper().pid);
    assert!(below.len() >= 2, "{below:?}");
    for process in below {
        let environment = environment(process);
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            assert!(!environment.contains(&format!("{name}=")), "{name} in {environment}");
        }
    }
}

#[test]
fn clients_of_a_given_socket_wait_while_everup_is_restarted_and_none_is_refused() {
    let sample = Sample::start("a");
    let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = socket.local_addr().unwrap();
    let config = || Config::shop([sample.address()]).bind(&[&address.to_string()]);
    let first = Everup::with(config()).given(&socket).start();
    assert_eq!(first.address(), address);
    // Every thread accepts from the one socket.
    assert!((0..20).all(|_| get(address, "/whoami").status == 200));
    assert_eq!(first.stop_with(Signal::TERM).code, Some(0));

    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(b"GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let _second = Everup::with(config()).given(&socket).start();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_given_socket_that_a_reload_takes_out_can_be_taken_in_again() {
    let sample = Sample::start("a");
    let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = socket.local_addr().unwrap();
    let with = |binds: &[&str]| Config::shop([sample.address()]).bind(binds);
    let given = address.to_string();
    let everup = Everup::with(with(&["127.0.0.1:0", &given])).given(&socket).start();
    assert_eq!(get(address, "/whoami").status, 200);
    everup.reload(with(&["127.0.0.1:0"]));
    until("it says that nobody answers there", || {
        everup.said().contains(&format!("nobody answers at {given}, the socket \"given\""))
    });
    everup.reload(with(&["127.0.0.1:0", &given]));
    assert_eq!(get(address, "/whoami").status, 200);
}

#[test]
fn a_given_socket_that_no_listener_asks_for_is_told_with_what_to_do() {
    let sample = Sample::start("a");
    let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let everup = Everup::with(Config::shop([sample.address()])).given(&socket).start();
    let said = everup.said();
    let address = socket.local_addr().unwrap();
    assert!(said.contains(&format!("nobody answers at {address}")) && said.contains("`bind`"), "{said}");
    assert_eq!(get(everup.address(), "/whoami").status, 200);
}

#[test]
fn a_given_socket_that_serves_nobody_is_refused_with_what_to_do() {
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let socket = Arc::new(TcpListener::from(silent));
    let stopped = Everup::with(Config::runs(1)).given(&socket).spawn().wait_for_end();
    assert_eq!(stopped.code, Some(1));
    assert!(
        stopped.said.contains("the socket \"given\"") && stopped.said.contains("ListenStream="),
        "{stopped:?}"
    );
}

#[test]
fn sockets_that_were_meant_for_another_process_are_left_alone() {
    let sample = Sample::start("a");
    let everup = Everup::with(Config::shop([sample.address()]))
        .variable("LISTEN_PID", "1")
        .variable("LISTEN_FDS", "1")
        .start();
    assert_eq!(get(everup.address(), "/whoami").status, 200);
    assert!(!everup.said().contains("init system"), "{}", everup.said());
}
