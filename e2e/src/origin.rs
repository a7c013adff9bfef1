//! An HTTP origin inside the test: it remembers every request that reached it, byte by byte, and misbehaves on
//! demand. It can die and come back at its address as a killed process does, except that its memory survives.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::wire::{Head, Wire, find};

/// What an origin does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 with its name.
    Answer,
    /// This status, with its name.
    Status(u16),
    /// 200 with its name, after this time.
    Slow(Duration),
    /// Nothing, ever.
    Hang,
    /// Closes after it has read the request.
    Close,
    /// Resets the connection after it has read the request's head.
    Reset,
    /// Half an answer, then it closes.
    Half,
    /// Exactly these bytes; then it closes.
    Raw(Vec<u8>),
}

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// As much of the body as came.
    pub body: Vec<u8>,
    /// What followed a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether all of it came.
    pub whole: bool,
    /// The connection it came on, by the peer's port.
    pub connection: u16,
}

impl Recorded {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The id that a load gave it.
    pub fn id(&self) -> Option<&str> {
        self.header("x-drill-id")
    }
}

/// A scriptable origin. It answers `/healthz` by itself: 200, unless it is [sick](Origin::sick) or dead.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    door: Option<Door>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Recorded>,
    /// By path prefix; the longest that fits counts.
    behaviours: BTreeMap<String, Behaviour>,
    sick: bool,
    dead: bool,
    health_checks: usize,
    connections: Vec<TcpStream>,
}

/// The listening thread; a byte into `close` ends it.
#[derive(Debug)]
struct Door {
    close: UnixStream,
    thread: JoinHandle<()>,
}

