//! What one data-plane thread has to itself: its table, buffers, connections under watch.
//! Every task of the thread holds it; nothing in it is shared with other threads except what says so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everup_core::config::Limits;
use everup_core::health::Reason;
use everup_core::ids::Generation;
use everup_core::time::Time;
use tokio::sync::mpsc;

use crate::buffers::Buffers;
use crate::seal::Seal;
use crate::service::{Instance, Service, Table};
use crate::snapshot::{Availability, InstanceTable, ServiceShared, Snapshot};
use crate::watch::Watches;
use crate::{GatewayEvent, Shared};

/// One data-plane thread's own things.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) thread: usize,
    pub(crate) limits: Limits,
    pub(crate) buffers: Buffers,
    pub(crate) watches: Rc<Watches>,
    pub(crate) seal: Seal,
    pub(crate) shared: Arc<Shared>,
    table: RefCell<Rc<Table>>,
    closing: Cell<bool>,
    coarse: Cell<Duration>,
    epoch: Instant,
    seed: u64,
    next_request: Cell<u64>,
    events: mpsc::UnboundedSender<GatewayEvent>,
}

/// What a thread is given to begin with.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) thread: usize,
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
    pub(crate) seal: Seal,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::UnboundedSender<GatewayEvent>,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Local {
    pub(crate) fn new(given: Given) -> Self {
        let Given { thread, limits, seed, seal, shared, events, snapshot } = given;
        let epoch = shared.epoch;
        Self {
            thread,
            limits,
            buffers: Buffers::new(),
            watches: Rc::default(),
            seal,
            shared,
            table: RefCell::new(Rc::new(Table::new(snapshot, None, seed))),
            closing: Cell::new(false),
            coarse: Cell::new(epoch.elapsed()),
            epoch,
            seed,
            next_request: Cell::new(0),
            events,
        }
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

    pub(crate) fn table(&self) -> Rc<Table> {
        Rc::clone(&self.table.borrow())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.table.borrow().snapshot.generation
    }

    /// The service as the current table has it; the old view if it has left the table.
    pub(crate) fn current(&self, service: &Rc<Service>) -> Rc<Service> {
        let table = self.table.borrow();
        Rc::clone(table.service_of(&service.shared).unwrap_or(service))
    }

    /// Takes a new table: requests that wait for an instance that is down in it are told, parked ones look again, and
    /// idle connections to instances that take nothing any more are closed. When this returns, nothing on this thread
    /// can pick from an older table.
    pub(crate) fn adopt(&self, snapshot: Arc<Snapshot>) {
        let before = self.table();
        if before.snapshot.generation >= snapshot.generation {
            return;
        }
        let table = Rc::new(Table::new(snapshot, Some(&before), self.seed));
        self.table.replace(Rc::clone(&table));
        for gone in
            before.instances().filter(|old| !table.instances().any(|new| Rc::ptr_eq(&new.pool, &old.pool)))
        {
            gone.pool.set_open(false);
        }
        let mut down: Vec<usize> = Vec::new();
        for instance in table.instances() {
            instance.pool.set_open(instance.takes());
            if instance.table.state == Availability::Down {
                down.push(instance.key());
            }
        }
        if !down.is_empty() {
            self.watches.judged_down(|key| down.contains(&key));
        }
        self.watches.table_changed();
        // Whoever waits for a place may find one in this table, or none at all.
        for service in &table.services {
            service.shared.queue.call(|wants| service.has_room(wants));
        }
    }

    /// From now on every answer is its connection's last.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.watches.closing();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Once per sweep.
    pub(crate) fn sweep(&self) {
        let now = self.now();
        self.watches.sweep(now);
        for service in self.table().services.iter().filter(|service| service.is_warming()) {
            service.warm(self.epoch + now);
        }
    }

    /// Closes idle connections to instances that are old or dead.
    pub(crate) fn prune_pools(&self) {
        let now = self.now();
        self.table().instances().for_each(|instance| instance.pool.prune(now));
    }

    /// Reports a failed connect.
    pub(crate) fn report(&self, instance: &Instance, reason: Reason) {
        let InstanceTable { id, address, .. } = &instance.table;
        let event = GatewayEvent::ConnectFailed { id: id.clone(), address: *address, reason };
        if self.events.send(event).is_err() {
            self.shared.dropped_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an answer of ours that tells of a failure.
    pub(crate) fn count_error(&self, service: &ServiceShared) {
        service.errors.cell(self.thread).add(1);
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

/// Room for a request id on the stack.
#[derive(Debug, Default)]
pub(crate) struct RequestId([u8; 32]);

fn write_hex(digits: &mut [u8], number: u64) {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
    }
}
