//! `everup history SERVICE`: what was deployed when, by whom, and how it ended.

use std::process::ExitCode;

use everup_admin::api::{DeploymentState, DeploymentStatus};

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

/// `2026-11-22 13:33:03Z`, by the civil calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn utc(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
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
