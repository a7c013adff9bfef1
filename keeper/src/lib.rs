//! The keeper: the parent process, which owns what must not die and does nothing else.
//!
//! It binds every listening socket, starts the worker and gives it the sockets, starts and reaps the instances that
//! the worker names, and puts a new worker in the place of one that died: same sockets (new connections wait in the
//! accept queue meanwhile), same instances. It reads nothing from clients, decides nothing about traffic or health,
//! and trusts the worker, which reads the internet, with nothing but the names of instances it may start.
//!
//! One thread, one poll loop, small enough to read in one sitting: `lock.rs` (one keeper per state directory),
//! `ownership.rs` (whose that is), `sockets.rs` (everything that is bound), `users.rs` (whose rights children get),
//! `adopt.rs` (a worker from before this keeper), `spawn.rs` (how they are started), `order.rs` (what the worker may ask for),
//! `worker.rs` (what it is told), `reload.rs` (another configuration), `fallback.rs` (and back), `watchdog.rs` (whether a
//! worker hangs), `upgrade.rs` (another binary; with `candidate.rs`, whether it may be executed, and `state.rs`, what goes
//! through the exec), `notify.rs` and `activation.rs` (what the init system is told, and gives us), `signals.rs`, `keeper.rs`
//! (the loop).

mod activation;
mod adopt;
mod candidate;
mod fallback;
mod keeper;
mod lock;
mod notify;
mod order;
mod ownership;
mod reload;
mod signals;
mod sockets;
mod spawn;
mod state;
mod upgrade;
mod users;
mod watchdog;
mod worker;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use everup_core::config::Config;
use everup_core::keeper::ExitStatus;
use everup_core::upgrade::Proof;
use everup_link::LinkError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::keeper::Keeper;
use crate::lock::StateLock;
use crate::signals::Signals;
use crate::sockets::Held;

/// The version of this everup.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the keeper works with. The configuration is valid; paths are absolute.
#[derive(Debug)]
pub struct Options {
    /// Where the configuration was read. Relative paths in it start from its directory.
    pub config_path: PathBuf,
    /// Its text, which the worker gets as it is.
    pub config_text: String,
    /// The same, parsed.
    pub config: Config,
    /// The state directory. Made if needed: 0700, its parents 0755.
    pub state: PathBuf,
    /// The admin unix socket.
    pub admin: PathBuf,
    /// Data-plane threads: so many sockets per listener address. At least 1.
    pub threads: usize,
    /// The path of the running binary, for `{everup}` in instances' commands.
    pub everup: PathBuf,
    /// What to execute as worker: `/proc/self/exe`, so that a binary that was replaced on disk does not get between
    /// a keeper and its next worker.
    pub worker: PathBuf,
    /// Arguments of the worker after the verb `worker`.
    pub worker_arguments: Vec<OsString>,
    /// The file is looked at every second, and read anew when it has changed.
    pub watch: bool,
}

/// Why the keeper could not begin or did not end in order. All but the last four are the operator's to repair, and
/// are found before any process was started.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another keeper has the state directory.
    #[error("another everup (process {pid}) already runs with the state directory {}; stop it, or use another `node.state`", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// The other keeper; `unknown` if it did not say.
        pid: String,
    },
    /// A worker without a keeper serves in the state directory, and this one cannot be its keeper.
    #[error(
        "a worker (process {pid}) serves without a keeper and cannot be taken over: {why}; `kill {pid}` ends it and its instances in order, then start everup again"
    )]
    Adoption {
        /// The worker.
        pid: u32,
        /// Why not.
        why: String,
    },
    /// The state directory cannot be used.
    #[error("the state directory {} cannot be used: {source}; set `node.state` to a directory of your own", path.display())]
    State {
        /// The state directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A listener or metrics address cannot be bound.
    #[error("{what} cannot listen on {address}: {source}; {advice}")]
    Bind {
        /// The setting that names the address.
        what: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// What to do about it.
        advice: String,
    },
    /// The admin socket cannot be bound.
    #[error("the admin socket {} cannot be opened: {reason}", path.display())]
    Admin {
        /// Its path.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A socket that the init system opened for us cannot be used.
    #[error("{what} cannot be used: {reason}")]
    Given {
        /// Which one.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A user of the configuration cannot be used.
    #[error("{setting} = \"{user}\": {reason}")]
    User {
        /// `node.user` or `service.NAME.run.user`.
        setting: String,
        /// Its value.
        user: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The operating system refused something that it never should.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The line to the worker failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The first worker ended before it served, so nothing was ever promised.
    #[error("the worker {0} before it was ready; its own words stand above")]
    NeverReady(ExitStatus),
    /// This process was to go on with what another binary had, and cannot. Its workers see that it is gone.
    #[error("cannot go on after an upgrade: {0}")]
    Resume(String),
    /// Not everything ended within the time for an orderly end, or the operator asked three times.
    #[error("the end was not orderly: {0}")]
    Disorderly(String),
}

/// Runs until everything ended. Ok: in order, after SIGINT or SIGTERM.
pub fn run(options: Options) -> Result<(), KeeperError> {
    spawn::keep_descriptors_to_ourselves()?;
    let given = activation::Given::from_environment()?;
    let users = users::Users::choose(&options.config)?;
    users.warn(&options.config);
    match StateLock::take(&options.state, users.worker()) {
        Ok(lock) => {
            let held = Held::bind(&options, given)?;
            let signals = Signals::catch()?;
            spawn::adopt_orphans()?;
            Keeper::new(options, users, held, lock, signals).run()
        }
        Err(locked @ KeeperError::Locked { .. }) => {
            let mut options = options;
            let file = options.config_text.clone();
            let adopted = adopt::adopt(&mut options, &users, given)?.ok_or(locked)?;
            let signals = Signals::catch()?;
            spawn::adopt_orphans()?;
            Keeper::adopting(options, users, adopted, file, signals).run()
        }
        Err(error) => Err(error),
    }
}

/// Goes on where another binary left off that was this process until it executed this one: `everup run FILE --upgraded`.
pub fn resume() -> Result<(), KeeperError> {
    upgrade::resume()
}

/// Says whether this binary could go on from a keeper's state: `everup run FILE --upgraded --prove`, with the state as
/// `input`. `understands`: whether a worker of this binary takes these arguments.
pub fn prove(input: impl Read, understands: impl FnOnce(&[OsString]) -> Result<(), String>) -> Proof {
    let read = || {
        let mut text = String::new();
        input.take(state::TEXT_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
        let (_, options) = state::State::read(&text)?;
        everup_failpoint::check("upgrade.prove").map_err(|error| error.to_string())?;
        understands(&options.worker_arguments)
    };
    Proof::ours(VERSION, read().err())
}

/// The keeper's words, one line each, on standard error. A terminal that is gone is no reason to die (`eprintln!`
/// would panic), and one that is held (Ctrl-S), or a full pipe, none to let workers and signals wait: what cannot be
/// written now is not written.
fn log(line: &str) {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = writeln!(&stderr, "everup: {line}");
    }
}
