//! The data plane: listeners, HTTP/1.1 and TCP proxying, origin pools, relays.
//!
//! One thread per core, each with an engine (`engine.rs`), sockets and pools of its own; no lock and no
//! cross-thread wake-up on the path of a request. What to do is decided in `everup_core` (`http` where a message
//! ends, `route` which service, `balance` which instance, `exchange` whether to retry); this crate does it.
//! It binds no socket (the keeper does) and judges no instance (health does): it reports failed connects and gets
//! one immutable [`Snapshot`] after another.
#![warn(missing_docs)]

mod access_log;
mod announce;
mod attempt;
mod bequest;
mod buffers;
mod busy;
mod client;
mod dial;
mod doors;
mod engine;
mod exchange;
mod handover;
mod judge;
mod local;
mod measure;
mod park;
mod passthrough;
mod per_client;
mod pool;
mod proxied;
mod pump;
mod queue;
mod relay;
mod reply;
mod seal;
mod service;
mod snapshot;
mod splice;
mod sticky;
mod stream;
mod taking;
mod tale;
mod tcp;
mod tell;
mod thread;
mod tls;
mod trail;
mod turned_away;
mod unacknowledged;
mod watch;
mod websocket;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use everup_core::config::{Limits, Protocol};
use everup_core::health::Reason;
use everup_core::ids::{Generation, InstanceId};
use everup_observe::PerThread;
use tokio::sync::{mpsc, watch as channel};

use crate::handover::parting::Parting;
use crate::handover::taking::{Addresses, Arrival};
use crate::handover::{Lines, Tally};
use crate::measure::Routes;
use crate::per_client::PerClient;

pub use access_log::{AccessLog, open as open_access_log};
pub use engine::Batching;
pub use handover::{HandOver, Kinds, Leaving, Stage, TakeOver, Taking};
pub use measure::{DURATION_BOUNDS, Durations, Measured, RouteName, RouteShared, SIZE_BOUNDS, durations};
pub use snapshot::{
    Answers, Availability, Farewells, InstanceShared, InstanceTable, ListenerTable, ServiceShared,
    ServiceTable, Snapshot, StatusClasses, Stay,
};
pub use tale::{Event, Phases, REMEMBERED, REMEMBERED_TIME, Tale, Verdict, What};
pub use tls::{Acceptor, Connector, Files, InstanceFiles, TlsError};
pub use turned_away::TurnedAway;

/// Everything the data plane needs to start.
#[derive(Debug)]
pub struct Setup {
    /// The limits of the configuration.
    pub limits: Limits,
    /// None: no access log.
    pub access_log: Option<AccessLog>,
    /// Requests without a valid `traceparent` get one.
    pub makes_trace_parents: bool,
    /// The listening sockets, bound by the keeper.
    pub sockets: Vec<ListenerSockets>,
    /// How many data-plane threads; every listener has one socket for each.
    pub threads: usize,
    /// Keys of sticky cookies: the first seals, all open. The same after a restart, or every user moves.
    pub sticky_keys: Arc<[[u8; 32]]>,
    /// When system calls for many connections are made together.
    pub batching: Batching,
    /// Random: makes request ids unique and keeps threads from choosing in step.
    pub worker_seed: u64,
}

/// What the configuration sets for the whole data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its limits.
    pub limits: Limits,
    /// Requests without a valid `traceparent` get one.
    pub makes_trace_parents: bool,
}

/// What is to be changed together with a table. All of it takes effect on a thread at once.
#[derive(Debug)]
pub struct Rearrangement {
    /// None: as before.
    pub settings: Option<Settings>,
    /// None: as before; Some(None): no access log any more.
    pub access_log: Option<Option<AccessLog>>,
    /// Sockets to accept on from now on.
    pub open: Vec<ListenerSockets>,
    /// What open addresses are for from now on.
    pub assign: Vec<Assigned>,
    /// Addresses to be given up; connections that wait there are served.
    pub close: Vec<SocketAddr>,
}

/// What an open address is for.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The address.
    pub local: SocketAddr,
    /// Its listener's place in [`Snapshot::listeners`].
    pub listener: usize,
    /// What is spoken there.
    pub protocol: Protocol,
    /// What handshakes are made with; None: there are none.
    pub tls: Option<Arc<Acceptor>>,
}

/// A [`Rearrangement`] that can be carried out.
#[derive(Debug)]
pub struct Prepared {
    settings: Option<Settings>,
    log: Option<(Option<access_log::Writer>, Vec<access_log::Log>)>,
    sockets: Vec<Vec<doors::ThreadSocket>>,
    assign: Vec<Assigned>,
    close: Vec<SocketAddr>,
}

