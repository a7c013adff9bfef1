//! What the admin API tells of what happened lately: `GET /v1/events`. Part of [`crate::api`].

use serde::{Deserialize, Serialize};

/// What happened lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The number of the newest event there is: what to ask `after` next.
    pub last: u64,
    /// Those asked for that are still remembered, the oldest first.
    pub events: Vec<Event>,
}

/// One thing that happened to an instance, to a service, or to everup itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number. Of one worker, the next event's is one higher; a later worker's are all higher.
    pub number: u64,
    /// When: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// What kind of thing.
    pub kind: EventKind,
    /// The service; none: it happened to everup itself.
    pub service: Option<String>,
    /// The instance; none: it happened to everup itself.
    pub instance: Option<String>,
    /// The generation of the table in force when it was noted: the one in which it counts.
    pub table: u64,
    /// What happened, in words for people, without the instance's name.
    pub text: String,
}

/// The kinds of events. Later versions may add some: a reader takes what it does not know for [`EventKind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// everup began to serve.
    WorkerStarted,
    /// A worker died and another one took its place.
    WorkerReplaced,
    /// The control code failed inside and began anew; traffic went on.
    ControllerReplaced,
    /// everup goes by another configuration.
    Reloaded,
    /// everup goes on as another binary.
    Upgraded,
    /// Workers died with a new configuration: everup goes by the one before.
    FellBack,
    /// The keeper has died; the worker serves on.
    KeeperGone,
    /// There is a keeper again.
    KeeperBack,
    /// everup was told to stop.
    Stopping,
    /// An instance takes requests (again).
    Up,
    /// It failed.
    Down,
    /// It answers badly while others do not.
    Ejected,
    /// Nothing is known of it any more.
    Unknown,
    /// It was drained; requests are being finished.
    Draining,
    /// It was drained, and nothing is in flight on it.
    Drained,
    /// It has another weight, by order.
    Weighed,
    /// Its process was started.
    Starting,
    /// Its process had ended by itself and was started again.
    Restarted,
    /// Its process ended; it is started again after a pause.
    Backoff,
    /// Its process ends soon after every start.
    CrashLooping,
    /// Its process was stopped on purpose.
    Stopped,
    /// It works, but a deployment gives it no requests.
    Standby,
    /// A deployment of the service took a step.
    Deployment,
    /// Of a kind that this version does not know.
    #[serde(other)]
    Other,
}
