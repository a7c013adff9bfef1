//! Hooks: commands of the operator that are run at their places in a deployment.
//!
//! | hook | is run | that fails |
//! | --- | --- | --- |
//! | before | before anything is started | goes back |
//! | warm_up | the same; it is no command, but requests of ours | goes back |
//! | before_switch | when new instances have proved themselves, before they get requests | goes back |
//! | per_batch | when a batch serves, before the next one begins | goes back |
//! | after_switch | when only new instances get requests, before the commit | is held |
//! | after | after the commit | is told |
//! | on_rollback | when the old revision has everything back | is told |
//!
//! `on_fail = "hold"` holds instead of going back. That a hook is to be run is stored before it is run, and its result
//! before anything follows from it. So a hook whose row is stored without a result may have run: when another machine finds
//! it like that, it is run again if hooks are repeatable; else the deployment is held, or that is told if the hook's failure
//! would only be told. In what is held because of a hook, `resume` runs it again and `promote` goes on without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, Output};
use super::record::{Deployment, Held, Stage};
use super::slot::Slot;
use super::strategy::Step;
use crate::config::Deploy;
use crate::time::Time;

/// So many runs are kept with a deployment.
const RUNS: usize = 100;

/// The output of so many of them; it is written with every change of the row.
const OUTPUTS: usize = 10;

/// A command of the operator, by its place. See the table at the top of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// Before anything is started.
    Before,
    /// Requests of ours to new instances that get none of others yet. No command.
    WarmUp,
    /// Before new instances get requests.
    BeforeSwitch,
    /// When a batch serves.
    PerBatch,
    /// When only new instances get requests.
    AfterSwitch,
    /// After the commit.
    After,
    /// When the old revision has everything back.
    OnRollback,
}

impl Hook {
    /// As the configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::WarmUp => "warm_up",
            Self::BeforeSwitch => "before_switch",
            Self::PerBatch => "per_batch",
            Self::AfterSwitch => "after_switch",
            Self::After => "after",
            Self::OnRollback => "on_rollback",
        }
    }

    /// It is about new instances that get no requests yet.
    pub(super) fn is_of_new_ones(self) -> bool {
        matches!(self, Self::WarmUp | Self::BeforeSwitch)
    }

    /// What follows from its failure.
    fn consequence(self) -> Consequence {
        match self {
            Self::Before | Self::WarmUp | Self::BeforeSwitch | Self::PerBatch => Consequence::GoBack,
            Self::AfterSwitch => Consequence::Hold,
            Self::After | Self::OnRollback => Consequence::Tell,
        }
    }
}

enum Consequence {
    GoBack,
    Hold,
    Tell,
}

/// What a recipe knows of its hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    commands: BTreeMap<Hook, Vec<String>>,
    timeout: Duration,
    repeatable: bool,
    #[serde(default)]
    warm_up: Option<WarmUp>,
}

