//! Whether the new revision is good enough to go on with: what decides at once.
//!
//! | a new instance | fails |
//! | --- | --- |
//! | that takes no requests yet | at its second death; when it was up and then is not; when it was not up in time |
//! | that takes requests | at its first death; when it is not up; when it had to be started again and was not up in time |
//!
//! A first death at the start is forgiven, because another program may have taken its port in that moment. When the old
//! instances fail as well, the cause is elsewhere: everything is held. No metric is judged here.

use std::time::Duration;

use super::hooks::Hook;
use super::machine::{Machine, Output, Place, Process};
use super::record::{Deployment, Held};
use super::slot::Slot;
use super::strategy::Step;
use crate::time::Time;

/// So many deaths before the first request are one too many.
const DEATHS: u32 = 2;

/// An instance whose process has just ended looks unhealthy first: its end is the better reason, and is known by then.
const UNHEALTHY: Duration = Duration::from_millis(500);

/// Why the new revision is no good.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    slot: Slot,
    text: String,
}

impl Machine {
    /// The first reason against the new revision, if there is one.
    pub(super) fn fault(&self, deployment: &Deployment, now: Time) -> Option<Fault> {
        let is_final = match deployment.step() {
            Some(Step::End) => true,
            // Committed, and nothing of the old revision is left to go back to.
            Some(Step::Hook { hook: Hook::After }) => !deployment.recipe.keeps,
            _ => false,
        };
        if is_final {
            return None;
        }
        self.new_ones(deployment, deployment.target)
            .find_map(|(slot, place)| self.fault_of(deployment, slot, place, now))
    }

    fn fault_of(&self, deployment: &Deployment, slot: &Slot, place: &Place, now: Time) -> Option<Fault> {
        let is_admitted = slot.number <= deployment.admitted;
        let seen = &place.seen;
        let deaths = seen.deaths.saturating_sub(place.deaths_before);
        let name = self.name(slot);
        let why = if seen.trouble.is_empty() { String::new() } else { format!(": {}", seen.trouble) };
        let was_up = place.down_since.is_some_and(|since| now >= since + UNHEALTHY);
        let text = if deaths >= DEATHS || is_admitted && deaths > 0 {
            match deaths {
                1 => format!("{name} died{why}"),
                _ => format!("{name} died {deaths} times{why}"),
            }
        } else if was_up && (is_admitted || seen.process == Process::Running) {
            format!("{name} was up and then failed its health checks{why}")
        } else if place.up_since.is_none()
            && self.deadline(deployment, slot, place).is_some_and(|at| now >= at)
        {
            format!("{name} was not up in time{why}")
        } else {
            return None;
        };
        Some(Fault { slot: slot.clone(), text })
    }

    /// When an instance must be up: in the step that waits for it, or soon after it had to be started again.
    fn deadline(&self, deployment: &Deployment, slot: &Slot, place: &Place) -> Option<Time> {
        let recipe = &deployment.recipe;
        if slot.number <= deployment.admitted {
            return place.ordered.map(|since| since + recipe.start_timeout);
        }
        match deployment.step()? {
            Step::Start { .. } => Some(deployment.since + recipe.start_timeout),
            Step::Verify => Some(deployment.since + recipe.start_timeout + recipe.min_healthy),
            // A worker or a keeper that took over may have to start them again.
            Step::Hook { hook: Hook::WarmUp | Hook::BeforeSwitch } => {
                let since =
                    [Some(deployment.since), place.ordered, self.began].into_iter().flatten().max()?;
                Some(since + recipe.start_timeout)
            }
            Step::Approve
            | Step::Hook { .. }
            | Step::Shift { .. }
            | Step::Drain
            | Step::Rest { .. }
            | Step::Commit
            | Step::Keep { .. }
            | Step::End => None,
        }
    }

    /// When something may turn out to have failed.
    pub(super) fn judged_times(&self, deployment: &Deployment) -> Vec<Time> {
        let times = self.new_ones(deployment, deployment.target).flat_map(|(slot, place)| {
            let down = place.down_since.map(|since| since + UNHEALTHY);
            [down, self.deadline(deployment, slot, place)]
        });
        times.flatten().collect()
    }

    /// The new revision failed. True: the row is changed.
    pub(super) fn on_fault(&mut self, now: Time, Fault { slot, text }: Fault) -> bool {
        let Some(deployment) = self.row.active() else { return false };
        let because = self.evidence(deployment, &slot);
        self.outputs.push_back(Output::Quote(slot));
        if self.old_ones_fail(deployment) {
            self.hold(now, Held::Environment(text));
        } else if deployment.recipe.holds {
            self.hold(now, Held::Failed(text));
        } else {
            self.turn_back(now, text);
        }
        if let Some(deployment) = &mut self.row.deployment {
            deployment.because(because);
        }
        true
    }

    /// At least half of the old instances that there should be are not up.
    fn old_ones_fail(&self, deployment: &Deployment) -> bool {
        let (up, all) = self.old_ones_up(deployment);
        all > 0 && up * 2 <= all
    }

    /// So many of the old instances that there should be are up, of so many.
    fn old_ones_up(&self, deployment: &Deployment) -> (usize, usize) {
        let wanted = self.row.wanted(deployment.recipe.replicas);
        let mut all = 0;
        let mut up = 0;
        for (_, place) in self.old_ones(deployment).filter(|(slot, _)| wanted.contains_key(slot)) {
            all += 1;
            up += usize::from(place.up_since.is_some());
        }
        (up, all)
    }

    /// What a fault rests on.
    fn evidence(&self, deployment: &Deployment, slot: &Slot) -> String {
        let (up, all) = self.old_ones_up(deployment);
        let deaths =
            self.places.get(slot).map_or(0, |place| place.seen.deaths.saturating_sub(place.deaths_before));
        let (meets, limit) = match slot.number <= deployment.admitted {
            true => ("takes requests", 0),
            false => ("takes no requests yet", DEATHS - 1),
        };
        format!(
            "{} {meets}, and died {deaths} times in this (at most {limit} are forgiven); {up} of {all} old instances are up",
            self.name(slot)
        )
    }
}
