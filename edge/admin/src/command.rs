//! What the API asks of the controller: one message with the place for its answer. The controller owns the truth;
//! nobody else reads or changes it.

use crate::accept::Format;
use std::time::Duration;

use everup_core::ids::InstanceId;
use tokio::sync::{mpsc, oneshot};

use crate::api::{
    DeployAnswer, DeployRequest, DrainAnswer, Events, Explanation, Plan, Reloaded, Status, Upgraded,
};
use crate::reloading::NotReloaded;

/// Where the API sends its commands. Bounded: a flood of questions waits here and not in the controller's memory.
pub type Commands = mpsc::Sender<Command>;

/// How many commands may wait for the controller. Each waiting one is a connection that waits for its answer.
pub(crate) const WAITING_COMMANDS: usize = 64;

/// One question or order. The answer goes to `reply`; whoever drops it unanswered causes a 503.
#[derive(Debug)]
pub enum Command {
    /// Tell everything.
    Status {
        /// For the answer.
        reply: oneshot::Sender<Status>,
    },
    /// Give an instance no new requests and wait until those it has are finished.
    Drain {
        /// Which one.
        id: InstanceId,
        /// Answer after this at the latest; None: the service's `drain.time`.
        wait: Option<Duration>,
        /// For the answer.
        reply: oneshot::Sender<Result<DrainOutcome, Refusal>>,
    },
    /// Give it requests again.
    Undrain {
        /// Which one.
        id: InstanceId,
        /// For the answer: what was done, in one line.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// Give it another weight, for as long as this everup runs.
    Weigh {
        /// Which one.
        id: InstanceId,
        /// 1 to 256.
        weight: u32,
        /// For the answer: what was done, in one line.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// SIGKILL its process group, as a drill does.
    Kill {
        /// Which one.
        id: InstanceId,
        /// For the answer: what was done, in one line.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// Deploy, or say something about a deployment.
    Deploy {
        /// What.
        request: DeployRequest,
        /// For the answer.
        reply: oneshot::Sender<Result<DeployAnswer, Refusal>>,
    },
    /// Tell what is remembered of a request.
    Explain {
        /// Its X-Request-Id.
        id: String,
        /// For the answer.
        reply: oneshot::Sender<Result<Explanation, Refusal>>,
    },
    /// Read the configuration file and tell what a reload would change.
    Plan {
        /// For the answer.
        reply: oneshot::Sender<Result<Plan, NotReloaded>>,
    },
    /// Read the configuration file and change to what it says.
    Reload {
        /// For the answer.
        reply: oneshot::Sender<Result<Reloaded, NotReloaded>>,
    },
    /// Go on as another binary.
    Upgrade {
        /// Where it lies; None: where the running one was started from.
        path: Option<String>,
        /// For the answer.
        reply: oneshot::Sender<Result<Upgraded, Refusal>>,
    },
    /// Tell what happened lately.
    Events {
        /// Only events with higher numbers.
        after: u64,
        /// For the answer.
        reply: oneshot::Sender<Events>,
    },
    /// The metrics page.
    Metrics {
        /// How it is to be written.
        format: Format,
        /// For the answer.
        reply: oneshot::Sender<String>,
    },
    /// May this node get traffic?
    Ready {
        /// For the answer.
        reply: oneshot::Sender<Result<(), NotReady>>,
    },
}

impl Command {
    /// A channel of commands: the sender for the API, the receiver for the controller.
    pub fn channel() -> (Commands, mpsc::Receiver<Self>) {
        mpsc::channel(WAITING_COMMANDS)
    }
}

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// Requests and tunnels still open on the instance; 0: it is drained.
    pub in_flight: u64,
    /// Tunnels and relays alone; a part of `in_flight`.
    pub tunnels: u64,
    /// How long was waited.
    pub waited: Duration,
}

impl From<DrainOutcome> for DrainAnswer {
    fn from(outcome: DrainOutcome) -> Self {
        let DrainOutcome { in_flight, tunnels, waited } = outcome;
        let requests = in_flight.saturating_sub(tunnels);
        let after = in_words(waited);
        let message = match (requests, tunnels) {
            (0, 0) => "drained".to_owned(),
            (_, 0) => format!("{} still in flight after {after}", counted(requests, "request")),
            (0, _) => format!("{} still open after {after}", counted(tunnels, "tunnel")),
            (_, _) => {
                let requests = counted(requests, "request");
                format!("{requests} still in flight and {} open after {after}", counted(tunnels, "tunnel"))
            }
        };
        Self { drained: in_flight == 0, in_flight, tunnels, message }
    }
}

fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Seconds when they are whole, else milliseconds.
fn in_words(duration: Duration) -> String {
    if duration.as_secs() >= 1 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// Why the controller does not do what it was told. `Display` is the one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing; the line names what there is.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done now, or not to this instance.
    #[error("{0}")]
    Conflict(String),
}

/// Why the node should get no traffic, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn message(requests: u64, tunnels: u64, waited: Duration) -> String {
        DrainAnswer::from(DrainOutcome { in_flight: requests + tunnels, tunnels, waited }).message
    }

    #[test]
    fn a_drain_is_reported_in_words() {
        assert_eq!(message(0, 0, Duration::from_secs(3)), "drained");
        assert_eq!(message(1, 0, Duration::from_secs(30)), "1 request still in flight after 30s");
        assert_eq!(message(7, 0, Duration::from_millis(250)), "7 requests still in flight after 250ms");
        assert_eq!(message(0, 1, Duration::from_secs(30)), "1 tunnel still open after 30s");
        let both = "1 request still in flight and 12 tunnels open after 30s";
        assert_eq!(message(1, 12, Duration::from_secs(30)), both);
    }
}
