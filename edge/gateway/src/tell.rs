//! Tells what became of a request once it is over: to the counters, to the access log and, if it went uncommon ways, to
//! the memory.

use std::time::{Duration, UNIX_EPOCH};

use everup_observe::NAME_BYTES;

use crate::access_log::Entry;
use crate::client::{Client, Incoming};
use crate::local::Local;
use crate::measure::{self, Example};
use crate::tale::{Phases, Verdict};
use crate::trail::{Note, Subject};

/// A request that a service has seen. `ended`: when the last byte of its answer was handed over.
pub(crate) fn over(local: &Local, client: &Client, incoming: &Incoming, ended: Duration) {
    let Incoming { service, trail, route, started, .. } = incoming;
    let took = ended.saturating_sub(*started);
    let shared = &service.shared;
    shared.statuses.cell(local.thread).count(trail.status);
    shared.latency.cell(local.thread).record(took);
    shared.durations.cell(local.thread).record(took);
    if let Some(route) = route {
        route.on_duration(local.thread, took);
        route.on_bytes(local.thread, trail.bytes_in, trail.bytes_out);
    }
    if let Some(log) = &*local.log() {
        log.write(&entry(local, client, incoming, ended, log.query));
    }
    if trail.is_remembered() || measure::is_slow(took, trail.status) {
        remember(local, client, incoming, ended);
    }
}

fn entry<'a>(
    local: &Local,
    client: &'a Client,
    incoming: &'a Incoming,
    ended: Duration,
    query: bool,
) -> Entry<'a> {
    let Incoming { service, trail, started, .. } = incoming;
    Entry {
        time: local.wall(*started),
        id: incoming.request_id(),
        client: &client.address,
        tls: client.tls_version(),
        note: incoming.note(query),
        listener: trail.listener,
        route: trail.route,
        service: Some(&service.settings.name),
        instance: trail.instance(),
        generation: trail.generation().0,
        attempts: trail.attempts(),
        status: trail.status,
        bytes_in: trail.bytes_in,
        bytes_out: trail.bytes_out,
        phases: trail.phases(*started, ended),
        verdict: trail.verdict(),
    }
}

/// Keeps the tale of a request that went uncommon ways, or was slow and is taken as an example of that.
fn remember(local: &Local, client: &Client, incoming: &Incoming, ended: Duration) {
    let Incoming { service, trail, route, started, .. } = incoming;
    let is_remembered = trail.is_remembered();
    let (id, wall) = (incoming.request_id(), local.wall(ended));
    if !is_remembered && (id.len() > NAME_BYTES || !local.has_room_for_slow(wall)) {
        return;
    }
    let example = Example { id, took: ended.saturating_sub(*started), wall, is_remembered };
    let durations = &service.shared.durations;
    let is_example =
        route.as_ref().is_some_and(|route| measure::take_example(local.thread, route, durations, example));
    if is_remembered || is_example {
        let subject = Subject {
            id,
            client: &client.address,
            note: incoming.note(false),
            service: &service.settings.name,
            started: *started,
            ended,
        };
        local.remember.remember(trail.tale(subject, UNIX_EPOCH + local.wall(*started)));
    }
}

/// A request that no service has seen: malformed, too large, or without a route.
pub(crate) fn refused(local: &Local, client: &Client, asked: Option<Note<'_>>, status: u16, sent: u64) {
    let log = local.log();
    let Some(log) = &*log else { return };
    log.write(&Entry {
        time: local.wall(local.now()),
        id: "",
        client: &client.address,
        tls: client.tls_version(),
        note: asked.unwrap_or_default(),
        listener: client.listener,
        route: None,
        service: None,
        instance: None,
        generation: local.generation().0,
        attempts: 0,
        status,
        bytes_in: 0,
        bytes_out: sent,
        phases: Phases::default(),
        verdict: Verdict::Refused,
    });
}
