//! A gateway without the rest of everup: instances are scripts, tables are published by the test.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use everup_core::config::{self, Config};
use everup_core::ids::{Generation, InstanceId};
use everup_gateway::{
    AccessLog, Availability, Batching, Connector, Files, Gateway, GatewayEvent, InstanceFiles,
    InstanceShared, InstanceTable, ListenerSockets, ListenerTable, Rearrangement, ServiceShared,
    ServiceTable, Setup, Snapshot,
};
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;

use crate::wire::{Message, PATIENCE, Wire, ok};

/// The same tests run as two programs, `gateway` with every receive and send in a batch,
/// `gateway_plain` with none.
const BATCHING: Batching = match env!("CARGO_CRATE_NAME").as_bytes() {
    b"gateway_plain" => Batching::Never,
    _ => Batching::Always,
};

/// An instance that does what its script says.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Message>>>,
    /// Keeps a port that nothing listens on.
    _reserved: Option<Socket>,
}

/// A script's view of one connection.
pub(crate) struct Visit {
    pub(crate) wire: Wire,
    /// Counted from 0, over all connections of the instance.
    pub(crate) connection: usize,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl Visit {
    /// The next request with its body, noted as arrived.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let request = self.wire.request()?;
        self.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// The next request's head, noted as arrived.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = self.wire.head()?;
        self.requests.lock().unwrap().push(head.clone());
        Some(head)
    }
}

impl Origin {
    /// Runs `script` for every connection, each on a thread of its own.
    pub(crate) fn start(script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (counted, noted, script) = (Arc::clone(&connections), Arc::clone(&requests), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = counted.fetch_add(1, Ordering::SeqCst);
                let (script, requests) = (Arc::clone(&script), Arc::clone(&noted));
                thread::spawn(move || script(&mut Visit { wire: Wire::new(stream), connection, requests }));
            }
        });
        Self { address, connections, requests, _reserved: None }
    }

    /// Answers every request.
    pub(crate) fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |visit| {
            while let Some(request) = visit.request() {
                if !visit.wire.try_send(answer(&request)) {
                    return;
                }
            }
        })
    }

    /// Answers every request with 200 and its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::answering(move |_| ok(name))
    }

    /// Refuses every connection.
    pub(crate) fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, connections: Arc::default(), requests: Arc::default(), _reserved: Some(socket) }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// A running gateway with one service called `app`.
pub(crate) struct Stage {
    gateway: Option<Gateway>,
    pub(crate) address: SocketAddr,
    /// The tcp listener of the same service.
    pub(crate) tcp: SocketAddr,
    pub(crate) service: Arc<ServiceShared>,
    pub(crate) instances: Vec<Arc<InstanceShared>>,
    /// The certificates of the http listener.
    pub(crate) files: Option<Files>,
    pub(crate) behind: Option<InstanceFiles>,
    events: mpsc::UnboundedReceiver<GatewayEvent>,
    config: Config,
    generation: u64,
    /// Its listening sockets, for the next worker's gateway.
    listening: Vec<ListenerSockets>,
    threads: usize,
}

/// A gateway before it starts.
pub(crate) struct Setting {
    addresses: Vec<SocketAddr>,
    service: String,
    limits: String,
    listener: String,
    tcp: bool,
    tcp_listener: String,
    threads: usize,
    states: Vec<Availability>,
    access_log: Option<AccessLog>,
    makes_trace_parents: bool,
    has_successors: bool,
}

/// A gateway in front of these instances, not yet started.
pub(crate) fn before<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> Setting {
    before_addresses(origins.into_iter().map(|origin| origin.address).collect())
}

/// The same in front of whatever listens there.
pub(crate) fn before_addresses(addresses: Vec<SocketAddr>) -> Setting {
    Setting {
        states: vec![Availability::Takes; addresses.len()],
        addresses,
        service: String::new(),
        limits: String::new(),
        listener: "service = \"app\"".into(),
        tcp: true,
        tcp_listener: String::new(),
        threads: 1,
        access_log: None,
        makes_trace_parents: false,
        has_successors: false,
    }
}

impl Setting {
    /// Lines of `[service.app]`.
    pub(crate) fn service(mut self, lines: &str) -> Self {
        self.service = lines.into();
        self
    }

    /// Lines of `[limits]`.
    pub(crate) fn limits(mut self, lines: &str) -> Self {
        self.limits = lines.into();
        self
    }

