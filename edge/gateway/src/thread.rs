//! A data-plane thread: its engine, and the tasks that live as long as it does: obeying, sweeping. Accepting is in
//! `doors.rs`.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use everup_core::ids::Generation;
use everup_observe::contained;
use tokio::sync::{mpsc, watch as channel};

use crate::access_log::Log;
use crate::doors::{self, Doors, ThreadSocket};
use crate::engine::{Batching, Engine};
use crate::handover::arriving::receive;
use crate::handover::taking::Arrival;
use crate::local::{Given, Local};
use crate::seal::Seal;
use crate::watch::SWEEP;
use crate::{GatewayEvent, Orders, Settings, Shared};

/// Sweeps between two looks at the idle pools.
const SWEEPS_PER_PRUNE: u32 = 20;

/// What changes for one thread, beside the table. It comes before the table that goes with it.
#[derive(Debug)]
pub(crate) enum Order {
    /// Its sockets.
    Door(doors::Order),
    /// What the configuration sets for all of it.
    Settings(Settings),
    /// Where requests are written down; None: nowhere.
    Log(Option<Log>),
}

/// What is to change, each with the table that it goes with.
#[derive(Debug)]
pub(crate) struct Changes {
    incoming: mpsc::UnboundedReceiver<(Generation, Order)>,
    /// Came before its table did.
    early: Option<(Generation, Order)>,
}

impl Changes {
    pub(crate) fn new(incoming: mpsc::UnboundedReceiver<(Generation, Order)>) -> Self {
        Self { incoming, early: None }
    }

    /// The next one that goes with this table, or an older one.
    fn next(&mut self, table: Generation) -> Option<Order> {
        let (generation, order) = self.early.take().or_else(|| self.incoming.try_recv().ok())?;
        if generation <= table {
            return Some(order);
        }
        self.early = Some((generation, order));
        None
    }
}

/// What a thread needs to start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) thread: usize,
    pub(crate) batching: Batching,
    pub(crate) settings: Settings,
    pub(crate) log: Option<Log>,
    pub(crate) sockets: Vec<ThreadSocket>,
    pub(crate) sticky_keys: Arc<[[u8; 32]]>,
    pub(crate) seed: u64,
    pub(crate) orders: channel::Receiver<Orders>,
    pub(crate) changes: Changes,
    pub(crate) acknowledge: channel::Sender<Generation>,
    pub(crate) arrivals: mpsc::UnboundedReceiver<Arrival>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::UnboundedSender<GatewayEvent>,
}

/// Starts the thread.
pub(crate) fn spawn(start: Start) -> std::io::Result<JoinHandle<()>> {
    let end = End { shared: Arc::clone(&start.shared), events: start.events.clone() };
    std::thread::Builder::new().name(format!("data-{}", start.thread)).spawn(move || {
        let _end = end;
        let thread = start.thread;
        match Engine::new(start.batching) {
            Ok(engine) => run(Rc::new(engine), start),
            Err(error) => tracing::error!("data-plane thread {thread} cannot start: {error}"),
        }
    })
}

/// Tells that the thread ends, also by a panic: clients of its socket wait in vain.
struct End {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<GatewayEvent>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.tell_thread_ended(&self.events);
    }
}

fn run(engine: Rc<Engine>, start: Start) {
    if start.thread == 0 && start.batching != Batching::Never && !engine.is_batching() {
        tracing::info!("the kernel has no io_uring for us: reads and writes are made one by one");
    }
    let Start {
        thread,
        batching: _,
        settings,
        log,
        sockets,
        sticky_keys,
        seed,
        orders,
        changes,
        acknowledge,
        arrivals,
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
        engine: Rc::clone(&engine),
        settings,
        log,
        seed,
        seal,
        shared,
        events,
        snapshot,
        routes,
    }));
    let mut doors = Doors::default();
    for socket in sockets {
        doors.obey(&local, doors::Order::Open(socket));
    }
    engine.spawn(sweep(Rc::clone(&local)));
    engine.spawn(receive(Rc::clone(&local), arrivals));
    engine.run(obey(local, doors, (orders, changes), acknowledge));
    // All tasks are gone now, and with them every connection.
}

/// Takes new tables and what changes with them, and acknowledges each table when no task here can use an older one.
async fn obey(
    local: Rc<Local>,
    mut doors: Doors,
    (mut orders, mut changes): (channel::Receiver<Orders>, Changes),
    acknowledge: channel::Sender<Generation>,
) {
    loop {
        let Orders { snapshot, routes, closing, refusing, stop, parting } =
            orders.borrow_and_update().clone();
        if stop {
            return;
        }
        if closing && !local.is_closing() {
            local.close();
        }
        if refusing && !local.is_refusing() {
            local.refuse();
        }
        local.adopt(snapshot, &routes);
        while let Some(change) = changes.next(local.generation()) {
            match change {
                Order::Door(order) => doors.obey(&local, order),
                Order::Settings(settings) => local.set_settings(settings),
                Order::Log(log) => local.set_log(log),
            }
        }
        if local.part(parting.as_ref(), || doors.listeners()) {
            doors.hold(local.holds_doors());
            parting.iter().for_each(|parting| parting.on_thread());
        }
        drop(parting);
        acknowledge.send_replace(local.generation());
        if orders.changed().await.is_err() {
            return;
        }
    }
}

async fn sweep(local: Rc<Local>) {
    let mut sweeps = 0;
    loop {
        local.engine.sleep(SWEEP).await;
        // Nothing would time out any more, and nobody would notice.
        contained("a sweep", || local.sweep());
        sweeps += 1;
        if sweeps == SWEEPS_PER_PRUNE {
            sweeps = 0;
            local.prune_pools();
        }
    }
}
