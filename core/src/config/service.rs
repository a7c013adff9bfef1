//! `[service.NAME]`: what instances a service has and how requests are sent to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::deploy::{self, Deploy};
use super::drain::Drain;
use super::health::{self, Health};
use super::instance::{self, FixedInstance};
use super::instance_tls::{self, InstanceTls};
use super::kind::{choice, duration, integer, list, optional, or_word, word};
use super::nearest::nearest;
use super::outlier::{self, Outlier};
use super::park::Park;
use super::queue::Queue;
use super::reading::{Reading, Refusal, Table, Toml};
use super::retry::Retry;
use super::run::{self, Run};
use super::section::{Kind, Place, plain, section, table, wrong_type};
use super::sticky::{self, Sticky};
use super::timeout::{self, Timeout};

section! {
    /// A service: what instances it has and how requests are sent to them. It has either fixed `instances` or a `run`
    /// section. Its name has 1 to 63 of a-z 0-9 -.
    pub(super) struct Written {
        /// How an instance is chosen for a request (for a connection, on a tcp listener).
        balance: Balance = choice(ALGORITHMS, &[]), default "round-robin",
            because "each in turn is fair when requests cost about the same, and easy to follow";
        /// The instances, if something else starts them.
        instances: Option<Vec<FixedInstance>> = optional(list(1..=1024, instance::instance())),
            default unset "none: there must be a `run` section",
            because "every thread keeps connections to each instance";
        /// How long anything may take.
        timeout: Timeout = table(timeout::build), default {}, because "every key has a default";
        /// When a request is sent again, to another instance.
        retry: Retry = table::<Retry, _>(plain), default {}, because "every key has a default";
        /// Requests wait here while no instance can take them.
        park: Park = table::<Park, _>(plain), default {}, because "every key has a default";
        /// The most requests (connections, on a tcp listener) that an instance has at a time, over all threads; WebSockets
        /// count as long as they last. What is more waits in `queue`.
        max_connections: Option<u32> = or_word("unlimited", integer(1..=1_000_000)), default "unlimited",
            because "only you know what an instance can work on at a time; past that point more requests at once mean fewer answers";
        /// Requests wait here while every instance is at its `max_connections`.
        queue: Queue = table::<Queue, _>(plain), default {}, because "every key has a default";
        /// An instance that comes up among others gets 10 % of its share at first and all of it after this time. Users who
        /// are kept with an instance go there in any case.
        slow_start: Duration = duration(0..=3_600_000), default "0s",
            because "most applications are warm when their health check says so";
        /// How an instance is taken out.
        drain: Drain = table::<Drain, _>(plain), default {}, because "every key has a default";
        /// How it is found out which instances work.
        health: Health = table(health::build), default {}, because "every key has a default";
        /// When an instance that answers badly is left out for a while.
        outlier: Option<Outlier> = or_word("off", table(outlier::judge)), default {}, because "every key has a default";
        /// Keeps a user with one instance.
        sticky: Option<Sticky> = optional(table(sticky::build)),
            default unset "every request is balanced on its own",
            because "stickiness makes shares uneven: only for services that keep something for a user";
        /// The PROXY header that each connection to an instance begins with: it tells the instance the client's address. A
        /// connection then serves one request (or one tcp connection) only, for it speaks for one client. `v2` also tells the
        /// request's id and what is known of the client's TLS.
        send_proxy: SendProxy = choice(SEND_PROXY, &[]), default "off",
            because "an instance that does not expect a header takes it for a broken request";
        /// TLS to the instances; `{}` is enough where the system's authorities have signed for their addresses.
        tls: Option<InstanceTls> = optional(table(instance_tls::build)),
            default unset "connections to instances are not secured",
            because "a network of your own may not need it; every new connection costs a handshake";
        /// everup starts the instances itself.
        run: Option<Run> = optional(table(run::build)),
            default unset "none: there must be `instances`",
            because "a service has either instances of its own or started ones";
        /// How `everup deploy` replaces a revision by another one. Needs a `run` section.
        deploy: Deploy = table(deploy::judge), default {}, because "every key has a default";
    }
}

