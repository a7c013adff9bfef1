//! `[service.NAME.deploy]`: how a revision is replaced by another one. What the strategies make of it stands in
//! `core/src/deploy`.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

use super::health::{argument, request_path};
use super::kind::{choice, duration, flag, integer, list, optional, percent, text};
use super::reading::{Reading, Table, Toml};
use super::section::{Kind, Place, section};

section! {
    /// How `everup deploy` replaces the running revision by another one. Whatever goes wrong before the end, the old
    /// revision gets all requests again.
    pub struct Deploy {
        /// `"rolling"` replaces some instances at a time; `"blue-green"` starts a second set of all of them and then gives it
        /// all requests at one stroke.
        pub strategy: DeployStrategy = choice(STRATEGIES, &["canary"]), default "rolling",
            because "it needs the least memory, and a bad revision meets few users";
        /// Rolling: how many instances are replaced at a time, as a number or as a share (rounded up).
        pub batch: Portion = portion(1..=1000, 1..=100), default "25%",
            because "four batches: the first shows a mistake, the others are soon done";
        /// How many instances may be missing while requests are moved, as a number or as a share (rounded down). Also holds
        /// on the way back.
        pub max_unavailable: Portion = portion(0..=1000, 0..=99), default 0,
            because "whoever runs three instances needs three";
        /// Rolling: how many instances may run beside the `replicas`, as a number or as a share (rounded up). With 0 an old
        /// instance ends before its successor starts, and `max_unavailable` must be above 0.
        pub surge: Option<Portion> = optional(portion(0..=1000, 0..=100)), default unset "as many as `batch`: new ones start first",
            because "an old instance ends when its successor has proved itself";
        /// Rolling: how long a batch serves before the next one begins. A failure within this time has met few users.
        pub pause_between: Duration = duration(0..=86_400_000), default "2s",
            because "most mistakes show with the first requests";
        /// A new instance gets requests when it has been up for so long without a break.
        pub min_healthy: Duration = duration(0..=3_600_000), default "3s",
            because "most versions that die at their start do so within seconds";
        /// A new instance must be up within this time.
        pub start_timeout: Duration = duration(100..=86_400_000), default "1m",
            because "most applications start sooner; whoever waits for a database may need more";
        /// How long the old instances stay after the last request was moved, without requests, so that a rollback takes no
        /// time.
        pub keep_previous: Option<Duration> = optional(duration(0..=604_800_000)),
            default unset "blue-green: 10m. Rolling: not at all, an old instance ends with its batch",
            because "two sets of instances need the memory of both";
        /// What happens when the new revision fails: `"rollback"`, or `"hold"`: everything stays as it is until you decide.
        pub on_fail: OnFail = choice(ON_FAIL, &[]), default "rollback",
            because "going back is the safe way unless something else, such as a schema, went forward";
        /// Whether `everup promote` must allow the first request to the new revision (`"manual"`).
        pub approve: Approve = choice(APPROVE, &[]), default "auto",
            because "whoever looks at it first says so";
        /// GET this path of every new instance that has proved itself, `warm_up_requests` times, before it gets requests. Every answer
        /// must be 200 to 399; else the instance counts as one that failed at its start.
        pub warm_up: Option<String> = optional(text("path", "begins with `/`", request_path)), default unset "off",
            because "the first requests to a cold instance are slow: they need not be your users'";
        /// How many warm-up requests every new instance gets, one after the other, each on a connection of its own.
        pub warm_up_requests: u32 = integer(1..=10_000), default 10,
            because "a few fill most caches and pools";
        /// How long an answer to a warm-up request may take.
        pub warm_up_timeout: Duration = duration(10..=3_600_000), default "10s",
            because "the first answer may take much longer than the later ones";
        /// A command that is run before anything is started: a migration that both revisions can live with, say. If it fails,
        /// nothing was changed. Of all hooks: the program and its arguments, no shell; {revision} and {service} stand for what
        /// they name; run by everup's worker as its own user, in the directory of the file, with EVERUP_HOOK, EVERUP_SERVICE,
        /// EVERUP_DEPLOYMENT, EVERUP_REVISION, EVERUP_PREVIOUS, EVERUP_STRATEGY, EVERUP_BY, EVERUP_REASON, EVERUP_RUN,
        /// EVERUP_INSTANCES and EVERUP_ADDRESSES in its environment. Exit code 0 passes.
        pub before: Vec<String> = list(0..=256, text("string", "without NUL", argument)), default [],
            because "most services need none";
        /// A command that is run when new instances (EVERUP_INSTANCES, at EVERUP_ADDRESSES) have proved themselves, before they
        /// get requests; rolling: of every batch. If it fails, the old revision gets everything back.
        pub before_switch: Vec<String> = list(0..=256, text("string", "without NUL", argument)), default [],
            because "most services need none";
        /// Rolling: a command that is run when a batch serves, before the next one begins. If it fails, the old revision gets
        /// everything back.
        pub per_batch: Vec<String> = list(0..=256, text("string", "without NUL", argument)), default [],
            because "most services need none";
        /// A command that is run when only new instances get requests, before the revision is the service's own. If it fails, the
        /// deployment is held: you decide.
        pub after_switch: Vec<String> = list(0..=256, text("string", "without NUL", argument)), default [],
            because "most services need none";
        /// A command that is run when the revision is the service's own. That it failed is told and changes nothing.
        pub after: Vec<String> = list(0..=256, text("string", "without NUL", argument)), default [],
            because "most services need none";
        /// A command that is run when the old revision has everything back. That it failed is told and changes nothing.
        pub on_rollback: Vec<String> = list(0..=256, text("string", "without NUL", argument)), default [],
            because "most services need none";
        /// A hook that takes longer has failed, and is killed with everything that it started in its process group.
        pub hook_timeout: Duration = duration(100..=86_400_000), default "5m",
            because "a hook that hangs must not hold a deployment for ever";
        /// Whether a hook may be run again when everup's worker ended while it ran, so that nobody knows how far it came.
        pub hooks_repeatable: bool = flag(), default false,
            because "what is run twice can do harm: unless told, the deployment is held and you decide";
    }
    later { preview, bake }
}

