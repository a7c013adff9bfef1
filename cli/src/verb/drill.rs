//! `everup drill`: load, and on purpose what usually breaks things, in the middle of it; then the books. Either against the
//! running everup, with events that it takes part in, or against any other proxy (`--url`) while a command changes that one.
//! It tells beforehand what it will do, and asks.

mod asking;
mod event;
mod field;
mod load;
mod options;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use everup_drill::{Change, Event, GameDay, Report, Shell, game_day, limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

pub(crate) use options::{Args, Options};

use field::Everup;
use options::Purpose;

/// How long everup may take until the consequences of an event are over.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the end of a command may take beyond its own bound.
const END_OF_COMMAND: Duration = Duration::from_secs(5);

/// Exit 0 if nothing was lost and every event took place, else 1.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { options, find } = args;
    match options.purpose() {
        Purpose::OwnEverup => against(&find.admin_path()?, &options),
        Purpose::Proxy { url, command } => against_proxy(url, command, &options),
    }
}

/// Drills the everup behind the admin socket `admin`, once its service is up, and prints the report. Blocks; not to
/// be called from async code.
pub(crate) fn against(admin: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let everup = Rc::new(Everup::connect(admin)?);
    let field = everup.field(options.service.as_deref())?;
    let events = options.events();
    let mut changes: Vec<Box<dyn Change>> = Vec::new();
    for event in &events {
        event.check(&everup, &field)?;
        changes.push(event.change(&everup, &field, options));
    }
    let lasting = options.lasting(events.len())?;
    let (load, talks) = load::against_field(&field, options)?;
    let told = asking::about_everup(&everup, &field, &events, options, lasting)?;
    let day = GameDay { load, talks, warm_up: options.warm_up(), every: options.every(), patience: PATIENCE };
    let title = format!("everup drill: {}", field.service);
    hold(day, &mut changes, (&told, &title), options)
}

/// Drills another proxy while `command` changes it.
fn against_proxy(url: &str, command: &str, options: &Options) -> anyhow::Result<ExitCode> {
    let lasting = options.lasting(1)?;
    let (load, talks) = load::against_url(url, options)?;
    let bound = options.command_time();
    let mut changes: Vec<Box<dyn Change>> = vec![Box::new(Shell::new(command, bound))];
    let told = asking::about_proxy(url, command, options, lasting);
    let patience = bound + END_OF_COMMAND;
    let day = GameDay { load, talks, warm_up: options.warm_up(), every: options.every(), patience };
    hold(day, &mut changes, (&told, &format!("drill: {url} while {command}")), options)
}

/// Asks, holds it, and reports.
fn hold(
    day: GameDay,
    changes: &mut [Box<dyn Change>],
    (told, title): (&str, &str),
    options: &Options,
) -> anyhow::Result<ExitCode> {
    // What cannot be written should be known before anything happens.
    let picture = options.svg.as_ref().map(|path| {
        let file = File::create(path);
        file.with_context(|| format!("cannot write {}", path.display()))
    });
    let picture = picture.transpose()?;
    if !asking::agreed(told, options)? {
        return Ok(ExitCode::FAILURE);
    }
    raise_descriptors();
    let interrupted = interruptible()?;
    let tell = |event: &Event| {
        if !options.json {
            eprintln!("{:6.1} s  {}: {}", event.at.as_secs_f64(), event.name, outcome(event));
        }
    };
    let report = game_day(day, changes, options.times(), &interrupted, tell)?;
    print(&report, options.json)?;
    if let Some(mut picture) = picture {
        picture.write_all(report.svg(title).as_bytes()).context("cannot write the picture")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcome(event: &Event) -> String {
    let first = |words: &String| words.lines().next().unwrap_or_default().to_owned();
    match &event.trouble {
        Some(trouble) => format!("FAILED: {}", first(trouble)),
        None => event.words.iter().map(first).collect::<Vec<_>>().join("; "),
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(&report.to_json())?);
    } else {
        print!("{}", report.text(std::io::stdout().is_terminal()));
    }
    Ok(())
}

/// The first Ctrl-C (or SIGTERM) ends the drill in order: nothing stays frozen or drained. The second ends it at once.
fn interruptible() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

/// Takes as many descriptors as are allowed: a request that is not sent for want of one would be counted as lost.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused: then the limit stays as it was, and the books tell.
    let _as_before = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

impl Options {
    /// How long the drill takes about, if that is possible.
    fn lasting(&self, events: usize) -> anyhow::Result<Duration> {
        let each = self.every().as_secs_f64() * f64::from(self.times()) * events as f64;
        let whole = self.warm_up().as_secs_f64() + each;
        limits::WHOLE.check(whole).with_context(|| {
            format!(
                "{} of {events} event{} every {} s would take {whole:.0} s",
                crate::table::counted(u64::from(self.times()), "round"),
                if events == 1 { "" } else { "s" },
                self.every().as_secs_f64()
            )
        })?;
        Ok(Duration::from_secs_f64(whole))
    }
}