/// Requests that new instances get from us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// GET this.
    pub path: String,
    /// So many times of each.
    pub requests: u32,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Hooks {
    pub(super) fn new(settings: &Deploy) -> Self {
        let Deploy { before, before_switch, per_batch, after_switch, after, on_rollback, .. } = settings;
        let all = [
            (Hook::Before, before),
            (Hook::BeforeSwitch, before_switch),
            (Hook::PerBatch, per_batch),
            (Hook::AfterSwitch, after_switch),
            (Hook::After, after),
            (Hook::OnRollback, on_rollback),
        ];
        let commands = all.into_iter().filter(|(_, command)| !command.is_empty());
        Self {
            commands: commands.map(|(hook, command)| (hook, command.clone())).collect(),
            timeout: settings.hook_timeout,
            repeatable: settings.hooks_repeatable,
            warm_up: settings.warm_up.clone().map(|path| WarmUp {
                path,
                requests: settings.warm_up_requests,
                timeout: settings.warm_up_timeout,
            }),
        }
    }

    /// The program and its arguments, if there is a command for this hook.
    fn command(&self, hook: Hook) -> Option<&[String]> {
        self.commands.get(&hook).map(Vec::as_slice)
    }

    pub(super) fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::WarmUp => self.warm_up.is_some(),
            Hook::Before
            | Hook::BeforeSwitch
            | Hook::PerBatch
            | Hook::AfterSwitch
            | Hook::After
            | Hook::OnRollback => self.commands.contains_key(&hook),
        }
    }

    /// Requests do no harm if they are sent twice.
    fn repeats(&self, hook: Hook) -> bool {
        self.repeatable || hook == Hook::WarmUp
    }

    pub(super) fn in_words(&self, hook: Hook, to: &str) -> String {
        if let (Hook::WarmUp, Some(WarmUp { path, requests, .. })) = (hook, &self.warm_up) {
            return format!("warm each of them up with {requests} requests for {}", shortened(path));
        }
        let command = self.command(hook).unwrap_or_default().join(" ").replace("{revision}", to);
        let limit = super::words::lasting(self.timeout);
        format!("run the hook `{}`, at most {limit}: {}", hook.word(), shortened(&command))
    }
}

/// A script within a command is not told as a whole.
fn shortened(command: &str) -> String {
    const LETTERS: usize = 60;
    match command.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}...", &command[..end]),
        None => command.to_owned(),
    }
}

/// The hook that a deployment is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Which.
    pub hook: Hook,
    /// Counts the runs of all hooks of the deployment, from 1.
    pub run: u64,
    /// Since when.
    pub since: Time,
    /// How it ended.
    pub passed: Option<bool>,
}

/// A hook that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Which.
    pub hook: Hook,
    /// Its number.
    pub run: u64,
    /// When it began.
    pub began: Time,
    /// How long it took.
    pub took: Duration,
    /// It ended with exit code 0.
    pub passed: bool,
    /// How it ended, in words.
    pub text: String,
    /// The last of what it printed.
    pub output: Vec<String>,
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOrder {
    /// Which hook.
    pub hook: Hook,
    /// Its number.
    pub run: u64,
    /// What is done.
    pub task: Task,
    /// The instances that it is about.
    pub slots: Vec<Slot>,
    /// The deployment that it belongs to.
    pub deployment: String,
}

/// What a hook does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Runs this.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
    /// Sends every instance these requests.
    WarmUp(WarmUp),
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookResult {
    /// Its deployment.
    pub deployment: String,
    /// Its number.
    pub run: u64,
    /// With exit code 0, in time.
    pub passed: bool,
    /// In words.
    pub text: String,
    /// The last of what it printed.
    pub output: Vec<String>,
}

impl Deployment {
    /// The hook that is to be run and has no result.
    pub fn hook_under_way(&self) -> Option<Hook> {
        self.hook.as_ref().filter(|pending| pending.passed.is_none()).map(|pending| pending.hook)
    }

    /// Which run of which deployment that is.
    pub(super) fn hook_key(&self) -> Option<(String, u64)> {
        self.hook_under_way()?;
        Some((self.id.clone(), self.hook.as_ref()?.run))
    }

    /// This hook is to be run from now on.
    pub(super) fn begin_hook(&mut self, now: Time, hook: Hook) {
        self.give_up_hook(now, "left as it is");
        let run = self.hook_runs.last().map_or(1, |last| last.run + 1);
        self.hook = Some(Pending { hook, run, since: now, passed: None });
    }

    /// It is not run any more; if it has no result, this is the result.
    pub(super) fn give_up_hook(&mut self, now: Time, why: &str) {
        if let Some(pending) = self.hook.take()
            && pending.passed.is_none()
            && self.hook_runs.last().is_none_or(|last| last.run != pending.run)
        {
            self.note_run(now, &pending, (false, why.to_owned()), Vec::new());
        }
    }

