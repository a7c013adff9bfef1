//! What one data-plane thread has to itself: its table, buffers, connections under watch.
//! Every task of the thread holds it; nothing in it is shared with other threads except what says so.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everup_core::config::Limits;
use everup_core::health::Reason;
use everup_core::ids::Generation;
use everup_core::time::Time;
use tokio::sync::mpsc;

use crate::access_log::Log;
use crate::buffers::Buffers;
use crate::busy::Rooms;
use crate::engine::Engine;
use crate::handover::leaving::Departure;
use crate::handover::parting::Parting;
use crate::measure::{Route, Routes, ThreadRoutes};
use crate::seal::Seal;
use crate::service::{Instance, Service, Table};
use crate::snapshot::{Availability, InstanceTable, ServiceShared, Snapshot, Stay};
use crate::splice::Pipes;
use crate::tale::Remember;
use crate::tls;
use crate::watch::Watches;
use crate::{GatewayEvent, Settings, Shared};

/// A thread remembers a request that was only slow at most so often.
const SLOW_EVERY: Duration = Duration::from_secs(1);

/// One data-plane thread's own things.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) thread: usize,
    pub(crate) engine: Rc<Engine>,
    settings: RefCell<Settings>,
    pub(crate) buffers: Buffers,
    pub(crate) rooms: Rooms,
    pub(crate) pipes: Pipes,
    pub(crate) watches: Rc<Watches>,
    pub(crate) seal: Seal,
    pub(crate) shared: Arc<Shared>,
    /// None: no access log.
    log: RefCell<Option<Log>>,
    pub(crate) remember: Remember,
    table: RefCell<Rc<Table>>,
    /// The counters of the table's routes.
    routes: RefCell<ThreadRoutes>,
    /// Since 1970: when a slow request was remembered last.
    slow_remembered: Cell<Duration>,
    /// Since when, if it is.
    closing: Cell<Option<Duration>>,
    /// Connections leave for another worker.
    departure: RefCell<Option<Rc<Departure>>>,
    hands_over: Cell<bool>,
    refusing: Cell<bool>,
    coarse: Cell<Duration>,
    epoch: Instant,
    /// The epoch, since 1970: asked anew with every sweep, for clocks are set.
    wall_epoch: Cell<Duration>,
    seed: u64,
    next_request: Cell<u64>,
    events: mpsc::UnboundedSender<GatewayEvent>,
}

/// What a thread is given to begin with.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) thread: usize,
    pub(crate) engine: Rc<Engine>,
    pub(crate) settings: Settings,
    pub(crate) log: Option<Log>,
    pub(crate) seed: u64,
    pub(crate) seal: Seal,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::UnboundedSender<GatewayEvent>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) routes: ThreadRoutes,
}

impl Local {
    pub(crate) fn new(given: Given) -> Self {
        let Given { thread, engine, settings, log, seed, seal, shared, events, snapshot, routes } = given;
        let epoch = shared.epoch;
        Self {
            thread,
            engine,
            settings: RefCell::new(settings),
            buffers: Buffers::new(),
            rooms: Rooms::default(),
            pipes: Pipes::default(),
            watches: Watches::new(Arc::clone(&shared.staying)),
            seal,
            log: RefCell::new(log),
            remember: Remember::new(Arc::clone(&shared.memory), thread),
            shared,
            table: RefCell::new(Rc::new(Table::new(snapshot, None, seed))),
            routes: RefCell::new(routes),
            slow_remembered: Cell::new(Duration::ZERO),
            closing: Cell::new(None),
            departure: RefCell::default(),
            hands_over: Cell::new(false),
            refusing: Cell::new(false),
            coarse: Cell::new(epoch.elapsed()),
            epoch,
            wall_epoch: Cell::new(since_1970(SystemTime::now()).saturating_sub(epoch.elapsed())),
            seed,
            next_request: Cell::new(0),
            events,
        }
    }

