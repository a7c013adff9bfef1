//! The routing table as the data plane gets it: built outside, immutable, replaced whole. Beside it the counters
//! that outlive tables: they belong to a service or an instance, not to a generation.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use everup_core::affinity::{DISPLACED, Homes, LEARNED};
use everup_core::balance::backup::{self, Rank};
use everup_core::balance::latency::Latency;
use everup_core::balance::{self, Candidate, maglev};
use everup_core::config;
use everup_core::ids::{Generation, InstanceId};
use everup_core::network::Network;
use everup_core::route;
use everup_observe::{Counter, Gauge, Histogram, PerThread};

use crate::measure::Durations;
use crate::queue::WaitingRoom;
use crate::tls::Connector;

/// One generation of the routing table.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every table.
    pub generation: Generation,
    /// Each in a place of its own, which it keeps over all tables: connections know theirs by it.
    pub listeners: Vec<ListenerTable>,
    /// In the order of `Config::services`; routes name them by index.
    pub services: Vec<ServiceTable>,
}

/// One listener.
#[derive(Debug)]
pub struct ListenerTable {
    /// Peers whose connections must begin with a PROXY header.
    pub accept_proxy: Vec<Network>,
    /// Request -> service.
    pub routes: route::Table,
    /// Where what no route takes is sent.
    pub redirect: Option<config::ListenerRedirect>,
    /// The Strict-Transport-Security of answers that have none.
    pub hsts: Option<Arc<str>>,
    /// Whether its connections live on.
    pub stay: Stay,
}

impl ListenerTable {
    /// The table of a listener as configured.
    pub fn new(listener: &config::Listener) -> Self {
        let hsts = listener.hsts.map(|time| format!("max-age={}", time.as_secs()).into());
        Self {
            accept_proxy: listener.accept_proxy.clone(),
            routes: route::Table::new(listener),
            redirect: listener.redirect,
            hsts,
            stay: Stay::Stays,
        }
    }
}

/// Whether the connections of a listener live on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stay {
    /// As long as they like.
    #[default]
    Stays,
    /// The listener was removed: each is closed with its next answer.
    Leaves,
    /// It was removed long ago: connections between two requests are closed.
    Gone,
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
    /// What connections to its instances are secured with; None: nothing.
    pub connector: Option<Arc<Connector>>,
    /// It is no longer in the configuration, and only finishes what it has.
    pub leaves: bool,
    /// Its instances, also those that take nothing now.
    pub instances: Vec<InstanceTable>,
    /// The table of `balance = "maglev"` for [`ServiceTable::candidates`]. Without it every thread fills its own, which
    /// takes time.
    pub maglev: Option<Arc<maglev::Table>>,
}

impl ServiceTable {
    /// The group of instances that serves. Ejection empties no service: whoever is ejected is better than nobody.
    pub(crate) fn serving(&self) -> Option<Rank> {
        backup::serving(self.instances.iter().filter_map(InstanceTable::rank))
    }

    /// Those that get requests by this table, each with its whole share.
    pub fn candidates(&self) -> Vec<Candidate> {
        let serving = self.serving();
        let eligible = |(_, one): &(usize, &InstanceTable)| one.takes(serving);
        let instances = self.instances.iter().enumerate().filter(eligible);
        instances.map(|(index, one)| one.candidate(index)).collect()
    }
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
    /// It gets them only while no other instance takes any.
    pub backup: bool,
    /// When it came up, if it is to start slowly from then.
    pub warms_since: Option<Instant>,
    /// Its counters; the same in every generation as long as it is the same instance.
    pub shared: Arc<InstanceShared>,
}

impl InstanceTable {
    fn rank(&self) -> Option<Rank> {
        match self.state {
            Availability::Takes => Some(Rank::new(false, self.backup)),
            Availability::Ejected => Some(Rank::new(true, self.backup)),
            Availability::Draining | Availability::Down => None,
        }
    }