impl Origin {
    /// Starts one that calls itself `name`, on a free port of 127.0.0.1.
    pub fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0")
    }

    /// Starts one at this address.
    ///
    /// # Panics
    /// When the address cannot be had.
    pub fn start_at(name: &str, address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("the address can be listened on");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { name: name.into(), state: Mutex::default() });
        let door = open_door(listener, &shared);
        Self { address, shared, door: Some(door) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does with all requests from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.on("/", behaviour);
    }

    /// What it does with requests whose target begins with `prefix` from now on.
    pub fn on(&self, prefix: &str, behaviour: Behaviour) {
        self.shared.state().behaviours.insert(prefix.into(), behaviour);
    }

    /// Whether its health checks fail (503).
    pub fn sick(&self, sick: bool) {
        self.shared.state().sick = sick;
    }

    /// All requests so far, without health checks.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.clone()
    }

    /// The only request to this target so far.
    ///
    /// # Panics
    /// When there are none or several.
    #[track_caller]
    pub fn the_request(&self, target: &str) -> Recorded {
        let mut found = self.requests().into_iter().filter(|request| request.target == target);
        let first = found.next().unwrap_or_else(|| panic!("no request to {target}"));
        assert_eq!(found.next(), None, "several requests to {target}");
        first
    }

    /// How many requests it has seen.
    pub fn count(&self) -> usize {
        self.shared.state().requests.len()
    }

    /// How many health checks it has seen.
    pub fn health_checks(&self) -> usize {
        self.shared.state().health_checks
    }

    /// Dies as a killed process does: nothing listens, every connection ends without another byte. What had already
    /// reached it is still recorded.
    pub fn die(&mut self) {
        self.shared.state().dead = true;
        self.close_door();
        for connection in self.shared.state().connections.drain(..) {
            // Ended by the peer already is as good.
            drop(connection.shutdown(Shutdown::Both));
        }
    }

    /// Listens at its address again.
    ///
    /// # Panics
    /// When somebody else took it meanwhile.
    pub fn revive(&mut self) {
        self.close_door();
        let listener = TcpListener::bind(self.address).expect("the origin's address is still free");
        self.shared.state().dead = false;
        self.door = Some(open_door(listener, &self.shared));
    }

    fn close_door(&mut self) {
        if let Some(Door { mut close, thread }) = self.door.take() {
            close.write_all(b"x").expect("the listening thread reads until it is told to end");
            thread.join().expect("the listening thread does not panic");
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.die();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_door(listener: TcpListener, shared: &Arc<Shared>) -> Door {
    let (close, told) = UnixStream::pair().expect("a socket pair");
    listener.set_nonblocking(true).expect("a listener takes options");
    let shared = Arc::clone(shared);
    let thread = std::thread::spawn(move || accept(&listener, &told, &shared));
    Door { close, thread }
}

/// Takes connections until told to end; those that wait at that moment are still taken, so that what they carry is
/// seen.
fn accept(listener: &TcpListener, told: &UnixStream, shared: &Arc<Shared>) {
    let mut ending = false;
    while !ending {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(told, PollFlags::IN)];
        poll(&mut fds, None).expect("two open descriptors can be polled");
        ending = !fds[1].revents().is_empty();
        while let Ok((stream, peer)) = listener.accept() {
            let Ok(copy) = stream.try_clone() else { continue };
            shared.state().connections.push(copy);
            let shared = Arc::clone(shared);
            std::thread::spawn(move || shared.serve(stream, peer));
        }
    }
}

impl Shared {
    /// One connection, to its end. A failure is the peer's end.
    fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        drop(stream.set_nonblocking(false));
        drop(stream.set_nodelay(true));
        let mut wire = Wire::new(stream);
        let ended = loop {
            match self.one(&mut wire, peer.port()) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error.kind()),
            }
        };
        // An orderly end first would turn a reset into one.
        if ended != Err(io::ErrorKind::ConnectionReset) {
            drop(wire.stream.shutdown(Shutdown::Both));
        }
        self.state().connections.retain(|known| known.peer_addr().is_ok_and(|known| known != peer));
    }

    /// One request; Ok(true) if the connection can carry another.
    fn one(&self, wire: &mut Wire<TcpStream>, connection: u16) -> io::Result<bool> {
        let head = match wire.head() {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(error) => {
                let start = String::from_utf8_lossy(wire.unused()).into_owned();
                self.record(&Head { start, headers: Vec::new() }, connection);
                return Err(error);
            }
        };
        if head.start.starts_with("GET /healthz ") {
            return self.health(&mut wire.stream);
        }
        let (index, behaviour) = self.record(&head, connection);
        if behaviour == Behaviour::Reset {
            return self.reset(&wire.stream);
        }
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            wire.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Vec::new();
        let read = if head.is_chunked() {
            wire.chunks(&mut body)
        } else {
            wire.exactly(head.length().unwrap_or_default(), &mut body).map(|()| Vec::new())
        };
        let mut state = self.state();
        let request = &mut state.requests[index];
        request.body = body;
        request.whole = read.is_ok();
        request.trailers = read?;
        let dead = state.dead;
        drop(state);
        if dead { Ok(false) } else { self.act(&behaviour, &head, &mut wire.stream) }
    }

    fn record(&self, head: &Head, connection: u16) -> (usize, Behaviour) {
        let mut words = head.start.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut state = self.state();
        let fitting = state.behaviours.iter().filter(|(prefix, _)| target.starts_with(prefix.as_str()));
        let behaviour =
            fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, behaviour)| behaviour.clone());
        let headers = head.headers.clone();
        state.requests.push(Recorded { method, target, headers, connection, ..Recorded::default() });
        (state.requests.len() - 1, behaviour.unwrap_or(Behaviour::Answer))
    }

    fn health(&self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut state = self.state();
        state.health_checks += 1;
        let (sick, dead) = (state.sick, state.dead);
        drop(state);
        let status = if sick { "503 Sick" } else { "200 OK" };
        if !dead {
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
        }
        Ok(!dead)
    }

    /// Closing with SO_LINGER 0 sends a reset.
    fn reset(&self, stream: &TcpStream) -> io::Result<bool> {
        rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
        let peer = stream.peer_addr()?;
        self.state().connections.retain(|known| known.peer_addr().is_ok_and(|known| known != peer));
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn act(&self, behaviour: &Behaviour, head: &Head, stream: &mut TcpStream) -> io::Result<bool> {
        match behaviour {
            Behaviour::Answer => self.answer(200, head, stream),
            Behaviour::Status(status) => self.answer(*status, head, stream),
            Behaviour::Slow(time) => {
                std::thread::sleep(*time);
                if self.state().dead {
                    return Ok(false);
                }
                self.answer(200, head, stream)
            }
            Behaviour::Hang => {
                // Until the peer loses patience.
                while stream.read(&mut [0; 1024])? > 0 {}
                Ok(false)
            }
            Behaviour::Close | Behaviour::Reset => Ok(false),
            Behaviour::Half => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")?;
                Ok(false)
            }
            Behaviour::Raw(bytes) => {
                stream.write_all(bytes)?;
                Ok(false)
            }
        }
    }

    fn answer(&self, status: u16, head: &Head, stream: &mut TcpStream) -> io::Result<bool> {
        let name = &self.name;
        let body = format!("{name}\n");
        let id = head.header("x-drill-id").map(|id| format!("X-Drill-Id: {id}\r\n")).unwrap_or_default();
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} Status\r\nX-Instance: {name}\r\n{id}Content-Length: {length}\r\n\r\n");
        let body = if head.start.starts_with("HEAD ") { "" } else { &body };
        stream.write_all((answer + body).as_bytes())?;
        Ok(!head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
    }
}
