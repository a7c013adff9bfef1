//! `everup plan`: what a reload would change, when, and which connections it touches. Nothing is changed.

use std::process::ExitCode;

use crate::changes;
use crate::find::{self, Find};

/// How to say it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if the file has mistakes.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { json, find } = args;
    let answer = find::block_on(async { Ok(find.connect().await?.plan().await) })?;
    match answer {
        Ok(plan) if json => println!("{}", serde_json::to_string(&plan)?),
        Ok(plan) if plan.changes.is_empty() => println!("a reload would change nothing"),
        Ok(plan) => print!("{}{}", changes::table(&plan.changes), changes::summary(&plan.changes)),
        Err(error) => return changes::refused(error, json),
    }
    Ok(ExitCode::SUCCESS)
}