const STRATEGIES: &[(&str, DeployStrategy)] =
    &[("rolling", DeployStrategy::Rolling), ("blue-green", DeployStrategy::BlueGreen)];
const ON_FAIL: &[(&str, OnFail)] = &[("rollback", OnFail::Rollback), ("hold", OnFail::Hold)];
const APPROVE: &[(&str, Approve)] = &[("auto", Approve::Auto), ("manual", Approve::Manual)];

/// How a revision is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployStrategy {
    /// Some instances at a time.
    Rolling,
    /// All of them at one stroke.
    BlueGreen,
}

impl DeployStrategy {
    /// Reads the word of the configuration.
    pub fn from_word(word: &str) -> Option<Self> {
        STRATEGIES.iter().find(|(known, _)| *known == word).map(|(_, strategy)| *strategy)
    }

    /// As the configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// What happens when the new revision fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    /// The old revision gets all requests again.
    Rollback,
    /// Everything stays until the operator decides.
    Hold,
}

/// Who allows the first request to the new revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approve {
    /// Its health checks.
    Auto,
    /// The operator, too.
    Manual,
}

/// Some of a service's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// So many.
    Count(u32),
    /// Percent of them.
    Share(u32),
}

impl Portion {
    /// Of `all`, rounded up.
    pub fn up(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Share(percent) => (all * percent as usize).div_ceil(100),
        }
    }

    /// Of `all`, rounded down.
    pub fn down(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Share(percent) => all * percent as usize / 100,
        }
    }
}

impl fmt::Display for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(percent) => write!(f, "\"{percent}%\""),
        }
    }
}

/// A number of instances or a share of them.
struct PortionKind {
    counts: std::ops::RangeInclusive<u64>,
    shares: std::ops::RangeInclusive<u32>,
}

fn portion(counts: std::ops::RangeInclusive<u64>, shares: std::ops::RangeInclusive<u32>) -> PortionKind {
    PortionKind { counts, shares }
}

impl Kind for PortionKind {
    type Value = Portion;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Portion> {
        match value.get_ref() {
            DeValue::String(_) => {
                percent(self.shares.clone()).read(value, place, reading).map(Portion::Share)
            }
            _ => integer(self.counts.clone()).read(value, place, reading).map(Portion::Count), // toml's enum
        }
    }
    fn name(&self) -> String {
        "number or percentage".to_owned()
    }
    fn range(&self) -> String {
        let integers = integer::<u32>(self.counts.clone()).range();
        format!("{integers}, or {}", percent(self.shares.clone()).range())
    }
}

/// With neither a spare instance nor one that may be missing nothing could be replaced.
pub(super) fn judge(deploy: Deploy, table: &Table<'_>, reading: &mut Reading) -> Option<Deploy> {
    let none = |portion| matches!(portion, Portion::Count(0) | Portion::Share(0));
    if deploy.surge.is_some_and(none) && none(deploy.max_unavailable) {
        reading.mistake(
            table.span_of("surge"),
            "`surge` and `max_unavailable` cannot both be 0",
            "no instance may be added and none may be missing",
            "leave `surge` out, or allow max_unavailable = 1",
        );
    }
    Some(deploy)
}
