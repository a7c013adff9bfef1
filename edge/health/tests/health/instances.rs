//! Fake instances: a listener on a free port and a thread that treats every connection in the same way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What an instance does with a request once it has read it.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Answers these bytes and closes.
    Says(String),
    /// Answers, after a while.
    SaysLate(Duration, String),
    /// Accepts and never answers.
    Hangs,
    /// Closes with RST instead of answering.
    Resets,
}

/// A listening instance. It dies with its value: later connects are refused.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

pub(crate) fn ok() -> Manner {
    Manner::Says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned())
}

/// An address where nothing listens (the listener is closed again).
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Instance {
    pub(crate) fn new(manner: Manner) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), manner)
    }

    pub(crate) fn at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::spawn({
            let (connections, over) = (connections.clone(), over.clone());
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) > 0 {
                        return;
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                    let manner = manner.clone();
                    thread::spawn(move || treat(stream.unwrap(), &manner));
                }
            }
        });
        Self { address, connections, over, thread: Some(thread) }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.over.store(1, Ordering::SeqCst);
        // Wakes the accepting thread, which then drops the listener.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn treat(mut stream: TcpStream, manner: &Manner) {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            // A tcp check says nothing.
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&piece[..read]),
        }
    }
    let text = String::from_utf8(request).unwrap();
    let host = format!("Host: {}\r\n", stream.local_addr().unwrap());
    assert!(text.starts_with("GET /healthz HTTP/1.1\r\n") && text.contains(&host), "{text}");
    assert!(
        text.contains("User-Agent: everup-health\r\n") && text.contains("Connection: close\r\n"),
        "{text}"
    );
    match manner {
        Manner::Says(answer) => drop(stream.write_all(answer.as_bytes())),
        Manner::SaysLate(wait, answer) => {
            thread::sleep(*wait);
            drop(stream.write_all(answer.as_bytes()));
        }
        // Until the prober gives up.
        Manner::Hangs => drop(stream.read(&mut piece)),
        Manner::Resets => return reset(&stream),
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Makes the close that follows an RST: linger 0.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}
