//! A deployment as people are told of it.

use std::sync::Arc;

use everup_admin::Refusal;
use everup_admin::api::{
    DeployAnswer, DeploymentEvent, DeploymentHook, DeploymentSide, DeploymentState, DeploymentStatus,
    DeploymentStep, InstanceState, StepState,
};
use everup_core::deploy::{Deployment, HookRun, Outcome, Stage, Step};
use everup_core::time::Time;

use super::{Deployer, Fleet, seconds};
use crate::clock::Now;
use crate::controller::Controller;
use crate::service::Service;

impl Deployer {
    /// Who locked a service, since when and why, in words.
    pub(crate) fn lock(&self, service: &Service) -> Option<String> {
        let fleet = self.fleets.iter().find(|fleet| fleet.service == service.settings.name)?;
        Some(fleet.machine.row().lock.as_ref()?.in_words())
    }

    /// The deployment of a service that is under way, for the status.
    pub(crate) fn active(&self, now: Now, service: &Service) -> Option<DeploymentStatus> {
        let fleet = self.fleets.iter().find(|fleet| fleet.service == service.settings.name)?;
        let deployment = fleet.machine.row().active()?;
        Some(fleet.status(deployment, self.time(now), Some(service)))
    }
}

impl Fleet {
    pub(super) fn show(
        &self,
        _now: Now,
        time: Time,
        controller: &Controller,
    ) -> Result<DeployAnswer, Refusal> {
        let service = controller.services().iter().find(|one| one.settings.name == self.service);
        let Some(deployment) = &self.machine.row().deployment else {
            return Err(Refusal::NotFound(format!("nothing was deployed to {} yet", self.service)));
        };
        Ok(DeployAnswer::Deployment(Box::new(self.status(deployment, time, service))))
    }

    /// All deployments that are remembered, the newest first.
    pub(super) fn past(&self, time: Time) -> Vec<DeploymentStatus> {
        self.history.iter().rev().map(|one| self.status(one, time, None)).collect()
    }

    fn status(&self, deployment: &Deployment, time: Time, service: Option<&Service>) -> DeploymentStatus {
        let Deployment { id, from, to, by, reason, began, ended, recipe, at, events, log, hook_runs, .. } =
            deployment;
        let end = if deployment.is_active() { time } else { *ended };
        let step_state = |index: usize| match deployment.stage {
            Stage::Ended(Outcome::Done) => StepState::Done,
            _ if index < *at => StepState::Done,
            Stage::Forward if index == *at => StepState::Now,
            Stage::Forward | Stage::Back(_) | Stage::Ended(Outcome::RolledBack(_)) => StepState::Todo,
        };
        let steps = (0..recipe.steps.len())
            .map(|index| DeploymentStep { text: recipe.in_words(index, from, to), state: step_state(index) });
        let text = match self.machine.trouble() {
            Some(trouble) if deployment.is_active() => format!("waits: {trouble}"),
            _ => deployment.in_words(),
        };
        DeploymentStatus {
            id: id.clone(),
            service: self.service.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            strategy: recipe.strategy.clone(),
            by: by.clone(),
            reason: reason.clone(),
            state: state(deployment),
            text,
            began: seconds(*began),
            lasted_seconds: end.since(*began).as_secs_f64(),
            old: side(service, from),
            new: side(service, to),
            replicas: recipe.replicas as u64,
            steps: steps.collect(),
            events: events
                .iter()
                .map(|event| DeploymentEvent {
                    after_seconds: event.at.since(*began).as_secs_f64(),
                    text: event.text.clone(),
                    because: event.because.clone(),
                })
                .collect(),
            log: log.clone(),
            hooks: hook_runs.iter().map(|run| told(run, *began)).collect(),
        }
    }
}

fn told(run: &HookRun, began: Time) -> DeploymentHook {
    let HookRun { hook, run, began: since, took, passed, text, output } = run;
    DeploymentHook {
        hook: hook.word().to_owned(),
        run: *run,
        after_seconds: since.since(began).as_secs_f64(),
        took_seconds: took.as_secs_f64(),
        passed: *passed,
        text: text.clone(),
        output: output.clone(),
    }
}

fn state(deployment: &Deployment) -> DeploymentState {
    match (&deployment.stage, deployment.step()) {
        (Stage::Ended(Outcome::Done), _) => DeploymentState::Done,
        (Stage::Ended(Outcome::RolledBack(_)), _) => DeploymentState::RolledBack,
        (Stage::Forward | Stage::Back(_), _) if deployment.held.is_some() => DeploymentState::Held,
        (Stage::Back(_), _) => DeploymentState::GoingBack,
        (Stage::Forward, _) if deployment.paused => DeploymentState::Paused,
        (Stage::Forward, Some(Step::Approve)) => DeploymentState::Awaiting,
        (Stage::Forward, Some(Step::Keep { .. })) => DeploymentState::Keeping,
        (
            Stage::Forward,
            Some(
                Step::Start { .. }
                | Step::Verify
                | Step::Hook { .. }
                | Step::Shift { .. }
                | Step::Drain
                | Step::Rest { .. }
                | Step::Commit
                | Step::End,
            )
            | None,
        ) => DeploymentState::Running,
    }
}

/// The instances of a revision that are up, and those of them that get requests.
fn side(service: Option<&Service>, revision: &Arc<str>) -> DeploymentSide {
    let mut side = DeploymentSide::default();
    for instance in service.into_iter().flat_map(|service| &service.instances) {
        if instance.process.as_ref().is_some_and(|process| *process.revision == **revision) {
            side.processes += u64::from(instance.pid().is_some());
            side.up += u64::from(instance.verdict == everup_core::health::Verdict::Up);
            side.takes += u64::from(instance.state() == InstanceState::Up);
        }
    }
    side
}
