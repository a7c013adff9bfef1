//! Where a drill of our own everup takes place: the service, its instances, and where clients come in. And that everup, asked
//! from code that blocks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use everup_admin::api::{InstanceState, InstanceStatus, ListenerStatus, ServiceStatus, Status};
use everup_admin::{Client, ClientError};
use everup_core::ids::InstanceId;
use tokio::runtime::Runtime;

/// How long the service may take to be up before the drill gives up.
const READY_TIME: Duration = Duration::from_secs(30);
/// How often it asks meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Where a drill takes place.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) service: String,
    pub(super) instances: usize,
    /// Whether everup starts the instances itself.
    pub(super) is_run: bool,
    /// Where plain HTTP comes in, and where https does; at least one of them.
    pub(super) entrances: Vec<Entrance>,
}

/// An address of a listener that leads to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entrance {
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
}

impl Entrance {
    /// The URL of a path there.
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }
}

/// The running everup.
pub(super) struct Everup {
    runtime: Runtime,
    client: Client,
}

impl Everup {
    pub(super) fn connect(admin: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(admin))?;
        Ok(Self { runtime, client })
    }

    pub(super) fn status(&self) -> Result<Status, ClientError> {
        self.runtime.block_on(self.client.status())
    }

    /// The status, if everup answers just now: while its worker is replaced it does not.
    pub(super) fn status_now(&self) -> Result<Option<Status>, ClientError> {
        match self.status() {
            Ok(status) => Ok(Some(status)),
            Err(
                ClientError::Broken { .. } | ClientError::TimedOut { .. } | ClientError::NotRunning { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has it answer a question of its client.
    pub(super) fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(question(&self.client))
    }

    /// The service to drill and its entrances, once all its instances are up.
    pub(super) fn field(&self, wanted: Option<&str>) -> anyhow::Result<Field> {
        let deadline = Instant::now() + READY_TIME;
        loop {
            let status = self.status()?;
            let (service, entrances) = choose(&status, wanted)?;
            // Who is on standby belongs to a deployment, not to the service as it is; who is drained was meant to be.
            let is_missing = |one: &&InstanceStatus| {
                let state = one.state;
                !matches!(state, InstanceState::Up | InstanceState::Standby | InstanceState::Drained)
            };
            let Some(missing) = service.instances.iter().find(is_missing) else {
                return Ok(Field {
                    service: service.name.clone(),
                    instances: service.instances.len(),
                    is_run: is_run(service),
                    entrances,
                });
            };
            if Instant::now() > deadline {
                bail!(
                    "{}/{} is {}, not up: a drill begins with a whole service",
                    service.name,
                    missing.name,
                    missing.state
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The instance that has answered most of those that are up.
    pub(super) fn busiest(&self, service: &str, with_process: bool) -> Result<InstanceStatus, String> {
        let status = self.status().map_err(|error| error.to_string())?;
        let found = status.services.into_iter().find(|known| known.name == service);
        let instances = found.ok_or("the service is gone")?.instances.into_iter();
        let fit =
            instances.filter(|one| one.state == InstanceState::Up && (one.pid.is_some() || !with_process));
        fit.max_by_key(|one| one.requests).ok_or_else(|| "no instance is up that it could happen to".into())
    }

    /// This instance, if everup answers and knows it.
    pub(super) fn instance(&self, id: &InstanceId) -> Result<Option<InstanceStatus>, String> {
        let status = self.status_now().map_err(|error| error.to_string())?;
        let services = status.into_iter().flat_map(|status| status.services);
        let service = services.filter(|service| service.name == *id.service);
        Ok(service.flat_map(|service| service.instances).find(|one| one.name == *id.instance))
    }
}

/// Only what everup runs has a revision.
fn is_run(service: &ServiceStatus) -> bool {
    service.instances.iter().any(|instance| instance.revision.is_some())
}

/// The wanted service, or the first one that everup runs, or else the first one; of those that a listener leads to.
fn choose<'a>(
    status: &'a Status,
    wanted: Option<&str>,
) -> anyhow::Result<(&'a ServiceStatus, Vec<Entrance>)> {
    let named = |service: &&ServiceStatus| wanted.is_none_or(|wanted| wanted == service.name);
    if let Some(wanted) = wanted.filter(|_| !status.services.iter().any(|service| named(&service))) {
        bail!("there is no service `{wanted}`: see `everup status`");
    }
    let mut reached = Vec::new();
    for service in status.services.iter().filter(named) {
        let entrances = entrances(status, &service.name)?;
        if !entrances.is_empty() {
            reached.push((service, entrances));
        }
    }
    reached.sort_by_key(|(service, _)| !is_run(service));
    reached.into_iter().next().ok_or_else(|| {
        anyhow!("a drill needs a service that an http listener names as its `service`: nothing else tells where its clients come in")
    })
}

/// The first address of the first plain and of the first https listener that lead to the service.
fn entrances(status: &Status, service: &str) -> anyhow::Result<Vec<Entrance>> {
    let leads = |listener: &&ListenerStatus| {
        listener.protocol == "http" && listener.service.as_deref() == Some(service)
    };
    let listeners: Vec<&ListenerStatus> = status.listeners.iter().filter(leads).collect();
    let mut entrances = Vec::new();
    for tls in [false, true] {
        let mut fit = listeners.iter().filter(|listener| listener.tls == tls);
        let Some(address) = fit.find_map(|listener| listener.addresses.first()) else { continue };
        let parsed = address.parse().with_context(|| format!("the listener's address {address} is none"))?;
        entrances.push(Entrance { address: reachable(parsed), tls });
    }
    Ok(entrances)
}

/// A listener on all addresses is reached on the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:80".parse().unwrap()), "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn an_entrance_is_a_url() {
        let entrance = Entrance { address: "[::1]:8443".parse().unwrap(), tls: true };
        assert_eq!(entrance.url("/a"), "https://[::1]:8443/a");
    }
}
