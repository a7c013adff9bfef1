//! A running everup: started on a configuration in a directory of its own, asked through its admin socket, and gone
//! without a trace when the test lets go of it.

use std::ffi::OsString;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use everup_admin::Client;
use everup_admin::api::{InstanceState, InstanceStatus, ServiceStatus, Status};
use everup_drill::Load;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::binary::{Said, everup, everup_binary};
use crate::process::{Process, descendants};
use crate::until::{PATIENCE, until, until_some};

/// How long a dropped everup may take to stop before it is told again, harder.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Where failpoints are armed, in an everup's directory.
const FAILPOINTS: &str = "failpoints";

/// What to start.
#[derive(Clone, Debug)]
pub struct Start {
    config: String,
    arguments: Vec<String>,
    state: Option<PathBuf>,
    variables: Vec<(String, OsString)>,
    given: Option<Arc<TcpListener>>,
}

/// What an init system does that passes a socket on: it becomes descriptor 3 of the process that is told so.
const AS_INIT: &str =
    r#"exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=given; exec "$@""#;

/// A running everup.
#[derive(Debug)]
pub struct Everup {
    keeper: Child,
    /// Processes of keepers that were killed.
    kept: Vec<Process>,
    arguments: Vec<String>,
    variables: Vec<(String, OsString)>,
    directory: TempDir,
    state: PathBuf,
    said: Arc<Mutex<String>>,
    ears: Vec<JoinHandle<()>>,
}

/// An everup that ended by itself or was told to.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The exit code; None when a signal ended it.
    pub code: Option<i32>,
    /// All it said on standard output and standard error.
    pub said: String,
    /// Processes it left behind (killed by now).
    pub left: Vec<Process>,
}

impl Start {
    /// One more argument of `everup run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Its state directory, instead of one of its own that goes when it ends.
    #[must_use]
    pub fn state(mut self, directory: &Path) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// A listening socket that it is given as by an init system, under the name `given`.
    #[must_use]
    pub fn given(mut self, socket: &Arc<TcpListener>) -> Self {
        self.given = Some(Arc::clone(socket));
        self
    }

    /// Starts it and waits until every service has an instance that is up.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(self) -> Everup {
        let mut everup = self.start_unready();
        everup.wait_until("every service is ready", |status| status.ready);
        everup
    }

    /// Starts it and waits until it answers on the admin socket.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start_unready(self) -> Everup {
        let mut everup = self.spawn();
        everup.wait_until("the admin socket answers", |_| true);
        everup
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// When the machine has no process or directory to give.
    pub fn spawn(self) -> Everup {
        let directory =
            tempfile::Builder::new().prefix("everup-e2e-").tempdir().expect("a temporary directory");
        let file = directory.path().join("everup.toml");
        let state = self.state.unwrap_or_else(|| directory.path().join("state"));
        std::fs::write(&file, with_node(&self.config, &state)).expect("the directory takes a file");
        std::fs::create_dir(directory.path().join(FAILPOINTS)).expect("the directory takes another one");
        let said = Arc::new(Mutex::new(String::new()));
        let Self { arguments, variables, given, .. } = self;
        let (keeper, ears) = run(directory.path(), &arguments, &variables, given.as_deref(), &said);
        let kept = Vec::new();
        Everup { keeper, kept, arguments, variables, directory, state, said, ears }
    }
}

/// A keeper, and the threads that hear what it and its children say.
fn run(
    directory: &Path,
    arguments: &[String],
    variables: &[(String, OsString)],
    given: Option<&TcpListener>,
    said: &Arc<Mutex<String>>,
) -> (Child, Vec<JoinHandle<()>>) {
    let mut command = match given {
        None => {
            let mut command = Command::new(everup_binary());
            command.stdin(Stdio::null());
            command
        }
        Some(socket) => {
            let socket = socket.try_clone().expect("there are descriptors left");
            let mut init = Command::new("sh");
            init.args(["-c", AS_INIT, "sh"]).arg(everup_binary()).stdin(OwnedFd::from(socket));
            init
        }
    };
    command.arg("run").arg(directory.join("everup.toml")).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("EVERUP_FAILPOINTS", directory.join(FAILPOINTS));
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut keeper = command.spawn().expect("the binary under test can be run");
    let out = keeper.stdout.take().expect("stdout is a pipe");
    let err = keeper.stderr.take().expect("stderr is a pipe");
    (keeper, vec![listen(out, said), listen(err, said)])
}

