//! Watches fake instances and waits for what is said about them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use everup_core::config::{Check, Health, SendProxy};
use everup_core::health::Verdict;
use everup_core::ids::InstanceId;
use everup_health::{HealthHandle, Tls, VerdictChange, Watch, spawn};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

/// Longer than anything here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Verdicts {
    pub(crate) handle: HealthHandle,
    events: UnboundedReceiver<VerdictChange>,
}

pub(crate) fn id(instance: &str) -> InstanceId {
    InstanceId::new("shop", instance)
}

pub(crate) fn http() -> Check {
    Check::Http("/healthz".to_owned())
}

/// Every 200 ms, at most 1 s (enough also beside a test that burns all cores), rise 2, fall 2.
pub(crate) fn quick(check: Check) -> Health {
    Health { check, interval: Duration::from_millis(200), timeout: Duration::from_secs(1), rise: 2, fall: 2 }
}

impl Verdicts {
    pub(crate) fn new() -> Self {
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        Self { handle: spawn(sender).unwrap(), events }
    }

    pub(crate) fn watch(&self, instance: &str, address: SocketAddr, check: Health, initial: Verdict) {
        self.watch_announced(instance, address, check, SendProxy::Off, initial);
    }

    /// The same with a PROXY header.
    pub(crate) fn watch_announced(
        &self,
        instance: &str,
        address: SocketAddr,
        check: Health,
        send_proxy: SendProxy,
        initial: Verdict,
    ) {
        let id = id(instance);
        self.handle.watch(Watch { id, address, check, send_proxy, tls: None, initial, joins_after: 1 });
    }

    /// The same with TLS; nothing is known of the instance.
    pub(crate) fn watch_secured(&self, instance: &str, address: SocketAddr, check: Health, tls: Tls) {
        let (id, initial, send_proxy) = (id(instance), Verdict::Unknown, SendProxy::Off);
        self.handle.watch(Watch { id, address, check, send_proxy, tls: Some(tls), initial, joins_after: 1 });
    }

    /// The next change, whoever's it is.
    pub(crate) fn next(&mut self) -> (String, Verdict) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let change = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("a change").expect("a sender")
        });
        (change.id.instance.to_string(), change.verdict)
    }

    /// Changes that came already.
    pub(crate) fn waiting(&mut self) -> Vec<(String, Verdict)> {
        std::iter::from_fn(|| match self.events.try_recv() {
            Ok(change) => Some((change.id.instance.to_string(), change.verdict)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        })
        .collect()
    }
}

/// Waits for a condition of the outside world.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