    /// The hook that `resume` runs again.
    pub(super) fn repeats_hook(&self) -> Option<Hook> {
        let held = matches!(self.held, Some(Held::Hook(_)));
        self.hook.as_ref().filter(|_| held).map(|pending| pending.hook)
    }

    fn note_run(
        &mut self,
        now: Time,
        pending: &Pending,
        (passed, text): (bool, String),
        output: Vec<String>,
    ) {
        let Pending { hook, run, since, passed: _ } = *pending;
        let took = now.since(since);
        self.hook_runs.push(HookRun { hook, run, began: since, took, passed, text, output });
        self.hook_runs.drain(..self.hook_runs.len().saturating_sub(RUNS));
        let quiet = self.hook_runs.len().saturating_sub(OUTPUTS);
        self.hook_runs[..quiet].iter_mut().for_each(|run| run.output.clear());
    }

    /// The instances that a hook is about.
    fn slots_of(&self, hook: Hook) -> Vec<Slot> {
        let some = |revision: &Arc<str>, after: usize, last: usize| {
            (after + 1..=last).map(|number| Slot::new(revision, number)).collect()
        };
        let all = self.recipe.replicas;
        match hook {
            Hook::Before => Vec::new(),
            Hook::WarmUp | Hook::BeforeSwitch => some(&self.to, self.admitted, self.target),
            Hook::PerBatch => {
                let steps = self.recipe.steps.iter().take(self.at);
                let admitted = steps.filter_map(|step| match step {
                    Step::Shift { admitted, .. } => Some(*admitted),
                    Step::Start { .. }
                    | Step::Verify
                    | Step::Approve
                    | Step::Hook { .. }
                    | Step::Drain
                    | Step::Rest { .. }
                    | Step::Commit
                    | Step::Keep { .. }
                    | Step::End => None,
                });
                let before = admitted.filter(|number| *number < self.admitted).max();
                some(&self.to, before.unwrap_or(0), self.admitted)
            }
            Hook::AfterSwitch | Hook::After => some(&self.to, 0, all),
            Hook::OnRollback => some(&self.from, 0, all),
        }
    }
}

impl Machine {
    /// Has the hook run that the stored row wants, and ends one that it does not want any more.
    pub(super) fn apply_hook(&mut self, now: Time) {
        let wanted = self.durable.active().and_then(Deployment::hook_key);
        if self.ordered_hook.is_some() && self.ordered_hook != wanted {
            self.ordered_hook = None;
            self.outputs.push_back(Output::EndHook);
        }
        let is_news = wanted.is_some() && wanted != self.ordered_hook && wanted != self.left_hook;
        if !is_news || !self.is_stored() || self.frozen.is_some() {
            return;
        }
        let Some(deployment) = self.durable.active().filter(|deployment| deployment.held.is_none()) else {
            return;
        };
        let Some(Pending { hook, run, .. }) = deployment.hook else { return };
        // After another machine began it they may have to prove themselves again.
        if hook.is_of_new_ones() && !self.have_proved_themselves(deployment, now) {
            return;
        }
        let hooks = &deployment.recipe.hooks;
        let fill = |word: &String| {
            word.replace("{revision}", &deployment.to).replace("{service}", &self.given.service)
        };
        let order = HookOrder {
            hook,
            run,
            task: match (hook, &hooks.warm_up) {
                (Hook::WarmUp, Some(warm_up)) => Task::WarmUp(warm_up.clone()),
                _ => Task::Command {
                    command: hooks.command(hook).unwrap_or_default().iter().map(fill).collect(),
                    timeout: hooks.timeout,
                },
            },
            slots: deployment.slots_of(hook),
            deployment: deployment.id.clone(),
        };
        self.ordered_hook = wanted;
        self.outputs.push_back(Output::Hook(Box::new(order)));
    }

