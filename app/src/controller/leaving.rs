//! Another configuration for the controller: what both have keeps everything that is known of it, what is new begins,
//! and what was removed leaves in order.
//!
//! ```text
//!   instance:  Serves ── another one takes requests, or drain.time ──▶ Finishes ── acknowledged, and nothing in flight
//!              (so that its service is not without one)                (no new ones)      or drain.time ──▶ out, stopped
//!   service:   leaves (no route of a listener that stays leads to it) ── acknowledged, and nothing in its custody
//!                                                          or drain.time ──▶ out of the table ── acknowledged ──▶ stopped
//!   listener:  Leaves (each answer is its connection's last) ── drain.time ──▶ Gone (idle connections are closed)
//! ```
//!
//! "Acknowledged": no data-plane thread can choose by an older table any more. Until then nothing is stopped, however long
//! that takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use everup_core::config::{self, Config};
use everup_core::ids::{Generation, InstanceId};
use everup_core::reload::pair_listeners;
use everup_core::time::Time;
use everup_gateway::{Availability, Connector, Snapshot, Stay};

use super::{Controller, Output, watch};
use crate::clock::Now;
use crate::notes::Notes;
use crate::service::{Instance, Leaving, Service};

/// A listener at its place in the table, which it keeps: connections know theirs by the place.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its services are places in the controller's list.
    pub(crate) listener: config::Listener,
    pub(crate) stay: Stay,
    /// When it is gone for good, if it leaves.
    gone_at: Option<Time>,
}

impl Slot {
    pub(super) fn new(listener: config::Listener) -> Self {
        Self { listener, stay: Stay::Stays, gone_at: None }
    }

    fn is_of(&self, service: usize) -> bool {
        let config::Listener { service: own, routes, .. } = &self.listener;
        let mut all = routes.iter().map(|route| route.service).chain([*own]).flatten();
        all.any(|index| index == service)
    }

    /// Each answer is its connection's last.
    pub(super) fn leave(&mut self) {
        if self.stay == Stay::Stays {
            self.stay = Stay::Leaves;
        }
    }

    /// Nothing leads anywhere from here any more.
    fn close(&mut self) {
        (self.stay, self.gone_at) = (Stay::Gone, None);
        (self.listener.service, self.listener.routes) = (None, Vec::new());
    }

    /// Makes it name its services by their new places.
    fn renumber(&mut self, place: impl Fn(usize) -> Option<usize>) {
        let config::Listener { service, routes, .. } = &mut self.listener;
        let all = routes.iter_mut().map(|route| &mut route.service).chain([service]);
        all.for_each(|index| *index = index.and_then(&place));
    }
}

impl Controller {
    /// Where the listeners of another configuration would have their places, in their order.
    pub(crate) fn places_of(&self, old: &Config, new: &Config) -> Vec<usize> {
        let mut next = self.slots.len();
        let pairs = pair_listeners(&old.listeners, &new.listeners);
        let place = |before: Option<usize>| {
            before.map(|before| self.listeners[before]).unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        };
        pairs.before.into_iter().map(place).collect()
    }

    /// Changes from the configuration that runs to another one, whose services connect with `connectors`; the table that
    /// begins it. Instances that everup runs are the deployer's business, as long as their service stays.
    pub(crate) fn reload(
        &mut self,
        now: Now,
        old: &Config,
        new: &Config,
        connectors: Vec<Option<Arc<Connector>>>,
    ) -> Snapshot {
        let patience = self.patience();
        let places = self.places_of(old, new);
        self.take_services(now, new, connectors);
        for (place, listener) in places.iter().zip(&new.listeners) {
            match self.slots.get_mut(*place) {
                Some(slot) => *slot = Slot::new(listener.clone()),
                None => self.slots.push(Slot::new(listener.clone())),
            }
        }
        for removed in self.listeners.iter().filter(|place| !places.contains(place)) {
            let slot = &mut self.slots[*removed];
            (slot.stay, slot.gone_at) = (Stay::Leaves, Some(now.time + patience));
        }
        self.listeners = places;
        self.see_off(now);
        self.services.iter_mut().for_each(|service| service.note_takers(now.instant));
        (self.table_is_old, self.notes_are_old) = (false, true);
        self.next_table()
    }