const ALGORITHMS: &[(&str, Balance)] = &[
    ("round-robin", Balance::RoundRobin),
    ("weighted-round-robin", Balance::WeightedRoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("weighted-least-connections", Balance::WeightedLeastConnections),
    ("ip-hash", Balance::IpHash),
    ("maglev", Balance::Maglev),
    ("p2c-ewma", Balance::P2cEwma),
];

const SEND_PROXY: &[(&str, SendProxy)] =
    &[("off", SendProxy::Off), ("v1", SendProxy::V1), ("v2", SendProxy::V2)];

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// 1 to 63 of a-z 0-9 -.
    pub name: Arc<str>,
    /// How an instance is chosen.
    pub balance: Balance,
    /// Empty exactly if `run` is set.
    pub instances: Vec<FixedInstance>,
    /// How long anything may take.
    pub timeout: Timeout,
    /// When a request is sent again.
    pub retry: Retry,
    /// Requests wait while no instance can take them.
    pub park: Park,
    /// The most requests that an instance has at a time; None: as many as come.
    pub max_connections: Option<u32>,
    /// Requests wait while every instance has so many.
    pub queue: Queue,
    /// How long an instance that comes up takes to its whole share; zero: no time.
    pub slow_start: Duration,
    /// How an instance is taken out.
    pub drain: Drain,
    /// How it is found out which instances work.
    pub health: Health,
    /// When an instance that answers badly is left out for a while; None: never.
    pub outlier: Option<Outlier>,
    /// Keeps a user with one instance.
    pub sticky: Option<Sticky>,
    /// What connections to instances begin with.
    pub send_proxy: SendProxy,
    /// What connections to instances are secured with; None: nothing.
    pub tls: Option<InstanceTls>,
    /// everup starts the instances itself.
    pub run: Option<Run>,
    /// How a revision is replaced by another one.
    pub deploy: Deploy,
}

/// How an instance is chosen for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, in proportion to its weight, evenly mixed.
    WeightedRoundRobin,
    /// The one with the fewest requests in flight.
    LeastConnections,
    /// The one with the fewest requests in flight for its weight.
    WeightedLeastConnections,
    /// By the client's IP address: the same client, the same instance.
    IpHash,
    /// The same, by a table: quicker with many instances, a little less steady when they change.
    Maglev,
    /// Of two random ones the one where a request would wait less, by its recent latency.
    P2cEwma,
}

/// The PROXY header that connections to instances begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendProxy {
    /// None.
    Off,
    /// A line of text.
    V1,
    /// Binary, with the request's id.
    V2,
}

impl Balance {
    /// Whether instances' weights mean anything to it.
    pub fn heeds_weights(self) -> bool {
        match self {
            Self::WeightedRoundRobin
            | Self::WeightedLeastConnections
            | Self::IpHash
            | Self::Maglev
            | Self::P2cEwma => true,
            Self::RoundRobin | Self::LeastConnections => false,
        }
    }
}

pub(super) fn build(written: Written, table: &Table<'_>, reading: &mut Reading) -> Option<Service> {
    let Written {
        balance,
        instances,
        timeout,
        retry,
        park,
        max_connections,
        queue,
        slow_start,
        drain,
        health,
        outlier,
        sticky,
        send_proxy,
        tls,
        run,
        deploy,
    } = written;
    let name = table.path.service().expect("a service's path is service.NAME");
    judge_name(name, reading);
    require_instances(table, reading);
    judge_instances(balance, table, reading);
    if tls.is_some()
        && let Some(named) = reading.services.iter_mut().find(|service| service.name == name)
    {
        named.tls = Some(table.key_span("tls"));
    }
    let instances = instances.unwrap_or_default();
    let name = Arc::from(name);
    Some(Service {
        name,
        balance,
        instances,
        timeout,
        retry,
        park,
        max_connections,
        queue,
        slow_start,
        drain,
        health,
        outlier,
        sticky,
        send_proxy,
        tls,
        run,
        deploy,
    })
}