/// Puts state directory, threads and metrics under the test's control, beside what the text says in `[node]`.
fn with_node(config: &str, state: &Path) -> String {
    let ours = format!("state = \"{}\"\nmetrics = \"127.0.0.1:0\"\nthreads = 2\n", state.display());
    let ours_only =
        |line: &&str| !["state", "metrics", "threads"].iter().any(|key| line.trim_start().starts_with(key));
    match config.split_once("[node]\n") {
        Some((before, after)) => {
            let (node, rest) = after.split_at(after.find("\n[").unwrap_or(after.len()));
            let kept: Vec<&str> = node.lines().filter(ours_only).collect();
            format!("{before}[node]\n{ours}{}\n{rest}", kept.join("\n"))
        }
        None => format!("[node]\n{ours}\n{config}"),
    }
}

fn listen(mut pipe: impl Read + Send + 'static, said: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(read) = pipe.read(&mut piece) {
            if read == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&piece[..read]);
            said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        }
    })
}

impl Everup {
    /// An everup to be started with this configuration.
    pub fn with(config: impl Into<String>) -> Start {
        Start {
            config: config.into(),
            arguments: Vec::new(),
            state: None,
            variables: Vec::new(),
            given: None,
        }
    }

    /// The directory that holds its configuration and its state.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("everup.toml")
    }

    /// Puts another configuration in the place of its file, the way careful tools do: whole, by a rename.
    ///
    /// # Panics
    /// When the directory takes no file.
    pub fn configure(&self, config: impl Into<String>) {
        let new = self.directory.path().join("everup.toml.new");
        std::fs::write(&new, with_node(&config.into(), &self.state)).expect("the directory takes a file");
        std::fs::rename(&new, self.config_file()).expect("a file can be renamed in its directory");
    }

    /// Has it change to another configuration.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn reload(&self, config: impl Into<String>) -> Said {
        self.configure(config);
        let said = self.verb(&["reload"]);
        assert_eq!(said.code, Some(0), "reload: {said:?}");
        said
    }

    /// Whoever of its processes comes first to this failpoint fails there, in this way: see `edge/failpoint`.
    ///
    /// # Panics
    /// When the directory takes no file.
    pub fn arm(&self, name: &str, action: &str) {
        std::fs::write(self.failpoint(name), action).expect("the directory takes a file");
    }

    /// Nobody has come to this failpoint since it was armed.
    pub fn is_armed(&self, name: &str) -> bool {
        self.failpoint(name).exists()
    }

    fn failpoint(&self, name: &str) -> PathBuf {
        self.directory.path().join(FAILPOINTS).join(name)
    }

    /// Its admin socket.
    pub fn admin(&self) -> PathBuf {
        self.state.join("admin.sock")
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keeper's process.
    pub fn keeper(&self) -> Process {
        Process::with_id(self.keeper.id()).expect("the keeper runs until the test ends")
    }

    /// SIGKILL for the keeper, and nobody else. Everything below it is killed when the test lets go.
    ///
    /// # Panics
    /// When it is dead already.
    pub fn kill_keeper(&mut self) {
        self.keep();
        self.keeper().kill();
        self.keeper_ended();
    }

    /// What is below the keeper now is killed when the test lets go, whatever becomes of the keeper.
    pub fn keep(&mut self) {
        self.kept.extend(descendants(self.keeper.id()));
    }

    /// Waits until the keeper has ended by itself. See [`Everup::keep`].
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn keeper_ended(&mut self) {
        self.keeper.wait().expect("a child can be waited for");
    }

    /// `everup run` once more, with the same file, after [`Everup::kill_keeper`].
    pub fn run_again(&mut self) {
        let (keeper, ears) = run(self.directory.path(), &self.arguments, &self.variables, None, &self.said);
        self.keeper = keeper;
        self.ears.extend(ears);
    }

    /// What it says of itself, if it answers.
    pub fn try_status(&self) -> Option<Status> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { Client::connect(self.admin()).await.ok()?.status().await.ok() })
    }

    /// What it says of itself.
    ///
    /// # Panics
    /// When it gives no answer.
    #[track_caller]
    pub fn status(&self) -> Status {
        until_some("the admin socket answers", || self.try_status())
    }

    /// Waits until `condition` holds of its status.
    ///
    /// # Panics
    /// When it does not in time, or everup ends meanwhile.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        until_some(what, || {
            if let Ok(Some(status)) = self.keeper.try_wait() {
                panic!("everup ended ({status}) before {what}:\n{}", self.said());
            }
            self.try_status().filter(|status| condition(status))
        })
    }

    /// The service `name`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn service(&self, name: &str) -> ServiceStatus {
        let mut services = self.status().services.into_iter();
        services.find(|service| service.name == name).unwrap_or_else(|| panic!("no service {name}"))
    }

    /// The instance `name` of the service `shop`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn instance(&self, name: &str) -> InstanceStatus {
        let mut instances = self.service("shop").instances.into_iter();
        instances.find(|instance| instance.name == name).unwrap_or_else(|| panic!("no instance {name}"))
    }

    /// The process of the instance `name` of the service `shop`.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn instance_process(&self, name: &str) -> Process {
        let pid = self.instance(name).pid.unwrap_or_else(|| panic!("{name} has no process"));
        Process::with_id(pid).unwrap_or_else(|| panic!("{name}'s process {pid} does not run"))
    }

    /// Waits until the instance `name` of the service `shop` is in `state`.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn wait_for(&mut self, name: &str, state: InstanceState) -> InstanceStatus {
        let of = |status: &Status| {
            let mut instances = status.services.iter().flat_map(|service| &service.instances);
            instances.find(|one| one.name == name && one.state == state).cloned()
        };
        let status = self.wait_until(&format!("{name} is {state}"), |status| of(status).is_some());
        of(&status).expect("the condition just held")
    }

    /// Waits until all instances of all services are up.
    ///
    /// # Panics
    /// When they are not in time.
    #[track_caller]
    pub fn wait_all_up(&mut self) -> Status {
        self.wait_until("all instances are up", |status| {
            let mut instances = status.services.iter().flat_map(|service| &service.instances);
            instances.all(|instance| instance.state == InstanceState::Up)
        })
    }

    /// The first address of the first listener.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.listener(0)[0]
    }

    /// All addresses of a listener.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn listener(&self, index: usize) -> Vec<SocketAddr> {
        let listeners = self.status().listeners;
        let addresses = listeners[index].addresses.iter();
        addresses.map(|address| address.parse().expect("a listener's address is one")).collect()
    }

    /// The metrics address.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn metrics(&self) -> SocketAddr {
        let metrics = self.status().metrics.expect("the stage always turns metrics on");
        metrics.parse().expect("the metrics address is one")
    }

    /// A load on the first listener: 200 GETs a second, to be stopped by the test.
    ///
    /// # Panics
    /// When there is no listener.
    #[track_caller]
    pub fn load(&self, path: &str) -> Load {
        let load =
            Load::to(&format!("http://{}{path}", self.address())).expect("a loopback address is a target");
        load.until_stopped().timeout(PATIENCE)
    }

    /// Runs another verb against it.
    pub fn verb(&self, arguments: &[&str]) -> Said {
        let admin = self.admin();
        let admin = admin.to_str().expect("the temporary directory's name is text");
        everup(arguments.iter().copied().chain(["--admin", admin]))
    }

    /// Signals the keeper.
    pub fn signal(&self, signal: Signal) {
        self.keeper().signal(signal);
    }

    /// Signals the keeper and waits for the end; nothing may be left behind.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn stop_with(self, signal: Signal) -> Stopped {
        self.signal(signal);
        self.wait_for_end()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait_for_end(mut self) -> Stopped {
        let mut below = descendants(self.keeper.id());
        below.append(&mut self.kept);
        let status = until_some("everup ends", || {
            for process in descendants(self.keeper.id()) {
                if !below.contains(&process) {
                    below.push(process);
                }
            }
            self.keeper.try_wait().expect("a child can be waited for")
        });
        let left: Vec<Process> = below.into_iter().filter(|process| process.is_alive()).collect();
        left.iter().for_each(|process| process.kill());
        for ear in self.ears.drain(..) {
            ear.join().expect("reading a pipe does not panic");
        }
        Stopped { code: status.code(), said: self.said(), left }
    }
}

