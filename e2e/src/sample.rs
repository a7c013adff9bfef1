//! The sample application as an origin of its own process: it can be killed, frozen and started again at its address.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::binary::everup_binary;
use crate::everup::wait_gone;
use crate::process::Process;
use crate::until::until;

/// One sample application.
#[derive(Debug)]
pub struct Sample {
    name: String,
    child: Child,
    address: SocketAddr,
}

impl Sample {
    /// Starts one that calls itself `name`, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(name: &str) -> Self {
        let (child, address) = spawn(name, 0);
        Self { name: name.into(), child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&self) -> Process {
        Process::with_id(self.child.id()).expect("the sample application runs")
    }

    /// SIGKILL; its port is free afterwards.
    pub fn kill(&mut self) {
        let process = self.process();
        process.kill();
        wait_gone(process);
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGSTOP: it takes connections (the kernel does) and answers none.
    pub fn freeze(&self) {
        let process = self.process();
        process.signal(Signal::STOP);
        until("the process is frozen", || process.is_frozen());
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process().signal(Signal::CONT);
    }

    /// Starts it again at the same address, after [`Sample::kill`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        (self.child, self.address) = spawn(&self.name, self.address.port());
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // Dead already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(name: &str, port: u16) -> (Child, SocketAddr) {
    let mut command = Command::new(everup_binary());
    command.args(["sample-app", "--name", name, "--port", &port.to_string()]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("the sample application says where it listens");
    let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
    let address = address.unwrap_or_else(|| panic!("no address in `{line}`"));
    // Keeps the pipe open: the application may say more.
    std::thread::spawn(move || lines.lines().for_each(drop));
    (child, address)
}
