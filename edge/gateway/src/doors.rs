//! The listening sockets of a thread: accepting on each, and what a reload does to them. A socket is opened, serves
//! another listener from now on, or is given up, and no other is touched.
//!
//! Giving one up loses no connection: the kernel has completed the handshakes of those that wait in its queue, and
//! would reset them if it were closed. So first no new ones are let in (a filter drops what would begin one; who
//! tries is as good as refused, a moment later), then those whose handshake is under way get [`HANDSHAKE`] to finish
//! it, and when the queue is empty the socket is closed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everup_core::config::Protocol;
use socket2::{SockFilter, SockRef};

use crate::engine::{Listener, Socket};
use crate::local::Local;
use crate::stream::Stream;
use crate::tls::{self, Accepting, Acceptor};
use crate::{Assigned, Shared, client, passthrough, tcp};

/// After an accept failed for want of descriptors or memory: trying at once would only burn the CPU that is needed to
/// end connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long clients whose handshake is under way may take to finish it.
const HANDSHAKE: Duration = Duration::from_millis(500);

/// One thread's share of a listener.
#[derive(Debug)]
pub(crate) struct ThreadSocket {
    pub(crate) listener: usize,
    pub(crate) protocol: Protocol,
    pub(crate) local: SocketAddr,
    /// What handshakes are made with; None: there are none.
    pub(crate) tls: Option<Arc<Acceptor>>,
    pub(crate) fd: OwnedFd,
}

/// What is to be done with the sockets at an address.
#[derive(Debug)]
pub(crate) enum Order {
    Open(ThreadSocket),
    Assign(Assigned),
    Close(SocketAddr),
    /// Another process serves all of them from now on.
    LetGo,
}

/// All sockets of a thread, by their address.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    doors: HashMap<SocketAddr, Rc<Door>>,
}

#[derive(Debug)]
struct Door {
    address: SocketAddr,
    /// For connections that begin from now on.
    listener: Cell<usize>,
    protocol: Cell<Protocol>,
    tls: RefCell<Option<Arc<Acceptor>>>,
    closing: Cell<bool>,
    /// Another process has the socket too: its queue is that one's.
    shared: Cell<bool>,
    /// Whoever comes waits in the queue, from which another worker takes.
    held: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Doors {
    pub(crate) fn obey(&mut self, local: &Rc<Local>, order: Order) {
        match order {
            Order::Open(ThreadSocket { listener, protocol, local: address, tls, fd }) => {
                let door = Rc::new(Door {
                    address,
                    listener: Cell::new(listener),
                    protocol: Cell::new(protocol),
                    tls: RefCell::new(tls),
                    closing: Cell::new(false),
                    shared: Cell::new(false),
                    held: Cell::new(local.holds_doors()),
                    waker: RefCell::default(),
                });
                self.doors.insert(address, Rc::clone(&door));
                local.engine.spawn(accept(Rc::clone(local), door, fd));
            }
            Order::Assign(Assigned { local, listener, protocol, tls }) => {
                if let Some(door) = self.doors.get(&local) {
                    door.listener.set(listener);
                    door.protocol.set(protocol);
                    door.tls.replace(tls);
                }
            }
            Order::LetGo => {
                // They stay known: connections that move name their listener by its address.
                for door in self.doors.values() {
                    door.shared.set(true);
                    door.closing.set(true);
                    door.wake();
                }
            }
            Order::Close(address) => {
                if let Some(door) = self.doors.remove(&address) {
                    door.closing.set(true);
                    door.wake();
                }
            }
        }
    }
}

impl Doors {
    /// What each listener is called by others: one of its addresses.
    pub(crate) fn listeners(&self) -> HashMap<usize, SocketAddr> {
        self.doors.values().map(|door| (door.listener.get(), door.address)).collect()
    }

    /// Nobody is let in any more, or everybody again. The sockets stay open: who waits there has not been lost.
    pub(crate) fn hold(&self, held: bool) {
        for door in self.doors.values() {
            door.held.set(held);
            door.wake();
        }
    }
}

impl Door {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// There are as many connections, or handshakes, as there may be.
    fn is_full(&self, local: &Local) -> bool {
        local.shared.connections.load(Ordering::Relaxed) >= local.limits().connections
            || self.tls.borrow().is_some() && tls::is_full(local)
    }

