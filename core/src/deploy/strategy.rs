//! What a strategy is: from the settings to the steps of a recipe. Each strategy is one readable file.

mod blue_green;
mod rolling;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hooks::{Hook, Hooks};
use crate::config::{Approve, Deploy, DeployStrategy, OnFail};

/// What is done, or waited for. Numbers count instances from the first: new ones `1..=target` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// New instances up to this number have processes.
    Start {
        /// The last one.
        target: usize,
    },
    /// They have been up for `min_healthy`.
    Verify,
    /// The operator allows it.
    Approve,
    /// A command of the operator has been run.
    Hook {
        /// Which.
        hook: Hook,
    },
    /// In one table: new ones up to `admitted` take requests, old ones up to `retired` take none any more. Done when every
    /// data-plane thread uses it.
    Shift {
        /// The last new one that takes requests.
        admitted: usize,
        /// The last old one that takes none.
        retired: usize,
    },
    /// The old ones that take no requests have finished those they had, and have ended unless they are kept.
    Drain,
    /// The new ones serve for this long.
    Rest {
        /// How long.
        time: Duration,
    },
    /// The new revision is the service's own.
    Commit,
    /// The old instances stay without requests for this long.
    Keep {
        /// How long.
        time: Duration,
    },
    /// The old instances end.
    End,
}

/// A strategy with everything worked out: settings that change later do not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its name in the configuration.
    pub strategy: String,
    /// How many instances the service has.
    pub replicas: usize,
    /// How many of them may be missing.
    pub unavailable: usize,
    /// How long a new instance must have been up.
    pub min_healthy: Duration,
    /// How long it may take to come up.
    pub start_timeout: Duration,
    /// A failure holds instead of going back.
    pub holds: bool,
    /// Old instances stay when they take no requests any more.
    pub keeps: bool,
    /// In order.
    pub steps: Vec<Step>,
    /// What the operator wants run.
    #[serde(default)]
    pub hooks: Hooks,
}

/// What a strategy goes by.
struct Terms {
    replicas: usize,
    batch: usize,
    surge: usize,
    unavailable: usize,
    rest: Duration,
    approve: bool,
    hooks: Hooks,
}

impl Terms {
    /// The step of a hook, if there is one.
    fn hook(&self, hook: Hook) -> Option<Step> {
        self.hooks.has(hook).then_some(Step::Hook { hook })
    }
}

/// How long blue-green keeps the old instances if nothing else is said.
const KEPT: Duration = Duration::from_secs(600);

impl Recipe {
    /// The recipe for a service of so many instances.
    pub fn new(settings: &Deploy, replicas: usize) -> Self {
        let keep = settings.keep_previous.unwrap_or(match settings.strategy {
            DeployStrategy::Rolling => Duration::ZERO,
            DeployStrategy::BlueGreen => KEPT,
        });
        let unavailable = settings.max_unavailable.down(replicas).min(replicas);
        let batch = settings.batch.up(replicas).clamp(1, replicas);
        let surge = settings.surge.map_or(batch, |surge| surge.up(replicas));
        let terms = Terms {
            replicas,
            batch,
            // A share of a few can be none: rather one process more than one too few.
            surge: if unavailable == 0 { surge.max(1) } else { surge },
            unavailable,
            rest: settings.pause_between,
            approve: settings.approve == Approve::Manual,
            hooks: Hooks::new(settings),
        };
        let mut steps = Vec::from_iter(terms.hook(Hook::Before));
        steps.extend(match settings.strategy {
            DeployStrategy::Rolling => rolling::steps(&terms),
            DeployStrategy::BlueGreen => blue_green::steps(&terms),
        });
        steps.extend(terms.hook(Hook::AfterSwitch));
        steps.push(Step::Commit);
        steps.extend(terms.hook(Hook::After));
        if !keep.is_zero() {
            steps.push(Step::Keep { time: keep });
        }
        steps.push(Step::End);
        Self {
            strategy: settings.strategy.word().to_owned(),
            replicas,
            unavailable,
            min_healthy: settings.min_healthy,
            start_timeout: settings.start_timeout,
            holds: settings.on_fail == OnFail::Hold,
            keeps: !keep.is_zero(),
            steps,
            hooks: terms.hooks,
        }
    }
}
