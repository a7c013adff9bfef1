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
    /// What it counted and learned until it yielded: a [`Bequest`] as JSON, in the file whose descriptor travels along.
    Bequest,
    /// A line on which its connections come travels along: [`crate::handover`].
    Connections,
}

/// What a worker counted and learned, beside what stands in the notes. Counters go on from there; users stay where they
/// are. Later versions may add to it, and what is missing begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bequest {
    /// Of its services.
    pub services: Vec<ServiceBequest>,
}

/// What was counted and learned of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceBequest {
    /// Its name.
    pub name: String,
    /// Requests that were taken on.
    pub requests: u64,
    /// Those that everup answered itself with 5xx.
    pub errors: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Answers by the first digit of their status, from 1xx on.
    pub statuses: [u64; 5],
    /// WebSockets that everup ended, with a Close and without.
    pub farewells: [u64; 2],
    /// Users who are not where their address or header draws them, and where they are: [`crate::affinity::Homes`].
    pub displaced: Vec<(u64, u64)>,
    /// Sessions of the application, by its cookie, and where they are.
    pub learned: Vec<(u64, u64)>,
    /// Of its instances.
    pub instances: Vec<InstanceBequest>,
}

/// What was counted of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceBequest {
    /// Its name.
    pub name: String,
    /// Attempts that were sent to it.
    pub requests: u64,
    /// Attempts that ended without an answer.
    pub failures: u64,
    /// How it answered: well, with 5xx, not at all.
    pub answers: [u64; 3],
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
