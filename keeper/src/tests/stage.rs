//! The stage of the keeper's stories: a keeper process, and workers that do what the test says.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use everup_core::ids::InstanceId;
use everup_core::keeper::{SocketRole, ToKeeper, ToWorker};
use everup_link::{Inherited, Link, receive_start};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::options_in;

/// The home directory of a keeper process; the instance's command as JSON.
const HOME: &str = "EVERUP_TEST_HOME";
const COMMAND: &str = "EVERUP_TEST_COMMAND";
/// `node.user` and `run.user`, if set.
const USERS: [&str; 2] = ["EVERUP_TEST_USER", "EVERUP_TEST_RUN_USER"];
/// Longer than anything takes; a story that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Stage {
    home: tempfile::TempDir,
    command: String,
    workers: UnixListener,
    keeper: Child,
    instances: Vec<u32>,
}

impl Stage {
    pub(super) fn new(command: &[&str]) -> Self {
        Self::with_users(command, [None; 2])
    }

    /// A stage that `node.user` can play on too; the instance has `run.user`.
    pub(super) fn with_users(command: &[&str], users: [Option<&str>; 2]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let workers = UnixListener::bind(home.path().join("stage.sock")).unwrap();
        if users[0].is_some() {
            for path in [home.path().to_owned(), home.path().join("stage.sock")] {
                fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            }
        }
        let command = serde_json::to_string(command).unwrap();
        let keeper = start_keeper(home.path(), &command, users, "words");
        Self { home, command, workers, keeper, instances: Vec::new() }
    }

