//! A thread's view of the table: services and instances with what the thread itself keeps of them (whose turn it is,
//! retry budget, idle connections). Rebuilt with every table; what the thread keeps is carried over.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everup_core::balance::backup::Rank;
use everup_core::balance::queue::Wanted;
use everup_core::balance::{self, Choice, Loads, Picker, slow_start};
use everup_core::config;
use everup_core::exchange::Budget;

use crate::pool::Pool;
use crate::snapshot::{Availability, InstanceTable, ServiceShared, ServiceTable, Snapshot};
use crate::tls::Connector;

/// One table as one thread uses it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) services: Vec<Rc<Service>>,
    /// The keys of the instances that do not leave: every tunnel asks.
    staying: HashSet<usize>,
}

/// A service in one table.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Arc<config::Service>,
    pub(crate) shared: Arc<ServiceShared>,
    pub(crate) instances: Vec<Rc<Instance>>,
    pub(crate) connector: Option<Arc<Connector>>,
    /// Backups serve, because no other instance takes requests.
    pub(crate) backups_serve: bool,
    /// Some instance does not count its whole weight yet.
    warming: Cell<bool>,
    /// It has left the table: nothing can be waited for.
    gone: bool,
    state: Rc<ServiceState>,
}

/// What a thread keeps of a service over all tables.
#[derive(Debug)]
pub(crate) struct ServiceState {
    balance: config::Balance,
    picker: RefCell<Picker>,
    pub(crate) budget: RefCell<Budget>,
}

/// An instance in one table.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) table: InstanceTable,
    pub(crate) identity: u64,
    pub(crate) pool: Rc<Pool>,
    /// Its last answer was so large that the most of it was spliced.
    pub(crate) answers_large: Cell<bool>,
    /// It gets requests by this table.
    takes: bool,
    limit: Option<Limit>,
}

/// `max_connections`, and who waits for a place.
#[derive(Debug)]
struct Limit {
    most: u32,
    service: Arc<ServiceShared>,
}

/// What came of looking for an instance.
#[derive(Debug)]
pub(crate) enum Picked {
    /// One takes the request, and counts it from now on.
    Instance(InFlight),
    /// All are full: wait in the queue for this one, or for any.
    Queue(Option<usize>),
    /// There is none.
    Park,
}

/// An instance that a request has tried, and whether it may be tried again for want of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) key: usize,
    pub(crate) reuse: bool,
}

/// What a request waits for that needs `only` this instance, or any, and has `tried` some.
pub(crate) fn wanted(only: Option<usize>, tried: &[Tried]) -> Wanted {
    Wanted { only, never: tried.iter().filter(|tried| !tried.reuse).map(|tried| tried.key).collect() }
}

impl Table {
    /// The view of `snapshot`, taking over from `before` what belongs to the same services and instances.
    pub(crate) fn new(snapshot: Arc<Snapshot>, before: Option<&Self>, seed: u64) -> Self {
        let services = snapshot.services.iter().map(|table| {
            let old = before.and_then(|before| before.service_of(&table.shared));
            Rc::new(Service::new(table, old.map(Rc::as_ref), seed))
        });
        let services: Vec<_> = services.collect();
        let of_those_that_stay = services.iter().zip(&snapshot.services).filter(|(_, table)| !table.leaves);
        let staying = of_those_that_stay
            .flat_map(|(service, _)| &service.instances)
            .filter(|instance| instance.table.state != Availability::Draining)
            .map(|instance| instance.key())
            .collect();
        Self { services, staying, snapshot: Arc::clone(&snapshot) }
    }

    /// The service that these counters belong to.
    pub(crate) fn service_of(&self, shared: &Arc<ServiceShared>) -> Option<&Rc<Service>> {
        self.services.iter().find(|service| Arc::ptr_eq(&service.shared, shared))
    }

    /// All instances of all services.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Rc<Instance>> {
        self.services.iter().flat_map(|service| &service.instances)
    }

    /// Whether the instance gets requests by this table.
    pub(crate) fn takes(&self, key: usize) -> bool {
        self.instances().any(|instance| instance.key() == key && instance.takes())
    }

    /// Whether the instance is to go, alone or with its service, or is no longer in this table.
    pub(crate) fn leaves(&self, key: usize) -> bool {
        !self.staying.contains(&key)
    }

    /// Whether the instance is judged down in this table. One that is no longer in it finishes what it has.
    pub(crate) fn is_down(&self, key: usize) -> bool {
        self.instances().any(|instance| instance.key() == key && instance.table.state == Availability::Down)
    }
}

