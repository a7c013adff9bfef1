//! The log of a running everup: one line per event on stderr.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;

use crate::live::Screen;

/// `error`, `warn`, `info` (default), `debug` or `trace`.
const LEVEL_VARIABLE: &str = "EVERUP_LOG";

/// Sends the log of this process to stderr, beside whatever the screen shows.
pub(crate) fn start(screen: Screen) {
    let level = std::env::var(LEVEL_VARIABLE).ok().and_then(|level| LevelFilter::from_str(&level).ok());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(screen)
        .finish();
    // Fails only if there is one already: then the log is taken care of.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