    /// It gets requests while this group serves.
    pub(crate) fn takes(&self, serving: Option<Rank>) -> bool {
        self.rank().is_some_and(|rank| Some(rank) == serving)
    }

    pub(crate) fn candidate(&self, index: usize) -> Candidate {
        Candidate::new(index, self.weight.clamp(1, 256), balance::hash(self.id.instance.as_bytes()))
    }
}

/// Whether an instance gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It gets requests.
    Takes,
    /// It answers badly: it gets new ones only while no other instance takes any, and finishes those it has.
    Ejected,
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
    /// Requests (http) or connections (tcp) that were taken on and are not over: with an instance, waiting, or between.
    pub in_custody: PerThread<Gauge>,
    /// Requests that wait for an instance now.
    pub parked: PerThread<Gauge>,
    /// Requests that wait for an instance at its limit now.
    pub queued: PerThread<Gauge>,
    /// What clients were answered, also by everup itself.
    pub statuses: PerThread<StatusClasses>,
    /// From the request's head to the last byte of its answer.
    pub latency: PerThread<Histogram>,
    /// The same by the bounds that are shown, with examples.
    pub durations: PerThread<Durations>,
    /// WebSockets that everup ended.
    pub farewells: PerThread<Farewells>,
    pub(crate) parked_now: AtomicUsize,
    /// What those, and who is in the queue, hold in memory.
    pub(crate) parked_bytes: AtomicUsize,
    pub(crate) queue: WaitingRoom,
    /// Users who are not where their address or header draws them.
    pub(crate) displaced: Mutex<Homes>,
    /// Sessions of the application, by its cookie.
    pub(crate) learned: Mutex<Homes>,
}

/// Answers by the first digit of their status.
#[derive(Debug, Default)]
pub struct StatusClasses([Counter; 5]);

impl StatusClasses {
    /// Counts an answer; one that never came has no class.
    pub(crate) fn count(&self, status: u16) {
        if let Some(counter) = self.0.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.add(1);
        }
    }

    /// So many answers of each class were counted before.
    pub(crate) fn begin_at(&self, values: [u64; 5]) {
        self.0.iter().zip(values).for_each(|(counter, value)| counter.add(value));
    }

    /// Answers of the class 1 (1xx) to 5 (5xx).
    pub fn value(&self, class: usize) -> u64 {
        self.0.get(class.wrapping_sub(1)).map_or(0, Counter::value)
    }
}

impl ServiceShared {
    /// Counters for `threads` data-plane threads.
    pub fn new(threads: usize) -> Self {
        Self {
            requests: PerThread::new(threads),
            errors: PerThread::new(threads),
            retries: PerThread::new(threads),
            in_custody: PerThread::new(threads),
            parked: PerThread::new(threads),
            queued: PerThread::new(threads),
            statuses: PerThread::new(threads),
            latency: PerThread::new(threads),
            durations: PerThread::new(threads),
            farewells: PerThread::new(threads),
            parked_now: AtomicUsize::new(0),
            parked_bytes: AtomicUsize::new(0),
            queue: WaitingRoom::default(),
            displaced: Mutex::new(Homes::new(DISPLACED)),
            learned: Mutex::new(Homes::new(LEARNED)),
        }
    }
}

/// WebSockets that everup ended because their instance, or everup itself, left.
#[derive(Debug, Default)]
pub struct Farewells {
    /// With a Close to the client.
    pub closed: Counter,
    /// Without: until the time was over, there was no place for one.
    pub cut: Counter,
}

/// The answers of an instance, as far as they say how well it works.
#[derive(Debug, Default)]
pub struct Answers {
    /// Whole answers with a status below 500, and tunnels.
    pub good: Counter,
    /// Answers with a status of 500 to 599, except those that blame the request (501, 505).
    pub errors: Counter,
    /// No answer: the connection was lost, the answer was malformed, or it took too long.
    pub broken: Counter,
}