    /// Lines of the http listener, instead of `service = "app"`.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener = lines.into();
        self
    }

    /// More lines of the tcp listener.
    pub(crate) fn tcp_listener(mut self, lines: &str) -> Self {
        self.tcp_listener = lines.into();
        self
    }

    /// Without the tcp listener, which cannot do all that an http listener can.
    pub(crate) fn http_only(mut self) -> Self {
        self.tcp = false;
        self
    }

    pub(crate) fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// With an access log in this file.
    pub(crate) fn access_log(mut self, file: &Path, query: bool) -> Self {
        self.access_log = Some(AccessLog { file: Some(file.to_owned()), query });
        self
    }

    /// Its listening sockets are held by somebody else as well, who gives them to a next worker.
    pub(crate) fn with_successors(mut self) -> Self {
        self.has_successors = true;
        self
    }

    /// Requests without a trace get one.
    pub(crate) fn makes_trace_parents(mut self) -> Self {
        self.makes_trace_parents = true;
        self
    }

    /// The first table's states.
    pub(crate) fn states(mut self, states: &[Availability]) -> Self {
        self.states = states.into();
        self
    }

    pub(crate) fn start(self) -> Stage {
        let Self {
            addresses,
            service,
            limits,
            listener,
            tcp,
            tcp_listener,
            threads,
            states,
            access_log,
            makes_trace_parents,
            has_successors,
        } = self;
        let instances: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let bind = "bind = [\"127.0.0.1:0\"]";
        let tcp_section = if tcp {
            format!("[[listener]]\n{bind}\nprotocol = \"tcp\"\nservice = \"app\"\n{tcp_listener}\n")
        } else {
            String::new()
        };
        let text = format!(
            "[limits]\n{limits}\n[[listener]]\n{bind}\n{listener}\n{tcp_section}\
             [service.app]\ninstances = [{}]\n{service}\n",
            instances.join(", ")
        );
        let config = config::parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?} in\n{text}"));
        let (mut http, address) = sockets(0, config.listeners[0].protocol, threads);
        let (tcp_sockets, tcp) = sockets(1, config::Protocol::Tcp, threads);
        let https = Some(&config.listeners[0]).filter(|listener| !listener.tls.is_empty());
        let files = https.map(|listener| Files::open(listener, "/".as_ref(), false).unwrap());
        let behind = config.services[0].tls.as_ref();
        let behind = behind.map(|tls| InstanceFiles::open(tls, "/".as_ref(), false).unwrap());
        http.tls = files.as_ref().map(Files::acceptor);
        let sockets = vec![http, tcp_sockets];
        let listening = if has_successors { same(&sockets) } else { Vec::new() };
        let setup = Setup { access_log, makes_trace_parents, ..setup(&config, threads, sockets) };
        let service = Arc::new(ServiceShared::new(threads));
        let instances: Vec<_> = addresses.iter().map(|_| Arc::new(InstanceShared::new(threads))).collect();
        let all: Vec<usize> = (0..instances.len()).collect();
        let first = snapshot(&config, &service, &instances, 1, &all, &states, connector(&behind));
        let (events_in, events) = mpsc::unbounded_channel();
        let gateway = Gateway::start(setup, first, events_in).unwrap();
        Stage {
            gateway: Some(gateway),
            address,
            tcp,
            service,
            instances,
            files,
            behind,
            events,
            config,
            generation: 1,
            listening,
            threads,
        }
    }
}

fn setup(config: &Config, threads: usize, sockets: Vec<ListenerSockets>) -> Setup {
    Setup {
        limits: config.limits.clone(),
        access_log: None,
        makes_trace_parents: false,
        batching: BATCHING,
        sockets,
        threads,
        sticky_keys: [[1; 32]].into(),
        worker_seed: 7,
    }
}

/// Other descriptors of the same sockets.
fn same(sockets: &[ListenerSockets]) -> Vec<ListenerSockets> {
    let same = |one: &ListenerSockets| ListenerSockets {
        tls: one.tls.clone(),
        fds: one.fds.iter().map(|fd| fd.try_clone().unwrap()).collect(),
        ..*one
    };
    sockets.iter().map(same).collect()
}

pub(crate) fn sockets(
    listener: usize,
    protocol: config::Protocol,
    threads: usize,
) -> (ListenerSockets, SocketAddr) {
    let mut local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let fds = (0..threads).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&local.into()).unwrap();
        socket.listen(1024).unwrap();
        socket.set_nonblocking(true).unwrap();
        local = socket.local_addr().unwrap().as_socket().unwrap();
        socket.into()
    });
    let fds = fds.collect();
    (ListenerSockets { listener, protocol, local, tls: None, fds }, local)
}

fn connector(files: &Option<InstanceFiles>) -> Option<Arc<Connector>> {
    files.as_ref().map(InstanceFiles::connector)
}

fn snapshot(
    config: &Config,
    service: &Arc<ServiceShared>,
    instances: &[Arc<InstanceShared>],
    generation: u64,
    members: &[usize],
    states: &[Availability],
    connector: Option<Arc<Connector>>,
) -> Snapshot {
    let settings = Arc::new(config.services[0].clone());
    let instance = |(&index, &state): (&usize, &Availability)| InstanceTable {
        id: InstanceId::new("app", settings.instances[index].address.to_string()),
        address: settings.instances[index].address,
        weight: 1,
        state,
        backup: settings.instances[index].backup,
        warms_since: None,
        shared: Arc::clone(&instances[index]),
    };
    let app = ServiceTable {
        name: "app".into(),
        instances: members.iter().zip(states).map(instance).collect(),
        settings: Arc::clone(&settings),
        shared: Arc::clone(service),
        connector,
        leaves: false,
        maglev: None,
    };
    let listeners = config.listeners.iter();
    Snapshot {
        generation: Generation(generation),
        listeners: listeners.map(ListenerTable::new).collect(),
        services: vec![app],
    }
}

