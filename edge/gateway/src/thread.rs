//! A data-plane thread: its runtime, and the tasks that live as long as it does: accepting, obeying, sweeping.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use everup_core::config::{Limits, Protocol};
use everup_core::ids::Generation;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch as channel};

use crate::access_log::Log;
use crate::client;
use crate::local::{Given, Local};
use crate::passthrough;
use crate::seal::Seal;
use crate::stream::Stream;
use crate::tcp;
use crate::tls::{self, Accepting, Acceptor};
use crate::watch::SWEEP;
use crate::{GatewayEvent, Orders, Shared};

/// After an accept failed for want of descriptors or memory: trying at once would only burn the CPU that is needed to
/// end connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Sweeps between two looks at the idle pools.
const SWEEPS_PER_PRUNE: u32 = 20;

/// One thread's share of a listener.
#[derive(Debug)]
pub(crate) struct ThreadSocket {
    pub(crate) listener: usize,
    pub(crate) protocol: Protocol,
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<Arc<Acceptor>>,
    pub(crate) fd: OwnedFd,
}

/// What a thread needs to start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) thread: usize,
    pub(crate) limits: Limits,
    pub(crate) log: Option<Log>,
    pub(crate) makes_trace_parents: bool,
    pub(crate) sockets: Vec<ThreadSocket>,
    pub(crate) sticky_keys: Arc<[[u8; 32]]>,
    pub(crate) seed: u64,
    pub(crate) orders: channel::Receiver<Orders>,
    pub(crate) acknowledge: channel::Sender<Generation>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::UnboundedSender<GatewayEvent>,
}

/// Starts the thread.
pub(crate) fn spawn(start: Start) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("data-{}", start.thread)).spawn(move || {
        let thread = start.thread;
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(start)),
            Err(error) => tracing::error!("data-plane thread {thread} cannot start: {error}"),
        }
    })
}

async fn run(start: Start) {
    let Start {
        thread,
        limits,
        log,
        makes_trace_parents,
        sockets,
        sticky_keys,
        seed,
        orders,
        acknowledge,
        shared,
        events,
    } = start;
    let (snapshot, routes) = {
        let first = orders.borrow();
        (Arc::clone(&first.snapshot), first.routes.for_thread())
    };
    let seal = Seal::new(&sticky_keys);
    let local = Rc::new(Local::new(Given {
        thread,
        limits,
        log,
        makes_trace_parents,
        seed,
        seal,
        shared,
        events,
        snapshot,
        routes,
    }));
    for socket in sockets {
        tokio::task::spawn_local(accept(Rc::clone(&local), socket));
    }
    tokio::task::spawn_local(sweep(Rc::clone(&local)));
    obey(&local, orders, acknowledge).await;
    // Returning drops the runtime, and with it every connection.
}

/// Takes new tables, and acknowledges each when no task here can use an older one.
async fn obey(
    local: &Local,
    mut orders: channel::Receiver<Orders>,
    acknowledge: channel::Sender<Generation>,
) {
    loop {
        let Orders { snapshot, routes, closing, stop } = orders.borrow_and_update().clone();
        if stop {
            return;
        }
        if closing && !local.is_closing() {
            local.close();
        }
        local.adopt(snapshot, &routes);
        acknowledge.send_replace(local.generation());
        if orders.changed().await.is_err() {
            return;
        }
    }
}

async fn sweep(local: Rc<Local>) {
    let mut interval = tokio::time::interval(SWEEP);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweeps = 0;
    loop {
        interval.tick().await;
        local.sweep();
        sweeps += 1;
        if sweeps == SWEEPS_PER_PRUNE {
            sweeps = 0;
            local.prune_pools();
        }
    }
}

async fn accept(local: Rc<Local>, socket: ThreadSocket) {
    let ThreadSocket { listener, protocol, local: address, tls, fd } = socket;
    let accepting = match TcpListener::from_std(StdListener::from(fd)) {
        Ok(accepting) => accepting,
        Err(error) => return tracing::error!("cannot accept on {address}: {error}"),
    };
    loop {
        let connections = local.shared.connections.load(Ordering::Relaxed);
        if connections >= local.limits.connections || tls.is_some() && tls::is_full(&local) {
            // At the limit new connections wait in the kernel's queue.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match accepting.accept().await {
            Ok((tcp, peer)) => {
                let local = Rc::clone(&local);
                let stream = Stream::accepted(tcp);
                let place = Place::take(&local);
                let tls = tls.as_ref().map(|acceptor| Accepting::new(&local, acceptor));
                tokio::task::spawn_local(async move {
                    let _place = place;
                    match protocol {
                        Protocol::Http => client::serve(local, stream, listener, peer, tls).await,
                        Protocol::Tcp => tcp::serve(local, stream, listener, peer).await,
                        Protocol::TlsPassthrough => passthrough::serve(local, stream, listener, peer).await,
                    }
                });
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!("cannot accept on {address}: {error}; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client went away between its connect and our accept.
fn is_the_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// One of the `limits.connections` places. Threads look before they take, so the limit can be passed by one per thread.
struct Place(Arc<Shared>);

impl Place {
    fn take(local: &Local) -> Self {
        local.shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&local.shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