    /// The limits of the configuration.
    pub(crate) fn limits(&self) -> Ref<'_, Limits> {
        Ref::map(self.settings.borrow(), |settings| &settings.limits)
    }

    /// Requests without a valid `traceparent` get one.
    pub(crate) fn makes_trace_parents(&self) -> bool {
        self.settings.borrow().makes_trace_parents
    }

    /// The access log; None: there is none.
    pub(crate) fn log(&self) -> Ref<'_, Option<Log>> {
        self.log.borrow()
    }

    /// Requests from now on are written down there. What is in the old log's buffer goes on its way.
    pub(crate) fn set_log(&self, log: Option<Log>) {
        self.log.replace(log);
    }

    /// Obeys other settings from now on.
    pub(crate) fn set_settings(&self, settings: Settings) {
        self.settings.replace(settings);
    }

    /// Whether the connections of a listener live on.
    pub(crate) fn stay(&self, listener: usize) -> Stay {
        let table = self.table.borrow();
        table.snapshot.listeners.get(listener).map_or(Stay::Gone, |listener| listener.stay)
    }

    /// The time since the data plane began; reads the clock.
    pub(crate) fn now(&self) -> Duration {
        let now = self.epoch.elapsed();
        self.coarse.set(now);
        now
    }

    /// The same as of the last reading, at most one sweep ago: for deadlines.
    pub(crate) fn coarse_now(&self) -> Duration {
        self.coarse.get()
    }

    /// The same in core's terms.
    pub(crate) fn time(&self) -> Time {
        Time::ZERO + self.now()
    }

    /// Seconds since 1970: what hosts, and workers before and after this one, agree on.
    pub(crate) fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    pub(crate) fn table(&self) -> Rc<Table> {
        Rc::clone(&self.table.borrow())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.table.borrow().snapshot.generation
    }

    /// The counters of a route of the current table; None: of the listener's own service.
    pub(crate) fn route(&self, listener: usize, route: Option<usize>) -> Option<Rc<Route>> {
        self.routes.borrow().of(listener, route).map(Rc::clone)
    }

    /// Whether another request may be remembered for nothing but being slow: they must not drive out those that failed.
    pub(crate) fn has_room_for_slow(&self, wall: Duration) -> bool {
        let has_room = wall.saturating_sub(self.slow_remembered.get()) >= SLOW_EVERY;
        if has_room {
            self.slow_remembered.set(wall);
        }
        has_room
    }

    /// The service as the current table has it; without instances if it has left the table, for nobody may be chosen by
    /// an older one.
    pub(crate) fn current(&self, service: &Rc<Service>) -> Rc<Service> {
        let table = self.table.borrow();
        table.service_of(&service.shared).map_or_else(|| Rc::new(service.departed()), Rc::clone)
    }

    /// Takes a new table: requests that wait for an instance that is down in it are told, parked ones look again, and
    /// idle connections to instances that take nothing any more are closed. When this returns, nothing on this thread
    /// can pick from an older table.
    pub(crate) fn adopt(&self, snapshot: Arc<Snapshot>, routes: &Routes) {
        let before = self.table();
        if before.snapshot.generation >= snapshot.generation {
            return;
        }
        let table = Rc::new(Table::new(snapshot, Some(&before), self.seed));
        self.table.replace(Rc::clone(&table));
        self.routes.replace(routes.for_thread());
        for gone in
            before.instances().filter(|old| !table.instances().any(|new| Rc::ptr_eq(&new.pool, &old.pool)))
        {
            gone.pool.set_open(false);
        }
        let mut down: Vec<usize> = Vec::new();
        if table.instances().any(|instance| instance.table.state == Availability::Draining)
            || table.snapshot.services.iter().any(|service| service.leaves)
            || before.instances().any(|old| !table.instances().any(|new| new.key() == old.key()))
        {
            self.watches.tunnels_leave(|key| table.leaves(key));
        }
        for instance in table.instances() {
            instance.pool.set_open(instance.takes() && !self.holds_doors());
            if instance.table.state == Availability::Down {
                down.push(instance.key());
            }
        }
        if !down.is_empty() {
            self.watches.judged_down(|key| down.contains(&key));
        }
        self.watches.table_changed();
        let listeners =
            |table: &Table| table.snapshot.listeners.iter().map(|one| one.stay).collect::<Vec<_>>();
        let (old, new) = (listeners(&before), listeners(&table));
        let is_gone = |listener: usize| new.get(listener).is_none_or(|stay| *stay == Stay::Gone);
        if (0..old.len()).any(|listener| old[listener] != Stay::Gone && is_gone(listener)) {
            self.watches.closing(is_gone);
        }
        for departed in before.services.iter().filter(|service| table.service_of(&service.shared).is_none()) {
            departed.shared.queue.call_all();
        }
        // Whoever waits for a place may find one in this table, or none at all.
        for service in &table.services {
            service.shared.queue.call(|wanted| service.has_room(wanted));
        }
    }

    /// From now on every answer is its connection's last.
    pub(crate) fn close(&self) {
        self.closing.set(Some(self.now()));
        self.watches.tunnels_leave(|_| true);
    }

    /// From now on no request begins, and nobody is waited for who is silent.
    pub(crate) fn refuse(&self) {
        self.refusing.set(true);
        self.watches.closing(|_| true);
        self.watches.table_changed();
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.get()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Since when every answer is its connection's last.
    pub(crate) fn closing_since(&self) -> Option<Duration> {
        self.closing.get()
    }

    /// Whether connections leave for another worker.
    pub(crate) fn hands_over(&self) -> bool {
        self.holds_doors() && self.departure.borrow().as_ref().is_some_and(|departure| !departure.is_over())
    }

    /// Whether nobody is let in, because that is another worker's business now: also when that has ended, until it is told
    /// otherwise.
    pub(crate) fn holds_doors(&self) -> bool {
        self.hands_over.get()
    }

    /// How they do.
    pub(crate) fn departure(&self) -> Option<Rc<Departure>> {
        self.departure.borrow().clone()
    }

    /// From now on connections leave (their listeners are called so there), or none does any more. False: nothing new.
    pub(crate) fn part(
        &self,
        parting: Option<&Arc<Parting>>,
        listeners: impl FnOnce() -> HashMap<usize, SocketAddr>,
    ) -> bool {
        let now = self.departure.borrow();
        let is_known = match (&*now, parting) {
            (Some(now), Some(parting)) => now.is_by(parting),
            (now, parting) => now.is_none() && parting.is_none(),
        };
        drop(now);
        if is_known {
            return false;
        }
        let departure = parting.map(|parting| Departure::new(Arc::clone(parting), self.now(), listeners()));
        self.hands_over.set(departure.is_some());
        self.departure.replace(departure);
        for instance in self.table().instances() {
            instance.pool.set_open(instance.takes() && !self.holds_doors());
        }
        self.watches.all_stay();
        self.watches.leaving();
        true
    }

    /// Once per sweep.
    pub(crate) fn sweep(&self) {
        everup_failpoint::hit("data-plane");
        let pulse = self.shared.pulses.cell(self.thread);
        pulse.store(pulse.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let now = self.now();
        if let Some(departure) = self.departure() {
            departure
                .look(self.shared.connections.load(Ordering::Relaxed), self.shared.staying.kinds().total());
        }
        self.watches.sweep(now, tls::is_full(self));
        let wall = SystemTime::now();
        self.wall_epoch.set(since_1970(wall).saturating_sub(now));
        if let Some(log) = &*self.log() {
            log.flush();
        }
        self.remember.settle(None);
        for service in self.table().services.iter().filter(|service| service.is_warming()) {
            service.warm(self.epoch + now);
        }
    }

    /// A time of this thread as people tell it, since 1970.
    pub(crate) fn wall(&self, time: Duration) -> Duration {
        self.wall_epoch.get() + time
    }

    /// Closes idle connections to instances that are old or dead.
    pub(crate) fn prune_pools(&self) {
        let now = self.now();
        self.table().instances().for_each(|instance| instance.pool.prune(now));
        self.remember.settle(Some(SystemTime::now()));
    }

    /// Reports a failed connect.
    pub(crate) fn report(&self, instance: &Instance, reason: Reason) {
        let InstanceTable { id, address, .. } = &instance.table;
        self.tell(GatewayEvent::ConnectFailed { id: id.clone(), address: *address, reason });
    }

    /// Reports that an instance has answered badly so often in a row that it should be looked at.
    pub(crate) fn report_failing(&self, instance: &Instance) {
        let InstanceTable { id, address, .. } = &instance.table;
        self.tell(GatewayEvent::Failing { id: id.clone(), address: *address });
    }

    /// This thread does not do any more what only it can.
    pub(crate) fn tell_ended(&self) {
        self.shared.tell_thread_ended(&self.events);
    }

    fn tell(&self, event: GatewayEvent) {
        if self.events.send(event).is_err() {
            self.shared.dropped_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an answer of ours that tells of a failure.
    pub(crate) fn count_error(&self, service: &ServiceShared) {
        service.errors.cell(self.thread).add(1);
    }

    /// Masks what goes to an instance in a WebSocket (RFC 6455 section 5.3). It protects nobody from what we send ourselves.
    pub(crate) fn masking_key(&self) -> [u8; 4] {
        let number = self.next_request.get();
        self.next_request.set(number.wrapping_add(1));
        let [a, b, c, d, ..] = split_mix(self.seed ^ number).to_le_bytes();
        [a, b, c, d]
    }

    /// Writes a new `traceparent` of version 00: random ids, not sampled, for whether to trace is not ours to say.
    pub(crate) fn new_trace_parent<'a>(&self, text: &'a mut TraceParent) -> &'a str {
        let number = self.next_request.get();
        self.next_request.set(number.wrapping_add(1));
        for (part, at) in [3, 19, 36].into_iter().enumerate() {
            let state = self.seed ^ number.wrapping_mul(3).wrapping_add(part as u64);
            // No id may be zero.
            write_hex(&mut text.0[at..at + 16], split_mix(state) | 1);
        }
        std::str::from_utf8(&text.0).expect("hexadecimal digits and hyphens are text")
    }

    /// Writes a new request id: 16 hexadecimal digits that belong to this thread of this worker and 16 that count.
    pub(crate) fn new_request_id<'a>(&self, text: &'a mut RequestId) -> &'a str {
        let number = self.next_request.get();
        self.next_request.set(number.wrapping_add(1));
        let (front, back) = text.0.split_at_mut(16);
        write_hex(front, self.seed);
        write_hex(back, number);
        std::str::from_utf8(&text.0).expect("hexadecimal digits are text")
    }
}

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators": spreads a counter over all 64 bits.
fn split_mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Room for a `traceparent` on the stack.
#[derive(Debug)]
pub(crate) struct TraceParent([u8; 55]);

impl Default for TraceParent {
    fn default() -> Self {
        Self(*b"00-00000000000000000000000000000000-0000000000000000-00")
    }
}

/// Room for a request id on the stack.
#[derive(Debug, Default)]
pub(crate) struct RequestId([u8; 32]);

/// The two digits of every byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

fn write_hex(digits: &mut [u8], number: u64) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&HEX[usize::from(byte)]);
    }
}
