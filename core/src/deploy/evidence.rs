//! The numbers behind a decision, in words: they are stored with the event that tells it, and `everup explain` shows them.

use std::time::Duration;

use super::hooks::Hook;
use super::machine::Machine;
use super::record::Deployment;
use super::strategy::Step;
use super::words::lasting;
use crate::time::Time;

/// Of more instances only these are named.
const NAMED: usize = 8;

impl Deployment {
    /// The event that was just told has these reasons.
    pub(super) fn because(&mut self, why: String) {
        if let Some(event) = self.events.last_mut() {
            event.because = why;
        }
    }
}

impl Machine {
    /// Why the step that a deployment is at is done.
    pub(super) fn proof(&self, deployment: &Deployment, now: Time) -> String {
        let Some(step) = deployment.step() else { return String::new() };
        let lasted = seconds(now.since(deployment.since));
        let (from, to, recipe) = (&deployment.from, &deployment.to, &deployment.recipe);
        match step {
            Step::Start { target } => format!("{target} instances of {to} have a process, after {lasted}"),
            Step::Verify => self.proof_of_health(deployment, now),
            Step::Approve => format!("allowed by an operator, after {lasted}"),
            Step::Hook { hook } => proof_of_hook(deployment, *hook),
            Step::Shift { .. } => {
                let (generation, since) = self.published_since();
                let took = since.map_or_else(|| lasted.clone(), |since| seconds(now.since(since)));
                format!(
                    "every thread uses table {generation}, {took} after it was published: {} instances take requests",
                    self.routes().len()
                )
            }
            Step::Drain if recipe.keeps => {
                format!("after {lasted} the {} of {from} without requests have none left", deployment.retired)
            }
            Step::Drain => {
                format!(
                    "after {lasted} the {} of {from} without requests have ended (`drain.time` is {})",
                    deployment.retired,
                    lasting(self.given.drain)
                )
            }
            Step::Rest { time } | Step::Keep { time } => match deployment.promoted {
                true => format!("an operator did not want to wait, after {lasted} of {}", lasting(*time)),
                false => format!("{} have passed", lasting(*time)),
            },
            Step::Commit => {
                format!("{} of {} instances of {to} take requests", deployment.admitted, recipe.replicas)
            }
            Step::End => format!("no instance of {from} is left, after {lasted}"),
        }
    }

    fn proof_of_health(&self, deployment: &Deployment, now: Time) -> String {
        let ups = self.new_ones(deployment, deployment.target);
        let ups = ups.filter_map(|(slot, place)| Some((self.name(slot), now.since(place.up_since?))));
        let named: Vec<String> =
            ups.take(NAMED).map(|(name, up)| format!("{name} for {}", seconds(up))).collect();
        let more = match deployment.target.saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "up without a break: {}{more}; {} are needed",
            named.join(", "),
            lasting(deployment.recipe.min_healthy)
        )
    }
}

fn proof_of_hook(deployment: &Deployment, hook: Hook) -> String {
    match deployment.hook_runs.last().filter(|run| run.hook == hook) {
        Some(run) => format!("run {} {}, after {}", run.run, run.text, seconds(run.took)),
        None => String::new(),
    }
}

fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 10.0 => format!("{short:.3} s"),
        long => format!("{long:.1} s"),
    }
}
