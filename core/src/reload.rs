//! What a reload changes: the running configuration beside a new one, as a list of changes, each with what it means for
//! connections and why. `everup plan` shows the list; what the list does not name is the same in both and is not
//! touched.
//!
//! Things are recognised by what an operator would call the same: a service by its name, an instance by its name (a
//! fixed one by its address), a listener by an address that it keeps. Where they stand in the file means nothing, but
//! for routes, which are tried in order.
//!
//! Not every change can be made while everup runs. What a process was started with (`run`) belongs to its revision
//! and a few settings of `[node]` are used before anything else: both wait for a restart. Until then
//! the old value holds: [`effective`] is the configuration that really runs after a reload.
//!
//! Nothing is done here: the keeper binds and closes sockets, `app` and `edge/gateway` do the rest.

mod listeners;
mod services;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::{AccessLog, Config, Limits, Node, Trace};

pub use listeners::{ListenerPairs, pair_listeners};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What differs.
    pub subject: Subject,
    /// How.
    pub kind: Kind,
    /// Which of its settings, as the file spells them; empty when all of it came or went.
    pub settings: Vec<String>,
    /// When it takes effect.
    pub when: When,
    /// It ends client connections that would have lived on.
    pub closes_connections: bool,
    /// What it means for connections and requests, and why, in one line.
    pub effect: String,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// `[node]`.
    Node,
    /// `[access_log]`.
    AccessLog,
    /// `[trace]`.
    Trace,
    /// `[limits]`.
    Limits,
    /// A `[[listener]]`, by its addresses.
    Listener(String),
    /// A `[service.NAME]`.
    Service(String),
    /// An instance: of which service, and its name.
    Instance(String, String),
}

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays and has other settings.
    Changed,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// With the reload.
    Now,
    /// When everup is started anew; until then the old value holds.
    Restart,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::AccessLog => f.write_str("access log"),
            Self::Trace => f.write_str("trace"),
            Self::Limits => f.write_str("limits"),
            Self::Listener(addresses) => write!(f, "listener {addresses}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Instance(service, name) => write!(f, "instance {service}/{name}"),
        }
    }
}

/// One line: `service shop: balance changed`.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.kind {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Changed => "changed",
        };
        match self.settings.is_empty() {
            true => write!(f, "{}: {word}", self.subject)?,
            false => write!(f, "{}: {} {word}", self.subject, self.settings.join(", "))?,
        }
        match self.when {
            When::Now => Ok(()),
            When::Restart => f.write_str(" (waits for a restart)"),
        }
    }
}

/// Every difference between what runs and what is to run, in a fixed order; none if they mean the same.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    node(&old.node, &new.node, &mut changes);
    access_log(&old.access_log, &new.access_log, &mut changes);
    trace(&old.trace, &new.trace, &mut changes);
    limits(&old.limits, &new.limits, &mut changes);
    listeners::diff(old, new, &mut changes);
    services::diff(&old.services, &new.services, &mut changes);
    changes
}

/// What runs after a reload: the new configuration, but for what waits for a restart.
pub fn effective(old: &Config, new: &Config) -> Config {
    let mut effective = new.clone();
    let Node { name: _, state, admin, metrics: _, threads, user, io_uring, watchdog: _ } =
        &mut effective.node;
    state.clone_from(&old.node.state);
    admin.clone_from(&old.node.admin);
    threads.clone_from(&old.node.threads);
    user.clone_from(&old.node.user);
    *io_uring = old.node.io_uring;
    for service in &mut effective.services {
        if let Some(before) = old.services.iter().find(|before| before.name == service.name) {
            services::keep_revision(before, service);
        }
    }
    effective
}

/// The settings of one kind that differ, as one change.
pub(crate) struct Differs<'a> {
    settings: Vec<&'a str>,
}

impl<'a> Differs<'a> {
    pub(crate) fn new() -> Self {
        Self { settings: Vec::new() }
    }

    pub(crate) fn look<T: PartialEq>(&mut self, name: &'a str, old: &T, new: &T) {
        if old != new {
            self.settings.push(name);
        }
    }

    /// Tells what was found, if anything was.
    pub(crate) fn tell(self, subject: Subject, when: When, effect: &str, changes: &mut Vec<Change>) {
        if !self.settings.is_empty() {
            changes.push(Change {
                subject,
                kind: Kind::Changed,
                settings: self.settings.into_iter().map(str::to_owned).collect(),
                when,
                closes_connections: false,
                effect: effect.to_owned(),
            });
        }
    }
}

fn node(old: &Node, new: &Node, changes: &mut Vec<Change>) {
    let Node { name, state, admin, metrics, threads, user, io_uring, watchdog } = old;
    let mut now = Differs::new();
    now.look("name", name, &new.name);
    now.look("metrics", metrics, &new.metrics);
    now.look("watchdog", watchdog, &new.watchdog);
    now.tell(Subject::Node, When::Now, "no client connection is touched", changes);
    let mut later = Differs::new();
    later.look("state", state, &new.state);
    later.look("admin", admin, &new.admin);
    later.look("threads", threads, &new.threads);
    later.look("user", user, &new.user);
    later.look("io_uring", io_uring, &new.io_uring);
    let effect =
        "nothing is touched: everup uses these before anything else, so they hold from its next start on";
    later.tell(Subject::Node, When::Restart, effect, changes);
}

fn access_log(old: &AccessLog, new: &AccessLog, changes: &mut Vec<Change>) {
    let AccessLog { to, query } = old;
    let mut differs = Differs::new();
    differs.look("to", to, &new.to);
    differs.look("query", query, &new.query);
    let effect = "no connection is touched; every request is in the old log or in the new one";
    differs.tell(Subject::AccessLog, When::Now, effect, changes);
}

fn trace(old: &Trace, new: &Trace, changes: &mut Vec<Change>) {
    let Trace { parent } = old;
    let mut differs = Differs::new();
    differs.look("parent", parent, &new.parent);
    differs.tell(
        Subject::Trace,
        When::Now,
        "no connection is touched; holds for requests that begin",
        changes,
    );
}

fn limits(old: &Limits, new: &Limits, changes: &mut Vec<Change>) {
    let mut differs = Differs::new();
    limit_fields(old, new, &mut differs);
    let effect =
        "no connection is ended: requests and connections that begin from now on obey the new limits";
    differs.tell(Subject::Limits, When::Now, effect, changes);
}

fn limit_fields(old: &Limits, new: &Limits, differs: &mut Differs<'_>) {
    let Limits {
        head_bytes,
        head_time,
        body_bytes,
        body_rate,
        answer_rate,
        connections,
        connections_per_client,
        handshakes,
    } = old;
    differs.look("head_bytes", head_bytes, &new.head_bytes);
    differs.look("head_time", head_time, &new.head_time);
    differs.look("body_bytes", body_bytes, &new.body_bytes);
    differs.look("body_rate", body_rate, &new.body_rate);
    differs.look("answer_rate", answer_rate, &new.answer_rate);
    differs.look("connections", connections, &new.connections);
    differs.look("handshakes", handshakes, &new.handshakes);
    differs.look("connections_per_client", connections_per_client, &new.connections_per_client);
}

/// Addresses as a name for what listens at them.
fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
