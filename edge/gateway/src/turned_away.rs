//! Connections that are turned away before they are served: counted by reason, and told in the log now and then, for whoever
//! makes them may make very many.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same reason.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A balancer that must send a PROXY header sent none, or a malformed one.
    ProxyHeader,
    /// Its client has `limits.connections_per_client` already.
    PerClient,
    /// No TLS was agreed on, or its first message leads nowhere.
    Tls,
}

/// How many connections were turned away since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// For the lack of a valid PROXY header, from a peer of `accept_proxy`.
    pub proxy_header: u64,
    /// For `limits.connections_per_client`.
    pub per_client: u64,
    /// For a TLS handshake that failed, or a first message that leads nowhere.
    pub tls: u64,
}

/// The counters. Shared by all threads; touched only when a connection is turned away.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    proxy_header: Counter,
    per_client: Counter,
    tls: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    /// When it was last told, and how many it were then.
    told: Mutex<Option<(Instant, u64)>>,
}

impl Counters {
    pub(crate) fn count(&self, reason: Reason, peer: IpAddr, why: impl Display) {
        let counter = match reason {
            Reason::ProxyHeader => &self.proxy_header,
            Reason::PerClient => &self.per_client,
            Reason::Tls => &self.tls,
        };
        let count = counter.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = counter.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|(when, _)| when.elapsed() < QUIET_TIME) {
            return;
        }
        let before = told.replace((Instant::now(), count)).map_or(0, |(_, before)| before);
        drop(told);
        let more = count.saturating_sub(before + 1);
        tracing::warn!(%peer, more, "a connection was turned away: {why}");
    }

    pub(crate) fn so_far(&self) -> TurnedAway {
        TurnedAway {
            proxy_header: self.proxy_header.count.load(Ordering::Relaxed),
            per_client: self.per_client.count.load(Ordering::Relaxed),
            tls: self.tls.count.load(Ordering::Relaxed),
        }
    }
}
