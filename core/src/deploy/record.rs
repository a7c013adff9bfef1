//! What is stored of a service's revisions and of a deployment. It is all that a worker needs to go on where another
//! one stopped, and it says what there should be ([`Row::wanted`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hooks::{HookRun, Pending};
use super::lock::Lock;
use super::slot::Slot;
use super::strategy::{Recipe, Step};
use crate::config::{REPLICAS, is_revision};
use crate::time::Time;

/// More happens only when something goes wrong again and again; the oldest are then left out.
const EVENTS: usize = 200;

/// One service. `Time` counts from 1970 here: it outlives the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Grows with every change.
    pub version: u64,
    /// The revision that the service began with: its instances are named without it.
    pub first: Arc<str>,
    /// The revision that is the service's own.
    pub stable: Arc<str>,
    /// The one before, which `rollback` goes to.
    pub previous: Option<Arc<str>>,
    /// The last deployment, also if it has ended.
    pub deployment: Option<Deployment>,
    /// No deployment may begin.
    #[serde(default)]
    pub lock: Option<Lock>,
}

/// One deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Unique, and later ones sort after earlier ones.
    pub id: String,
    /// The revision it replaces.
    pub from: Arc<str>,
    /// The one it brings.
    pub to: Arc<str>,
    /// Who asked.
    pub by: String,
    /// Why, if that was said.
    pub reason: String,
    /// When it began.
    pub began: Time,
    /// When it ended; meaningful with [`Stage::Ended`].
    pub ended: Time,
    /// What it does.
    pub recipe: Recipe,
    /// The step it is at.
    pub at: usize,
    /// Since when.
    pub since: Time,
    /// New instances up to this one have processes.
    pub target: usize,
    /// New instances up to this one take requests.
    pub admitted: usize,
    /// Old instances up to this one take none.
    pub retired: usize,
    /// The new revision is the service's own.
    pub committed: bool,
    /// What was the service's previous revision before that.
    pub before: Option<Arc<str>>,
    /// The operator allowed it, or wants no more waiting at this step.
    pub promoted: bool,
    /// The operator paused it.
    pub paused: bool,
    /// It does not go on by itself, and why.
    pub held: Option<Held>,
    /// Where it is on the whole.
    pub stage: Stage,
    /// What happened, oldest first.
    pub events: Vec<Event>,
    /// The last lines of the instance that failed.
    pub log: Vec<String>,
    /// The hook that it is at.
    #[serde(default)]
    pub hook: Option<Pending>,
    /// The hooks that were run, oldest first.
    #[serde(default)]
    pub hook_runs: Vec<HookRun>,
}

/// Where a deployment is on the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It follows its recipe.
    Forward,
    /// The old revision gets everything back.
    Back(Back),
    /// It is over.
    Ended(Outcome),
}

/// On the way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// Why, in words.
    pub cause: String,
    /// Since when.
    pub since: Time,
}

/// How a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The new revision serves, alone.
    Done,
    /// The old one does, for this reason.
    RolledBack(String),
}

/// Why a deployment does not go on by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// The new revision failed and so does the old one: going back would not help.
    Environment(String),
    /// The new revision failed, and `on_fail` is `hold`.
    Failed(String),
    /// A hook failed after which nobody but the operator can tell what is right, or nobody knows how far it came.
    Hook(String),
    /// A data-plane thread does not acknowledge a table. It goes on as soon as it does.
    Unacknowledged,
    /// On the way back the old instances do not come up, and the new ones are needed. It goes on as soon as they do.
    OldDown(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Time,
    /// What, in words.
    pub text: String,
    /// The numbers that it rests on; empty if it was just ordered.
    #[serde(default)]
    pub because: String,
}

impl Row {
    /// A service that begins with this revision.
    pub fn new(first: impl Into<Arc<str>>) -> Self {
        let first = first.into();
        Self { version: 0, stable: Arc::clone(&first), first, previous: None, deployment: None, lock: None }
    }

