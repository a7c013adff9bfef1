//! `everup drill`: kills one instance under load and tells what it cost. It asks the running everup where clients
//! come in and what it runs, sends an open-loop load there that never retries, and prints the books.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use everup_admin::api::{InstanceState, InstanceStatus, ServiceStatus, Status};
use everup_admin::{Client, ClientError};
use everup_core::ids::InstanceId;
use everup_drill::{GameDay, Load, Mode, Report, Victim, game_day};
use tokio::runtime::Runtime;

use crate::find::Find;

/// How long the service may take to be up before the drill gives up.
const READY_TIME: Duration = Duration::from_secs(30);
/// How often it asks meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Which everup, and what to do with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    find: Find,
}

/// What a drill does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests per second
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// How long to send them
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Service to drill [default: the first that everup runs and an http listener leads to]
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Path to request
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Default for Options {
    /// As on the command line without any option.
    fn default() -> Self {
        Self { rate: 200.0, seconds: 10.0, service: None, path: "/".into(), json: false }
    }
}

/// Exit 0 if no request was lost and the instance came back, else 1.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    against(&args.find.admin_path()?, &args.options)
}

/// Drills the everup behind the admin socket `admin`, once its service is up, and prints the report. Blocks; not to
/// be called from async code.
pub(crate) fn against(admin: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let everup = Everup::connect(admin)?;
    let field = everup.field(options.service.as_deref())?;
    let load =
        Load::to(&format!("http://{}{}", field.address, options.path))?.rate(options.rate).mode(Mode::Mixed);
    let day = GameDay::new(load, Duration::from_secs_f64(options.seconds));
    if !options.json {
        println!(
            "drill: {} requests/s to http://{}{} for {} s, kept and one-shot connections in turns, no retries;\n       \
             one of {} instances of {} is killed after {:.1} s",
            options.rate,
            field.address,
            options.path,
            options.seconds,
            field.instances,
            field.service,
            day.strike_after.as_secs_f64()
        );
    }
    let strike = || everup.kill_one(&field.service).map_err(|error| format!("{error:#}"));
    let report = game_day(day, strike, |victim| everup.is_back(victim).map_err(|error| error.to_string()))?;
    print(&report, options.json)?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(&report.to_json())?);
    } else {
        print!("{}", report.text(std::io::stdout().is_terminal()));
    }
    Ok(())
}

/// Where a drill takes place.
struct Field {
    service: String,
    instances: usize,
    address: SocketAddr,
}

/// The running everup, asked from code that blocks.
struct Everup {
    runtime: Runtime,
    client: Client,
}

impl Everup {
    fn connect(admin: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(admin))?;
        Ok(Self { runtime, client })
    }

    fn status(&self) -> Result<Status, ClientError> {
        self.runtime.block_on(self.client.status())
    }

    /// The service to drill and its address, once all its instances are up.
    fn field(&self, wanted: Option<&str>) -> anyhow::Result<Field> {
        let deadline = Instant::now() + READY_TIME;
        loop {
            let status = self.status()?;
            let (service, address) = choose(&status, wanted)?;
            // Who is on standby belongs to a deployment, not to the service as it is.
            let is_missing =
                |one: &&InstanceStatus| !matches!(one.state, InstanceState::Up | InstanceState::Standby);
            let waiting: Vec<&InstanceStatus> = service.instances.iter().filter(is_missing).collect();
            let Some(first) = waiting.first() else {
                return Ok(Field {
                    service: service.name.clone(),
                    instances: service.instances.len(),
                    address,
                });
            };
            if Instant::now() > deadline {
                bail!(
                    "{}/{} is {}, not up: a drill begins with a whole service",
                    service.name,
                    first.name,
                    first.state
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Kills the instance that has answered most.
    fn kill_one(&self, service: &str) -> anyhow::Result<Victim> {
        let status = self.status()?;
        let service =
            status.services.iter().find(|known| known.name == service).context("the service is gone")?;
        let up = service.instances.iter().filter(|one| one.state == InstanceState::Up && one.pid.is_some());
        let instance = up.max_by_key(|one| one.requests).context("no instance is up that could be killed")?;
        let id = InstanceId::new(service.name.as_str(), instance.name.as_str());
        self.runtime.block_on(self.client.kill(&id))?;
        Ok(Victim { service: service.name.clone(), instance: instance.name.clone(), pid: instance.pid })
    }

    /// Whether the victim's name is up again as another process. While everup does not answer, it is not.
    fn is_back(&self, victim: &Victim) -> Result<bool, ClientError> {
        let status = match self.status() {
            Ok(status) => status,
            Err(ClientError::Broken { .. } | ClientError::TimedOut { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let services = status.services.iter().filter(|service| service.name == victim.service);
        let mut instances = services.flat_map(|service| &service.instances);
        Ok(instances.any(|one| {
            one.name == victim.instance && one.state == InstanceState::Up && one.pid != victim.pid
        }))
    }
}

/// The first service (or the wanted one) that everup runs and an http listener leads to, and where clients come in.
fn choose<'a>(status: &'a Status, wanted: Option<&str>) -> anyhow::Result<(&'a ServiceStatus, SocketAddr)> {
    let named = |service: &&ServiceStatus| wanted.is_none_or(|wanted| wanted == service.name);
    if let Some(wanted) = wanted.filter(|_| !status.services.iter().any(|service| named(&service))) {
        bail!("there is no service `{wanted}`: see `everup status`");
    }
    // Only what everup runs has a revision.
    let run = |service: &&ServiceStatus| service.instances.iter().any(|instance| instance.revision.is_some());
    let candidates = status.services.iter().filter(named).filter(run);
    let reached = candidates.filter_map(|service| Some((service, entrance(status, &service.name)?)));
    let (service, address) = reached.into_iter().next().ok_or_else(|| {
        anyhow!("a drill kills an instance that everup runs itself: it needs a service with a `run` section that an http listener names as its `service`")
    })?;
    let address = address.parse().with_context(|| format!("the listener's address {address} is none"))?;
    Ok((service, reachable(address)))
}

fn entrance<'a>(status: &'a Status, service: &str) -> Option<&'a str> {
    let mut listeners = status.listeners.iter().filter(|listener| listener.protocol == "http");
    let listener = listeners.find(|listener| listener.service.as_deref() == Some(service))?;
    listener.addresses.first().map(String::as_str)
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

/// A drill is between a moment and an hour long.
fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_end_matches('s').parse().map_err(|_| "a number of seconds".to_owned())?;
    if (1.0..=3600.0).contains(&number) { Ok(number) } else { Err("1 to 3600 seconds".into()) }
}

/// What [`Load::rate`] takes.
fn rate(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number of requests per second".to_owned())?;
    if (0.1..=20_000.0).contains(&number) {
        Ok(number)
    } else {
        Err("0.1 to 20000 requests per second".into())
    }
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
    fn a_drill_sends_a_request_in_ten_seconds_to_twenty_thousand_a_second() {
        assert_eq!((rate("0.1"), rate("20000")), (Ok(0.1), Ok(20_000.0)));
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("20001").is_err());
    }

    #[test]
    fn a_drill_lasts_a_second_to_an_hour() {
        assert_eq!((seconds("10"), seconds("1.5s")), (Ok(10.0), Ok(1.5)));
        assert!(seconds("0").is_err() && seconds("NaN").is_err() && seconds("1e9").is_err());
    }
}