/// The sockets of one address of one listener.
#[derive(Debug)]
pub struct ListenerSockets {
    /// Its place in [`Snapshot::listeners`].
    pub listener: usize,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address.
    pub local: SocketAddr,
    /// What its connections are secured with; None: nothing.
    pub tls: Option<Arc<Acceptor>>,
    /// Listening, non-blocking, one per thread.
    pub fds: Vec<OwnedFd>,
}

/// What the data plane noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayEvent {
    /// Connecting to an instance failed.
    ConnectFailed {
        /// Which one.
        id: InstanceId,
        /// Where it was thought to listen; it may have moved since.
        address: SocketAddr,
        /// How.
        reason: Reason,
    },
    /// So many answers of an instance in a row were bad as `outlier.failures` allows, or a multiple of it.
    Failing {
        /// Which one.
        id: InstanceId,
        /// Where it was thought to listen.
        address: SocketAddr,
    },
    /// A thread has ended, or accepts no connections any more: see [`Gateway::is_whole`].
    ThreadEnded,
}

/// Why the data plane could not start. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The kernel refused a thread, a runtime or a socket.
    #[error("the data plane cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// The keeper handed over fewer sockets than there are threads.
    #[error("listener {listener} has {found} sockets for {threads} threads")]
    Sockets {
        /// Index of the listener.
        listener: usize,
        /// How many came.
        found: usize,
        /// How many threads there are.
        threads: usize,
    },
}

/// What every data-plane thread obeys.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) closing: bool,
    pub(crate) refusing: bool,
    pub(crate) stop: bool,
    /// Connections are to leave for another worker.
    pub(crate) parting: Option<Arc<Parting>>,
}

/// What all data-plane threads share. Written per connection, not per request.
#[derive(Debug)]
pub(crate) struct Shared {
    /// From when all threads count time, so that what one notes another can read.
    pub(crate) epoch: Instant,
    pub(crate) connections: AtomicUsize,
    /// Those of them that cannot leave for another worker.
    pub(crate) staying: Arc<Tally>,
    pub(crate) handshakes: AtomicUsize,
    pub(crate) dropped_events: AtomicUsize,
    pub(crate) turned_away: turned_away::Counters,
    /// None: a client may have any number of connections.
    per_client: Mutex<Option<Arc<PerClient>>>,
    pub(crate) memory: Arc<tale::Memory>,
    /// How often each thread has swept.
    pub(crate) pulses: PerThread<AtomicU64>,
    /// A thread has ended, or is about to.
    pub(crate) thread_ended: AtomicBool,
    dropped_lines: Arc<AtomicU64>,
}

impl Shared {
    fn new(threads: usize, connections_per_client: Option<usize>) -> Self {
        Self {
            epoch: Instant::now(),
            connections: AtomicUsize::new(0),
            staying: Arc::default(),
            handshakes: AtomicUsize::new(0),
            dropped_events: AtomicUsize::new(0),
            turned_away: turned_away::Counters::default(),
            per_client: Mutex::new(connections_per_client.map(PerClient::new)),
            memory: Arc::new(tale::Memory::new(threads)),
            pulses: PerThread::new(threads),
            thread_ended: AtomicBool::new(false),
            dropped_lines: Arc::default(),
        }
    }

    /// A thread ends, or does not do any more what only it can.
    pub(crate) fn tell_thread_ended(&self, events: &mpsc::UnboundedSender<GatewayEvent>) {
        self.thread_ended.store(true, Ordering::Relaxed);
        // Nobody may be there to hear it.
        let _ = events.send(GatewayEvent::ThreadEnded);
    }

    /// Where connections are counted by client.
    pub(crate) fn per_client(&self) -> Option<Arc<PerClient>> {
        self.per_client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections are counted from the first limit on.
    fn limit_per_client(&self, most: Option<usize>) {
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*per_client, most) {
            (Some(counted), Some(most)) => counted.set_most(most),
            (None, Some(most)) => *per_client = Some(PerClient::new(most)),
            (_, None) => *per_client = None,
        }
    }
}

/// The running data plane.
#[derive(Debug)]
pub struct Gateway {
    orders: channel::Sender<Orders>,
    acknowledged: Vec<channel::Receiver<Generation>>,
    changes: Vec<mpsc::UnboundedSender<(Generation, thread::Order)>>,
    arrivals: Vec<mpsc::UnboundedSender<Arrival>>,
    addresses: Arc<Addresses>,
    lines: Mutex<Lines>,
    shared: Arc<Shared>,
    /// Those of the newest table.
    routes: Mutex<Arc<Routes>>,
    threads: Vec<JoinHandle<()>>,
    writer: Option<access_log::Writer>,
}

