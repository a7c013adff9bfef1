//! `everup completion SHELL`: what makes a shell complete everup's verbs and options.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::Shell;

/// For which shell.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell: `source <(everup completion bash)`
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the completions of this command line.
pub(crate) fn run(args: Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "everup", &mut text);
    io::stdout().write_all(&text).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn bash_learns_every_verb() {
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut crate::CommandLine::command(), "everup", &mut text);
        let text = String::from_utf8(text).unwrap();
        for verb in crate::CommandLine::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(text.contains(verb.get_name()), "{}", verb.get_name());
        }
    }
}
