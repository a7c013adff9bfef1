//! Listening sockets that the init system opened for us: socket activation, as sd_listen_fds(3) has it.
//!
//! The keeper takes them and holds them until it ends; `sockets.rs` asks for them before it binds an address itself.
//! What nobody asks for is told to the operator, because clients that connect to it wait for nothing.
//!
//! There is one socket for an address, where the keeper would make one per data-plane thread. All threads accept from
//! it: a connection goes to whichever comes first.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use listenfd::ListenFd;
use socket2::Socket;

use crate::{KeeperError, log};

/// Sockets that the init system may give; it needs a descriptor for each of them, too.
const MOST: usize = 1_000;

/// What the init system gave us.
#[derive(Debug, Default)]
pub(crate) struct Given {
    sockets: Vec<One>,
}

#[derive(Debug)]
struct One {
    /// As the init system calls it, for messages.
    name: String,
    address: SocketAddr,
    socket: Socket,
}

impl Given {
    /// By what the init system left in the environment; nothing, if that was for another process. To be called once.
    pub(crate) fn from_environment() -> Result<Self, KeeperError> {
        let for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
        let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<usize>().ok());
        let Some(count) = count.filter(|count| for_us && *count > 0) else { return Ok(Self::default()) };
        if count > MOST {
            let what = format!("{count} sockets that the init system passed on");
            return Err(KeeperError::Given { what, reason: format!("{MOST} are the most") });
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut listeners = ListenFd::from_env();
        let mut given = Self::default();
        for index in 0..count {
            let name = names.next().filter(|name| !name.is_empty() && name != "unknown");
            let name = name.unwrap_or_else(|| format!("number {}", index + 1));
            let refuse = |reason: String| KeeperError::Given {
                what: format!("the socket \"{name}\" that the init system passed on"),
                reason,
            };
            let listener = listeners.take_tcp_listener(index).map_err(|_| refuse(NO_TCP.to_owned()))?;
            let listener = listener.expect("each one is taken once");
            given.add(name.clone(), listener.into()).map_err(refuse)?;
        }
        Ok(given)
    }

    /// What another binary must know of them, beside the descriptors in the same order.
    pub(crate) fn to_state(&self) -> Vec<(String, SocketAddr)> {
        self.sockets.iter().map(|one| (one.name.clone(), one.address)).collect()
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|one| one.socket.as_fd())
    }

    /// Those that another binary had.
    pub(crate) fn taken(known: &[(String, SocketAddr)], descriptors: impl Iterator<Item = OwnedFd>) -> Self {
        let one = |((name, address), socket): (&(String, SocketAddr), OwnedFd)| One {
            name: name.clone(),
            address: *address,
            socket: socket.into(),
        };
        Self { sockets: known.iter().zip(descriptors).map(one).collect() }
    }

    fn add(&mut self, name: String, socket: Socket) -> Result<(), String> {
        let address = check(&socket)?;
        if let Some(other) = self.sockets.iter().find(|other| other.address == address) {
            return Err(format!(
                "\"{}\" is bound to {address}, too; one is enough for all threads",
                other.name
            ));
        }
        socket.set_nonblocking(true).map_err(|error| error.to_string())?;
        self.sockets.push(One { name, address, socket });
        Ok(())
    }

    /// The socket of this address, once for each of `count` threads, if it was given to us.
    pub(crate) fn sockets(&self, address: SocketAddr, count: usize) -> io::Result<Option<Vec<Socket>>> {
        let Some(One { socket, .. }) = self.sockets.iter().find(|one| one.address == address) else {
            return Ok(None);
        };
        // When a reload took the address out, new connections were kept out by a filter, and it stays with the socket.
        // (It is an error that there is none.)
        let _ = socket.detach_filter();
        (0..count).map(|_| socket.try_clone()).collect::<io::Result<_>>().map(Some)
    }

    /// Tells of what is not among these addresses.
    pub(crate) fn warn(&self, asked: &[SocketAddr]) {
        for One { name, address, .. } in self.sockets.iter().filter(|one| !asked.contains(&one.address)) {
            log(&format!(
                "nobody answers at {address}, the socket \"{name}\" that the init system passed on: add it to a listener's \
                 `bind`, or take it out of the socket unit"
            ));
        }
    }
}

const NO_TCP: &str =
    "it is no listening TCP socket: `ListenStream=ADDRESS:PORT` in the socket unit makes one";

/// The address of a socket that we can use; else why not.
fn check(socket: &Socket) -> Result<SocketAddr, String> {
    let words = |error: io::Error| error.to_string();
    if !socket.is_listener().map_err(words)? {
        return Err(format!("{NO_TCP}, and `Accept=yes` must not stand there"));
    }
    let address = socket.local_addr().map_err(words)?.as_socket().ok_or(NO_TCP)?;
    if address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6().map_err(words)? {
        return Err(format!(
            "it takes IPv4, too, and would show those clients with addresses of IPv6: set `BindIPv6Only=ipv6-only` in the \
             socket unit, and `ListenStream=0.0.0.0:{}` beside it",
            address.port()
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::{Domain, Type};

    use super::*;

    fn given(listeners: &[&TcpListener]) -> Result<Given, String> {
        let mut given = Given::default();
        for (index, listener) in listeners.iter().enumerate() {
            given.add(format!("socket-{index}"), listener.try_clone().unwrap().into())?;
        }
        Ok(given)
    }

    #[test]
    fn every_thread_gets_the_socket_of_its_address_and_of_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let given = given(&[&listener]).unwrap();
        let sockets = given.sockets(address, 3).unwrap().unwrap();
        assert_eq!(sockets.len(), 3);
        TcpStream::connect(address).unwrap();
        sockets[2].accept().unwrap();
        let port = address.port();
        for other in [format!("127.0.0.2:{port}"), format!("0.0.0.0:{port}"), format!("[::1]:{port}")] {
            assert!(given.sockets(other.parse().unwrap(), 1).unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn two_sockets_of_one_address_are_one_too_many() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = given(&[&listener, &listener]).unwrap_err();
        assert!(refused.starts_with("\"socket-0\" is bound to 127.0.0.1:"), "{refused}");
    }

    #[test]
    fn what_does_not_listen_or_mixes_ipv4_and_ipv6_is_refused_with_what_to_do() {
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(check(&silent).unwrap_err().contains("ListenStream="));

        let both = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        both.set_only_v6(false).unwrap();
        both.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        both.listen(1).unwrap();
        assert!(check(&both).unwrap_err().contains("BindIPv6Only=ipv6-only"));
    }
}
