//! The application behind the proxies: as cheap as possible, so that the proxy is what is measured.
//!
//! It answers `/` with 128 bytes, `/64k` and `/1m` with what they say, and understands no more of HTTP than the load
//! sends: requests without a body.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::readiness::Readiness;

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
}

impl Origin {
    /// Listens on a free port and serves from a thread of its own until the process ends.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the origin cannot listen")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // Ends with the process; when it fails, the load counts the errors.
        thread::spawn(move || serve(listener));
        Ok(Self { address })
    }
}

fn serve(listener: TcpListener) -> io::Result<()> {
    let mut server = Server::new(listener)?;
    loop {
        server.turn()?;
    }
}

/// The listener's number; connections count from 1.
const LISTENER: usize = 0;

struct Server {
    listener: TcpListener,
    readiness: Readiness,
    /// By number; the listener's place stays empty.
    connections: Vec<Option<Connection>>,
    answers: Answers,
    buffer: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    /// The beginning of a request whose end has not come yet.
    begun: Vec<u8>,
    /// The answer that is being written and how much of it is.
    writing: Option<(Size, usize)>,
}

#[derive(Clone, Copy)]
enum Size {
    Small,
    Medium,
    Large,
}

struct Answers {
    small: Vec<u8>,
    medium: Vec<u8>,
    large: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let readiness = Readiness::new()?;
        readiness.watch_listener(&listener, LISTENER)?;
        let answers = Answers { small: answer(128), medium: answer(64 << 10), large: answer(1 << 20) };
        Ok(Self { listener, readiness, connections: vec![None], answers, buffer: vec![0; 64 << 10] })
    }

    /// Waits for readiness and serves what is ready.
    fn turn(&mut self) -> io::Result<()> {
        let ready: Vec<usize> = self.readiness.wait(Duration::from_secs(3600))?.collect();
        for number in ready {
            if number == LISTENER {
                self.accept()?;
            } else if let Some(connection) = &mut self.connections[number]
                && connection.serve(&self.answers, &mut self.buffer).is_err()
            {
                self.connections[number] = None;
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let free = self.connections.iter().skip(1).position(Option::is_none).map(|index| index + 1);
            let number = free.unwrap_or(self.connections.len());
            self.readiness.watch(&socket, number)?;
            let connection = Some(Connection { socket, begun: Vec::new(), writing: None });
            match free {
                Some(number) => self.connections[number] = connection,
                None => self.connections.push(connection),
            }
        }
    }
}

impl Connection {
    /// Reads requests and writes answers until neither is possible. An error ends the connection.
    fn serve(&mut self, answers: &Answers, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            if !self.write(answers)? {
                return Ok(());
            }
            if let Some(size) = self.take_request() {
                self.writing = Some((size, 0));
                continue;
            }
            match (&self.socket).read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.begun.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether everything that was to be written is.
    fn write(&mut self, answers: &Answers) -> io::Result<bool> {
        let Some((size, written)) = &mut self.writing else { return Ok(true) };
        let answer = answers.of(*size);
        while *written < answer.len() {
            match (&self.socket).write(&answer[*written..]) {
                Ok(wrote) => *written += wrote,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.writing = None;
        Ok(true)
    }

    fn take_request(&mut self) -> Option<Size> {
        let end = memchr::memmem::find(&self.begun, b"\r\n\r\n")?;
        let size = match &self.begun[..end] {
            head if head.starts_with(b"GET /64k ") => Size::Medium,
            head if head.starts_with(b"GET /1m ") => Size::Large,
            _ => Size::Small,
        };
        self.begun.drain(..end + 4);
        Some(size)
    }
}

impl Answers {
    fn of(&self, size: Size) -> &[u8] {
        match size {
            Size::Small => &self.small,
            Size::Medium => &self.medium,
            Size::Large => &self.large,
        }
    }
}

fn answer(body_bytes: usize) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sun, 22 Nov 2026 08:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {body_bytes}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + body_bytes, b'.');
    answer
}
