//! The instance of the drills, a process of its own that can be killed: it writes every request's id into a book
//! before it answers, so that afterwards one can see what ran, and whether anything ran twice. Told so on its control
//! socket, it misbehaves ([`mood`]).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use everup_e2e::{Process, until};
use rustix::process::Signal;

use mood::{Mood, Moods, Reset};

pub(crate) mod mood;

/// One instance, seen from the drill that started it.
pub(crate) struct Origin {
    name: String,
    directory: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl Origin {
    /// Starts one that calls itself `name`, on a free port, with a book in `directory`.
    pub(crate) fn start(name: &str, directory: &Path) -> Self {
        let (child, address) = spawn(name, 0, directory);
        Self { name: name.into(), directory: directory.into(), child, address }
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
        (self.child, self.address) = spawn(&self.name, self.address.port(), &self.directory);
    }

    /// The ids of all requests that it began to answer, in every one of its lives.
    pub(crate) fn seen(&self) -> Vec<String> {
        lines(&self.directory.join(&self.name))
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

/// The lines of a book.
pub(crate) fn lines(book: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(book).expect("the book is there");
    text.lines().map(str::to_owned).collect()
}

/// The command that is such an instance, up to its port.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("a running program has a path")
}

fn spawn(name: &str, port: u16, directory: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(program());
    command.args(["origin", &port.to_string(), name]).arg(directory);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("this program can be run");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    lines.read_line(&mut line).expect("the instance says where it listens");
    (child, line.trim().parse().unwrap_or_else(|_| panic!("no address in `{line}`")))
}

/// What all connections of an instance have in common.
struct Serving {
    name: String,
    /// What it began to answer.
    book: File,
    /// What it cut off in the middle of the answer.
    cuts: File,
    moods: Arc<Moods>,
}

/// Is that instance, until it is killed.
pub(crate) fn serve(port: &str, name: &str, directory: &str) -> ExitCode {
    let (port, directory) = (port.parse().expect("a port"), Path::new(directory));
    let open = |name: &str| {
        let book = File::options().create(true).append(true).open(directory.join(name));
        book.expect("the book can be opened")
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let moods = Moods::under_control(&listener, &directory.join(format!("{name}.control")));
    println!("{}", listener.local_addr().expect("a listener has an address"));
    let (book, cuts) = (open(name), open(&format!("{name}.cuts")));
    let serving = Arc::new(Serving { name: name.into(), book, cuts, moods });
    for socket in listener.incoming().flatten() {
        serving.moods.on_accepted(&socket);
        let serving = Arc::clone(&serving);
        // A connection that breaks concerns nobody else.
        thread::spawn(move || {
            let ended = serving.converse(&socket);
            serving.moods.on_ended(&socket);
            ended
        });
    }
    ExitCode::SUCCESS
}

/// A request, as far as an instance reads it.
struct Request {
    id: Option<String>,
    is_check: bool,
}

impl Serving {
    /// Answers request after request. Understands what the load sends: Content-Length at most.
    fn converse(&self, socket: &TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let mut reader = BufReader::new(socket);
        while let Some(request) = self.read(&mut reader)? {
            let mood = if request.is_check { Mood::Well } else { self.moods.now() };
            if let Mood::Slow(time) = mood {
                thread::sleep(time);
            }
            match mood {
                Mood::Reset(reset) if self.moods.is_due(reset) => return self.reset(reset, request, socket),
                _ => self.answer(request.id, socket)?,
            }
        }
        Ok(())
    }

    fn read(&self, reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
        let (mut request, mut length) = (Request { id: None, is_check: false }, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            request.is_check |= line.starts_with("GET /healthz ");
            let Some((field, value)) = line.trim_end().split_once(": ") else {
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            match field.to_ascii_lowercase().as_str() {
                "x-drill-id" => request.id = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        if let Some(id) = &request.id {
            // One write per line: whole, or not at all, whenever this process dies.
            (&self.book).write_all(format!("{id}\n").as_bytes())?;
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        Ok(Some(request))
    }

    fn answer(&self, id: Option<String>, mut socket: &TcpStream) -> std::io::Result<()> {
        let name = &self.name;
        let echoed = id.map(|id| format!("X-Drill-Id: {id}\r\n")).unwrap_or_default();
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Instance: {name}\r\n{echoed}Content-Length: 3\r\n\r\nok\n");
        socket.write_all(answer.as_bytes())
    }

    /// A part of an answer, or nothing, then a reset.
    fn reset(&self, reset: Reset, request: Request, mut socket: &TcpStream) -> std::io::Result<()> {
        match reset {
            Reset::Silent => {}
            Reset::InHead => socket.write_all(b"HTTP/1.1 200 OK\r\nContent-")?,
            Reset::InBody => {
                let id = request.id.unwrap_or_default();
                (&self.cuts).write_all(format!("{id}\n").as_bytes())?;
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")?;
                socket.write_all(&[b'x'; 1000])?;
            }
        }
        // What was sent is to arrive: a reset takes with it what was not read yet.
        thread::sleep(mood::ON_THE_WAY);
        rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO))?;
        Ok(())
    }
}
