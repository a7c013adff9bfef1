//! What an operator orders. Each order has an answer in words, and one that changes nothing says so.

use std::sync::Arc;

use super::machine::Machine;
use super::record::{Deployment, Held, Outcome, Row, Stage};
use super::slot::Slot;
use super::strategy::{Recipe, Step};
use crate::config::Deploy;
use crate::time::Time;

/// A deployment that is asked for.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Its name from now on.
    pub id: String,
    /// The revision to bring.
    pub to: Arc<str>,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How.
    pub settings: Deploy,
    /// It brings back what was there before: no lock is in its way.
    pub is_rollback: bool,
}

/// What can be ordered while a deployment is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Do not wait (for an approval, between batches, for the end of the retention).
    Promote,
    /// Do not take the next step.
    Pause,
    /// Go on.
    Resume,
    /// Go back, if the new revision is not the service's own yet.
    Abort,
    /// Go back.
    Rollback,
}

impl Machine {
    /// Begins a deployment. The answer is its id: another one than was given if this turns out to be a rollback of the one
    /// that is under way.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn begin(&mut self, now: Time, begin: Begin) -> Result<String, String> {
        if let Some(trouble) = self.trouble() {
            return Err(format!("nothing is deployed now: {trouble}"));
        }
        let service = Arc::clone(&self.given.service);
        if let Some(active) = self.row.active() {
            if !active.committed {
                return Err(format!(
                    "{service} is being deployed from {} to {} ({}); see `everup status`, or `everup abort {service}` first",
                    active.from, active.to, active.id
                ));
            }
            if active.from == begin.to {
                let id = active.id.clone();
                self.order(now, Order::Rollback, &begin.by)?;
                return Ok(id);
            }
            if let Some(hook) = active.hook_under_way() {
                return Err(format!("the hook `{}` of deployment {} is still run", hook.word(), active.id));
            }
        }
        if self.row.stable == begin.to {
            return Err(format!("{service} runs {} already", begin.to));
        }
        if let Some(refusal) = self.refusal_of_lock().filter(|_| !begin.is_rollback) {
            return Err(refusal);
        }
        self.end_retention(now);
        let recipe = Recipe::new(&begin.settings, self.given.replicas);
        let Begin { id, to, by, reason, .. } = begin;
        let mut deployment = Deployment {
            id: id.clone(),
            from: Arc::clone(&self.row.stable),
            to,
            by,
            reason,
            began: now,
            ended: now,
            recipe,
            at: 0,
            since: now,
            target: 0,
            admitted: 0,
            retired: 0,
            committed: false,
            before: None,
            promoted: false,
            paused: false,
            held: None,
            stage: Stage::Forward,
            events: Vec::new(),
            log: Vec::new(),
            hook: None,
            hook_runs: Vec::new(),
        };
        deployment.enter(now, 0);
        let first = deployment.recipe.in_words(0, &deployment.from, &deployment.to);
        deployment.tell(now, first);
        self.row.deployment = Some(deployment);
        self.store();
        self.turn(now);
        Ok(id)
    }

    /// A deployment whose old instances are only kept is over when the next one begins.
    fn end_retention(&mut self, now: Time) {
        let Some(deployment) = self.row.deployment.as_mut().filter(|deployment| deployment.is_active())
        else {
            return;
        };
        deployment.tell(now, format!("done: {} serves; the next deployment begins", deployment.to));
        (deployment.stage, deployment.ended, deployment.held) = (Stage::Ended(Outcome::Done), now, None);
        self.store();
    }

    /// Carries out an order about the deployment that is under way.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn order(&mut self, now: Time, order: Order, by: &str) -> Result<String, String> {
        if let Some(trouble) = self.trouble() {
            return Err(format!("nothing is changed now: {trouble}"));
        }
        let Some(deployment) = self.row.active() else {
            return Err(format!("nothing is being deployed to {}", self.given.service));
        };
        let answer = match order {
            Order::Promote => self.promote(now, by),
            Order::Pause => self.pause(now, by),
            Order::Resume => self.resume(now, by),
            Order::Abort if deployment.committed => Err(format!(
                "{} serves already; `everup rollback {}` goes back to {}",
                deployment.to, self.given.service, deployment.from
            )),
            Order::Abort => self.go_back(now, format!("aborted by {by}")),
            Order::Rollback => self.go_back(now, format!("rolled back by {by}")),
        }?;
        self.turn(now);
        Ok(answer)
    }

    fn changed(&mut self) -> Option<&mut Deployment> {
        self.row.deployment.as_mut().filter(|deployment| deployment.is_active())
    }

    fn promote(&mut self, now: Time, by: &str) -> Result<String, String> {
        let Some(deployment) = self.changed() else { return Err("nothing is being deployed".to_owned()) };
        let answer = match deployment.step() {
            Some(Step::Approve) => "approved",
            Some(Step::Rest { .. }) => "the next batch begins",
            Some(Step::Keep { .. }) => "the old instances end",
            Some(Step::Hook { .. }) if matches!(deployment.held, Some(Held::Hook(_))) => {
                deployment.give_up_hook(now, "left as it is");
                deployment.held = None;
                "goes on without that hook"
            }
            Some(
                Step::Hook { .. }
                | Step::Start { .. }
                | Step::Verify
                | Step::Shift { .. }
                | Step::Drain
                | Step::Commit
                | Step::End,
            )
            | None => {
                let at = deployment.in_words();
                return Err(format!("it does not wait for you, but: {at}"));
            }
        };
        deployment.promoted = true;
        deployment.tell(now, format!("promoted by {by}"));
        self.store();
        Ok(answer.to_owned())
    }

    fn pause(&mut self, now: Time, by: &str) -> Result<String, String> {
        let Some(deployment) = self.changed() else { return Err("nothing is being deployed".to_owned()) };
        match deployment.stage {
            Stage::Back(_) | Stage::Ended(_) => return Err("it goes back, which is not paused".to_owned()),
            Stage::Forward if deployment.paused => return Ok("is paused already".to_owned()),
            Stage::Forward => {}
        }
        deployment.paused = true;
        deployment.tell(now, format!("paused by {by}"));
        self.store();
        Ok("no further step; what fails still goes back".to_owned())
    }

    fn resume(&mut self, now: Time, by: &str) -> Result<String, String> {
        let Some(deployment) = self.changed() else { return Err("nothing is being deployed".to_owned()) };
        if !deployment.paused && deployment.held.is_none() {
            return Ok("was neither paused nor held".to_owned());
        }
        let repeats = deployment.repeats_hook();
        (deployment.paused, deployment.held) = (false, None);
        // Time in which it was not at work does not count.
        deployment.since = now;
        deployment.tell(now, format!("resumed by {by}"));
        if let Some(hook) = repeats {
            deployment.begin_hook(now, hook);
        }
        self.store();
        self.forgive(now);
        Ok("goes on".to_owned())
    }

    /// Who goes on after a failure does not want to hear of it again.
    fn forgive(&mut self, now: Time) {
        for place in self.places.values_mut() {
            place.deaths_before = place.seen.deaths;
            place.down_since = place.down_since.map(|_| now);
        }
    }

    fn go_back(&mut self, now: Time, cause: String) -> Result<String, String> {
        let Some(deployment) = self.row.active() else { return Err("nothing is being deployed".to_owned()) };
        if let Stage::Back(_) = deployment.stage {
            return Ok(format!("it goes back to {} already", deployment.from));
        }
        let from = Arc::clone(&deployment.from);
        self.turn_back(now, cause);
        self.store();
        Ok(format!("goes back to {from}"))
    }

    /// The place of an instance, for whoever has its name.
    pub fn slot_of(&self, name: &str) -> Option<Slot> {
        let places = self.places.keys().chain(self.routes());
        places.into_iter().find(|slot| self.name(slot) == name).cloned()
    }

    /// The revision that a rollback deploys when nothing is under way.
    pub fn previous(&self) -> Option<&Arc<str>> {
        let Row { previous, .. } = self.row();
        previous.as_ref()
    }
}
