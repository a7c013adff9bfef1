//! What keeper and worker say to each other. One message is one datagram on a socket pair (`edge/link` carries it);
//! descriptors travel beside the messages that say so.
//!
//! The keeper owns what must not die (listening sockets, instances); the worker decides what to do with them. The
//! keeper starts an instance from its own reading of the configuration: the worker names it and can choose no
//! command of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::InstanceId;
use crate::reload::Change;

/// The number of this protocol. Raised when a message changes its meaning.
pub const PROTOCOL: u32 = 4;

/// A piece of a text in one message, in bytes: far below the link's limit, also with every character escaped.
pub const PIECE_BYTES: usize = 32 * 1024;

/// A text in order, in pieces that fit into messages, cut at character borders.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

/// From worker to keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// Start an instance. One descriptor travels along: the log file that becomes its stdout and stderr.
    Start {
        /// Which one; its service must have a `run` section.
        id: InstanceId,
        /// The port that replaces `{port}`.
        port: u16,
        /// The revision that replaces `{revision}`: letters, digits, `.`, `_`, `-` only, not starting with a dot.
        revision: String,
    },
    /// Signal an instance's whole process group.
    Signal {
        /// Which one.
        id: InstanceId,
        /// What to send.
        signal: StopSignal,
    },
    /// Keep this for the next worker, replacing what was kept before. The keeper does not read it.
    Remember {
        /// At most [`NOTES_BYTES`].
        notes: String,
    },
    /// The worker serves.
    Ready,
    /// The control loop turns. Said at least once a second.
    Alive {
        /// The data-plane thread that has not moved for the longest time, and for how long; None: all move.
        quiet: Option<Quiet>,
    },
    /// Everything is stopped in order; the worker is about to exit with success.
    Finished,
    /// The first word of a worker that has no keeper to one that takes it over. Then come [`ToKeeper::Runs`],
    /// [`ToKeeper::Holds`], [`ToKeeper::Lock`], [`ToKeeper::Instance`], [`ToKeeper::Remember`], and [`ToKeeper::Ready`] as the
    /// last: from then on it is like any other worker.
    Orphan {
        /// [`PROTOCOL`] of the worker.
        protocol: u32,
        /// How many workers were started before it.
        restarts: u32,
    },
    /// A piece of the text of the configuration that it runs by, in order.
    Runs {
        /// To be appended to the text so far.
        piece: String,
    },
    /// Listening sockets travel beside this message, as with [`ToWorker::Sockets`].
    Holds {
        /// What they are for.
        role: SocketRole,
        /// The address they are bound to.
        address: String,
    },
    /// The lock of the state directory travels beside this message.
    Lock,
    /// An instance that runs.
    Instance {
        /// Which one.
        id: InstanceId,
        /// Its process id.
        pid: u32,
        /// The port it was given.
        port: u16,
        /// The revision it was started with.
        revision: String,
    },
    /// Read the configuration file anew and send what it says: see [`ToWorker::NewConfig`]. One at a time is answered,
    /// in the order of asking.
    Reload {
        /// Comes back with the answer.
        ask: u64,
        /// It is only to be looked at: nothing is bound, nothing is to be applied.
        dry: bool,
    },
    /// The worker did what the [`ToWorker::NewConfig`] of this number asked for, or did not and has changed nothing.
    Reloaded {
        /// The number that came with it.
        number: u64,
        /// Why it was not done, in one line.
        refused: Option<String>,
    },
    /// Go on as another binary: see [`ToWorker::Upgraded`]. The keeper looks at the file itself.
    Upgrade {
        /// Comes back with the answer.
        ask: u64,
        /// Where it lies; None: where the running one was started from.
        path: Option<String>,
    },
    /// A worker that got [`ToWorker::Prepare`] has read everything and could begin.
    Prepared,
    /// A worker that got [`ToWorker::Yield`] acts no more: instances and what is stored are nobody's until the keeper says
    /// whose. Its last [`ToKeeper::Remember`] came before.
    Yielded {
        /// It could use the store, so its successor should be able to.
        stores: bool,
    },
}

/// The largest [`ToKeeper::Remember`] in bytes: one datagram must hold it, and 1,000 instances fit.
pub const NOTES_BYTES: usize = 128 * 1024;

/// A data-plane thread that does not move. Every one that can, does many times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// Its number.
    pub thread: usize,
    /// Since when, as far as the control loop was there to see it.
    pub for_ms: u64,
}

