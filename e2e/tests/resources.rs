//! What a host can run out of, or have wrong, while everup serves. It is told in words, traffic does not notice, and what could not be
//! done can be done as soon as there is enough again.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Connection, Everup, Load, Mode, Sample, get, until};
use rustix::process::{Pid, Resource, Rlimit, getuid, prlimit};

const GET: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// A small disk, as long as this lives. None: only root can have one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut filler = File::create(self.path().join("filler")).expect("a file");
        for piece in [vec![0; 4096], vec![0; 1]] {
            while filler.write_all(&piece).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: somebody may have a log open still.
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

fn loads(everup: &Everup) -> [Load; 2] {
    [
        everup.load("/whoami").mode(Mode::Mixed).rate(100.0),
        everup.load("/echo").mode(Mode::Mixed).rate(50.0).sending("POST", "a book"),
    ]
}

fn dropped_lines(everup: &Everup) -> u64 {
    let page = get(everup.metrics(), "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix("everup_access_log_dropped_total "));
    line.and_then(|count| count.parse().ok()).expect("the page has that counter")
}

#[test]
fn a_full_disk_stops_deployments_and_the_access_log_and_nothing_else() {
    let Some(disk) = Disk::of("16m") else { return };
    let log = disk.path().join("access.log");
    let deploy = "[service.shop.deploy]\npause_between = \"0s\"\nmin_healthy = \"100ms\"\n";
    let config = || Config::runs(2).more(&format!("[access_log]\nto = \"{}\"\n{deploy}", log.display()));
    let mut everup = Everup::with(config()).state(&disk.path().join("state")).start();
    everup.wait_all_up();
    let running = loads(&everup).map(|load| load.start().unwrap());
    disk.fill();
    until("lines are dropped", || dropped_lines(&everup) > 0);
    let said = everup.verb(&["deploy", "shop", "v2"]);
    assert!(said.code == Some(1) && said.err.contains("space"), "{said:?}\n{}", everup.said());
    assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0));
    assert_eq!(everup.verb(&["undrain", "shop", "shop-1"]).code, Some(0));
    everup.reload(config().set("park = { requests = 7 }"));
    until("it is told", || everup.said().contains("cannot write the access log"));
    disk.empty();
    let before = log.metadata().map_or(0, |log| log.len());
    until("the log is written again", || log.metadata().is_ok_and(|log| log.len() > before));
    everup.wait_until("the deployment goes on by itself", |status| {
        let shop = &status.services[0].instances;
        shop.len() == 2
            && shop.iter().all(|one| one.state == InstanceState::Up && one.revision.as_deref() == Some("v2"))
    });
    for ledger in running.map(|load| load.stop().unwrap()) {
        assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
    }
}

/// The worker may open so many files, as `ulimit -n` says.
fn limit_files(worker: u32, most: u64) -> Rlimit {
    let pid = Pid::from_raw(worker.cast_signed());
    let now = rustix::process::getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(most), maximum: now.maximum };
    prlimit(pid, Resource::Nofile, limit).expect("one may limit what one has started")
}

#[test]
fn without_descriptors_what_is_open_goes_on_and_nobody_is_judged_for_it() {
    let (a, b) = (Sample::start("a"), Sample::start("b"));
    let config = Config::shop([a.address(), b.address()])
        .health("http = \"/healthz\"")
        .health("interval = \"200ms\"")
        .health("timeout = \"200ms\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let (worker, address) = (everup.status().worker_pid, everup.address());
    let mut kept = Connection::open(address);
    let mut ask = || {
        kept.send(GET);
        assert_eq!(kept.answer().status, 200);
    };
    // Both instances have an idle connection each then.
    (0..8).for_each(|_| ask());
    let before = limit_files(worker, 3);
    // Probes need descriptors too: time for many.
    for _ in 0..100 {
        ask();
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let waiting: Vec<_> =
        (0..5).map(|_| std::thread::spawn(move || get(address, "/whoami").status)).collect();
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    ask();
    let pid = Pid::from_raw(worker.cast_signed());
    prlimit(pid, Resource::Nofile, before).expect("one may give back what one took");
    // They have waited in the accept queue.
    assert!(waiting.into_iter().all(|answer| answer.join().unwrap() == 200));
    let status = everup.wait_all_up();
    assert_eq!(status.worker_pid, worker, "{}", everup.said());
    assert!(!everup.said().contains("down instance"), "{}", everup.said());
}

#[test]
fn a_certificate_that_cannot_be_read_refuses_the_reload_and_nothing_else() {
    let sample = Sample::start("a");
    let config = || Config::shop([sample.address()]);
    let everup = Everup::with(config()).start();
    let mut kept = Connection::open(everup.address());
    kept.send(GET);
    assert_eq!(kept.answer().status, 200);
    fs::write(everup.directory().join("empty.pem"), "").unwrap();
    for (file, words) in [("nowhere.pem", "No such file"), ("empty.pem", "empty.pem")] {
        let tls = format!(
            "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\ntls = [{{ certificate = \"{file}\", key = \"{file}\" }}]\n"
        );
        everup.configure(config().more(&tls));
        let said = everup.verb(&["reload"]);
        assert!(said.code == Some(1) && said.err.contains(words) && said.err.contains(file), "{said:?}");
    }
    kept.send(GET);
    assert_eq!(kept.answer().status, 200);
    assert_eq!(everup.status().listeners.len(), 1);
}

#[test]
fn a_state_directory_of_somebody_else_is_refused_at_the_start() {
    if !getuid().is_root() {
        return; // Only root can give a directory away.
    }
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("precious"), "").unwrap();
    std::os::unix::fs::chown(state.path(), Some(4321), Some(4321)).unwrap();
    let sample = Sample::start("a");
    let everup = Everup::with(Config::shop([sample.address()])).state(state.path()).spawn();
    let stopped = everup.wait_for_end();
    assert_eq!(stopped.code, Some(1), "{}", stopped.said);
    let path = state.path().display().to_string();
    assert!(stopped.said.contains(&path) && stopped.said.contains("set `node.state`"), "{}", stopped.said);
    assert!(state.path().join("precious").exists());
}

#[test]
fn a_state_directory_that_the_worker_loses_stops_no_traffic() {
    if !getuid().is_root() {
        return; // Only root can start a worker with fewer rights than its own.
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let state = home.path().join("state");
    let config = Config::runs(2).more("[node]\nuser = \"nobody\"\n");
    let mut everup = Everup::with(config).state(&state).start();
    everup.wait_all_up();
    let running = loads(&everup).map(|load| load.start().unwrap());
    std::os::unix::fs::chown(&state, Some(0), Some(0)).unwrap();
    assert_eq!(everup.verb(&["drain", "shop", "shop-1"]).code, Some(0));
    until("it is told", || everup.said().contains("what is known of instances cannot be kept"));
    everup.instance_process("shop-1").kill();
    everup.wait_until("it is told why shop-1 is not started", |status| {
        status.services[0].instances[0].reason.contains("Permission denied")
    });
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    assert_eq!(everup.verb(&["undrain", "shop", "shop-1"]).code, Some(0));
    everup.wait_all_up();
    for ledger in running.map(|load| load.stop().unwrap()) {
        assert_eq!(ledger.lost(), 0, "{ledger}\n{}", everup.said());
    }
}
