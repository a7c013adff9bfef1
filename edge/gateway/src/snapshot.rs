//! The routing table as the data plane gets it: built outside, immutable, replaced whole. Beside it the counters
//! that outlive tables: they belong to a service or an instance, not to a generation.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_utils::CachePadded;
use everup_core::affinity::Displaced;
use everup_core::config;
use everup_core::ids::{Generation, InstanceId};
use everup_core::route;
use everup_observe::{Counter, Gauge, Histogram, PerThread};

/// One generation of the routing table.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every table.
    pub generation: Generation,
    /// In the order of `Config::listeners`.
    pub listeners: Vec<ListenerTable>,
    /// In the order of `Config::services`; routes name them by index.
    pub services: Vec<ServiceTable>,
}

/// One listener's routes.
#[derive(Debug)]
pub struct ListenerTable {
    /// Request -> service.
    pub routes: route::Table,
    /// Where what no route takes is sent.
    pub redirect: Option<config::Redirect>,
    /// The Strict-Transport-Security of answers that have none.
    pub hsts: Option<Arc<str>>,
}

impl ListenerTable {
    /// The table of a listener as configured.
    pub fn new(listener: &config::Listener) -> Self {
        let hsts = listener.hsts.map(|time| format!("max-age={}", time.as_secs()).into());
        Self { routes: route::Table::new(listener), redirect: listener.redirect, hsts }
    }
}

/// One service.
#[derive(Debug)]
pub struct ServiceTable {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: Arc<config::Service>,
    /// Its counters; the same in every generation.
    pub shared: Arc<ServiceShared>,
    /// Its instances, also those that take nothing now.
    pub instances: Vec<InstanceTable>,
}

/// One instance.
#[derive(Debug)]
pub struct InstanceTable {
    /// Its name.
    pub id: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// 1 to 256.
    pub weight: u32,
    /// Whether it gets requests.
    pub state: Availability,
    /// Its counters; the same in every generation as long as it is the same instance.
    pub shared: Arc<InstanceShared>,
}

/// Whether an instance gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It gets requests.
    Takes,
    /// It gets no new ones and finishes those it has.
    Draining,
    /// It answers nobody: requests that wait for it and may be repeated are taken elsewhere.
    Down,
}

/// The counters of a service.
#[derive(Debug)]
pub struct ServiceShared {
    /// Requests (http) or connections (tcp) that were taken on.
    pub requests: PerThread<Counter>,
    /// Those that everup had to answer itself with 5xx, or cut.
    pub errors: PerThread<Counter>,
    /// Attempts after the first.
    pub retries: PerThread<Counter>,
    /// Requests that wait for an instance now.
    pub parked: PerThread<Gauge>,
    /// From the request's head to the last byte of its answer.
    pub latency: PerThread<Histogram>,
    pub(crate) parked_now: AtomicUsize,
    pub(crate) displaced: Mutex<Displaced>,
}

impl ServiceShared {
    /// Counters for `threads` data-plane threads.
    pub fn new(threads: usize) -> Self {
        Self {
            requests: PerThread::new(threads),
            errors: PerThread::new(threads),
            retries: PerThread::new(threads),
            parked: PerThread::new(threads),
            latency: PerThread::new(threads),
            parked_now: AtomicUsize::new(0),
            displaced: Mutex::new(Displaced::default()),
        }
    }
}

/// The counters of an instance.
#[derive(Debug)]
pub struct InstanceShared {
    /// Attempts that were sent to it.
    pub requests: PerThread<Counter>,
    /// Attempts that ended without an answer.
    pub failures: PerThread<Counter>,
    in_flight: CachePadded<AtomicU32>,
    tunnels: AtomicU32,
}

impl InstanceShared {
    /// Counters for `threads` data-plane threads.
    pub fn new(threads: usize) -> Self {
        Self {
            requests: PerThread::new(threads),
            failures: PerThread::new(threads),
            in_flight: CachePadded::new(AtomicU32::new(0)),
            tunnels: AtomicU32::new(0),
        }
    }

    /// Requests, tunnels and relays that are with it now, over all threads.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Tunnels (WebSocket and other upgrades) and TCP relays that are with it now; part of [`Self::in_flight`].
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn enter_tunnel(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave_tunnel(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}