    pub(super) fn on_hook_ended(&mut self, now: Time, result: HookResult) {
        let HookResult { deployment: id, run, passed, text, output } = result;
        let key = Some((id, run));
        if self.ordered_hook != key {
            return;
        }
        self.ordered_hook = None;
        let Some(deployment) = &mut self.row.deployment else { return };
        if deployment.hook_key() != key || !deployment.is_active() {
            return;
        }
        let Some(mut pending) = deployment.hook.take() else { return };
        deployment.tell(now, format!("hook `{}`: {text}", pending.hook.word()));
        if !passed && deployment.log.is_empty() {
            deployment.log.clone_from(&output);
        }
        deployment.note_run(now, &pending, (passed, text), output);
        pending.passed = Some(passed);
        deployment.hook = Some(pending);
        self.store();
    }

    /// None: no hook has to be waited for. Else whether the row is changed.
    pub(super) fn look_at_hook(&mut self, now: Time) -> Option<bool> {
        let deployment = self.row.active()?;
        let pending = deployment.hook.as_ref()?;
        match pending.passed {
            Some(true) => None,
            Some(false) => {
                let text = deployment.hook_runs.last().map_or("failed", |last| last.text.as_str());
                let text = format!("hook `{}`: {text}", pending.hook.word());
                Some(self.on_hook_failed(now, pending.hook, text))
            }
            None if self.left_hook.is_some() && self.left_hook == deployment.hook_key() => {
                Some(self.on_hook_left(now))
            }
            None => Some(false),
        }
    }

    fn on_hook_failed(&mut self, now: Time, hook: Hook, text: String) -> bool {
        let Some(deployment) = &mut self.row.deployment else { return false };
        match hook.consequence() {
            Consequence::GoBack if deployment.recipe.holds => self.hold(now, Held::Hook(text)),
            Consequence::GoBack => {
                self.turn_back(now, text);
                true
            }
            Consequence::Hold => self.hold(now, Held::Hook(text)),
            Consequence::Tell => {
                deployment.hook = None;
                true
            }
        }
    }

    /// The worker ended between storing that a hook is to be run and storing how it ended.
    fn on_hook_left(&mut self, now: Time) -> bool {
        self.left_hook = None;
        let Some(deployment) = &mut self.row.deployment else { return false };
        let Some(pending) = deployment.hook.clone() else { return false };
        let (hook, word) = (pending.hook, pending.hook.word());
        let text = "may have run: everup's worker ended meanwhile";
        deployment.note_run(now, &pending, (false, text.to_owned()), Vec::new());
        if deployment.recipe.hooks.repeats(hook) {
            deployment.tell(now, format!("hook `{word}` {text}; it is run again"));
            deployment.begin_hook(now, hook);
            return true;
        }
        let text = format!("hook `{word}` {text}");
        match hook.consequence() {
            Consequence::GoBack | Consequence::Hold => {
                deployment.hook = Some(Pending { passed: Some(false), ..pending });
                self.hold(now, Held::Hook(text))
            }
            Consequence::Tell => {
                deployment.tell(now, text);
                deployment.hook = None;
                true
            }
        }
    }

    /// Everything is back: the hook for that is run, once. True: it is now.
    pub(super) fn begin_last_hook(&mut self, now: Time) -> bool {
        let Some(deployment) = &mut self.row.deployment else { return false };
        if !matches!(deployment.stage, Stage::Back(_)) {
            return false;
        }
        // Who goes back never goes forward again, so one run is all. (Not by time: the clock may have been set back.)
        let is_wanted = deployment.recipe.hooks.has(Hook::OnRollback);
        let mut runs = deployment.hook_runs.iter();
        if !is_wanted || runs.any(|run| run.hook == Hook::OnRollback) {
            return false;
        }
        let words = deployment.recipe.hooks.in_words(Hook::OnRollback, &deployment.to);
        deployment.begin_hook(now, Hook::OnRollback);
        deployment.tell(now, words);
        true
    }
}
