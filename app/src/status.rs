//! What is known -> what people are told: the `Status` of the admin API.

use std::time::SystemTime;

use everup_admin::api::{
    DeploymentStatus, InstanceState, InstanceStatus, ListenerStatus, ServiceStatus, Status,
};
use everup_core::config::{Balance, Listener, Protocol};
use everup_core::ids::InstanceId;
use everup_core::instance::Phase;
use everup_observe::Buckets;

use crate::clock::Now;
use crate::service::{Instance, Service};

/// What of the status does not change while the worker lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) config: String,
    pub(crate) keeper_pid: u32,
    pub(crate) worker_restarts: u32,
    pub(crate) metrics: Option<String>,
    pub(crate) listeners: Vec<ListenerStatus>,
    pub(crate) warnings: Vec<String>,
}

/// What of it is known to the worker, beside services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Now,
    pub(crate) generation: u64,
    pub(crate) ready: bool,
    pub(crate) stopping: bool,
    pub(crate) keeper_gone: bool,
    pub(crate) connections: u64,
}

/// How many log lines of an instance in trouble are told.
pub(crate) const LOG_LINES: usize = 5;

/// The whole status. `last_lines` reads an instance's log, `deployed` tells whether a service is locked, and what is
/// being deployed to it.
pub(crate) fn status(
    identity: &Identity,
    moment: Moment,
    services: &[Service],
    last_lines: impl Fn(&InstanceId) -> Vec<String>,
    deployed: impl Fn(&Service) -> (Option<String>, Option<DeploymentStatus>),
) -> Status {
    let Identity { node, config, keeper_pid, worker_restarts, metrics, listeners, warnings } =
        identity.clone();
    let Moment { now, generation, ready, stopping, keeper_gone, connections } = moment;
    let services = services.iter().map(|one| {
        let (lock, deployment) = deployed(one);
        ServiceStatus { lock, deployment, ..service_status(one, now, &last_lines) }
    });
    Status {
        node,
        version: VERSION.to_owned(),
        config,
        worker_pid: std::process::id(),
        keeper_pid,
        keeper_gone,
        worker_restarts,
        generation,
        uptime_seconds: now.time.as_micros() as f64 / 1e6,
        ready,
        stopping,
        connections,
        warnings,
        metrics,
        listeners,
        services: services.collect(),
        leaving: Vec::new(),
    }
}

/// The version of this everup.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A listener with the addresses that its sockets really have.
pub(crate) fn listener_status(
    listener: &Listener,
    addresses: Vec<String>,
    services: &[Service],
) -> ListenerStatus {
    let protocol = match listener.protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::TlsPassthrough => "tls-passthrough",
    };
    let service = listener.service.map(|index| services[index].settings.name.to_string());
    let tls = !listener.tls.is_empty();
    ListenerStatus { protocol: protocol.to_owned(), addresses, routes: listener.routes.len(), service, tls }
}

fn service_status(
    service: &Service,
    now: Now,
    last_lines: &impl Fn(&InstanceId) -> Vec<String>,
) -> ServiceStatus {
    let Service { settings, shared, instances, rates, leaves, .. } = service;
    let requests = shared.requests.total();
    let recent = rates.recent(&shared.latency.total());
    let in_flight = instances.iter().map(|instance| instance.left().in_flight).sum();
    ServiceStatus {
        name: settings.name.to_string(),
        balance: balance_word(settings.balance).to_owned(),
        leaves: leaves.is_some(),
        requests_per_second: rates.requests_per_second(now.time, requests),
        in_flight,
        parked: shared.parked.total(),
        queued: shared.queued.total(),
        requests,
        errors: shared.errors.total(),
        retries: shared.retries.total(),
        p50_ms: quantile_ms(&recent, 0.5),
        p99_ms: quantile_ms(&recent, 0.99),
        instances: instances.iter().map(|instance| instance_status(instance, now.wall, last_lines)).collect(),
        lock: None,
        deployment: None,
    }
}

fn instance_status(
    instance: &Instance,
    wall: SystemTime,
    last_lines: &impl Fn(&InstanceId) -> Vec<String>,
) -> InstanceStatus {
    let process = instance.process.as_ref();
    let in_trouble = process.is_some_and(|process| process.phase == Phase::Backoff || process.crash_loop);
    InstanceStatus {
        name: instance.id.instance.to_string(),
        address: instance.address().map(|address| address.to_string()).unwrap_or_default(),
        state: instance.state(),
        reason: instance.reason(),
        returns_in_seconds: (instance.state() == InstanceState::Ejected)
            .then(|| instance.ejected.and_then(|ejected| ejected.until.duration_since(wall).ok()))
            .flatten()
            .map(|left| left.as_secs_f64()),
        weight: instance.weight(),
        backup: instance.backup,
        requests: instance.shared.requests.total(),
        in_flight: instance.left().in_flight,
        tunnels: instance.left().tunnels,
        pid: instance.pid(),
        revision: process.map(|process| process.revision.clone()),
        restarts: process.map_or(0, |process| u64::from(process.restarts)),
        since_seconds: wall.duration_since(instance.since).map_or(0.0, |since| since.as_secs_f64()),
        log: if in_trouble { last_lines(&instance.id) } else { Vec::new() },
    }
}

fn quantile_ms(latencies: &Buckets, q: f64) -> Option<f64> {
    latencies.quantile(q).map(|latency| latency.as_secs_f64() * 1e3)
}

/// As the configuration spells it.
pub(crate) fn balance_word(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "round-robin",
        Balance::WeightedRoundRobin => "weighted-round-robin",
        Balance::LeastConnections => "least-connections",
        Balance::WeightedLeastConnections => "weighted-least-connections",
        Balance::IpHash => "ip-hash",
        Balance::Maglev => "maglev",
        Balance::P2cEwma => "p2c-ewma",
    }
}
