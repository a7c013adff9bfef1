//! Tells what became of a request once it is over: to the counters, to the access log and, if it went uncommon ways, to
//! the memory.

use std::time::{Duration, UNIX_EPOCH};

use crate::access_log::Entry;
use crate::client::{Client, Incoming};
use crate::local::Local;
use crate::tale::{Phases, Verdict};
use crate::trail::{Note, Subject};

/// A request that a service has seen. `ended`: when the last byte of its answer was handed over.
pub(crate) fn over(local: &Local, client: &Client, incoming: &mut Incoming, ended: Duration) {
    let service = std::rc::Rc::clone(&incoming.service);
    service.shared.statuses.cell(local.thread).count(incoming.trail.status);
    let is_remembered = incoming.trail.is_remembered();
    if local.log().is_none() && !is_remembered {
        return;
    }
    let started = incoming.started;
    if let Some(log) = &*local.log() {
        let trail = &incoming.trail;
        log.write(&Entry {
            time: local.wall(started),
            id: incoming.request_id(),
            client: &client.address,
            note: &trail.note,
            listener: trail.listener,
            route: trail.route,
            service: Some(&service.settings.name),
            instance: trail.instance(),
            generation: trail.generation().0,
            attempts: trail.attempts(),
            status: trail.status,
            bytes_in: trail.bytes_in,
            bytes_out: trail.bytes_out,
            phases: trail.phases(started, ended),
            verdict: trail.verdict(),
        });
    }
    if is_remembered {
        let id = incoming.request_id().to_owned();
        let (client, service) = (&*client.address, &*service.settings.name);
        let subject = Subject { id: &id, client, service, started, ended };
        local.remember.remember(incoming.trail.tale(subject, UNIX_EPOCH + local.wall(started)));
    }
}

/// A request that no service has seen: malformed, too large, or without a route.
pub(crate) fn refused(local: &Local, client: &Client, asked: Option<&Note>, status: u16, sent: u64) {
    let log = local.log();
    let Some(log) = &*log else { return };
    let unknown = Note::default();
    log.write(&Entry {
        time: local.wall(local.now()),
        id: "",
        client: &client.address,
        note: asked.unwrap_or(&unknown),
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
