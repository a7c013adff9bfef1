//! everup-health: probes instances and tells what to believe of them. When to probe and what to conclude is decided
//! in `everup_core::health`; here are the clock, the sockets and the check commands.
//!
//! It runs on a thread of its own, so that no amount of traffic delays a probe and no probe delays traffic. If the
//! machine is so busy that even this thread is late, it notices (see `starvation`) and blames no instance for it.
//! It knows nothing of routing tables: verdicts go out through a channel, news from the data plane comes in through
//! [`HealthHandle`].
#![warn(missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use everup_core::config;
use everup_core::health::machine::Outcome;
use everup_core::health::{Reason, Verdict};
use everup_core::ids::InstanceId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::mpsc;

mod driver;
mod probe;
mod starvation;

use starvation::Starvation;

/// TLS to an instance, the same that requests go by.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom to believe and what to show; None inside: that cannot be found out now.
    pub current: Arc<ArcSwapOption<ClientConfig>>,
    /// Whose certificate the instance must show.
    pub server_name: ServerName<'static>,
}

/// An instance to be watched.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Which one.
    pub id: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is checked.
    pub check: config::Health,
    /// The PROXY header that its connections begin with.
    pub send_proxy: config::SendProxy,
    /// What its connections are secured with; None: nothing.
    pub tls: Option<Tls>,
    /// What is believed until there is news; not told again.
    pub initial: Verdict,
    /// Passes in a row that make an unknown instance Up for the first time.
    pub joins_after: u32,
}

/// A verdict that changed, or got another reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictChange {
    /// Of which instance.
    pub id: InstanceId,
    /// Where it was watched; it may listen elsewhere by now.
    pub address: SocketAddr,
    /// What is believed from now on.
    pub verdict: Verdict,
    /// When, for people.
    pub wall: SystemTime,
}

/// Why health checks cannot begin. Ours or the operator's fault (limits of the process); trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No event loop.
    #[error("cannot make the event loop of the health checks")]
    Runtime(#[source] std::io::Error),
    /// No thread.
    #[error("cannot start the thread of the health checks")]
    Thread(#[source] std::io::Error),
}

/// Starts the health thread. Changes of verdicts go to `events`. The thread ends, and ends its probes, when the last
/// clone of the handle is dropped.
///
/// # Errors
/// [`HealthError`] if the process may have no more threads or descriptors.
pub fn spawn(events: mpsc::UnboundedSender<VerdictChange>) -> Result<HealthHandle, HealthError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HealthError::Runtime)?;
    let (commands, inbox) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || runtime.block_on(driver::Driver::new(inbox, events).run()))
        .map_err(HealthError::Thread)?;
    Ok(HealthHandle(commands))
}

/// Sends an instance one GET, as an http check would, whatever its check is; 200 to 399 passes.
///
/// # Errors
/// Why it did not, in words.
pub async fn try_request(watch: &Watch, path: &str, timeout: Duration) -> Result<(), String> {
    let Watch { id, address, send_proxy, tls, check: _, initial: _, joins_after: _ } = watch;
    let target = probe::Target {
        id: id.clone(),
        address: *address,
        check: config::Check::Http(path.to_owned()),
        send_proxy: *send_proxy,
        tls: tls.clone(),
        timeout,
    };
    match probe::probe(&target, &Starvation::new(Instant::now())).await {
        Outcome::Passed => Ok(()),
        Outcome::Failed(Reason::ProbeStatus(status)) => Err(format!("answered {status}")),
        Outcome::Failed(Reason::ProbeTimeout) => Err(format!("no answer in {} s", timeout.as_secs_f64())),
        Outcome::Failed(reason) => Err(reason.to_string()),
        Outcome::Inconclusive => Err("everup has no descriptors, ports or memory for it".to_owned()),
    }
}

/// Speaks to the health thread. No method waits; any thread may call them.
#[derive(Clone, Debug)]
pub struct HealthHandle(mpsc::UnboundedSender<Command>);

impl HealthHandle {
    /// Watch this instance from now on. If it is watched already, everything begins anew with these settings.
    pub fn watch(&self, watch: Watch) {
        self.send(Command::Watch(Box::new(watch)));
    }

    /// Forget the instance. A change of its verdict that is on its way may still arrive.
    pub fn unwatch(&self, id: &InstanceId) {
        self.send(Command::Unwatch(id.clone()));
    }

    /// A request could not connect to the instance. To be called at once.
    pub fn connect_failed(&self, id: InstanceId, reason: Reason) {
        self.send(Command::ConnectFailed(id, reason));
    }

    /// The instance's process ended; `how` in words for people ("killed by signal 9").
    pub fn exited(&self, id: InstanceId, how: impl Into<String>) {
        self.send(Command::Exited(id, how.into()));
    }

    fn send(&self, command: Command) {
        if self.0.send(command).is_err() {
            tracing::error!("the health thread has ended: instances are no longer watched");
        }
    }
}

#[derive(Debug)]
enum Command {
    Watch(Box<Watch>),
    Unwatch(InstanceId),
    ConnectFailed(InstanceId, Reason),
    Exited(InstanceId, String),
}