impl Drop for Everup {
    /// First in order, then by force; everything that descends from the keeper goes.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let mut below = descendants(self.keeper.id());
        below.append(&mut self.kept);
        below.iter().filter(|process| process.is_frozen()).for_each(|process| process.signal(Signal::CONT));
        let start = Instant::now();
        let mut told = 0;
        while matches!(self.keeper.try_wait(), Ok(None)) {
            if start.elapsed() >= STOP_TIME * told {
                match (told, Process::with_id(self.keeper.id())) {
                    (0..3, Some(keeper)) => keeper.signal(Signal::TERM),
                    (_, Some(keeper)) => keeper.kill(),
                    (_, None) => {}
                }
                told += 1;
            }
            below.extend(descendants(self.keeper.id()));
            std::thread::sleep(Duration::from_millis(10));
        }
        below.iter().for_each(|process| process.kill());
    }
}

impl Everup {
    /// What a failed test needs to be understood.
    #[expect(clippy::print_stderr, reason = "only a failing test comes here, and it shall show why")]
    fn tell(&self) {
        eprintln!("--- everup said:\n{}", self.said());
        if let Some(status) = self.try_status() {
            let text = serde_json::to_string_pretty(&status);
            eprintln!("--- its status:\n{}", text.unwrap_or_else(|error| error.to_string()));
        }
    }
}

/// Waits until a process is gone.
///
/// # Panics
/// When it is not in time.
#[track_caller]
pub(crate) fn wait_gone(process: Process) {
    until("the process is gone", || !process.is_alive());
}
