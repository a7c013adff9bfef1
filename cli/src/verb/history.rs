//! `everup history SERVICE`: what was deployed when, by whom, and how it ended.

use std::process::ExitCode;

use everup_admin::api::{DeploymentState, DeploymentStatus};
use everup_core::calendar;

use crate::find::{self, Find};
use crate::table::printable;

/// Whose history.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// Print JSON: everything that is remembered
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// The newest first.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, json, find } = args;
    let all = find::block_on(async { Ok(find.connect().await?.deployments(&service).await?) })?;
    if json {
        println!("{}", serde_json::to_string(&all)?);
    } else if all.is_empty() {
        println!("nothing was deployed to {service} yet");
    } else {
        all.iter().for_each(|one| println!("{}", line(one)));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(deployment: &DeploymentStatus) -> String {
    let DeploymentStatus { id, from, to, strategy, by, reason, state, text, began, lasted_seconds, .. } =
        deployment;
    let end = match state {
        DeploymentState::Done => "done".to_owned(),
        DeploymentState::Running
        | DeploymentState::Awaiting
        | DeploymentState::Paused
        | DeploymentState::Held
        | DeploymentState::Keeping
        | DeploymentState::GoingBack
        | DeploymentState::RolledBack => printable(text),
    };
    let reason = if reason.is_empty() { String::new() } else { format!(" ({})", printable(reason)) };
    format!(
        "{}  {id}  {from} -> {to}  {strategy}  by {}{reason}, {lasted_seconds:.0} s: {end}",
        utc(*began),
        printable(by)
    )
}

/// `2026-11-22 13:33:03Z`.
fn utc(seconds: f64) -> String {
    let text = calendar::second_text(seconds.max(0.0) as u64);
    format!("{}Z", String::from_utf8_lossy(&text).replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(utc(0.0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(951_782_400.0), "2000-02-29 00:00:00Z");
        assert_eq!(utc(1_800_000_000.9), "2027-01-15 08:00:00Z");
    }
}
