//! `everup run FILE`: reads the configuration, decides where everup lives, and becomes the keeper until it is told to
//! stop. Nothing is bound or started before the configuration is valid.

mod drilled;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use everup_core::config::{self, Config};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::diagnostics;
use crate::place::Place;
use crate::verb::worker;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Once every instance is up, drill it, stop everything and exit with the drill's result
    #[arg(long)]
    drill: bool,
    /// Look at the file every second, and reload it when it has changed
    #[arg(long)]
    watch: bool,
    /// Be the everup that `run --drill` drills: no live line, and end with this parent process
    #[arg(long, hide = true, value_name = "PID")]
    drilled_by: Option<u32>,
    /// Go on where another binary left off that was this process
    #[arg(long, hide = true)]
    upgraded: bool,
    /// Say whether that would work, for the keeper's state that is standard input
    #[arg(long, hide = true, requires = "upgraded")]
    prove: bool,
}

/// Exit 0 when everything was stopped in order.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { file, drill, watch, drilled_by, upgraded, prove } = args;
    if prove {
        return say_proof();
    }
    if upgraded {
        everup_keeper::resume()?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let config = match config::parse(&text) {
        Ok(config) => config,
        Err(mistakes) => {
            diagnostics::print(&file, &text, &mistakes);
            return Ok(ExitCode::FAILURE);
        }
    };
    let path = std::path::absolute(&file).with_context(|| format!("cannot locate {}", file.display()))?;
    let place = Place::of(&config, &path);
    if drill {
        return drilled::run(&path, &place);
    }
    if let Some(parent) = drilled_by {
        end_with(parent)?;
    }
    let options = options(&file, path, text, config, place, drilled_by.is_none())?;
    everup_keeper::run(everup_keeper::Options { watch, ..options })?;
    Ok(ExitCode::SUCCESS)
}

fn say_proof() -> anyhow::Result<ExitCode> {
    let proof = everup_keeper::prove(std::io::stdin().lock(), worker::understands);
    println!("{}", serde_json::to_string(&proof)?);
    Ok(ExitCode::SUCCESS)
}

fn options(
    file: &Path,
    config_path: PathBuf,
    config_text: String,
    config: Config,
    place: Place,
    talks: bool,
) -> anyhow::Result<everup_keeper::Options> {
    let Place { state, admin } = place;
    if let Some(parent) = state.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let worker = worker::Args {
        live: talks,
        greet: talks,
        called: called(),
        file: file.display().to_string(),
        state: state.clone(),
    };
    Ok(everup_keeper::Options {
        threads: config.node.threads.unwrap_or_else(cores),
        config_path,
        config_text,
        config,
        state,
        admin,
        everup: std::env::current_exe().context("cannot tell where this program lies")?,
        worker: PathBuf::from("/proc/self/exe"),
        worker_arguments: worker.to_command_line(),
        watch: false,
    })
}

/// How the operator can call this binary again: by its name if it was found by that, else by its path.
fn called() -> String {
    let first = std::env::args_os().next();
    let first = first.as_deref().unwrap_or_else(|| OsStr::new("everup"));
    // An init system starts us in `/`, from where everything would be relative.
    let here = std::env::current_dir().ok().filter(|here| here.parent().is_some());
    let shown =
        here.and_then(|here| Path::new(first).strip_prefix(here).ok()).unwrap_or_else(|| Path::new(first));
    shown.display().to_string()
}

/// Ends this process in order when its parent ends, however that ends.
fn end_with(parent: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot watch the parent process")?;
    // It may have ended before we asked to be told.
    let same = getppid().is_some_and(|now| u32::try_from(now.as_raw_nonzero().get()) == Ok(parent));
    if same { Ok(()) } else { Err(anyhow::anyhow!("the drill that asked for this everup has ended")) }
}
