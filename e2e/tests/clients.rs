//! Client libraries and real servers, both Debian's, with everup in between: a program sees what it would see directly. The
//! libraries' own test suites run in `cargo xtask drills clients`.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use everup_e2e::{Config, Everup, until};

/// A server under this test, killed when it is over.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Dead already is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn smoke() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/smoke.py")
}

/// Debian's, for which the libraries are installed.
fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(smoke());
    command
}

/// Starts a server that is told its port.
fn serve(program: &str, arguments: impl Fn(u16) -> Vec<String>, directory: &Path) -> (Server, SocketAddr) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = free.local_addr().expect("a listener has an address");
    drop(free);
    let mut command = Command::new(program);
    command.args(arguments(address.port())).current_dir(directory);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let server = Server(child.unwrap_or_else(|error| panic!("{program} is needed: {error}")));
    until("the server listens", || TcpStream::connect(address).is_ok());
    (server, address)
}

#[track_caller]
fn sees(what: &str, address: SocketAddr) -> String {
    let output = python().args([what, &address.to_string()]).output().expect("python3 can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.lines().count() > 5, "{said}");
    said
}

#[track_caller]
fn sees_the_same(what: &str, direct: SocketAddr, config: Config) {
    let everup = Everup::with(config).start();
    assert_eq!(sees(what, direct), sees(what, everup.address()));
}

#[test]
fn a_program_that_uses_requests_sees_what_it_sees_directly() {
    let mut command = python();
    command.arg("origin").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = Server(command.spawn().expect("python3 can be run"));
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("stdout is a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("the origin says where it listens");
    let address = line.trim().parse().expect("an address");
    sees_the_same("http", address, Config::shop([address]));
}

#[test]
fn a_program_that_uses_redis_sees_what_it_sees_directly() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = |port: u16| {
        let options = format!("--bind 127.0.0.1 --port {port} --appendonly no");
        let mut words: Vec<String> = options.split(' ').map(str::to_owned).collect();
        words.extend(["--save".to_owned(), String::new()]);
        words
    };
    let (_server, address) = serve("redis-server", arguments, directory.path());
    sees_the_same("redis", address, Config::shop([address]).listener("protocol = \"tcp\""));
}

#[test]
fn a_program_that_uses_memcached_sees_what_it_sees_directly() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Without -u it does not run as root.
    let arguments =
        |port: u16| format!("-l 127.0.0.1 -p {port} -u nobody").split(' ').map(str::to_owned).collect();
    let (_server, address) = serve("memcached", arguments, directory.path());
    sees_the_same("memcached", address, Config::shop([address]).listener("protocol = \"tcp\""));
}
