//! `[access_log]`: whether and where every request is written down.

use std::path::PathBuf;

use super::kind::{flag, text};
use super::reading::Refusal;
use super::section::section;

section! {
    /// One line of JSON for every request of an http listener. Traffic never waits for it: lines that cannot be written in
    /// time are dropped and counted (`everup_access_log_dropped_total`).
    pub struct AccessLog {
        /// Where the lines go: nowhere, standard output, or a file, which is made with mode 0640 and opened anew when
        /// something else, or nothing, lies at its path (logrotate needs no signal).
        pub to: LogTo = text("target", "`\"off\"`, `\"stdout\"`, or a path, relative to the directory of the file, or absolute", log_to),
            default "off", because "addresses and paths of users are kept only where somebody wants them";
        /// Whether the path is written with its query.
        pub query: bool = flag(), default false,
            because "queries carry tokens, names and search words, which live longer in a log than anyone means them to";
    }
}

/// Where lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Nowhere.
    Off,
    /// Standard output of the worker, which is that of `everup run`.
    Stdout,
    /// A file; a relative path begins in the directory of the configuration.
    File(PathBuf),
}

fn log_to(text: &str) -> Result<LogTo, Refusal> {
    match text {
        "off" => Ok(LogTo::Off),
        "stdout" => Ok(LogTo::Stdout),
        "" => Err(Refusal::new("empty", "write \"off\", \"stdout\" or a path")),
        "none" | "no" | "false" | "disabled" => Err(Refusal::new("unknown word", "did you mean \"off\"?")),
        "stderr" => Err(Refusal::new("everup's own log goes there", "write \"stdout\" or a path")),
        _ if text.contains('\0') => Err(Refusal::new("has a NUL", "no path can have one")),
        _ if text.ends_with('/') => Err(Refusal::new("a directory", "write the path of a file")),
        _ => Ok(LogTo::File(PathBuf::from(text))),
    }
}
