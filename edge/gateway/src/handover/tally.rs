//! Connections counted by their kind. Written per connection, read by whoever shows them.

use std::sync::atomic::{AtomicU64, Ordering};

use everup_core::handover::Kind;

/// Connections by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// HTTP connections between two requests.
    pub idle: u64,
    /// Relays of tcp and tls-passthrough listeners.
    pub relays: u64,
    /// Tunnels after an upgrade to anything but WebSocket.
    pub tunnels: u64,
    /// WebSockets.
    pub websockets: u64,
}

impl Kinds {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { idle, relays, tunnels, websockets } = self;
        idle + relays + tunnels + websockets
    }
}

/// [`Kinds`] that many threads count.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; 4]);

impl Tally {
    pub(crate) fn add(&self, kind: Kind) {
        self.of(kind).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, kind: Kind) {
        self.of(kind).fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn kinds(&self) -> Kinds {
        let [idle, relays, tunnels, websockets] = self.0.each_ref().map(|one| one.load(Ordering::Relaxed));
        Kinds { idle, relays, tunnels, websockets }
    }

    fn of(&self, kind: Kind) -> &AtomicU64 {
        let place = match kind {
            Kind::Idle => 0,
            Kind::Relay => 1,
            Kind::Tunnel => 2,
            Kind::Websocket => 3,
        };
        &self.0[place]
    }
}
