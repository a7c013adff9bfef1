//! The init system is a socket here, and what it hears is compared.

use std::os::unix::net::UnixDatagram;

use super::*;

/// An init system that listens at a path.
struct Init {
    _home: tempfile::TempDir,
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Init {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { _home: home, socket, path }
    }

    fn notifier(&self, watchdog: Option<Duration>) -> Notifier {
        Notifier::new(Some(Receiver::new(self.path.as_os_str().as_bytes()).unwrap()), watchdog)
    }

    /// Everything that was said, with the clock's reading left out.
    fn heard(&self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut bytes = [0; 1000];
        while let Ok(count) = self.socket.recv(&mut bytes) {
            let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
            let lines = text.lines().map(|line| line.split("_USEC=").next().unwrap());
            heard.push(lines.collect::<Vec<_>>().join(" "));
        }
        heard
    }
}

fn serving() -> Condition {
    Condition { serves: true, status: "serving".into(), ..Condition::default() }
}

#[test]
fn what_was_said_is_not_said_again() {
    let init = Init::new();
    let mut notifier = init.notifier(None);
    notifier.tell(&Condition { status: "starting".into(), ..Condition::default() });
    assert_eq!(init.heard(), ["STATUS=starting"]);
    notifier.tell(&serving());
    assert_eq!(init.heard(), ["READY=1 STATUS=serving"]);
    notifier.tell(&serving());
    notifier.tell(&Condition { serves: false, ..serving() });
    assert!(init.heard().is_empty());
    assert_eq!(notifier.next(), None);
}

#[test]
fn a_reload_has_a_beginning_and_an_end_even_if_it_was_over_at_once() {
    let init = Init::new();
    let mut notifier = init.notifier(None);
    notifier.tell(&serving());
    init.heard();
    notifier.tell(&Condition { asked: 1, ..serving() });
    assert_eq!(init.heard(), ["RELOADING=1 MONOTONIC", "READY=1"]);
    notifier.tell(&Condition { asked: 2, reloads: true, ..serving() });
    assert_eq!(init.heard(), ["RELOADING=1 MONOTONIC"]);
    // The init system waits for an answer to its newest wish.
    notifier.tell(&Condition { asked: 3, reloads: true, ..serving() });
    assert_eq!(init.heard(), ["RELOADING=1 MONOTONIC"]);
    notifier.tell(&Condition { asked: 3, ..serving() });
    assert_eq!(init.heard(), ["READY=1"]);
}

#[test]
fn a_reload_that_is_asked_for_before_anything_serves_is_told_afterwards() {
    let init = Init::new();
    let mut notifier = init.notifier(None);
    notifier.tell(&Condition { asked: 1, reloads: true, ..Condition::default() });
    assert!(init.heard().is_empty());
    notifier.tell(&Condition { asked: 1, reloads: true, ..serving() });
    assert_eq!(init.heard(), ["READY=1 STATUS=serving", "RELOADING=1 MONOTONIC"]);
}

#[test]
fn the_end_is_told_once_with_the_time_that_it_may_take() {
    let init = Init::new();
    let mut notifier = init.notifier(None);
    notifier.tell(&serving());
    init.heard();
    let ending = Condition {
        ends_within: Some(Duration::from_secs(40)),
        status: "stopping".into(),
        ..Condition::default()
    };
    notifier.tell(&ending);
    assert_eq!(init.heard(), ["STOPPING=1 EXTEND_TIMEOUT STATUS=stopping"]);
    notifier.tell(&Condition { ends_within: Some(Duration::from_secs(30)), ..ending });
    assert!(init.heard().is_empty());
}

#[test]
fn signs_of_life_come_in_time_while_somebody_serves_and_at_once_when_somebody_does_again() {
    let init = Init::new();
    let mut notifier = init.notifier(Some(Duration::from_millis(4)));
    let pass = |notifier: &mut Notifier, condition: &Condition| {
        let due = notifier.next().unwrap();
        while Instant::now() < due {
            std::thread::yield_now();
        }
        notifier.tell(condition);
        init.heard()
    };
    assert_eq!(pass(&mut notifier, &serving()), ["READY=1 STATUS=serving", "WATCHDOG=1"]);
    let dead = Condition { serves: false, ..serving() };
    assert!(pass(&mut notifier, &dead).is_empty());
    // Not due, but late.
    notifier.beat.as_mut().unwrap().next = Instant::now() + Duration::from_secs(60);
    notifier.tell(&serving());
    assert_eq!(init.heard(), ["WATCHDOG=1"]);
    notifier.tell(&serving());
    assert!(init.heard().is_empty());
}

#[test]
fn what_the_init_system_has_no_room_for_is_said_later() {
    let init = Init::new();
    let mut notifier = init.notifier(None);
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"X=1", &init.path).is_ok() {}
    notifier.tell(&serving());
    assert!(notifier.next().is_some_and(|at| at <= Instant::now() + RETRY));
    assert!(init.heard().iter().all(|words| words == "X=1"));
    notifier.tell(&serving());
    assert_eq!(init.heard(), ["READY=1 STATUS=serving"]);
    assert_eq!(notifier.next(), None);
}

#[test]
fn an_init_system_that_is_gone_is_no_reason_to_try_again() {
    let init = Init::new();
    let mut notifier = init.notifier(None);
    std::fs::remove_file(&init.path).unwrap();
    notifier.tell(&serving());
    assert_eq!(notifier.next(), None);
}

#[test]
fn names_are_paths_or_abstract_and_nothing_else() {
    let name = format!("everup-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let init = UnixDatagram::bind_addr(&address).unwrap();
    let mut notifier = Notifier::new(Some(Receiver::new(format!("@{name}").as_bytes()).unwrap()), None);
    notifier.tell(&serving());
    let mut bytes = [0; 100];
    let count = init.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"READY=1\nSTATUS=serving");
    for name in ["", "relative", "vsock:2:1234"] {
        assert!(Receiver::new(name.as_bytes()).is_err(), "{name}");
    }
}
