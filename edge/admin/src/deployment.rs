//! Deployments in the admin API: what may be asked, and what is told of them.

use serde::{Deserialize, Serialize};

/// Something that an operator wants of a service's deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployRequest {
    /// The service.
    pub service: String,
    /// Who asks, as they call themselves.
    pub by: String,
    /// What.
    pub wish: DeployWish,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeployWish {
    /// What would be done.
    Plan {
        /// The revision to bring.
        revision: String,
        /// Instead of the configured one.
        strategy: Option<String>,
    },
    /// Do it.
    Begin {
        /// The revision to bring.
        revision: String,
        /// Instead of the configured one.
        strategy: Option<String>,
        /// Why.
        reason: String,
    },
    /// Wait no longer.
    Promote,
    /// Take no further step.
    Pause,
    /// Go on.
    Resume,
    /// Go back, if the new revision is not the service's own yet.
    Abort,
    /// Go back.
    Rollback,
    /// Let no deployment begin.
    Lock {
        /// Why.
        reason: String,
    },
    /// Let them begin again.
    Unlock,
    /// Tell the last deployment.
    Show,
    /// Tell all of them.
    History,
}

impl DeployWish {
    /// Its word, for the record.
    pub fn as_order(&self) -> &'static str {
        match self {
            Self::Plan { .. } => "plan",
            Self::Begin { .. } => "deploy",
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
            Self::Lock { .. } => "lock",
            Self::Unlock => "unlock",
            Self::Show => "show",
            Self::History => "history",
        }
    }
}

/// The answer to a [`DeployRequest`].
#[derive(Clone, Debug, PartialEq)]
pub enum DeployAnswer {
    /// What was done, in one line; the id of a deployment that began.
    Done(String),
    /// To [`DeployWish::Plan`].
    Plan(Box<PlanAnswer>),
    /// To [`DeployWish::Show`].
    Deployment(Box<DeploymentStatus>),
    /// To [`DeployWish::History`], the newest first.
    History(Vec<DeploymentStatus>),
}

/// What a deployment would do: `GET /v1/services/{service}/plan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The service.
    pub service: String,
    /// The revision that runs.
    pub from: String,
    /// The one that would.
    pub to: String,
    /// `rolling` or `blue-green`.
    pub strategy: String,
    /// What is done, in order, in words.
    pub steps: Vec<String>,
    /// It takes at least so long.
    pub at_least_seconds: f64,
    /// The most processes at a time.
    pub processes: u64,
    /// No request is lost or has to wait, as far as the settings say.
    pub zero_downtime: bool,
    /// Why not, if so.
    pub doubts: Vec<String>,
    /// What a rollback takes, in words.
    pub rollback: String,
}

/// A deployment: `GET /v1/services/{service}/deployment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Later ones sort after earlier ones.
    pub id: String,
    /// The service.
    pub service: String,
    /// The revision it replaces.
    pub from: String,
    /// The one it brings.
    pub to: String,
    /// `rolling` or `blue-green`.
    pub strategy: String,
    /// Who asked.
    pub by: String,
    /// Why; empty if that was not said.
    pub reason: String,
    /// Where it is.
    pub state: DeploymentState,
    /// The same in words, with the reason.
    pub text: String,
    /// When it began, in seconds since 1970.
    pub began: f64,
    /// How long it took, or takes already.
    pub lasted_seconds: f64,
    /// How many instances the service has.
    pub replicas: u64,
    /// Its old instances now.
    pub old: DeploymentSide,
    /// Its new ones.
    pub new: DeploymentSide,
    /// What it does, in order.
    pub steps: Vec<DeploymentStep>,
    /// What happened, oldest first.
    pub events: Vec<DeploymentEvent>,
    /// The last lines of the instance that failed, if one did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// The hooks that were run, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<DeploymentHook>,
}

/// A hook that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentHook {
    /// Its setting.
    pub hook: String,
    /// Its number among all hooks of the deployment.
    pub run: u64,
    /// When it began, after the deployment did.
    pub after_seconds: f64,
    /// How long it took.
    pub took_seconds: f64,
    /// With exit code 0, in time.
    pub passed: bool,
    /// How it ended, in words.
    pub text: String,
    /// The last of what it printed; of the last ten hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// The instances of one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSide {
    /// So many have a process.
    pub processes: u64,
    /// So many pass their health checks.
    pub up: u64,
    /// So many get requests.
    pub takes: u64,
}

/// Where a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// It follows its steps.
    Running,
    /// It waits for `everup promote`.
    Awaiting,
    /// The operator paused it.
    Paused,
    /// It waits for the operator, for the reason in its text.
    Held,
    /// The new revision serves; the old instances are kept for a rollback.
    Keeping,
    /// The old revision gets everything back.
    GoingBack,
    /// The new revision serves.
    Done,
    /// The old one does.
    RolledBack,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStep {
    /// In words.
    pub text: String,
    /// Whether it was taken.
    pub state: StepState,
}

/// Whether a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It was.
    Done,
    /// It is being taken.
    Now,
    /// It was not.
    Todo,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentEvent {
    /// After the beginning.
    pub after_seconds: f64,
    /// What.
    pub text: String,
    /// The numbers that it rests on, in words; empty if it was just ordered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
}
