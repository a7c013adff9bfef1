//! `[node]`: this host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::kind::{duration, flag, integer, optional, or_word, own_address, path, text, word};
use super::reading::Refusal;
use super::section::section;

section! {
    /// This host: where everup keeps its state and where it can be reached.
    pub struct Node {
        /// The name of this host in status, metrics and logs.
        pub name: Option<String> = optional(text("name", "1 to 253 of A-Z a-z 0-9 . _ -", node_name)),
            default unset "the host name", because "253 is the longest host name";
        /// The directory of everup's state: logs of instances, the key of sticky cookies, the admin socket.
        pub state: Option<PathBuf> = optional(path()),
            default unset "`$EVERUP_STATE` (the systemd unit sets it), else `/var/lib/everup` as root, else `$XDG_STATE_HOME/everup` (`~/.local/state/everup`)",
            because "one everup runs on one state directory; a second is refused";
        /// The unix socket of the API, which only its owner may use. Never TCP: whoever reaches it can run commands.
        pub admin: Option<PathBuf> = optional(text("path", "a path of at most 107 bytes", admin_path)),
            default unset "`admin.sock` in the state directory",
            because "Linux takes at most 107 bytes for the path of a unix socket";
        /// Where `/metrics`, `/healthz` and `/readyz` are served, read-only, over HTTP.
        pub metrics: Option<SocketAddr> = or_word("off", own_address("`node.metrics`")),
            default "off", because "nothing listens that nobody asked for";
        /// How many threads carry traffic.
        pub threads: Option<usize> = optional(integer(1..=256)),
            default unset "one for each core",
            because "a thread fills a core; more of them than cores only take turns";
        /// Reads and writes of many connections go to the kernel in one io_uring call. Where it has none, or none for
        /// everup, they are made one by one, as with `false`.
        pub io_uring: bool = flag(), default true,
            because "a system call of its own for every read and write costs a tenth more CPU; some policies forbid io_uring";
        /// The user that the worker and the instances run as when everup is started as root.
        pub user: Option<String> = optional(text("name of a user", "1 to 32 of A-Z a-z 0-9 . _ -", user_name)),
            default unset "as root: `everup` if that user exists, else root; otherwise whoever starts everup",
            because "what reads from the internet needs no privileges";
        /// How long the worker, or one of its threads, may show no life before the keeper kills it and starts another one. Time
        /// in which the keeper itself did not run does not count.
        pub watchdog: Option<Duration> = or_word("off", duration(2_000..=3_600_000)),
            default "10s", because "no work of a worker takes a second; what hangs for ten will not come back";
    }
    later { store = "embedded" }
}

fn name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

fn node_name(name: &str) -> Result<String, Refusal> {
    word(name, 253, name_letter, "A-Z a-z 0-9 . _ -")
}

/// Also for `run.user`.
pub(super) fn user_name(name: &str) -> Result<String, Refusal> {
    if name.starts_with('-') {
        return Err(Refusal::new("starts with -", "write the name of a user of this host"));
    }
    word(name, 32, name_letter, "A-Z a-z 0-9 . _ -")
}

/// `sun_path` has 108 bytes, the last of which is NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

fn admin_path(path: &str) -> Result<PathBuf, Refusal> {
    match path {
        "" => Err(Refusal::new("empty", "write a path, or leave it out")),
        _ if path.contains('\0') => Err(Refusal::new("has a NUL", "no path can have one")),
        _ if path.parse::<SocketAddr>().is_ok() => {
            Err(Refusal::new("an address", "the API is served at a unix socket only: write a path"))
        }
        _ if path.len() > MAX_SOCKET_PATH => {
            Err(Refusal::new(format!("{} bytes", path.len()), format!("at most {MAX_SOCKET_PATH} bytes")))
        }
        _ => Ok(PathBuf::from(path)),
    }
}