impl Gateway {
    /// Starts the data-plane threads with `first` as their table. Events go to `events`.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing runs then.
    pub fn start(
        setup: Setup,
        first: Snapshot,
        events: mpsc::UnboundedSender<GatewayEvent>,
    ) -> Result<Self, GatewayError> {
        let threads = setup.threads.max(1);
        let shared = Arc::new(Shared::new(threads, setup.limits.connections_per_client));
        let routes = Arc::new(Routes::new(&first, &Routes::default(), threads));
        let first_orders = Orders {
            snapshot: Arc::new(first),
            routes: Arc::clone(&routes),
            closing: false,
            refusing: false,
            stop: false,
            parting: None,
        };
        let (orders, orders_seen) = channel::channel(first_orders);
        let addresses = Arc::<Addresses>::default();
        for ListenerSockets { listener, protocol, local, .. } in &setup.sockets {
            addresses.set(*local, *listener, *protocol);
        }
        let mut per_thread = split_sockets(setup.sockets, threads)?;
        let log = setup.access_log.map(|log| access_log::start(log, threads, &shared.dropped_lines));
        let (writer, mut logs) =
            log.transpose()?.map_or((None, Vec::new()), |(writer, logs)| (Some(writer), logs));
        let (acknowledged, changes, routes) = (Vec::new(), Vec::new(), Mutex::new(routes));
        let mut gateway = Self {
            orders,
            acknowledged,
            changes,
            arrivals: Vec::new(),
            addresses,
            lines: Mutex::default(),
            shared,
            routes,
            threads: Vec::new(),
            writer,
        };
        let settings = Settings { limits: setup.limits, makes_trace_parents: setup.makes_trace_parents };
        for thread in 0..threads {
            let (acknowledge, acknowledged) = channel::channel(Generation(0));
            let (change, changes) = mpsc::unbounded_channel();
            let (arrive, arrivals) = mpsc::unbounded_channel();
            let start = thread::Start {
                thread,
                batching: setup.batching,
                settings: settings.clone(),
                log: logs.pop(),
                sockets: per_thread.pop().expect("there is one set of sockets per thread"),
                sticky_keys: Arc::clone(&setup.sticky_keys),
                seed: everup_core::balance::hash(&(setup.worker_seed ^ thread as u64).to_le_bytes()),
                orders: orders_seen.clone(),
                changes: thread::Changes::new(changes),
                acknowledge,
                arrivals,
                shared: Arc::clone(&gateway.shared),
                events: events.clone(),
            };
            gateway.threads.push(thread::spawn(start)?);
            gateway.acknowledged.push(acknowledged);
            gateway.changes.push(change);
            gateway.arrivals.push(arrive);
        }
        Ok(gateway)
    }