impl Service {
    fn new(table: &ServiceTable, before: Option<&Self>, seed: u64) -> Self {
        let balance = table.settings.balance;
        let kept = before.map(|before| &before.state).filter(|state| state.balance == balance);
        let state = kept.map_or_else(
            || Rc::new(ServiceState::new(balance, seed ^ balance::hash(table.name.as_bytes()))),
            Rc::clone,
        );
        // What is connected to otherwise from now on is connected to anew.
        let connector = |connector: &Option<Arc<Connector>>| connector.as_ref().map(Arc::as_ptr);
        let before = before.filter(|before| connector(&before.connector) == connector(&table.connector));
        let old_pool = |new: &InstanceTable| {
            let same = |old: &&Rc<Instance>| {
                Arc::ptr_eq(&old.table.shared, &new.shared) && old.table.address == new.address
            };
            before.and_then(|before| before.instances.iter().find(same)).map(|old| Rc::clone(&old.pool))
        };
        let serving = table.serving();
        let limit = |most| Limit { most, service: Arc::clone(&table.shared) };
        let instances = table.instances.iter().map(|instance| {
            let pool = old_pool(instance).unwrap_or_default();
            let limit = table.settings.max_connections.map(limit);
            Rc::new(Instance::new(instance, pool, instance.takes(serving), limit))
        });
        let instances = instances.collect();
        if let Some(filled) = &table.maglev {
            state.picker.borrow_mut().share_table(filled);
        }
        state.picker.borrow_mut().update(&table.candidates());
        state.budget.borrow_mut().set_percent(table.settings.retry.budget_percent);
        let (settings, shared) = (Arc::clone(&table.settings), Arc::clone(&table.shared));
        let backups_serve = serving.is_some_and(Rank::is_backup);
        let (connector, warming) = (table.connector.clone(), Cell::new(false));
        let service =
            Self { settings, shared, instances, connector, backups_serve, warming, gone: false, state };
        service.warm(Instant::now());
        service
    }

    /// A service that has left the table, for the requests that are still in its custody: no instance takes them.
    pub(crate) fn departed(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            shared: Arc::clone(&self.shared),
            instances: Vec::new(),
            connector: None,
            backups_serve: false,
            warming: Cell::new(false),
            gone: true,
            // Of its own: the picker knows no instances.
            state: Rc::new(ServiceState::new(self.settings.balance, 0)),
        }
    }

    /// It has left the table: whoever waits for one of its instances waits in vain.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Some instance starts slowly: [`Service::warm`] it every now and then.
    pub(crate) fn is_warming(&self) -> bool {
        self.warming.get()
    }

    /// Gives every instance the share that it should have by now.
    pub(crate) fn warm(&self, now: Instant) {
        let share = |index: usize| {
            let since = self.instances[index].table.warms_since;
            since.map_or(slow_start::WHOLE, |since| {
                slow_start::share(now.saturating_duration_since(since), self.settings.slow_start)
            })
        };
        self.warming.set((0..self.instances.len()).any(|index| share(index) < slow_start::WHOLE));
        self.state.picker.borrow_mut().set_shares(share);
    }

    /// Whether somebody who wants this should look: there is a place, or nothing to wait for.
    pub(crate) fn has_room(&self, wanted: &Wanted) -> bool {
        let mut fitting =
            self.instances.iter().filter(|one| one.takes() && wanted.fits(one.key())).peekable();
        fitting.peek().is_none() || fitting.any(|one| !one.is_full())
    }

    /// The instance for the next request: another than those tried if there is one; then, of those, one that may be
    /// tried again. Whoever waits in the queue goes before, unless it is `called`: the request's turn in it.
    pub(crate) fn pick(&self, client_hash: u64, tried: &[Tried], now: Duration, called: bool) -> Picked {
        if !called && self.settings.max_connections.is_some() && self.shared.queue.goes_before(None) {
            return Picked::Queue(None);
        }
        let place = |tried: &Tried| self.instances.iter().position(|one| one.key() == tried.key);
        let never: Vec<usize> = tried.iter().filter(|tried| !tried.reuse).filter_map(place).collect();
        let tried: Vec<usize> = tried.iter().filter_map(place).collect();
        let loads = Measured { service: self, now };
        loop {
            match self.state.picker.borrow_mut().choose(client_hash, &tried, &never, &loads) {
                Choice::Take(index) => {
                    // Another thread may have taken the last place meanwhile: then look again.
                    if let Some(in_flight) = InFlight::enter(&self.instances[index]) {
                        return Picked::Instance(in_flight);
                    }
                }
                Choice::Queue => return Picked::Queue(None),
                Choice::Park => return Picked::Park,
            }
        }
    }

    /// The instance of that identity if it takes requests and was not tried. While it is full it is waited for: a user
    /// who is kept with it has something there.
    pub(crate) fn takes_identity(&self, identity: u64, tried: &[Tried], called: bool) -> Option<Picked> {
        let found =
            self.instances.iter().find(|instance| instance.identity == identity && instance.takes())?;
        let was_tried = tried.iter().any(|tried| tried.key == found.key());
        (!was_tried).then(|| self.enter(found, called))
    }

    /// This instance and no other.
    pub(crate) fn enter(&self, instance: &Rc<Instance>, called: bool) -> Picked {
        let key = Some(instance.key());
        if !called && instance.limit.is_some() && self.shared.queue.goes_before(key) {
            return Picked::Queue(key);
        }
        InFlight::enter(instance).map_or(Picked::Queue(key), Picked::Instance)
    }

    /// The retry budget.
    pub(crate) fn budget(&self) -> &RefCell<Budget> {
        &self.state.budget
    }

    /// Counts a request.
    pub(crate) fn on_request(&self, now: Duration) {
        self.state.budget.borrow_mut().on_request(now);
    }
}