fn judge_name(name: &str, reading: &mut Reading) {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if let Err(Refusal { label, hint }) = word(name, 63, allowed, "a-z 0-9 -") {
        let span = reading
            .services
            .iter()
            .find(|service| service.name == name)
            .map_or(0..0, |named| named.span.clone());
        reading.mistake(span, format!("`{name}` cannot be the name of a service"), label, hint);
    }
}

fn require_instances(table: &Table<'_>, reading: &mut Reading) {
    match (table.has("instances"), table.has("run")) {
        (true, false) | (false, true) => {}
        (false, false) => reading.missing_keys(
            table,
            &["instances", "run"],
            format!("{} has no instances", table.path),
            "neither `instances` nor `run`",
            "add instances = [\"10.0.0.1:8080\"], or run = { command = [\"…\"] }",
        ),
        (true, true) => reading.mistake(
            table.key_span("run"),
            format!("{} has both `instances` and `run`", table.path),
            "`instances` is there too",
            "keep one: fixed instances, or ones that everup starts",
        ),
    }
    if table.has("deploy") && !table.has("run") {
        reading.mistake(
            table.key_span("deploy"),
            format!("{} has `deploy` but no `run`", table.path),
            "nothing that could be deployed",
            "everup deploys what it starts: add run = { command = [\"…\"] }",
        );
    }
}

fn judge_instances(balance: Balance, table: &Table<'_>, reading: &mut Reading) {
    let mut seen: Vec<SocketAddr> = Vec::new();
    let targets = std::mem::take(&mut reading.targets);
    for target in targets.iter().filter(|target| Some(target.service.as_str()) == table.path.service()) {
        if seen.contains(&target.address) {
            let message = format!("instance {} is listed twice", target.address);
            let hint = "list each once; for a larger share give it a weight";
            reading.mistake(target.span.clone(), message, "listed before", hint);
        }
        seen.push(target.address);
        if target.weight != 1 && !balance.heeds_weights() {
            let message = format!("{} has weights, but its `balance` does not heed them", table.path);
            let hint = "use a weighted balance, or \"ip-hash\", \"maglev\" or \"p2c-ewma\"";
            reading.mistake(target.span.clone(), message, format!("weight {}", target.weight), hint);
        }
    }
    reading.targets = targets;
}

/// The name of a service of the file.
pub(super) struct ServiceName;

/// The value is its index in `Config::services`.
pub(super) fn service_name() -> ServiceName {
    ServiceName
}

impl Kind for ServiceName {
    type Value = usize;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<usize> {
        let Some(name) = value.get_ref().as_str() else {
            wrong_type(value, place, "the name of a service", "write it in quotes", reading);
            return None;
        };
        if let Some(index) = reading.services.iter().position(|service| service.name == name) {
            reading.services[index].used = true;
            return Some(index);
        }
        let known: Vec<&str> = reading.services.iter().map(|service| service.name.as_str()).collect();
        let near = nearest(name, known.iter().copied()).map(str::to_owned);
        let hint = match &near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if known.is_empty() => format!("add [service.{name}]"),
            None => format!("add [service.{name}]; known: {}", known.join(", ")),
        };
        // What it most likely means is in use: one slip is one mistake.
        if let Some(meant) = reading.services.iter_mut().find(|service| Some(&service.name) == near.as_ref())
        {
            meant.used = true;
        }
        reading.missing(value.span(), format!("there is no service \"{name}\""), "unknown service", hint);
        None
    }
    fn name(&self) -> String {
        "name of a service".to_owned()
    }
    fn range(&self) -> String {
        "one that has a section [service.NAME]".to_owned()
    }
}