    /// Does of a [`Rearrangement`] all that can fail, and nothing that anybody notices.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn prepare(&self, rearrangement: Rearrangement) -> Result<Prepared, GatewayError> {
        let Rearrangement { settings, access_log, open, assign, close } = rearrangement;
        let threads = self.threads.len();
        let sockets = split_sockets(open, threads)?;
        let log = match access_log {
            None => None,
            Some(None) => Some((None, Vec::new())),
            Some(Some(log)) => {
                let (writer, logs) = access_log::start(log, threads, &self.shared.dropped_lines)?;
                Some((Some(writer), logs))
            }
        };
        Ok(Prepared { settings, log, sockets, assign, close })
    }

    /// Changes more than the table.
    pub fn carry_out(&mut self, prepared: Prepared, snapshot: Snapshot) {
        let Prepared { settings, log, sockets, assign, close } = prepared;
        if let Some(Settings { limits, .. }) = &settings {
            self.shared.limit_per_client(limits.connections_per_client);
        }
        let (writer, mut logs) = log.map_or((None, None), |(writer, logs)| (Some(writer), Some(logs)));
        close.iter().for_each(|address| self.addresses.remove(*address));
        let opened = sockets.iter().flatten().map(|one| (one.local, one.listener, one.protocol));
        let assigned = assign.iter().map(|one| (one.local, one.listener, one.protocol));
        for (address, listener, protocol) in assigned.chain(opened) {
            self.addresses.set(address, listener, protocol);
        }
        for (changes, sockets) in self.changes.iter().zip(sockets) {
            // A thread that has ended obeys nothing any more.
            let tell = |order| drop(changes.send((snapshot.generation, order)));
            close.iter().for_each(|address| tell(thread::Order::Door(doors::Order::Close(*address))));
            let assign = assign.iter().cloned().map(doors::Order::Assign);
            assign.for_each(|order| tell(thread::Order::Door(order)));
            sockets.into_iter().for_each(|socket| tell(thread::Order::Door(doors::Order::Open(socket))));
            settings.iter().for_each(|settings| tell(thread::Order::Settings(settings.clone())));
            logs.iter_mut().for_each(|logs| tell(thread::Order::Log(logs.pop())));
        }
        if let Some(writer) = writer {
            // The old one ends by itself when the last of its lines is written.
            self.writer = writer;
        }
        self.publish(snapshot);
    }

    /// Replaces every thread's table. May be called from any thread; returns at once.
    pub fn publish(&self, snapshot: Snapshot) {
        let mut newest = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = Arc::new(Routes::new(&snapshot, &newest, self.acknowledged.len()));
        *newest = Arc::clone(&routes);
        let snapshot = Arc::new(snapshot);
        self.orders.send_modify(|orders| {
            orders.snapshot = snapshot;
            orders.routes = routes;
        });
    }

    /// Accepts no more: another process has the same sockets, and whoever waits in their queues is that one's.
    pub fn let_go(&self) {
        for changes in &self.changes {
            // A thread that has ended obeys nothing any more.
            drop(changes.send((Generation(0), thread::Order::Door(doors::Order::LetGo))));
        }
        // They look when they are woken by a table.
        self.orders.send_modify(|_| {});
    }

    /// Resolves when no thread can pick from a table older than `generation` any more.
    pub async fn acknowledged(&self, generation: Generation) {
        for thread in &self.acknowledged {
            // An error means that the thread has ended: it picks from no table at all.
            let _ = thread.clone().wait_for(|seen| *seen >= generation).await;
        }
    }

    /// Tells clients at their next answer that the connection ends, and WebSockets to go. New connections are still accepted
    /// (and told the same) until [`Gateway::stop`].
    pub fn begin_shutdown(&self) {
        self.orders.send_modify(|orders| orders.closing = true);
    }

    /// After [`Gateway::begin_shutdown`]: closes idle connections, and lets no request begin any more: who asks is answered
    /// with 503 at once.
    pub fn refuse(&self) {
        self.orders.send_modify(|orders| orders.refusing = true);
    }

    /// Client connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections that were turned away before they were served.
    pub fn turned_away(&self) -> TurnedAway {
        self.shared.turned_away.so_far()
    }

    /// What is remembered of the requests with this id: those that failed by us, were cut, retried or parked, of the last
    /// [`REMEMBERED_TIME`], as far as there is room for them. The oldest first.
    pub fn recall(&self, id: &str) -> Vec<Tale> {
        self.shared.memory.recall(id, SystemTime::now())
    }

    /// Lines that the access log lost because they could not be written in time, or at all.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    /// The counters of every route of the newest table: by listener, in the order of its routes, that of its own service
    /// last. A route that the table before had too has gone on counting.
    pub fn routes(&self) -> Vec<Arc<RouteShared>> {
        let newest = Arc::clone(&self.routes.lock().unwrap_or_else(PoisonError::into_inner));
        newest.all().map(Arc::clone).collect()
    }

    /// How often each thread has come by since it began. One that stands still for a second hangs, or gets no CPU.
    pub fn pulses(&self) -> Vec<u64> {
        self.shared.pulses.cells().map(|pulse| pulse.load(Ordering::Relaxed)).collect()
    }

    /// Every thread works. One that ended (it panicked, or could not start) leaves a socket on which clients wait in
    /// vain; only another process mends that.
    pub fn is_whole(&self) -> bool {
        !self.shared.thread_ended.load(Ordering::Relaxed)
    }

    /// Requests, tunnels and relays that are with an instance now.
    pub fn requests_in_flight(&self) -> usize {
        let orders = self.orders.borrow();
        let instances = orders.snapshot.services.iter().flat_map(|service| &service.instances);
        instances.map(|instance| instance.shared.in_flight() as usize).sum()
    }

    /// Ends the threads and closes every connection.
    pub fn stop(mut self) {
        self.orders.send_modify(|orders| orders.stop = true);
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended, which is all that is asked here.
            let _ = thread.join();
        }
        self.end_lines();
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
    }
}

/// One set of sockets per thread.
fn split_sockets(
    sockets: Vec<ListenerSockets>,
    threads: usize,
) -> Result<Vec<Vec<doors::ThreadSocket>>, GatewayError> {
    let mut per_thread: Vec<Vec<doors::ThreadSocket>> = (0..threads).map(|_| Vec::new()).collect();
    for ListenerSockets { listener, protocol, local, tls, fds } in sockets {
        if fds.len() != threads {
            return Err(GatewayError::Sockets { listener, found: fds.len(), threads });
        }
        for (set, fd) in per_thread.iter_mut().zip(fds) {
            let tls = tls.clone();
            set.push(doors::ThreadSocket { listener, protocol, local, tls, fd });
        }
    }
    Ok(per_thread)
}
