//! The `everup` binary: reads the command line and hands over to the verb. Every verb has its file in `verb/`.
//!
//! Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong usage, 4 held (done, but not by
//! everyone yet); of a deployment that is watched also 3 rolled back, 4 held, 130 left.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod changes;
mod diagnostics;
mod events;
mod find;
mod live;
mod log;
mod place;
mod sample_app;
mod table;
mod verb;

/// Keeps a service up: balances its traffic over its instances, notices failures and loses no request.
#[derive(Parser)]
#[command(
    name = "everup",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start everup with a configuration file and keep it running until Ctrl-C
    Run(verb::run::Args),
    /// Read a configuration file and tell every mistake in it
    Check(verb::check::Args),
    /// Change to what the configuration file says now, without losing a request
    Reload(verb::reload::Args),
    /// Go on as another binary: no request is lost, and instances run on
    Upgrade(verb::upgrade::Args),
    /// Tell what a reload or a deployment would do, and which connections that touches
    Plan(verb::plan::Args),
    /// Show listeners, services and instances, their states and the load
    Status(verb::status::Args),
    /// Watch services, instances and last events live, with keys to drain
    #[cfg(feature = "top")]
    Top(verb::top::Args),
    /// Give an instance no new requests and wait until what it has is finished
    Drain(verb::drain::Args),
    /// Give a drained instance requests again
    Undrain(verb::undrain::Args),
    /// Tell what happened to a request, or why a deployment did what it did
    Explain(verb::explain::Args),
    /// Give an instance another share of the requests, until everup is started anew
    Weight(verb::weight::Args),
    /// Replace what a service runs by another revision, without losing a request
    Deploy(verb::deploy::Args),
    /// Let a deployment go on that waits for you or for the time to pass
    Promote(verb::order::Args),
    /// Let a deployment take no further step
    Pause(verb::order::Args),
    /// Let a paused or held deployment go on
    Resume(verb::order::Args),
    /// Give up a deployment: the old revision gets everything back
    Abort(verb::order::Args),
    /// Go back to the revision before, during a deployment or after it
    Rollback(verb::order::Args),
    /// Let no deployment of a service begin; going back stays possible
    Lock(verb::lock::Args),
    /// Let deployments of a service begin again
    Unlock(verb::lock::UnlockArgs),
    /// Tell what was deployed when, by whom, and how it ended
    History(verb::history::Args),
    /// Put everup, or any other proxy, under load, break something, count what is lost
    Drill(Box<verb::drill::Args>),
    /// Be the small application that the quickstart runs
    SampleApp(verb::sample_app::Args),
    /// Print every setting with its type, default, range and reason
    Reference(verb::reference::Args),
    /// Print completions for a shell
    Completion(verb::completion::Args),
    /// The process that carries the traffic; started by `everup run` only
    #[command(hide = true)]
    Worker(verb::worker::Args),
    /// Run a hook of a deployment; started by the worker only
    #[command(hide = true)]
    Hook(verb::hook::Args),
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().verb {
        Verb::Run(args) => verb::run::run(args),
        Verb::Check(args) => verb::check::run(args),
        Verb::Reload(args) => verb::reload::run(args),
        Verb::Upgrade(args) => verb::upgrade::run(args),
        Verb::Plan(args) => verb::plan::run(args),
        Verb::Status(args) => verb::status::run(args),
        #[cfg(feature = "top")]
        Verb::Top(args) => verb::top::run(args),
        Verb::Drain(args) => verb::drain::run(args),
        Verb::Undrain(args) => verb::undrain::run(args),
        Verb::Explain(args) => verb::explain::run(args),
        Verb::Weight(args) => verb::weight::run(args),
        Verb::Deploy(args) => verb::deploy::run(args),
        Verb::Promote(args) => verb::order::run("promote", args),
        Verb::Pause(args) => verb::order::run("pause", args),
        Verb::Resume(args) => verb::order::run("resume", args),
        Verb::Abort(args) => verb::order::run("abort", args),
        Verb::Rollback(args) => verb::order::run("rollback", args),
        Verb::Lock(args) => verb::lock::lock(args),
        Verb::Unlock(args) => verb::lock::unlock(args),
        Verb::History(args) => verb::history::run(args),
        Verb::Drill(args) => verb::drill::run(*args),
        Verb::SampleApp(args) => verb::sample_app::run(args),
        Verb::Reference(args) => verb::reference::run(args),
        Verb::Completion(args) => verb::completion::run(args, CommandLine::command()),
        Verb::Worker(args) => verb::worker::run(args),
        Verb::Hook(args) => verb::hook::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("everup: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_verb_that_is_shown_says_what_it_does_in_one_line() {
        for verb in CommandLine::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.contains('\n') && about.len() <= 80, "{}", verb.get_name());
        }
    }
}
