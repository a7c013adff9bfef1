//! The instance of the drill, a process of its own that can be killed: it writes every request's id into a book
//! before it answers, so that afterwards one can see what ran, and whether anything ran twice.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use everup_e2e::{Process, until};
use rustix::process::Signal;

/// One instance, seen from the drill.
pub(crate) struct Origin {
    name: String,
    book: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl Origin {
    /// Starts one that calls itself `name`, on a free port, with a book in `directory`.
    pub(crate) fn start(name: &str, directory: &Path) -> Self {
        let book = directory.join(name);
        let (child, address) = spawn(name, 0, &book);
        Self { name: name.into(), book, child, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Signals it and waits until it is gone.
    pub(crate) fn end(&mut self, signal: Signal) {
        self.process().signal(signal);
        self.child.wait().expect("a child can be waited for");
    }

    pub(crate) fn freeze(&self) {
        let process = self.process();
        process.signal(Signal::STOP);
        until("the instance is frozen", || process.is_frozen());
    }

    pub(crate) fn thaw(&self) {
        self.process().signal(Signal::CONT);
    }

    /// At the same address, after [`Origin::end`].
    pub(crate) fn start_again(&mut self) {
        (self.child, self.address) = spawn(&self.name, self.address.port(), &self.book);
    }

    /// The ids of all requests that it began to answer, in every one of its lives.
    pub(crate) fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.book).expect("the book is there");
        text.lines().map(str::to_owned).collect()
    }

    fn process(&self) -> Process {
        Process::with_id(self.child.id()).expect("the instance runs")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Dead already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(name: &str, port: u16, book: &Path) -> (Child, SocketAddr) {
    let own = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(own);
    command.args(["origin", &port.to_string(), name]).arg(book);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("this program can be run");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    lines.read_line(&mut line).expect("the instance says where it listens");
    (child, line.trim().parse().unwrap_or_else(|_| panic!("no address in `{line}`")))
}

/// Is that instance, until it is killed.
pub(crate) fn serve(port: &str, name: &str, book: &str) -> ExitCode {
    let port = port.parse().expect("a port");
    let book = File::options().create(true).append(true).open(book).expect("the book can be opened");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    println!("{}", listener.local_addr().expect("a listener has an address"));
    let (name, book) = (Arc::<str>::from(name), Arc::new(book));
    for socket in listener.incoming().flatten() {
        let (name, book) = (Arc::clone(&name), Arc::clone(&book));
        // A connection that breaks concerns nobody else.
        thread::spawn(move || converse(&socket, &name, &book));
    }
    ExitCode::SUCCESS
}

/// Answers request after request. Understands what the load sends: Content-Length at most.
fn converse(socket: &TcpStream, name: &str, mut book: &File) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut writer = socket;
    let mut reader = BufReader::new(socket);
    loop {
        let (mut id, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((field, value)) = line.trim_end().split_once(": ") else {
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            match field.to_ascii_lowercase().as_str() {
                "x-drill-id" => id = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        if let Some(id) = &id {
            // One write per line: whole, or not at all, whenever this process dies.
            book.write_all(format!("{id}\n").as_bytes())?;
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let echoed = id.map(|id| format!("X-Drill-Id: {id}\r\n")).unwrap_or_default();
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Instance: {name}\r\n{echoed}Content-Length: 3\r\n\r\nok\n");
        writer.write_all(answer.as_bytes())?;
    }
}
