//! Deployments in words: what a step does, and what `everup plan` says before anything is done.

use std::time::Duration;

use super::record::{Deployment, Held, Outcome, Stage};
use super::strategy::{Recipe, Step};
use crate::config::{Check, Service};

/// What a deployment would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its steps, in order.
    pub steps: Vec<String>,
    /// At least so long, if nothing takes time but what the settings say.
    pub at_least: Duration,
    /// The most processes at a time.
    pub processes: usize,
    /// Why requests may be lost or wait; empty: zero-downtime.
    pub doubts: Vec<String>,
    /// What a rollback takes.
    pub rollback: String,
}

impl Plan {
    /// The plan for this service.
    pub fn new(service: &Service, replicas: usize, from: &str, to: &str) -> Self {
        let recipe = Recipe::new(&service.deploy, replicas);
        let steps = recipe.steps.iter().enumerate().map(|(at, _)| recipe.in_words(at, from, to)).collect();
        let rollback = match recipe.keeps {
            true => {
                format!("at once, while the instances of {from} are kept; later by deploying {from} again")
            }
            false => format!("{from} is started again, instance by instance, before {to} ends"),
        };
        Self {
            steps,
            at_least: recipe.at_least(),
            processes: recipe.most_processes(),
            doubts: doubts(service, &recipe),
            rollback,
        }
    }
}

/// Why it may not be without a lost or late request.
fn doubts(service: &Service, recipe: &Recipe) -> Vec<String> {
    let mut doubts = Vec::new();
    if matches!(service.health.check, Check::Tcp) {
        doubts.push(
            "the health check only connects (`tcp`): a version that listens before it can answer looks healthy"
                .to_owned(),
        );
    }
    if recipe.unavailable >= recipe.replicas {
        doubts.push("`max_unavailable` allows every instance to be missing at once".to_owned());
    }
    if service.drain.time < service.timeout.request {
        doubts.push(format!(
            "a request may take {} (`timeout.request`), but an instance that leaves waits only {} (`drain.time`)",
            lasting(service.timeout.request),
            lasting(service.drain.time),
        ));
    }
    doubts
}

impl Recipe {
    /// A step, as a colleague would say it.
    pub fn in_words(&self, at: usize, from: &str, to: &str) -> String {
        let steps = &self.steps;
        let before = |wanted: fn(&Step) -> Option<usize>| {
            steps[..at.min(steps.len())].iter().rev().find_map(wanted).unwrap_or(0)
        };
        let started = |step: &Step| if let Step::Start { target } = step { Some(*target) } else { None };
        match steps.get(at) {
            Some(Step::Start { target }) => format!("start {}", instances(before(started), *target, to)),
            Some(Step::Verify) => format!(
                "wait until they are up for {}, at most {}",
                lasting(self.min_healthy),
                lasting(self.start_timeout + self.min_healthy)
            ),
            Some(Step::Approve) => "wait for `everup promote`".to_owned(),
            Some(Step::Hook { hook }) => self.hooks.in_words(*hook, to),
            Some(Step::Shift { admitted, retired }) => {
                let (had, lacked) = steps[..at].iter().rev().find_map(shifted).unwrap_or((0, 0));
                shift(instances(had, *admitted, to), instances(lacked, *retired, from))
            }
            Some(Step::Drain) if self.keeps => {
                format!("wait until they have no requests left; keep the processes of {from}")
            }
            Some(Step::Drain) => "wait until they have no requests left, and end them".to_owned(),
            Some(Step::Rest { time }) => format!("watch it serve for {}", lasting(*time)),
            Some(Step::Commit) => format!("{to} is the service's revision"),
            Some(Step::Keep { time }) => {
                format!("keep {from} without requests for {}, for a rollback", lasting(*time))
            }
            Some(Step::End) => format!("end what is left of {from}"),
            None => "over".to_owned(),
        }
    }

    fn at_least(&self) -> Duration {
        let time = |step: &Step| match step {
            Step::Verify => self.min_healthy,
            Step::Rest { time } => *time,
            Step::Start { .. }
            | Step::Approve
            | Step::Hook { .. }
            | Step::Shift { .. }
            | Step::Drain
            | Step::Commit
            | Step::Keep { .. }
            | Step::End => Duration::ZERO,
        };
        self.steps.iter().map(time).sum()
    }

    fn most_processes(&self) -> usize {
        let (mut old, mut new, mut retired, mut most) = (self.replicas, 0, 0, self.replicas);
        for step in &self.steps {
            match step {
                Step::Start { target } => new = *target,
                Step::Shift { retired: now, .. } => retired = *now,
                Step::Drain if !self.keeps => old = self.replicas - retired,
                Step::Drain
                | Step::Verify
                | Step::Approve
                | Step::Hook { .. }
                | Step::Rest { .. }
                | Step::Commit
                | Step::Keep { .. }
                | Step::End => {}
            }
            most = most.max(old + new);
        }
        most
    }
}

fn shifted(step: &Step) -> Option<(usize, usize)> {
    if let Step::Shift { admitted, retired } = step { Some((*admitted, *retired)) } else { None }
}

fn shift(new: String, old: String) -> String {
    match (new.as_str(), old.as_str()) {
        ("", "") => "change nothing".to_owned(),
        (new, "") => format!("give {new} requests"),
        ("", old) => format!("give {old} no more requests, and wait until every thread knows"),
        (new, old) => format!("give {new} the requests of {old}, and wait until every thread knows"),
    }
}

/// `1 to 3 of v2`; empty if there are none.
fn instances(after: usize, last: usize, revision: &str) -> String {
    match last.saturating_sub(after) {
        0 => String::new(),
        1 => format!("instance {last} of {revision}"),
        _ => format!("instances {} to {last} of {revision}", after + 1),
    }
}

/// As people write it.
pub(super) fn lasting(time: Duration) -> String {
    let millis = time.as_millis();
    let whole = |unit: u128| (millis >= unit && millis.is_multiple_of(unit)).then(|| millis / unit);
    if let Some(hours) = whole(3_600_000) {
        return format!("{hours} h");
    }
    if let Some(minutes) = whole(60_000) {
        return format!("{minutes} min");
    }
    match millis {
        1..1000 => format!("{millis} ms"),
        _ => format!("{} s", time.as_secs_f64()),
    }
}

impl Deployment {
    /// What it is at, or how it ended.
    pub fn in_words(&self) -> String {
        let Self { from, to, recipe, at, .. } = self;
        match &self.stage {
            Stage::Ended(Outcome::Done) => format!("done: {to} serves"),
            Stage::Ended(Outcome::RolledBack(cause)) => format!("rolled back to {from}: {cause}"),
            Stage::Back(back) => match &self.held {
                Some(held) => format!("held on the way back to {from}: {}", held.in_words()),
                None => format!("goes back to {from}: {}", back.cause),
            },
            Stage::Forward => match &self.held {
                Some(held) => format!("held: {}", held.in_words()),
                None if self.paused => format!("paused before: {}", recipe.in_words(at + 1, from, to)),
                None => recipe.in_words(*at, from, to),
            },
        }
    }
}

impl Held {
    /// Why, and what can be done.
    pub fn in_words(&self) -> String {
        match self {
            Self::Environment(what) => {
                format!("{what}; the old revision fails too, so going back would not help")
            }
            Self::Failed(what) => format!("{what}; on_fail = \"hold\""),
            Self::Hook(what) => what.clone(),
            Self::Unacknowledged => "not every thread uses the newest table yet".to_owned(),
            Self::OldDown(what) => format!("{what}; the new revision keeps the requests it can take"),
        }
    }
}
