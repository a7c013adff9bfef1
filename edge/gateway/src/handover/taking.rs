//! The new worker's half, outside of the data-plane threads: hears of one connection after another, looks whether it can go
//! on here, says so, and only then gives it to a thread. A connection of which something is unknown here is refused: it
//! stays where it can be ended in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use everup_core::config::Protocol;
use everup_core::handover::{Answer, Connection, Message, Refused, Relay, Told, What};
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::sync::{mpsc, watch as channel};

use super::line::{Came, Ear, Ended, Line};
use super::tally::Tally;
use super::{Stage, spawn};
use crate::doors::Place;
use crate::snapshot::{InstanceShared, ServiceShared};
use crate::{Orders, Shared};

/// What is spoken at which address, and for which listener.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<SocketAddr, (usize, Protocol)>>);

impl Addresses {
    pub(crate) fn set(&self, address: SocketAddr, listener: usize, protocol: Protocol) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, (listener, protocol));
    }

    pub(crate) fn remove(&self, address: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    fn of(&self, address: SocketAddr) -> Option<(usize, Protocol)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied()
    }
}

/// A connection that a thread is to go on with.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) listener: usize,
    pub(crate) connection: Box<Connection>,
    pub(crate) held: Vec<u8>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// It counts as a client's connection from before it is answered for.
    pub(crate) place: Place,
    /// Of a relay.
    pub(crate) instance: Option<With>,
}

/// The instance of a relay. It counts there from before the old worker counts it out.
#[derive(Debug)]
pub(crate) struct With {
    pub(crate) service: Arc<ServiceShared>,
    pub(crate) instance: Arc<InstanceShared>,
}

impl With {
    fn enter(service: &Arc<ServiceShared>, instance: &Arc<InstanceShared>) -> Self {
        instance.enter();
        Self { service: Arc::clone(service), instance: Arc::clone(instance) }
    }
}

impl Drop for With {
    fn drop(&mut self) {
        self.instance.leave();
    }
}

/// Who takes.
pub(super) struct Taker {
    pub(super) orders: channel::Receiver<Orders>,
    pub(super) shared: Arc<Shared>,
    pub(super) addresses: Arc<Addresses>,
    /// One for each data-plane thread.
    pub(super) threads: Vec<mpsc::UnboundedSender<Arrival>>,
    pub(super) taken: Arc<Tally>,
    pub(super) refused: Arc<AtomicU64>,
}

/// Begins to talk.
pub(super) fn begin(line: &Arc<Line>, taker: Taker, stage: channel::Sender<Stage>) -> std::io::Result<()> {
    let line = Arc::clone(line);
    spawn("taking-over", move || {
        let mut ear = Ear::default();
        if let Err(ended) = line.greet(&mut ear) {
            stage.send_replace(Stage::Refused(ended.to_string()));
            return line.end();
        }
        stage.send_replace(Stage::Moving);
        let ended = taker.take_all(&line, &mut ear);
        // What was sent and not read goes back: the other side sees that it was not answered.
        line.end();
        stage.send_replace(match ended {
            Ended::Gone => Stage::Settled,
            other => Stage::Broken(other.to_string()),
        });
    })
}

impl Taker {
    fn take_all(&self, line: &Line, ear: &mut Ear) -> Ended {
        for thread in (0..self.threads.len()).cycle() {
            let (connection, held, sockets) = match line.hear(ear) {
                Ok(Came { told: Told::Connection(connection, held), descriptors }) => {
                    (connection, held, descriptors)
                }
                Ok(_) => return Ended::OutOfTurn,
                Err(ended) => return ended,
            };
            let (number, kind) = (connection.number, connection.what.kind());
            let thread = &self.threads[thread];
            if thread.is_closed() {
                // Without an answer it goes back, and so does all that comes after it.
                return Ended::Stops;
            }
            let resolved = self.resolve(connection, held, sockets);
            let refused = resolved.as_ref().err().copied();
            match line.say(&Message::Answer(Answer { number, refused })) {
                // An old worker that has died while it waited for the answer has left the connection to us.
                Ok(()) | Err(Ended::Gone) => {}
                Err(ended) => return ended,
            }
            match resolved {
                Ok(arrival) => {
                    kind.into_iter().for_each(|kind| self.taken.add(kind));
                    // A thread that has ended since it was asked: the connection ends as all others of it.
                    let _ = thread.send(arrival);
                }
                Err(why) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!("a connection of the old worker is not taken: {why:?}");
                }
            }
        }
        Ended::Gone
    }

    /// Finds out what the connection is here. The descriptors of one that is refused are closed when this returns.
    fn resolve(
        &self,
        connection: Box<Connection>,
        held: Vec<u8>,
        sockets: Vec<OwnedFd>,
    ) -> Result<Arrival, Refused> {
        let (relay, wanted) = match &connection.what {
            What::Idle(_) => (None, [Protocol::Http, Protocol::Http]),
            What::Relay(relay) => (Some(relay), [Protocol::Tcp, Protocol::TlsPassthrough]),
            What::Tunnel(relay) | What::Websocket(relay) => (Some(relay), [Protocol::Http, Protocol::Http]),
            What::Unknown => return Err(Refused::Kind),
        };
        if sockets.len() != connection.descriptors() || !sockets.iter().all(is_tcp) {
            return Err(Refused::Descriptors);
        }
        let (listener, protocol) = self.addresses.of(connection.listener).ok_or(Refused::Listener)?;
        if !wanted.contains(&protocol) {
            return Err(Refused::Listener);
        }
        let instance = match relay {
            Some(relay) => Some(self.instance(relay).ok_or(Refused::Instance)?),
            None => None,
        };
        let place = Place::take(&self.shared);
        Ok(Arrival { listener, connection, held, sockets, place, instance })
    }

    fn instance(&self, relay: &Relay) -> Option<With> {
        let snapshot = Arc::clone(&self.orders.borrow().snapshot);
        let service = snapshot.services.iter().find(|service| service.name == relay.instance.service)?;
        let is_it = |one: &&crate::InstanceTable| one.id == relay.instance && one.address == relay.address;
        let instance = service.instances.iter().find(is_it)?;
        Some(With::enter(&service.shared, &instance.shared))
    }
}

/// A TCP connection on which no call waits.
fn is_tcp(socket: &OwnedFd) -> bool {
    let domain = sockopt::socket_domain(socket);
    matches!(domain, Ok(AddressFamily::INET | AddressFamily::INET6))
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && rustix::io::ioctl_fionbio(socket, true).is_ok()
}