    /// The next connection; None: the door is closing.
    fn poll_accept(&self, cx: &Context<'_>, accepting: &Listener) -> Poll<Option<Accepted>> {
        if self.closing.get() {
            return Poll::Ready(None);
        }
        if !self.waker.borrow().as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker.replace(Some(cx.waker().clone()));
        }
        if self.held.get() {
            return Poll::Pending;
        }
        accepting.poll_accept(cx).map(Some)
    }

    fn serve(&self, local: &Rc<Local>, (tcp, peer): (Socket, SocketAddr)) {
        let local = Rc::clone(local);
        let stream = Stream::accepted(tcp);
        let place = Place::take(&local.shared);
        let listener = self.listener.get();
        let protocol = self.protocol.get();
        let tls = self.tls.borrow().as_ref().map(|acceptor| Accepting::new(&local, acceptor));
        let engine = Rc::clone(&local.engine);
        // A task each: one for all would be as large as the largest, and thousands of http connections are idle.
        match protocol {
            Protocol::Http => {
                let client = Box::new(client::Client::new(&local, stream, listener, peer));
                engine.spawn(async move {
                    let _place = place;
                    client::serve(local, client, client::Comes::In(tls)).await;
                });
            }
            Protocol::Tcp => engine.spawn(async move {
                let _place = place;
                tcp::serve(local, stream, listener, peer).await;
            }),
            Protocol::TlsPassthrough => engine.spawn(async move {
                let _place = place;
                passthrough::serve(local, stream, listener, peer).await;
            }),
        }
    }
}

type Accepted = std::io::Result<(Socket, SocketAddr)>;

/// Somebody accepts at the door. If that ends before the door is closed (a panic, for example), clients wait in vain.
struct Minded {
    local: Rc<Local>,
    door: Rc<Door>,
}

impl Drop for Minded {
    fn drop(&mut self) {
        if !self.door.closing.get() {
            self.local.tell_ended();
        }
    }
}

async fn accept(local: Rc<Local>, door: Rc<Door>, fd: OwnedFd) {
    let _minded = Minded { local: Rc::clone(&local), door: Rc::clone(&door) };
    let address = door.address;
    let accepting = match local.engine.listener(fd) {
        Ok(accepting) => accepting,
        Err(error) => return tracing::error!("cannot accept on {address}: {error}"),
    };
    loop {
        everup_failpoint::hit("accept");
        if door.is_full(&local) && !door.closing.get() {
            // At the limit new connections wait in the kernel's queue.
            local.engine.sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match std::future::poll_fn(|cx| door.poll_accept(cx, &accepting)).await {
            None if door.shared.get() => return,
            None => return give_up(&local, &door, &accepting).await,
            Some(Ok(accepted)) => door.serve(&local, accepted),
            Some(Err(error)) if is_the_clients(&error) => {}
            Some(Err(error)) => {
                tracing::warn!("cannot accept on {address}: {error}; trying again");
                local.engine.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Empties the queue of a socket that is about to be closed.
async fn give_up(local: &Rc<Local>, door: &Door, accepting: &Listener) {
    if let Err(error) = SockRef::from(accepting).attach_filter(&NO_NEW_ONES) {
        // Those that come in the last moment may be reset.
        tracing::debug!("new connections to {} cannot be kept out: {error}", door.address);
    }
    let until_then = async {
        loop {
            match accepting.accept().await {
                Ok(accepted) => door.serve(local, accepted),
                Err(error) if is_the_clients(&error) => {}
                Err(_) => local.engine.sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    let _: Result<std::convert::Infallible, _> = local.engine.timeout(HANDSHAKE, until_then).await;
    while let Some(accepted) = accepting.accept_waiting() {
        match accepted {
            Ok(accepted) => door.serve(local, accepted),
            Err(error) if is_the_clients(&error) => {}
            // No descriptors left: those who still wait cannot be served.
            Err(_) => return,
        }
    }
}

/// A classic BPF program over a TCP segment that comes to the socket: one with SYN and without ACK is dropped, whatever
/// else is taken. (The segment begins with the TCP header, whose byte 13 holds the flags: RFC 9293 section 3.1.)
const NO_NEW_ONES: [SockFilter; 5] = [
    // Load byte 13; keep SYN (2) and ACK (16).
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    // Only SYN? Then 0 bytes of it are taken, else all.
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// The client went away between its connect and our accept.
fn is_the_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// One of the `limits.connections` places. Threads look before they take, so the limit can be passed by one per thread.
#[derive(Debug)]
pub(crate) struct Place(Arc<Shared>);

impl Place {
    pub(crate) fn take(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
