//! `everup worker` (hidden): the process that carries the traffic, started by the keeper with a link as standard
//! input. It also talks to the operator: greeting, live line and log.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use everup_app::Notice;

use crate::live::{self, Screen};
use crate::log;

/// How `everup run` wants its worker to talk; see [`Args::to_command_line`].
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// Keep a live line if stdout is a terminal
    #[arg(long)]
    pub(crate) live: bool,
    /// Greet once everup serves
    #[arg(long)]
    pub(crate) greet: bool,
    /// How the operator called the binary
    #[arg(long, default_value = "everup")]
    pub(crate) called: String,
    /// The configuration file as the operator named it
    #[arg(long, default_value = "everup.toml")]
    pub(crate) file: String,
    /// The state directory
    #[arg(long)]
    pub(crate) state: PathBuf,
}

impl Args {
    /// What the keeper puts behind `everup worker`.
    pub(crate) fn to_command_line(&self) -> Vec<OsString> {
        let Self { live, greet, called, file, state } = self;
        let mut line: Vec<OsString> =
            vec![format!("--called={called}").into(), format!("--file={file}").into()];
        line.extend(["--state".into(), state.into()]);
        if *live {
            line.push("--live".into());
        }
        if *greet {
            line.push("--greet".into());
        }
        line
    }
}

/// Whether a worker takes this command line, which an everup of another version may have written.
pub(crate) fn understands(line: &[OsString]) -> Result<(), String> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        _args: Args,
    }
    let line = std::iter::once("worker".into()).chain(line.iter().cloned());
    let understood = <Line as clap::Parser>::try_parse_from(line);
    understood.map(drop).map_err(|error| {
        let words = error.to_string();
        format!(
            "its worker does not understand how it is called: {}",
            words.lines().next().unwrap_or_default()
        )
    })
}

/// Returns when everything was stopped in order.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { live, greet, called, file, state } = args;
    let link = everup_app::Link::inherited()?;
    let screen = Screen::new(live);
    log::start(screen.clone());
    let shown = screen.clone();
    let done = everup_app::run_worker(
        link,
        &state,
        Box::new(move |notice| match notice {
            Notice::Serving(status) if greet => shown.say(&live::greeting(status, &called, &file)),
            Notice::Serving(_) => {}
            Notice::Summary(status) => shown.show(&live::summary(status)),
            Notice::Succeeded => shown.retire(),
            Notice::Stopped => {
                shown.clear();
                if greet {
                    shown.say("stopped\n");
                }
            }
        }),
    );
    screen.clear();
    done?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Args;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_worker_reads_back_what_run_wrote() {
        let args = Args {
            live: true,
            greet: false,
            called: "./everup".into(),
            file: "-odd name.toml".into(),
            state: "/var/lib/x".into(),
        };
        let line = std::iter::once("worker".into()).chain(args.to_command_line());
        assert_eq!(Line::parse_from(line).args, args);
    }
}
