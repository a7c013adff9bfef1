//! The keeper: the parent process, which owns what must not die and does nothing else.
//!
//! It binds every listening socket, starts the worker and gives it the sockets, starts and reaps the instances that
//! the worker names, and puts a new worker in the place of one that died: same sockets (new connections wait in the
//! accept queue meanwhile), same instances. It reads nothing from clients, decides nothing about traffic or health,
//! and trusts the worker, which reads the internet, with nothing but the names of instances it may start.
//!
//! One thread, one poll loop, small enough to read in one sitting: `lock.rs` (one keeper per state directory),
//! `ownership.rs` (whose that is), `sockets.rs` (everything that is bound), `users.rs` (whose rights children get),
//! `spawn.rs` (how they are started), `order.rs` (what the worker may ask for), `worker.rs` (what it is told),
//! `reload.rs` (another configuration), `notify.rs` and `activation.rs` (what the init system is told, and gives us),
//! `signals.rs`, `keeper.rs` (the loop).

mod activation;
mod keeper;
mod lock;
mod notify;
mod order;
mod ownership;
mod reload;
mod signals;
mod sockets;
mod spawn;
mod users;
mod worker;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use everup_core::config::Config;
use everup_core::keeper::ExitStatus;
use everup_link::LinkError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::keeper::Keeper;
use crate::lock::StateLock;
use crate::signals::Signals;
use crate::sockets::Held;

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

/// Why the keeper could not begin or did not end in order. All but the last three are the operator's to repair, and
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
    let _lock = StateLock::take(&options.state, users.worker())?;
    let held = Held::bind(&options, given)?;
    let signals = Signals::catch()?;
    spawn::adopt_orphans()?;
    Keeper::new(options, users, held, signals).run()
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
