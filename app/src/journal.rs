//! What happened lately, for people: the events of `GET /v1/events`. Found by comparing what is known of instances with
//! what was known at the last look, so that nobody who changes something needs to think of telling it. It decides
//! nothing and logs nothing.

use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use everup_admin::api::{Event, EventKind, Events, InstanceState};
use everup_core::calendar;
use everup_core::ids::{Generation, InstanceId};

use crate::service::{Instance, Service};

/// How many events are remembered: the last hours of a usual day, or a minute of a very bad one.
pub(crate) const REMEMBERED: usize = 512;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Journal {
    events: VecDeque<Event>,
    last: u64,
    /// What was known at the last look.
    known: HashMap<InstanceId, Known>,
    /// The table at the last look.
    generation: Generation,
}

/// What is compared of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    state: InstanceState,
    restarts: u32,
    weight: u32,
}

impl Journal {
    /// Begins with what is known now, and with a first event: `restarts` workers died before this one.
    pub(crate) fn new(services: &[Service], generation: Generation, restarts: u32, wall: SystemTime) -> Self {
        // Numbers grow from worker to worker: nobody has a million events per second.
        let micros = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let last = u64::try_from(micros).unwrap_or_default();
        let known = instances(services).map(|one| (one.id.clone(), known(one))).collect();
        let mut journal = Self { events: VecDeque::new(), last, known, generation };
        match restarts {
            0 => journal.of_everup(wall, EventKind::WorkerStarted, "everup serves".to_owned()),
            n => {
                let times = if n == 1 { "the first time".to_owned() } else { format!("{n} times by now") };
                let text = format!("a worker died and another one took its place ({times})");
                journal.of_everup(wall, EventKind::WorkerReplaced, text);
            }
        }
        journal
    }

    /// Notes what changed since the last look.
    pub(crate) fn look(&mut self, wall: SystemTime, generation: Generation, services: &[Service]) {
        self.generation = generation;
        for instance in instances(services) {
            let after = known(instance);
            match self.known.get_mut(&instance.id).map(|known| std::mem::replace(known, after)) {
                Some(before) if before != after => self.compare(wall, instance, before, after),
                Some(_) => {}
                None => drop(self.known.insert(instance.id.clone(), after)),
            }
        }
        if self.known.len() > instances(services).count() {
            self.known.retain(|id, _| instances(services).any(|instance| instance.id == *id));
        }
    }

    /// Notes a step of a deployment.
    pub(crate) fn of_deployment(&mut self, wall: SystemTime, service: &str, text: String) {
        self.note(wall, EventKind::Deployment, None, text);
        if let Some(event) = self.events.back_mut() {
            event.service = Some(service.to_owned());
        }
    }

    /// Notes what happened to everup itself.
    pub(crate) fn of_everup(&mut self, wall: SystemTime, kind: EventKind, text: String) {
        self.note(wall, kind, None, text);
    }

    /// The events with numbers above `after`. Whoever knows a number above all of them has it from another clock, and
    /// gets everything.
    pub(crate) fn after(&self, after: u64) -> Events {
        let after = if after > self.last { 0 } else { after };
        let events = self.events.iter().filter(|event| event.number > after).cloned().collect();
        Events { last: self.last, events }
    }

    fn compare(&mut self, wall: SystemTime, instance: &Instance, before: Known, after: Known) {
        let is_restarted = after.restarts > before.restarts;
        if is_restarted {
            let exit = instance.process.as_ref().and_then(|process| process.last_exit.as_ref());
            let text = match (before.state, exit) {
                // How it ended was told then.
                (InstanceState::Backoff | InstanceState::CrashLooping, _) | (_, None) => {
                    "started again".to_owned()
                }
                (_, Some(exit)) => format!("{exit}; started again"),
            };
            self.note(wall, EventKind::Restarted, Some(instance), text);
        }
        if before.weight != after.weight {
            let text = format!("has weight {} instead of {}", after.weight, before.weight);
            self.note(wall, EventKind::Weighed, Some(instance), text);
        }
        let is_told = is_restarted && after.state == InstanceState::Starting;
        if before.state != after.state && !is_told {
            let (kind, text) = in_words(before.state, after.state, &instance.reason());
            self.note(wall, kind, Some(instance), text);
        }
    }

    fn note(&mut self, wall: SystemTime, kind: EventKind, instance: Option<&Instance>, text: String) {
        self.last += 1;
        if self.events.len() == REMEMBERED {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            number: self.last,
            time: calendar::rfc_3339(wall.duration_since(UNIX_EPOCH).unwrap_or_default()),
            kind,
            service: instance.map(|instance| instance.id.service.to_string()),
            instance: instance.map(|instance| instance.id.instance.to_string()),
            table: self.generation.0,
            text,
        });
    }
}

fn instances(services: &[Service]) -> impl Iterator<Item = &Instance> {
    services.iter().flat_map(|service| &service.instances)
}

fn known(instance: &Instance) -> Known {
    let restarts = instance.process.as_ref().map_or(0, |process| process.restarts);
    Known { state: instance.state(), restarts, weight: instance.weight() }
}

/// An event that an instance came from one state into another.
fn in_words(before: InstanceState, after: InstanceState, reason: &str) -> (EventKind, String) {
    let with_reason =
        |word: &str| if reason.is_empty() { word.to_owned() } else { format!("{word}: {reason}") };
    match after {
        InstanceState::Up => match before {
            InstanceState::Ejected => (EventKind::Up, "up: ejected no more".to_owned()),
            InstanceState::Draining | InstanceState::Drained => {
                (EventKind::Up, "up: drained no more".to_owned())
            }
            InstanceState::Standby => (EventKind::Up, "up: gets requests".to_owned()),
            InstanceState::Up
            | InstanceState::Down
            | InstanceState::Unknown
            | InstanceState::Starting
            | InstanceState::Backoff
            | InstanceState::CrashLooping
            | InstanceState::Stopped => (EventKind::Up, "up".to_owned()),
        },
        InstanceState::Ejected => (EventKind::Ejected, with_reason("ejected")),
        InstanceState::Down => (EventKind::Down, with_reason("down")),
        InstanceState::Unknown => (EventKind::Unknown, "unknown until it is checked".to_owned()),
        InstanceState::Draining => (EventKind::Draining, with_reason("drains")),
        InstanceState::Drained => (EventKind::Drained, "drained: nothing is in flight".to_owned()),
        InstanceState::Standby => (EventKind::Standby, "up, without requests: see the deployment".to_owned()),
        InstanceState::Starting => (EventKind::Starting, "started".to_owned()),
        InstanceState::Backoff => {
            (EventKind::Backoff, format!("{}; waits before it is started again", ended(reason)))
        }
        InstanceState::CrashLooping => {
            (EventKind::CrashLooping, format!("{}, again and again", ended(reason)))
        }
        InstanceState::Stopped => (EventKind::Stopped, "stopped".to_owned()),
    }
}

fn ended(reason: &str) -> &str {
    if reason.is_empty() { "ended" } else { reason }
}

#[cfg(test)]
mod tests;
