//! The proxies under test: their start on the proxy's core, and their end.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cell::{Cell, HOST};
use crate::cores::{Cores, pin_this_thread};
use crate::{cpu, ports};

mod configuration;

/// How long a proxy may take to answer first, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Haproxy,
    /// HAProxy with large buffers and splicing: only for bulk, where the better of its two figures counts.
    HaproxyBulk,
    Nginx,
    Everup,
}

impl Kind {
    /// Those that are there: everup always, the others where Debian's packages are installed.
    pub(crate) fn installed() -> Vec<Self> {
        let all = [Self::Haproxy, Self::HaproxyBulk, Self::Nginx, Self::Everup];
        all.into_iter().filter(|kind| kind.program().is_none_or(Path::exists)).collect()
    }

    pub(crate) fn takes_part_in(self, cell: &Cell) -> bool {
        self != Self::HaproxyBulk || cell.is_bulk()
    }

    fn program(self) -> Option<&'static Path> {
        match self {
            Self::Haproxy | Self::HaproxyBulk => Some(Path::new("/usr/sbin/haproxy")),
            Self::Nginx => Some(Path::new("/usr/sbin/nginx")),
            Self::Everup => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Haproxy => "haproxy",
            Self::HaproxyBulk => "haproxy-bulk",
            Self::Nginx => "nginx",
            Self::Everup => "everup",
        })
    }
}

/// A running proxy. It ends when this is dropped.
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
    child: Child,
}

impl Proxy {
    /// Starts it on its core and waits for its first answer.
    pub(crate) fn start(
        kind: Kind,
        everup: &Path,
        origins: &[SocketAddr; 2],
        directory: &Path,
        cores: &Cores,
    ) -> Result<Self> {
        let [http, tcp] = ports::free()?;
        let directory = directory.join(kind.to_string());
        fs::create_dir(&directory)?;
        let file = directory.join("configuration");
        fs::write(&file, configuration::text(kind, http, tcp, origins, &directory))?;
        let log = directory.join("log");
        let mut command = command(kind, everup, &file, &directory);
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        // A child inherits the core of the thread that starts it.
        pin_this_thread(cores.proxy)?;
        let child = command.spawn().with_context(|| format!("cannot start {kind}"));
        pin_this_thread(cores.load)?;
        let proxy = Self { kind, http, tcp, child: child? };
        proxy.wait_for_answer(&log)?;
        Ok(proxy)
    }

    /// Used by all its processes so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        cpu::time_of_tree(self.child.id())
    }

    fn wait_for_answer(&self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !(answers(self.http) && answers(self.tcp)) {
            if Instant::now() > deadline {
                bail!("{} does not answer: {}", self.kind, fs::read_to_string(log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        // SIGINT: HAProxy and nginx end at once, everup in order.
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::INT);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn command(kind: Kind, everup: &Path, file: &Path, directory: &Path) -> Command {
    let program: PathBuf = kind.program().map_or_else(|| everup.into(), Into::into);
    let mut command = Command::new(program);
    command.current_dir(directory);
    match kind {
        Kind::Haproxy | Kind::HaproxyBulk => command.arg("-db").arg("-f").arg(file),
        Kind::Nginx => command.arg("-e").arg("stderr").arg("-p").arg(directory).arg("-c").arg(file),
        Kind::Everup => command.arg("run").arg(file),
    };
    command
}

/// Whether a request to `address` is answered with 200.
fn answers(address: SocketAddr) -> bool {
    let exchange = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(socket, "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        socket.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    exchange().unwrap_or(false)
}
