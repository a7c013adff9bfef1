//! What the admin API says, as types: the JSON of version 1. Fields may be added; none changes its meaning or
//! disappears before a version 2.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::deployment::{
    DeployAnswer, DeployRequest, DeployWish, DeploymentEvent, DeploymentHook, DeploymentSide,
    DeploymentState, DeploymentStatus, DeploymentStep, PlanAnswer, StepState,
};
pub use crate::event::{Event, EventKind, Events};
pub use crate::explanation::{ExplainedEvent, ExplainedRequest, Explanation};
pub use crate::reloading::{Mistake, Plan, Reloaded, WrongFile};
pub use crate::upgrade::{LeavingWorker, Moved, Upgraded};

/// Everything an operator may want to see at once: `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name: `node.name`, else the host name.
    pub node: String,
    /// Version of the running everup.
    pub version: String,
    /// The configuration file as `everup run` was given it.
    pub config: String,
    /// Process id of the worker, which carries the traffic.
    pub worker_pid: u32,
    /// Process id of the keeper, which keeps sockets and instances: the one to signal.
    pub keeper_pid: u32,
    /// That process is gone: the worker serves on, and takes what needs a keeper when there is one again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeper_gone: bool,
    /// How many workers this keeper started before this one; more than 0 means that one died.
    pub worker_restarts: u32,
    /// Number of the routing table in force; it only grows.
    pub generation: u64,
    /// Seconds since this worker serves.
    pub uptime_seconds: f64,
    /// Every service has an instance that is up, and everup is not stopping.
    pub ready: bool,
    /// everup was told to stop and finishes what is in flight.
    pub stopping: bool,
    /// What the operator must know, a line each: that the configuration is not the newest one, for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Client connections open now.
    pub connections: u64,
    /// Real address of the metrics listener, if there is one (a configured port 0 is resolved).
    pub metrics: Option<String>,
    /// Where clients come in.
    pub listeners: Vec<ListenerStatus>,
    /// What they reach, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Workers of before an upgrade, which finish what they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<LeavingWorker>,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// `http` or `tcp`.
    pub protocol: String,
    /// Its real addresses (a configured port 0 is resolved), in the order of `bind`.
    pub addresses: Vec<String>,
    /// How many routes it has.
    pub routes: usize,
    /// The service used when no route matches, if any.
    pub service: Option<String>,
    /// Clients speak TLS to it.
    #[serde(default)]
    pub tls: bool,
}

/// One `[service.NAME]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The balancing method, as the configuration spells it.
    pub balance: String,
    /// It is no longer in the configuration, and finishes what it has.
    #[serde(default)]
    pub leaves: bool,
    /// Requests per second, averaged over the last 5 s.
    pub requests_per_second: f64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests waiting because no instance can take them.
    pub parked: u64,
    /// Requests waiting because every instance is at its `max_connections`.
    #[serde(default)]
    pub queued: u64,
    /// Requests since the worker started.
    pub requests: u64,
    /// Requests that everup itself had to answer with 5xx, since the worker started.
    pub errors: u64,
    /// Further attempts on another instance, since the worker started.
    pub retries: u64,
    /// Half of the last 30 s' requests took at most this many milliseconds; none without requests.
    pub p50_ms: Option<f64>,
    /// 99 % of the last 30 s' requests took at most this many milliseconds; none without requests.
    pub p99_ms: Option<f64>,
    /// Its instances, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
    /// Who locked it against deployments, since when and why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// The deployment that is under way, also if it only keeps the old instances for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentStatus>,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// `SERVICE-N` or `SERVICE-REVISION-N` for one that everup runs, the address for a fixed one.
    pub name: String,
    /// Where it listens; empty while a started one has no port yet.
    pub address: String,
    /// What it is in.
    pub state: InstanceState,
    /// Why it is in that state, in words; empty when there is nothing to explain.
    pub reason: String,
    /// Seconds until it gets requests again; only while it is `ejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns_in_seconds: Option<f64>,
    /// Its share in the weighted balancing methods.
    pub weight: u32,
    /// It takes requests only while no other instance does.
    #[serde(default)]
    pub backup: bool,
    /// Requests sent to it since the worker started.
    pub requests: u64,
    /// Requests it works on now.
    pub in_flight: u64,
    /// Upgraded (WebSocket) and TCP connections open to it now.
    pub tunnels: u64,
    /// Its process id, if everup runs it.
    pub pid: Option<u32>,
    /// The revision it was started with, if everup runs it.
    pub revision: Option<String>,
    /// How often everup started it again after it ended by itself.
    pub restarts: u64,
    /// Seconds it has been in its state.
    pub since_seconds: f64,
    /// The last lines it wrote, oldest first; only while it is `backoff` or `crash-looping`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// What an instance is in. `Display` gives the JSON word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// It takes requests.
    Up,
    /// It answers badly while others do not: it gets no new request for a while, unless nobody else takes any.
    Ejected,
    /// It failed: no request goes there.
    Down,
    /// It was never seen to answer, nor to fail.
    Unknown,
    /// It takes no new request and finishes those it has.
    Draining,
    /// It takes no request and has none.
    Drained,
    /// It works, but a deployment gives it no requests: it proves itself, or is kept for a rollback.
    Standby,
    /// Its process is started and has not yet passed enough checks.
    Starting,
    /// Its process ended; it is started again after a pause.
    Backoff,
    /// Its process ended quickly several times in a row; it is still tried, ever more slowly.
    CrashLooping,
    /// Its process is stopped, or being stopped, on purpose.
    Stopped,
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Standby => "standby",
            Self::Starting => "starting",
            Self::Backoff => "backoff",
            Self::CrashLooping => "crash-looping",
            Self::Stopped => "stopped",
        })
    }
}

/// The answer to a drain: `POST /v1/services/{service}/instances/{instance}/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainAnswer {
    /// True: nothing is in flight on the instance any more.
    pub drained: bool,
    /// Requests and tunnels still open on it.
    pub in_flight: u64,
    /// Tunnels and relays alone; a part of `in_flight`.
    #[serde(default)]
    pub tunnels: u64,
    /// The same in one line: `drained`, or `2 requests still in flight after 30s`.
    pub message: String,
}

/// The answer to an undrain, a weight or a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, in one line.
    pub message: String,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// Why it was refused or failed, in one line.
    pub error: String,
    /// The configuration file, if it is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<WrongFile>,
}
