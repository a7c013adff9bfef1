//! Do programs notice that everup stands in between? The unchanged test suites of three client libraries run twice, with
//! their server directly and through everup, and every single test must end the same way: requests against httpbin over
//! HTTP, redis-py against Redis and pymemcache against memcached over TCP.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use everup_e2e::{Config, Everup, until};

use crate::promise::Promises;
use crate::python::{Python, home, script};

/// A client library and its tests.
struct Suite {
    name: &'static str,
    /// As the package index calls it, with the version whose tests are meant.
    package: &'static str,
    /// Where its source is unpacked.
    folder: &'static str,
    /// Which tests, and options of theirs.
    tests: &'static [&'static str],
    server: Server,
}

/// What the tests talk to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// pytest-httpbin, which the tests start themselves.
    HttpBin,
    Redis,
    Memcached,
}

const SUITES: [Suite; 3] = [
    Suite {
        name: "requests",
        package: "requests==2.34.2",
        folder: "requests-2.34.2",
        tests: &["tests"],
        server: Server::HttpBin,
    },
    Suite {
        name: "redis-py",
        package: "redis==8.1.0",
        folder: "redis-8.1.0",
        // Those that talk to one Redis most; not those for a cluster, TLS or modules, which need other servers.
        tests: &[
            "-m",
            "not redismod and not onlycluster and not ssl and not cp_integration and not multidb_integration",
            "tests/test_connection_pool.py",
            "tests/test_encoding.py",
            "tests/test_lock.py",
            "tests/test_monitor.py",
            "tests/test_pipeline.py",
            "tests/test_pubsub.py",
            "tests/test_scripting.py",
        ],
        server: Server::Redis,
    },
    Suite {
        name: "pymemcache",
        package: "pymemcache==4.0.0",
        folder: "pymemcache-4.0.0",
        tests: &["pymemcache/test/test_integration.py"],
        server: Server::Memcached,
    },
];

/// What the suites need besides themselves.
const NEEDED: [&str; 9] = [
    "pytest",
    "pytest-asyncio",
    "pytest-httpbin==2.1.0",
    "pytest-timeout",
    "PySocks",
    "trustme",
    "Faker",
    "numpy",
    "cryptography",
];

/// A test that ended differently is tried so often more, both ways: some depend on the time of day or on haste.
const AGAIN: usize = 3;

/// How every test ended, by its name.
type Outcomes = BTreeMap<String, String>;

/// A server of the drill's, killed when it is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Dead already is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs the suites. Whether no test saw a difference.
pub(crate) fn run() -> bool {
    let packages: Vec<&str> = NEEDED.into_iter().chain(SUITES.iter().map(|suite| suite.package)).collect();
    let python = Python::with(&packages);
    let mut promises = Promises::default();
    for suite in &SUITES {
        let source = unpack(suite, &python);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let _server = suite.server.start(address, directory.path());
        let through = start_everup(suite.server, address);
        let run = |way: Option<SocketAddr>, tests: &[&str]| suite.run(&python, &source, address, way, tests);
        let direct = run(None, suite.tests);
        let between = run(Some(through.address()), suite.tests);
        let different =
            differing(&direct, &between, |tests| (run(None, tests), run(Some(through.address()), tests)));
        let passed = direct.values().filter(|outcome| *outcome == "PASSED").count();
        println!("{}: {} tests, {passed} pass directly", suite.package, direct.len());
        for test in &different {
            println!(
                "       {test}: {:?} directly, {:?} through everup",
                direct.get(*test),
                between.get(*test)
            );
        }
        let name = suite.name;
        promises.check(
            "no test sees a difference",
            format!("{}, {name}", different.len()),
            different.is_empty(),
        );
        promises.check("the tests ran", format!("{passed} passed, {name}"), passed > 50);
    }
    promises.kept()
}