    fn take_services(&mut self, now: Now, new: &Config, connectors: Vec<Option<Arc<Connector>>>) {
        let next = Generation(self.generation.0 + 1);
        let mut old = std::mem::take(&mut self.services);
        let names: Vec<Arc<str>> = old.iter().map(|service| Arc::clone(&service.settings.name)).collect();
        let mut services = Vec::new();
        let mut connectors = connectors.into_iter();
        for settings in &new.services {
            let connector = connectors.next().flatten();
            let known = old.iter().position(|service| service.settings.name == settings.name);
            let service = match known.map(|place| old.remove(place)) {
                Some(mut known) => {
                    let is_checked_anew = known.settings.health != settings.health
                        || known.settings.send_proxy != settings.send_proxy
                        || known.settings.tls != settings.tls;
                    known.connector = connector;
                    let came = known.resettle(settings, self.threads, now);
                    let to_watch = |one: &&Instance| is_checked_anew || came.contains(&one.id);
                    let watches =
                        known.instances.iter().filter(to_watch).filter_map(|one| watch(&known, one));
                    self.outputs.extend(watches.map(Output::Watch));
                    known
                }
                None => {
                    let mut service =
                        Service::new(settings.clone(), self.threads, &Notes::default(), now.wall);
                    service.connector = connector;
                    service.begin_outliers(now);
                    let watches = service.instances.iter().filter_map(|one| watch(&service, one));
                    self.outputs.extend(watches.map(Output::Watch));
                    service
                }
            };
            self.departing.retain(|(_, id)| !service.instances.iter().any(|instance| instance.id == *id));
            services.push(service);
        }
        for mut service in old {
            let until = now.time + service.settings.drain.time;
            service.leaves.get_or_insert((next, until));
            services.push(service);
        }
        self.set_services(&names, services);
    }

    /// Another list of services; `names`: those of the list before.
    fn set_services(&mut self, names: &[Arc<str>], services: Vec<Service>) {
        let places: HashMap<&str, usize> =
            services.iter().enumerate().map(|(place, service)| (&*service.settings.name, place)).collect();
        let place = |before: usize| names.get(before).and_then(|name| places.get(&**name)).copied();
        self.slots.iter_mut().for_each(|slot| slot.renumber(place));
        self.places = super::places(&services);
        self.services = services;
    }

    /// Something leaves: hand in [`super::Input::Tick`] every [`super::DRAIN_LOOK`].
    pub(crate) fn sees_off(&self) -> bool {
        let leaves = |service: &Service| {
            service.leaves.is_some() || service.instances.iter().any(|instance| instance.leaves.is_some())
        };
        !self.departing.is_empty()
            || self.services.iter().any(leaves)
            || self.slots.iter().any(|slot| slot.gone_at.is_some())
    }

    /// Looks how far those that leave have come.
    pub(super) fn see_off(&mut self, now: Now) {
        if !self.sees_off() {
            return;
        }
        let next = Generation(self.generation.0 + 1);
        for slot in self.slots.iter_mut().filter(|slot| slot.gone_at.is_some_and(|at| now.time >= at)) {
            slot.close();
            self.table_is_old = true;
        }
        for s in 0..self.services.len() {
            self.see_off_instances(now, s, next);
        }
        self.see_off_services(now, next);
        let acknowledged = self.acknowledged;
        for (_, id) in self.departing.extract_if(.., |(generation, _)| acknowledged >= *generation) {
            self.outputs.extend([Output::Unwatch(id.clone()), Output::Dismiss(id)]);
        }
    }