/// The counters of an instance.
#[derive(Debug)]
pub struct InstanceShared {
    /// Attempts that were sent to it.
    pub requests: PerThread<Counter>,
    /// Attempts that ended without an answer.
    pub failures: PerThread<Counter>,
    /// How it answered what is judged.
    pub answers: PerThread<Answers>,
    /// Bad answers in a row. Read with every answer, written only with bad ones and the first good one after them.
    streak: CachePadded<AtomicU32>,
    load: CachePadded<Load>,
    tunnels: AtomicU32,
    websockets: AtomicU32,
    /// Places among WebSockets that are to be closed, dealt so far.
    places: AtomicU64,
}

/// What every pick reads and every request writes, on one cache line.
#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicU32,
    /// [`Latency::bits`].
    latency: AtomicU64,
}

impl InstanceShared {
    /// Counters for `threads` data-plane threads.
    pub fn new(threads: usize) -> Self {
        Self {
            requests: PerThread::new(threads),
            failures: PerThread::new(threads),
            answers: PerThread::new(threads),
            streak: CachePadded::new(AtomicU32::new(0)),
            load: CachePadded::default(),
            tunnels: AtomicU32::new(0),
            websockets: AtomicU32::new(0),
            places: AtomicU64::new(0),
        }
    }

    /// Requests, tunnels and relays that are with it now, over all threads.
    pub fn in_flight(&self) -> u32 {
        // Sequentially consistent with `queue`: who finds it full and then waits is seen by whoever leaves after that.
        self.load.in_flight.load(Ordering::SeqCst)
    }

    /// Tunnels (WebSocket and other upgrades) and TCP relays that are with it now; part of [`Self::in_flight`].
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Those of the tunnels that are WebSockets.
    pub fn websockets(&self) -> u32 {
        self.websockets.load(Ordering::Relaxed)
    }

    /// Bad answers in a row, over all threads. Threads may mix up the order of answers that come at the same time.
    pub fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }

    /// Bad answers in a row count from 0 again.
    pub fn forgive(&self) {
        self.streak.store(0, Ordering::Relaxed);
    }

    /// Good answers over all threads.
    pub fn good(&self) -> u64 {
        self.answers.cells().map(|answers| answers.good.value()).sum()
    }

    /// Answers with 5xx over all threads.
    pub fn errors(&self) -> u64 {
        self.answers.cells().map(|answers| answers.errors.value()).sum()
    }

    /// Missing answers over all threads.
    pub fn broken(&self) -> u64 {
        self.answers.cells().map(|answers| answers.broken.value()).sum()
    }

    pub(crate) fn on_good(&self, thread: usize) {
        self.answers.cell(thread).good.add(1);
        if self.streak() != 0 {
            self.forgive();
        }
    }

    /// Adds one to the bad answers in a row and tells how many they are now.
    pub fn lengthen_streak(&self) -> u32 {
        self.streak.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// How long it lately took to answer; only kept for `balance = "p2c-ewma"`. Zero: not known.
    pub(crate) fn latency(&self, now: Duration) -> Duration {
        Latency::from_bits(self.load.latency.load(Ordering::Relaxed)).at(now)
    }

    /// An answer took so long. Two threads at once may lose one of the two: it is an average.
    pub(crate) fn observe(&self, now: Duration, took: Duration) {
        let known = Latency::from_bits(self.load.latency.load(Ordering::Relaxed));
        let next = known.observe(now, took);
        if next != known {
            self.load.latency.store(next.bits(), Ordering::Relaxed);
        }
    }

    pub(crate) fn enter(&self) {
        self.load.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Enters unless there are `most` already. False: it is full.
    pub(crate) fn enter_below(&self, most: u32) -> bool {
        let entered = |now: u32| (now < most).then_some(now + 1);
        self.load.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, entered).is_ok()
    }

    pub(crate) fn leave(&self) {
        self.load.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn enter_tunnel(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave_tunnel(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn enter_websocket(&self) {
        self.websockets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave_websocket(&self) {
        self.websockets.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn deal_place(&self) -> u64 {
        self.places.fetch_add(1, Ordering::Relaxed)
    }
}
