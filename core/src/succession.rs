//! What a worker that leaves after an upgrade and its successor say to each other, on a line of their own (`edge/link`
//! carries it; the keeper made it and reads nothing of it).
//!
//! The old worker still has requests and connections that nobody could take from it. So an instance is free only when it
//! has nothing to do with it either, and a table is obeyed only when the old worker's threads go by it, too: whoever stops an
//! instance asks both. When the line ends, the old worker is gone, and nothing is left to ask it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, InstanceId};

/// From the worker that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSuccessor {
    /// All that it still has. Replaces what it said before.
    Holds(Holds),
}

/// What a worker that leaves still has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The newest of its successor's tables that all its threads go by. What follows was counted after that.
    pub generation: Generation,
    /// Client connections.
    pub connections: u64,
    /// In so many milliseconds it ends, whatever it has.
    pub ends_in_ms: u64,
    /// Instances on which something of it is in flight.
    pub instances: Vec<Held>,
    /// Its requests that wait for an instance.
    pub waiting: u64,
}

/// What a worker that leaves has in flight on one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which one.
    pub id: InstanceId,
    /// Requests, tunnels and relays.
    pub in_flight: u32,
    /// Tunnels and relays alone.
    pub tunnels: u32,
}

/// From its successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToPredecessor {
    /// It serves. (The keeper says so too; this is for when the keeper dies before it does.)
    Serves,
    /// By this table only these instances get requests.
    Takes {
        /// The successor's number of it.
        generation: Generation,
        /// Instances, and where they listen.
        takers: Vec<(InstanceId, SocketAddr)>,
    },
}

/// More instances do not fit into one message. Then the old worker is told nothing, and what its successor wants to stop waits
/// until it has ended.
pub const TAKERS: usize = 2_000;