impl ServiceState {
    fn new(balance: config::Balance, seed: u64) -> Self {
        let picker = RefCell::new(Picker::new(balance, seed));
        Self { balance, picker, budget: RefCell::new(Budget::new(0)) }
    }
}

/// The loads of a service's instances at one moment.
struct Measured<'a> {
    service: &'a Service,
    now: Duration,
}

impl Loads for Measured<'_> {
    fn in_flight(&self, index: usize) -> u32 {
        self.service.instances[index].table.shared.in_flight()
    }

    fn latency(&self, index: usize) -> Duration {
        self.service.instances[index].table.shared.latency(self.now)
    }

    fn is_full(&self, index: usize) -> bool {
        self.service.instances[index].is_full()
    }
}

impl Instance {
    fn new(table: &InstanceTable, pool: Rc<Pool>, takes: bool, limit: Option<Limit>) -> Self {
        let InstanceTable { id, address, weight, state, backup, warms_since, shared } = table;
        let table = InstanceTable {
            id: id.clone(),
            address: *address,
            weight: *weight,
            state: *state,
            backup: *backup,
            warms_since: *warms_since,
            shared: Arc::clone(shared),
        };
        let (identity, answers_large) = (balance::hash(id.instance.as_bytes()), Cell::new(false));
        Self { identity, table, pool, answers_large, takes, limit }
    }

    /// What makes it the same instance in every table.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.table.shared).addr()
    }

    /// It gets new requests.
    pub(crate) fn takes(&self) -> bool {
        self.takes
    }

    fn is_full(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| self.table.shared.in_flight() >= limit.most)
    }
}

/// Counts a request in flight for as long as it lives, and then gives its place to whoever waits for one.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Instance>);

impl InFlight {
    /// None: the instance is full.
    fn enter(instance: &Rc<Instance>) -> Option<Self> {
        match &instance.limit {
            None => instance.table.shared.enter(),
            Some(limit) if instance.table.shared.enter_below(limit.most) => {}
            Some(_) => return None,
        }
        Some(Self(Rc::clone(instance)))
    }

    /// It is with the instance already, by way of another worker.
    pub(crate) fn arrived(instance: &Rc<Instance>) -> Self {
        instance.table.shared.enter();
        Self(Rc::clone(instance))
    }

    pub(crate) fn instance(&self) -> &Rc<Instance> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.table.shared.leave();
        if let Some(limit) = &self.0.limit {
            let key = self.0.key();
            limit.service.queue.call(|wanted| wanted.fits(key));
        }
    }
}