/// How an instance is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGTERM: please finish.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// From keeper to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message. To a worker that is born: then [`ToWorker::Sockets`] messages follow, then [`ToWorker::Begin`]. To
    /// one that serves without a keeper: the question whether it may be taken over, answered with [`ToKeeper::Orphan`].
    Hello {
        /// [`PROTOCOL`] of the keeper.
        protocol: u32,
        /// The path the configuration was read from.
        config_path: String,
        /// The keeper's process id.
        keeper_pid: u32,
        /// How many workers this keeper has started before this one.
        restarts: u32,
    },
    /// A piece of the configuration's text as the keeper read and checked it (the file may have changed since), in
    /// order; pieces keep every datagram small.
    ConfigText {
        /// To be appended to the text so far.
        piece: String,
    },
    /// Listening sockets travel beside this message: one per data-plane thread for a listener, one for the others.
    Sockets {
        /// What they are for.
        role: SocketRole,
        /// The address they are bound to, as text (`127.0.0.1:8080`, a path for the admin socket).
        address: String,
    },
    /// An instance that runs already, to be adopted.
    Adopt {
        /// Which one.
        id: InstanceId,
        /// Its process id.
        pid: u32,
        /// The port it was given.
        port: u16,
        /// The revision it was started with.
        revision: String,
    },
    /// What the last worker wanted remembered, if any. At most one, before [`ToWorker::Begin`].
    Notes {
        /// See [`ToKeeper::Remember`].
        notes: String,
    },
    /// The lock of the state directory travels beside this message: it is held as long as one of both lives. Before
    /// [`ToWorker::Begin`].
    Lock,
    /// What the operator must be told as long as this worker runs by this configuration. At most one, before
    /// [`ToWorker::Begin`].
    Warning {
        /// In one line.
        text: String,
    },
    /// Everything was handed over: begin.
    Begin,
    /// Instead of [`ToWorker::Begin`]: another worker serves still. Do all that can fail and that nobody notices, then say
    /// [`ToKeeper::Prepared`] and wait: [`ToWorker::Adopt`], [`ToWorker::Notes`] and [`ToWorker::Predecessor`] come anew as they
    /// are then, and [`ToWorker::Begin`].
    Prepare,
    /// A worker that has the same sockets finishes what it has. One descriptor travels along: a line to it (see
    /// [`crate::succession`]). Before [`ToWorker::Begin`], or later.
    Predecessor {
        /// Its process id.
        pid: u32,
        /// The everup that it is.
        everup: String,
        /// It could use the store until it yielded; None: it yielded long ago.
        stores: Option<bool>,
    },
    /// What became of an upgrade.
    Upgraded {
        /// Of the [`ToKeeper::Upgrade`] that asked for it.
        ask: u64,
        /// Why everything is as before, in one line.
        refused: Option<String>,
        /// The everup that the keeper is now.
        everup: String,
        /// The worker that serves now.
        worker_pid: u32,
    },
    /// Stop acting, let go of what is stored, send notes, say [`ToKeeper::Yielded`]. Traffic goes on. One descriptor travels
    /// along: a line to who is to take over.
    Yield,
    /// Act again, as if you had not been told [`ToWorker::Yield`].
    TakeBack,
    /// Another worker serves now. Accept nothing any more, finish what you have, exit. One descriptor may travel along: a line to
    /// another successor, in the place of the one from before.
    Leave,
    /// An instance was started.
    Started {
        /// Which one.
        id: InstanceId,
        /// Its process id.
        pid: u32,
    },
    /// An instance could not be started.
    StartFailed {
        /// Which one.
        id: InstanceId,
        /// In words for the operator, with what to do.
        reason: String,
    },
    /// An instance's process ended and was reaped.
    Exited {
        /// Which one.
        id: InstanceId,
        /// Its process id.
        pid: u32,
        /// How.
        status: ExitStatus,
    },
    /// What the processes of a service are started with, if that is of an older configuration than the text: at most
    /// one for a service, before [`ToWorker::Begin`].
    Revision {
        /// Which one.
        service: Arc<str>,
        /// The revision of its processes.
        revision: String,
    },
    /// A difference between what runs and the configuration that comes with [`ToWorker::NewConfig`].
    Change {
        /// Which.
        change: Change,
    },
    /// Sockets that the worker has already serve this listener address (or the metrics) of the new configuration.
    /// Listening sockets of which this is not said serve none.
    Kept {
        /// What they were for.
        before: SocketRole,
        /// What they are for in the new configuration.
        now: SocketRole,
    },
    /// A configuration to change to. Before it come its [`ToWorker::ConfigText`], every [`ToWorker::Change`], which
    /// sockets are [`ToWorker::Kept`] and the new [`ToWorker::Sockets`]. Answered with [`ToKeeper::Reloaded`], unless it
    /// is refused or dry.
    NewConfig {
        /// Counts what the keeper has sent.
        number: u64,
        /// Of the [`ToKeeper::Reload`] that asked for it; None: the operator's signal, or the file changed.
        ask: Option<u64>,
        /// It is only to be looked at.
        dry: bool,
        /// The keeper cannot use it, for this reason; if the text is at fault, reading it tells more.
        refused: Option<String>,
    },
    /// The keeper has taken over the configuration of this number: the next worker begins with it.
    Committed {
        /// Of its [`ToWorker::NewConfig`].
        number: u64,
    },
    /// Stop everything in order, then say [`ToKeeper::Finished`] and exit.
    Shutdown {
        /// The operator asked twice: do not wait for requests in flight.
        hasten: bool,
    },
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SocketRole {
    /// The `bind`-th address of the `listener`-th listener of the configuration, counted from 0.
    Listener {
        /// Index into `Config::listeners`.
        listener: usize,
        /// Index into its `bind`.
        bind: usize,
    },
    /// The admin unix socket.
    Admin,
    /// The metrics address.
    Metrics,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It was no child of the process that saw it end: only a parent is told how.
    Unknown,
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => f.write_str("ended, and nobody was told how"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_pieces_between_characters_and_nothing_is_lost() {
        let text = "x".to_owned() + &"ü".repeat(PIECE_BYTES);
        let parts: Vec<_> = pieces(&text).collect();
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(parts.concat(), text);
        assert_eq!(pieces("").count(), 0);
    }
}
