//! What the API says of upgrades. Part of [`crate::api`].

use serde::{Deserialize, Serialize};

/// everup goes on as another binary: `POST /v1/upgrade`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The version that it was.
    pub from: String,
    /// The version that it is.
    pub to: String,
    /// Process id of the keeper: the same as before.
    pub keeper_pid: u32,
    /// Process id of the worker that serves now.
    pub worker_pid: u32,
    /// Client connections that have gone over to it.
    pub moved: Moved,
    /// The worker that served until then, and what it still has.
    pub left: LeavingWorker,
}

/// Client connections that changed their process, and did not notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// HTTP connections between two requests.
    pub idle: u64,
    /// Connections of tcp and tls-passthrough listeners.
    pub relays: u64,
    /// Connections that were upgraded to anything but WebSocket.
    pub tunnels: u64,
    /// WebSockets.
    pub websockets: u64,
}

/// A worker of before an upgrade, which finishes what it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeavingWorker {
    /// Its process id.
    pub pid: u32,
    /// The version of everup that it is.
    pub version: String,
    /// Client connections that it has.
    pub connections: u64,
    /// Requests that it answers, or that wait in it for an instance.
    pub in_flight: u64,
    /// Upgraded (WebSocket) and TCP connections that go through it.
    pub tunnels: u64,
    /// Then it ends, whatever it has.
    pub ends_in_seconds: f64,
}