    /// Whether it can be gone by: it was read from a file, and files can be damaged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { version: _, first, stable, previous, deployment, lock: _ } = self;
        if ![first, stable].into_iter().chain(previous).all(|name| is_revision(name)) {
            return Err("something that is no revision");
        }
        deployment.as_ref().map_or(Ok(()), Deployment::check)
    }

    /// The deployment that is under way, also if all it has to do is to end the old instances.
    pub fn active(&self) -> Option<&Deployment> {
        self.deployment.as_ref().filter(|deployment| deployment.is_active())
    }

    /// Every process that there should be, and whether it takes requests. `replicas` holds while nothing is deployed.
    pub fn wanted(&self, replicas: usize) -> BTreeMap<Slot, bool> {
        let Some(deployment) = self.active() else {
            return (1..=replicas).map(|number| (Slot::new(&self.stable, number), true)).collect();
        };
        let Deployment { from, to, recipe, target, admitted, retired, .. } = deployment;
        let keeps = recipe.keeps && deployment.step() != Some(&Step::End);
        let old = (1..=recipe.replicas).map(|number| (Slot::new(from, number), number > *retired));
        let old = old.filter(|(_, takes)| *takes || keeps);
        let new = (1..=*target.max(admitted)).map(|number| (Slot::new(to, number), number <= *admitted));
        old.chain(new).collect()
    }
}

impl Deployment {
    /// Whether it can be followed: it was read from a file, and files can be damaged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { from, to, recipe, at, target, admitted, retired, stage, .. } = self;
        let Recipe { replicas, unavailable, steps, .. } = recipe;
        let of_steps = steps.iter().flat_map(|step| match step {
            Step::Start { target } => [*target, 0],
            Step::Shift { admitted, retired } => [*admitted, *retired],
            Step::Verify
            | Step::Approve
            | Step::Hook { .. }
            | Step::Drain
            | Step::Rest { .. }
            | Step::Commit
            | Step::Keep { .. }
            | Step::End => [0, 0],
        });
        let mut numbers = [*unavailable, *target, *admitted, *retired].into_iter().chain(of_steps);
        if ![from, to].into_iter().chain(&self.before).all(|name| is_revision(name)) {
            Err("something that is no revision")
        } else if !(1..=REPLICAS).contains(&(*replicas as u64)) || numbers.any(|number| number > *replicas) {
            Err("a number of instances that cannot be")
        } else if *stage == Stage::Forward && *at >= steps.len() {
            Err("a step that its recipe does not have")
        } else {
            Ok(())
        }
    }

    /// It has not ended.
    pub fn is_active(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }

    /// The step it is at, while it goes forward.
    pub fn step(&self) -> Option<&Step> {
        match self.stage {
            Stage::Forward => self.recipe.steps.get(self.at),
            Stage::Back(_) | Stage::Ended(_) => None,
        }
    }

    /// Notes what happened.
    pub(super) fn tell(&mut self, at: Time, text: impl Into<String>) {
        if self.events.len() >= EVENTS {
            self.events.remove(1);
        }
        self.events.push(Event { at, text: text.into(), because: String::new() });
    }

    /// Takes the step: what it wants is wanted from now on.
    pub(super) fn enter(&mut self, now: Time, at: usize) {
        (self.at, self.since, self.promoted, self.hook) = (at, now, false, None);
        match self.recipe.steps.get(at) {
            Some(Step::Start { target }) => self.target = *target,
            Some(Step::Shift { admitted, retired }) => {
                (self.admitted, self.retired) = (*admitted, *retired);
            }
            Some(Step::Hook { hook }) => self.begin_hook(now, *hook),
            Some(
                Step::Verify
                | Step::Approve
                | Step::Drain
                | Step::Rest { .. }
                | Step::Commit
                | Step::Keep { .. }
                | Step::End,
            )
            | None => {}
        }
    }

    /// Everything goes back: old instances take requests as soon as they are up, new ones as long as they are needed.
    pub(super) fn go_back(&mut self, now: Time, cause: impl Into<String>) {
        let cause = cause.into();
        self.give_up_hook(now, "ended, because everything goes back");
        self.tell(now, format!("goes back to {}: {cause}", self.from));
        self.stage = Stage::Back(Back { cause, since: now });
        (self.target, self.retired) = (0, 0);
        (self.held, self.paused) = (None, false);
    }
}