    /// The next worker.
    pub(super) fn worker(&self) -> Actor {
        let mut ready = [PollFd::new(&self.workers, PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut ready, Some(&patience)), Ok(1), "no worker came: {}", self.words());
        Actor::new(self.workers.accept().unwrap().0)
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the instance writes to.
    pub(super) fn log(&self) -> PathBuf {
        self.home().join("instance.log")
    }

    pub(super) fn wait_for_log_line(&self) -> String {
        loop {
            let text = fs::read_to_string(self.log()).unwrap_or_default();
            if text.ends_with('\n') {
                return text;
            }
            std::thread::yield_now();
        }
    }

    pub(super) fn keeper_pid(&self) -> u32 {
        self.keeper.id()
    }

    pub(super) fn signal_keeper(&self, signal: i32) {
        kill(self.keeper.id(), signal);
    }

    /// What the keeper said.
    pub(super) fn words(&self) -> String {
        fs::read_to_string(self.home().join("words")).unwrap()
    }

    /// Waits for the keeper's end and returns its exit code.
    pub(super) fn end(&mut self) -> Option<i32> {
        self.keeper.wait().unwrap().code()
    }

    pub(super) fn second_keeper(&self) -> (Option<i32>, String) {
        let code = start_keeper(self.home(), &self.command, [None; 2], "more-words").wait().unwrap().code();
        (code, fs::read_to_string(self.home().join("more-words")).unwrap())
    }

    /// This process group is killed when the story is over.
    pub(super) fn clean_up(&mut self, pid: u32) {
        self.instances.push(pid);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        for pid in &self.instances {
            let _ = kill_process_group(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
        }
    }
}

/// Runs [`keeper_process`] in a process of its own, with one descriptor too many open.
fn start_keeper(home: &Path, command: &str, users: [Option<&str>; 2], words: &str) -> Child {
    Command::new("sh")
        .args(["-c", "exec 9</dev/null; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "tests::stage::keeper_process"])
        .env(HOME, home)
        .env(COMMAND, command)
        .envs(USERS.into_iter().zip(users).filter_map(|(name, user)| Some((name, user?))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(home.join(words)).unwrap())
        .spawn()
        .unwrap()
}

/// Not a test by itself: the keeper of a story.
#[test]
fn keeper_process() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let command: Vec<String> = serde_json::from_str(&std::env::var(COMMAND).unwrap()).unwrap();
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let mut options = options_in(Path::new(&home), &command);
    let [node, run] = USERS.map(|name| std::env::var(name).ok());
    options.config.node.user = node;
    options.config.services[0].run.as_mut().unwrap().user = run;
    if let Err(error) = crate::run(options) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Not a test by itself: the worker of a story.
#[test]
fn scripted_worker() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let link = std::sync::Arc::new(Link::inherited().unwrap());
    let born = receive_start(&link).unwrap();
    let mut stage = UnixStream::connect(Path::new(&home).join("stage.sock")).unwrap();
    writeln!(stage, "{}", serde_json::to_string(&describe(&born)).unwrap()).unwrap();

    let (keeper, mut passed_on) = (link.clone(), stage.try_clone().unwrap());
    std::thread::spawn(move || {
        while let Ok(Some((message, _))) = keeper.receive::<ToWorker>() {
            // The story may be over while the keeper still talks.
            let _ = writeln!(passed_on, "{}", serde_json::to_string(&message).unwrap());
        }
        std::process::exit(0); // The keeper is gone.
    });
    for line in BufReader::new(stage.try_clone().unwrap()).lines() {
        obey(&line.unwrap(), &link, &born, &mut stage, Path::new(&home));
    }
    // The story is over for this worker, but a worker that nobody kills lives as long as its keeper.
    loop {
        std::thread::park();
    }
}

fn obey(line: &str, link: &Link, born: &Inherited, stage: &mut UnixStream, home: &Path) {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("exit", code) => std::process::exit(code.parse().unwrap()),
        ("accept", _) => accept(born),
        ("settle", _) => writeln!(stage, "settled").unwrap(),
        ("nonsense", _) => {
            rustix::net::send(link, b"nonsense", rustix::net::SendFlags::empty()).unwrap();
        }
        _ => {
            let message: ToKeeper = serde_json::from_str(line).unwrap();
            let log = File::options().append(true).create(true).open(home.join("instance.log")).unwrap();
            let along = if matches!(message, ToKeeper::Start { .. }) { &[log.as_fd()][..] } else { &[] };
            link.send(&message, along).unwrap();
        }
    }
}

/// Greets whoever waits on any of the listener's sockets.
fn accept(born: &Inherited) {
    let listeners: Vec<_> = born.sockets[0].descriptors.iter().map(|fd| fd.try_clone().unwrap()).collect();
    let mut ready: Vec<_> = listeners.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    poll(&mut ready, None).unwrap();
    for listener in &listeners {
        if let Ok((mut client, _)) = TcpListener::from(listener.try_clone().unwrap()).accept() {
            client.write_all(b"hello").unwrap();
        }
    }
}

/// How a worker was born, as it tells the stage.
#[derive(Debug)]
pub(super) struct Born {
    pub(super) pid: u32,
    pub(super) config_path: String,
    pub(super) keeper_pid: u32,
    pub(super) restarts: u32,
    pub(super) config_text: String,
    /// Role, address, number of sockets.
    pub(super) sockets: Vec<(SocketRole, String, usize)>,
    pub(super) adopted: Vec<(InstanceId, u32, u16, String)>,
    pub(super) notes: Option<String>,
}

/// [`Born`] as something that JSON can carry without a derive.
type Description = (
    (u32, u32, u32, String),
    (String, Option<String>),
    Vec<(SocketRole, String, usize)>,
    Vec<(InstanceId, u32, u16, String)>,
);

fn describe(born: &Inherited) -> Description {
    let sockets = born.sockets.iter().map(|s| (s.role, s.address.clone(), s.descriptors.len())).collect();
    let adopted = born.adopted.iter().cloned().map(|a| (a.id, a.pid, a.port, a.revision)).collect();
    let numbers = (std::process::id(), born.keeper_pid, born.restarts, born.config_path.clone());
    (numbers, (born.config_text.clone(), born.notes.clone()), sockets, adopted)
}

impl Born {
    fn from_line(line: &str) -> Self {
        let (numbers, (config_text, notes), sockets, adopted): Description =
            serde_json::from_str(line).unwrap();
        let (pid, keeper_pid, restarts, config_path) = numbers;
        Self { pid, config_path, keeper_pid, restarts, config_text, sockets, adopted, notes }
    }

    /// Of the one listener.
    pub(super) fn address(&self) -> SocketAddr {
        self.sockets[0].1.parse().unwrap()
    }
}

/// A worker as the test has it in hand.
pub(super) struct Actor {
    pub(super) born: Born,
    line: BufReader<UnixStream>,
}

impl Actor {
    fn new(line: UnixStream) -> Self {
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = BufReader::new(line);
        let mut born = String::new();
        line.read_line(&mut born).unwrap();
        Self { born: Born::from_line(&born), line }
    }

    /// The worker says this to the keeper.
    pub(super) fn say(&mut self, message: &ToKeeper) {
        self.tell(&serde_json::to_string(message).unwrap());
    }

    pub(super) fn say_nonsense(&mut self) {
        self.tell("nonsense");
    }

    /// What the keeper said next.
    pub(super) fn hear(&mut self) -> ToWorker {
        serde_json::from_str(&self.hear_line()).unwrap()
    }

    /// Returns when the worker has done everything that it was told.
    pub(super) fn settle(&mut self) {
        self.tell("settle");
        assert_eq!(self.hear_line(), "settled\n");
    }

    /// Greets one client; returns when that is under way.
    pub(super) fn accept(&mut self) {
        self.tell("accept");
    }

    /// Returns when it is gone.
    pub(super) fn exit(&mut self, code: i32) {
        self.tell(&format!("exit {code}"));
        let _ = self.line.read_to_string(&mut String::new());
    }

    /// Kills it with SIGKILL and returns when it is gone.
    pub(super) fn kill(&mut self) {
        kill(self.born.pid, libc::SIGKILL);
        let _ = self.line.read_to_string(&mut String::new());
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.line.get_mut(), "{line}").unwrap();
    }

    fn hear_line(&mut self) -> String {
        let mut line = String::new();
        self.line.read_line(&mut line).unwrap();
        line
    }
}

pub(super) fn kill(pid: u32, signal: i32) {
    let signal = Signal::from_named_raw(signal).unwrap();
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Returns when the process is gone.
pub(super) fn wait_for_end(pid: u32) {
    // An error says that it is gone already.
    if let Ok(process) = pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()) {
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
    }
}