    fn see_off_instances(&mut self, now: Now, s: usize, next: Generation) {
        let service = &mut self.services[s];
        if service.instances.iter().all(|instance| instance.leaves.is_none()) {
            return;
        }
        let drain = service.settings.drain.time;
        let takes = |one: &Instance| one.leaves.is_none() && one.availability() == Availability::Takes;
        let has_others = service.instances.iter().any(takes);
        let mut out = Vec::new();
        for instance in &mut service.instances {
            match instance.leaves {
                Some(Leaving::Serves { until }) if has_others || now.time >= until => {
                    instance.leaves = Some(Leaving::Finishes { since: next, until: now.time + drain });
                    instance.since = now.wall;
                    self.table_is_old = true;
                }
                Some(Leaving::Finishes { since, until })
                    if self.acknowledged >= since
                        && (instance.left().in_flight == 0 || now.time >= until) =>
                {
                    out.push(instance.id.clone());
                }
                None | Some(Leaving::Serves { .. } | Leaving::Finishes { .. }) => {}
            }
        }
        if out.is_empty() {
            return;
        }
        service.instances.retain(|instance| !out.contains(&instance.id));
        service.begin_outliers(now);
        tell_left(&out, "no longer in the configuration: it has nothing to finish, or its time is over");
        self.outputs
            .extend(out.into_iter().flat_map(|id| [Output::Unwatch(id.clone()), Output::Dismiss(id)]));
        self.places = super::places(&self.services);
        self.table_is_old = true;
    }

    fn see_off_services(&mut self, now: Now, next: Generation) {
        let slots = &self.slots;
        let is_reached = |s: usize| slots.iter().any(|slot| slot.stay == Stay::Leaves && slot.is_of(s));
        let is_over = |(s, service): (usize, &Service)| {
            service.leaves.is_some_and(|(since, until)| {
                let holds = |instance: &Instance| instance.held.in_flight > 0;
                let is_idle = || {
                    service.shared.in_custody.total() == 0
                        && !service.instances.iter().any(holds)
                        && !is_reached(s)
                };
                self.acknowledged >= since && (now.time >= until || is_idle())
            })
        };
        let over: Vec<bool> = self.services.iter().enumerate().map(is_over).collect();
        if !over.contains(&true) {
            return;
        }
        let names: Vec<_> = self.services.iter().map(|service| Arc::clone(&service.settings.name)).collect();
        let mut kept = Vec::new();
        for (service, over) in std::mem::take(&mut self.services).into_iter().zip(over) {
            if over {
                tracing::info!(service = %service.settings.name, "no longer in the configuration: it is over");
                self.departing.extend(service.instances.into_iter().map(|instance| (next, instance.id)));
            } else {
                kept.push(service);
            }
        }
        self.set_services(&names, kept);
        self.table_is_old = true;
    }

    /// In the place of a controller that failed: connections still know their listeners by the places.
    pub(super) fn keep_slots(&mut self, old: Vec<Slot>, places: Vec<usize>) {
        let listeners: Vec<_> =
            std::mem::replace(&mut self.slots, old).into_iter().map(|slot| slot.listener).collect();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            match places.iter().position(|one| *one == place).and_then(|index| listeners.get(index)) {
                Some(listener) => *slot = Slot::new(listener.clone()),
                None => slot.close(),
            }
        }
        // It may have failed in the middle of a reload.
        self.listeners = places.into_iter().take(listeners.len()).collect();
        for listener in listeners.into_iter().skip(self.listeners.len()) {
            self.listeners.push(self.slots.len());
            self.slots.push(Slot::new(listener));
        }
    }

    /// The longest `drain.time`.
    pub(crate) fn patience(&self) -> Duration {
        self.services.iter().map(|service| service.settings.drain.time).max().unwrap_or_default()
    }
}

fn tell_left(ids: &[InstanceId], why: &str) {
    ids.iter().for_each(|id| tracing::info!(instance = %id, "{why}"));
}
