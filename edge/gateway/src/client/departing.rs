//! A client's connection that goes to another worker between two requests, or comes from one.

use std::time::Duration;

use everup_core::handover::{Idle, Kind, What};
use everup_core::proxy_protocol::Ends;

use super::Client;
use crate::handover::leaving::{self, Facts, Left, Turn};
use crate::local::Local;
use crate::per_client::Entry;
use crate::stream::Stream;

impl Client {
    /// A connection that another worker has served, with what it has read and nobody has looked at. `idle`, of http only:
    /// whether it has sent a request before, and how long it may be idle.
    pub(crate) fn arrived(
        local: &Local,
        stream: Stream,
        facts: Facts,
        held: Vec<u8>,
        idle: Option<(bool, Duration)>,
    ) -> Self {
        let Facts { listener, peer, source, destination } = facts;
        let mut client = Self::new(local, stream, listener, peer);
        if let Some(destination) = destination {
            client.set_ends(Ends { source, destination });
        }
        client.carry = held;
        (client.served, client.idle) = idle.unwrap_or((true, client.idle));
        // It has its place already: a client that has too many is told when it comes with another one.
        if let Some(per_client) = local.shared.per_client() {
            client._place = match per_client.enter(client.source.ip()) {
                Entry::Admitted(place) | Entry::TooMany(place) => Some(place),
                Entry::FarTooMany => None,
            };
        }
        client
    }

    /// Who it is.
    pub(crate) fn facts(&self) -> Facts {
        let destination = self.told.as_ref().and_then(|told| told.destination);
        Facts { listener: self.listener, peer: self.peer, source: self.source, destination }
    }

    /// Its turn, if it can leave now and has not to wait.
    pub(super) fn turn_to_leave(&self, local: &Local) -> Option<Box<Turn>> {
        let may_move = !self.is_secure() && !self.watch.stays();
        if may_move { Turn::now(local).map(Box::new) } else { None }
    }

    /// Offers it to the other worker, with all that was read and nobody has looked at.
    pub(super) async fn leave(&mut self, local: &Local, turn: Box<Turn>) -> Left {
        // The last answer has to be out: what is left of it here is nothing that could be sent along.
        self.settle(local).await;
        if !self.stream.is_flushed() || !self.stream.may_move() {
            // It is about to end.
            leaving::stays(local, &self.watch, Kind::Idle);
            return Left::Stays;
        }
        self.stream.take_received(&mut self.carry);
        let idle_ms = u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
        let what = What::Idle(Idle { served: self.served, idle_ms });
        let (facts, held) = (self.facts(), self.carry.clone());
        turn.offer((local, &self.watch), facts, (Kind::Idle, what), held, &[&self.stream]).await
    }
}
