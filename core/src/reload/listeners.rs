//! Listeners: which of the old ones is which of the new ones, and how they differ.

use std::net::SocketAddr;

use super::{Change, Differs, Kind, Subject, When, listed};
use crate::config::{Config, Listener, Route};

/// Which listener became which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerPairs {
    /// For every new listener the old one that it was, if any. No old one stands here twice.
    pub before: Vec<Option<usize>>,
    /// The old ones that are gone.
    pub removed: Vec<usize>,
}

/// Finds listeners again: those that have the same addresses first, then those that share one.
pub fn pair_listeners(old: &[Listener], new: &[Listener]) -> ListenerPairs {
    let mut before = vec![None; new.len()];
    let mut taken = vec![false; old.len()];
    let same: fn(&Listener, &Listener) -> bool = |old, new| old.bind == new.bind;
    let akin: fn(&Listener, &Listener) -> bool =
        |old, new| old.bind.iter().any(|address| new.bind.contains(address));
    for fits in [same, akin] {
        for (new, before) in new.iter().zip(&mut before).filter(|(_, before)| before.is_none()) {
            let found = old.iter().enumerate().find(|(index, old)| !taken[*index] && fits(old, new));
            if let Some((index, _)) = found {
                taken[index] = true;
                *before = Some(index);
            }
        }
    }
    let removed = (0..old.len()).filter(|index| !taken[*index]).collect();
    ListenerPairs { before, removed }
}

pub(super) fn diff(old: &Config, new: &Config, changes: &mut Vec<Change>) {
    let pairs = pair_listeners(&old.listeners, &new.listeners);
    for index in pairs.removed {
        let listener = &old.listeners[index];
        changes.push(Change {
            subject: Subject::Listener(listed(&listener.bind)),
            kind: Kind::Removed,
            settings: Vec::new(),
            when: When::Now,
            closes_connections: true,
            effect: "its connections finish what they have: those that wait to be accepted are served, keep-alive ones are \
                     closed with their next answer, silent ones when the drain time is over; tunnels and relays go on"
                .to_owned(),
        });
    }
    for (after, before) in new.listeners.iter().zip(pairs.before) {
        match before {
            Some(before) => changed((&old.listeners[before], old), (after, new), changes),
            None => changes.push(Change {
                subject: Subject::Listener(listed(&after.bind)),
                kind: Kind::Added,
                settings: Vec::new(),
                when: When::Now,
                closes_connections: false,
                effect: "no connection is touched: its addresses are bound before anything else is changed"
                    .to_owned(),
            }),
        }
    }
}

fn changed(
    (old, in_old): (&Listener, &Config),
    (new, in_new): (&Listener, &Config),
    changes: &mut Vec<Change>,
) {
    let Listener { bind, protocol, accept_proxy, service, tls, client_ca, redirect, hsts, routes } = old;
    let subject = || Subject::Listener(listed(&new.bind));
    let mut addresses = Differs::new();
    addresses.look("bind", &sorted(bind), &sorted(&new.bind));
    let effect = "no connection is ended: new addresses are bound first, and of those that go, connections that wait are \
                  served and open ones stay with the listener";
    addresses.tell(subject(), When::Now, effect, changes);
    let mut connections = Differs::new();
    connections.look("protocol", protocol, &new.protocol);
    connections.look("accept_proxy", accept_proxy, &new.accept_proxy);
    let effect = "no connection is touched; holds for connections that begin";
    connections.tell(subject(), When::Now, effect, changes);
    let mut certificates = Differs::new();
    certificates.look("tls", tls, &new.tls);
    certificates.look("client_ca", client_ca, &new.client_ca);
    let effect = "no connection is touched; holds for handshakes that begin";
    certificates.tell(subject(), When::Now, effect, changes);
    let mut requests = Differs::new();
    requests.look("redirect", redirect, &new.redirect);
    requests.look("hsts", hsts, &new.hsts);
    let name = |config: &Config, index: Option<usize>| {
        index.and_then(|index| config.services.get(index)).map(|service| service.name.clone())
    };
    requests.look("service", &name(in_old, *service), &name(in_new, new.service));
    let routes_of = |routes: &[Route], config: &Config| -> Vec<_> {
        let named = |route: &Route| (Route { service: None, ..route.clone() }, name(config, route.service));
        routes.iter().map(named).collect()
    };
    requests.look("route", &routes_of(routes, in_old), &routes_of(&new.routes, in_new));
    let effect = "no connection is touched; holds from the next request of each on, also on open connections";
    requests.tell(subject(), When::Now, effect, changes);
}

fn sorted(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses
}
