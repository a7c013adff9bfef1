//! A thread's view of the table: services and instances with what the thread itself keeps of them (whose turn it is,
//! retry budget, idle connections). Rebuilt with every table; what the thread keeps is carried over.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everup_core::balance::{self, Candidate, Picker};
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
}

/// A service in one table.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Arc<config::Service>,
    pub(crate) shared: Arc<ServiceShared>,
    pub(crate) instances: Vec<Rc<Instance>>,
    pub(crate) connector: Option<Arc<Connector>>,
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
    takes: bool,
}

/// An instance that a request has tried, and whether it may be tried again for want of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) key: usize,
    pub(crate) reuse: bool,
}

impl Table {
    /// The view of `snapshot`, taking over from `before` what belongs to the same services and instances.
    pub(crate) fn new(snapshot: Arc<Snapshot>, before: Option<&Self>, seed: u64) -> Self {
        let services = snapshot.services.iter().map(|table| {
            let old = before.and_then(|before| before.service_of(&table.shared));
            Rc::new(Service::new(table, old.map(Rc::as_ref), seed))
        });
        Self { services: services.collect(), snapshot: Arc::clone(&snapshot) }
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
        let old_pool = |new: &InstanceTable| {
            let same = |old: &&Rc<Instance>| {
                Arc::ptr_eq(&old.table.shared, &new.shared) && old.table.address == new.address
            };
            before.and_then(|before| before.instances.iter().find(same)).map(|old| Rc::clone(&old.pool))
        };
        // Ejection empties no service: whoever is ejected is better than nobody.
        let is_in = |instance: &InstanceTable| instance.state == Availability::Takes;
        let chosen =
            if table.instances.iter().any(is_in) { Availability::Takes } else { Availability::Ejected };
        let instances: Vec<_> = table
            .instances
            .iter()
            .map(|instance| {
                let pool = old_pool(instance).unwrap_or_default();
                Rc::new(Instance::new(instance, pool, instance.state == chosen))
            })
            .collect();
        let takes = instances.iter().enumerate().filter(|(_, instance)| instance.takes());
        let candidates: Vec<_> = takes.map(|(index, instance)| instance.candidate(index)).collect();
        state.picker.borrow_mut().update(&candidates);
        state.budget.borrow_mut().set_percent(table.settings.retry.budget_percent);
        Self {
            settings: Arc::clone(&table.settings),
            shared: Arc::clone(&table.shared),
            instances,
            connector: table.connector.clone(),
            state,
        }
    }

    /// The instance for the next request: another than those tried if there is one; then, of those, one that may be
    /// tried again. None: nobody can take it now.
    pub(crate) fn pick(&self, client_hash: u64, tried: &[Tried]) -> Option<Rc<Instance>> {
        let load = |index: usize| self.instances[index].table.shared.in_flight();
        let mut picker = self.state.picker.borrow_mut();
        if tried.is_empty() {
            return picker.pick(client_hash, &[], load).map(|index| Rc::clone(&self.instances[index]));
        }
        let indexes = |reuse_too: bool| -> Vec<usize> {
            let excluded = tried.iter().filter(|tried| reuse_too || !tried.reuse);
            excluded
                .filter_map(|tried| self.instances.iter().position(|one| one.key() == tried.key))
                .collect()
        };
        let picked = picker
            .pick(client_hash, &indexes(true), load)
            .or_else(|| picker.pick(client_hash, &indexes(false), load));
        picked.map(|index| Rc::clone(&self.instances[index]))
    }

    /// The instance of that identity if it takes requests and was not tried.
    pub(crate) fn takes_identity(&self, identity: u64, tried: &[Tried]) -> Option<Rc<Instance>> {
        let found =
            self.instances.iter().find(|instance| instance.identity == identity && instance.takes())?;
        let was_tried = tried.iter().any(|tried| tried.key == found.key());
        (!was_tried).then(|| Rc::clone(found))
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

impl Instance {
    fn new(table: &InstanceTable, pool: Rc<Pool>, takes: bool) -> Self {
        let InstanceTable { id, address, weight, state, shared } = table;
        let table = InstanceTable {
            id: id.clone(),
            address: *address,
            weight: *weight,
            state: *state,
            shared: Arc::clone(shared),
        };
        Self { identity: balance::hash(id.instance.as_bytes()), table, pool, takes }
    }

    /// What makes it the same instance in every table.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.table.shared).addr()
    }

    /// It gets new requests.
    pub(crate) fn takes(&self) -> bool {
        self.takes
    }

    pub(crate) fn candidate(&self, index: usize) -> Candidate {
        Candidate { index, weight: self.table.weight.clamp(1, 256), identity: self.identity }
    }
}

/// Counts a request in flight for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Instance>);

impl InFlight {
    pub(crate) fn new(instance: &Rc<Instance>) -> Self {
        instance.table.shared.enter();
        Self(Rc::clone(instance))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.table.shared.leave();
    }
}