impl Stage {
    pub(crate) fn connect(&self) -> Wire {
        Wire::to(self.address)
    }

    /// Ends the gateway.
    pub(crate) fn stop(&mut self) {
        self.gateway.take().unwrap().stop();
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// Publishes a table with all instances in these states, and waits until every thread uses it.
    pub(crate) fn publish(&mut self, states: &[Availability]) {
        let all: Vec<usize> = (0..self.instances.len()).collect();
        self.publish_members(&all, states);
    }

    /// The same with only these instances in the table.
    pub(crate) fn publish_members(&mut self, members: &[usize], states: &[Availability]) {
        self.generation += 1;
        let table = snapshot(
            &self.config,
            &self.service,
            &self.instances,
            self.generation,
            members,
            states,
            connector(&self.behind),
        );
        self.gateway().publish(table);
        self.acknowledged(Generation(self.generation));
    }

    /// The next table with all instances in these states, not yet published, and what it is made for.
    pub(crate) fn next_table(&mut self, states: &[Availability]) -> Snapshot {
        self.generation += 1;
        let all: Vec<usize> = (0..self.instances.len()).collect();
        snapshot(&self.config, &self.service, &self.instances, self.generation, &all, states, None)
    }

    /// Changes more than the table, and waits until every thread goes by it.
    pub(crate) fn rearrange(&mut self, rearrangement: Rearrangement, table: Snapshot) {
        let (generation, gateway) = (table.generation, self.gateway.as_mut().unwrap());
        let prepared = gateway.prepare(rearrangement).unwrap();
        gateway.carry_out(prepared, table);
        self.acknowledged(generation);
    }

    /// The gateway of the next worker: the same configuration and sockets, counters of its own, and a first table that
    /// `change` may change.
    pub(crate) fn successor(&self, change: impl FnOnce(&mut Snapshot)) -> Self {
        let (config, threads) = (self.config.clone(), self.threads);
        let service = Arc::new(ServiceShared::new(threads));
        let shared = |_: &Arc<InstanceShared>| Arc::new(InstanceShared::new(threads));
        let instances: Vec<_> = self.instances.iter().map(shared).collect();
        let (all, takes): (Vec<usize>, Vec<_>) =
            (0..instances.len()).map(|index| (index, Availability::Takes)).unzip();
        let mut first = snapshot(&config, &service, &instances, 1, &all, &takes, connector(&self.behind));
        change(&mut first);
        let (events_in, events) = mpsc::unbounded_channel();
        let setup = setup(&config, threads, same(&self.listening));
        Self {
            gateway: Some(Gateway::start(setup, first, events_in).unwrap()),
            address: self.address,
            tcp: self.tcp,
            service,
            instances,
            files: None,
            behind: None,
            events,
            config,
            generation: 1,
            listening: same(&self.listening),
            threads,
        }
    }

    /// What its configuration says.
    pub(crate) fn limits(&self) -> config::Limits {
        self.config.limits.clone()
    }

    fn acknowledged(&self, generation: Generation) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let acknowledged = self.gateway().acknowledged(generation);
        runtime.block_on(async { tokio::time::timeout(PATIENCE, acknowledged).await.unwrap() });
    }

    /// Publishes a table by which the http listener has these routes, with all instances taking requests.
    pub(crate) fn publish_routes(&mut self, routes: &str) {
        let text = format!(
            "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"app\"\n{routes}\n[service.app]\ninstances = [\"127.0.0.1:1\"]\n"
        );
        let listener = config::parse(&text).expect("the routes are valid").listeners.remove(0);
        self.config.listeners[0].routes = listener.routes;
        let states = vec![Availability::Takes; self.instances.len()];
        self.publish(&states);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.instances.iter().map(|instance| instance.in_flight()).sum()
    }

    /// Everything that was counted in was counted out.
    #[track_caller]
    pub(crate) fn settles(&self) {
        until("nothing in flight", || self.in_flight() == 0);
        assert_eq!(self.instances.iter().map(|instance| instance.tunnels()).sum::<u32>(), 0);
    }

    pub(crate) fn next_event(&mut self) -> Option<GatewayEvent> {
        self.events.try_recv().ok()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop();
        }
    }
}

/// Waits until it holds.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    until_within(PATIENCE, what, holds);
}

/// Waits until it holds, for so long.
#[track_caller]
pub(crate) fn until_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "still not: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Holds scripts up until the test says so.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        let opened = self.0.0.lock().unwrap();
        let (_opened, waited) = self.0.1.wait_timeout_while(opened, PATIENCE, |opened| !*opened).unwrap();
        assert!(!waited.timed_out(), "nobody opened the gate");
    }
}