/// The tests that end differently, and do so every time.
fn differing<'t>(
    direct: &'t Outcomes,
    between: &'t Outcomes,
    again: impl Fn(&[&str]) -> (Outcomes, Outcomes),
) -> Vec<&'t str> {
    let mut names: Vec<&str> = direct.keys().chain(between.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| direct.get(*name) != between.get(*name));
    for _ in 0..AGAIN {
        if names.is_empty() {
            break;
        }
        let (direct, between) = again(&names);
        names.retain(|name| {
            let equal = direct.contains_key(*name) && direct.get(*name) == between.get(*name);
            if equal {
                println!("       {name} ends now so, now so");
            }
            !equal
        });
    }
    names
}

fn unpack(suite: &Suite, python: &Python) -> PathBuf {
    let source = home().join(suite.folder);
    if !source.exists() {
        let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"];
        let got = python.command().args(download).arg(home()).arg(suite.package).status();
        let packed = home().join(format!("{}.tar.gz", suite.folder));
        let unpacked = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(home()).status();
        let fine = [got, unpacked].into_iter().all(|done| done.is_ok_and(|status| status.success()));
        assert!(fine, "cannot unpack the source of {}", suite.package);
    }
    source
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a listener has an address")
}

fn start_everup(server: Server, address: SocketAddr) -> Everup {
    let config = Config::shop([address]);
    match server {
        // The tests start it themselves, later.
        Server::HttpBin => Everup::with(config).start_unready(),
        Server::Redis | Server::Memcached => Everup::with(config.listener("protocol = \"tcp\"")).start(),
    }
}

impl Server {
    fn start(self, address: SocketAddr, directory: &Path) -> Option<Running> {
        let port = address.port().to_string();
        let mut command = match self {
            Self::HttpBin => return None,
            Self::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
                command
            }
            Self::Memcached => {
                let mut command = Command::new("memcached");
                // Without -u it does not run as root.
                command.args(["-l", "127.0.0.1", "-p", &port, "-u", "nobody"]);
                command
            }
        };
        let quiet = command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.spawn().expect("redis-server and memcached are needed (apt install them)");
        until("the server listens", || TcpStream::connect(address).is_ok());
        Some(Running(child))
    }
}

impl Suite {
    /// Runs these tests with the server at `address`, through everup if an address of it is given.
    fn run(
        &self,
        python: &Python,
        source: &Path,
        address: SocketAddr,
        through: Option<SocketAddr>,
        tests: &[&str],
    ) -> Outcomes {
        let reached = through.unwrap_or(address);
        let mut command = python.command();
        command.args([
            "-B",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-q",
            "--tb=no",
            "-rA",
            "--timeout=60",
            // Reports of coverage and the like, which some suites ask for, need more than this.
            "-o",
            "addopts=",
        ]);
        command.current_dir(source).stderr(Stdio::null());
        match self.server {
            Server::HttpBin => {
                command.args(["-p", "everup_between"]).env("PYTHONPATH", script("clients"));
                command.env("HTTPBIN_HTTP_PORT", address.port().to_string());
                if through.is_some() {
                    command.env("EVERUP_URL", format!("http://{reached}"));
                }
            }
            Server::Redis => {
                command.arg(format!("--redis-url=redis://{reached}/9"));
            }
            Server::Memcached => {
                command.args(["--server", &reached.ip().to_string(), "--port", &reached.port().to_string()]);
            }
        }
        let output = command.args(tests).output().expect("pytest can be run");
        outcomes(&String::from_utf8_lossy(&output.stdout))
    }
}

/// What pytest says at the end: `PASSED name`, `FAILED name - why`.
fn outcomes(said: &str) -> Outcomes {
    let summary = said.rsplit("short test summary info").next().unwrap_or_default();
    let outcome = |line: &str| -> Option<(String, String)> {
        let (outcome, rest) = line.split_once(' ')?;
        let known = ["PASSED", "FAILED", "ERROR", "XFAIL", "XPASS"].contains(&outcome);
        let name = rest.split(" - ").next().unwrap_or_default();
        // Its authors expect it to fail, and say nothing if it passes: it may end either way.
        let outcome = if outcome == "XPASS" { "XFAIL" } else { outcome };
        known.then(|| (name.to_owned(), outcome.to_owned()))
    };
    summary.lines().filter_map(outcome).collect()
}
