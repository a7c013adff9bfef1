//! `everup plan`: what a reload would change, when, and which connections it touches. `everup plan SERVICE REVISION`: what a
//! deployment would do, and whether a request could be lost. Nothing is changed by either.

use std::fmt::Write;
use std::process::ExitCode;

use everup_admin::api::PlanAnswer;

use crate::changes;
use crate::find::{self, Find};

/// What would be reloaded or deployed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Of a deployment: the service. Without one, what a reload would change
    #[arg(requires = "revision")]
    service: Option<String>,
    /// The revision; it replaces {revision} in the service's `command`
    revision: Option<String>,
    /// rolling or blue-green, instead of the configured strategy
    #[arg(long, value_name = "STRATEGY", requires = "revision")]
    strategy: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if the file has mistakes.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, revision, strategy, json, find } = args;
    match (service, revision) {
        (Some(service), Some(revision)) => {
            of_deployment(&service, &revision, strategy.as_deref(), json, find)
        }
        (None | Some(_), _) => of_reload(json, find),
    }
}

fn of_reload(json: bool, find: Find) -> anyhow::Result<ExitCode> {
    let answer = find::block_on(async { Ok(find.connect().await?.plan().await) })?;
    match answer {
        Ok(plan) if json => println!("{}", serde_json::to_string(&plan)?),
        Ok(plan) if plan.changes.is_empty() => println!("a reload would change nothing"),
        Ok(plan) => print!("{}{}", changes::table(&plan.changes), changes::summary(&plan.changes)),
        Err(error) => return changes::refused(error, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn of_deployment(
    service: &str,
    revision: &str,
    strategy: Option<&str>,
    json: bool,
    find: Find,
) -> anyhow::Result<ExitCode> {
    let plan =
        find::block_on(async { Ok(find.connect().await?.plan_deploy(service, revision, strategy).await?) })?;
    if json {
        println!("{}", serde_json::to_string(&plan)?);
    } else {
        print!("{}", in_words(&plan));
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(plan: &PlanAnswer) -> String {
    let PlanAnswer {
        service, from, to, strategy, steps, at_least_seconds, processes, doubts, rollback, ..
    } = plan;
    let mut text = format!("{service}: {from} -> {to}, {strategy}\n");
    for (index, step) in steps.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>3}. {step}", index + 1);
    }
    let _ = writeln!(text, "takes at least {at_least_seconds:.0} s, with up to {processes} processes");
    let _ = writeln!(text, "rollback: {rollback}");
    match doubts.as_slice() {
        [] => text.push_str("zero-downtime: yes\n"),
        doubts => doubts.iter().for_each(|doubt| {
            let _ = writeln!(text, "zero-downtime: no, because {doubt}");
        }),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_like_what_will_be_done() {
        let plan = PlanAnswer {
            service: "shop".into(),
            from: "v1".into(),
            to: "v2".into(),
            strategy: "rolling".into(),
            steps: vec!["start instance 1 of v2".into()],
            at_least_seconds: 3.0,
            processes: 4,
            zero_downtime: false,
            doubts: vec!["the health check only connects".into()],
            rollback: "at once".into(),
        };
        assert_eq!(
            in_words(&plan),
            "shop: v1 -> v2, rolling\n  1. start instance 1 of v2\ntakes at least 3 s, with up to 4 processes\n\
             rollback: at once\nzero-downtime: no, because the health check only connects\n"
        );
        assert!(in_words(&PlanAnswer { doubts: Vec::new(), ..plan }).ends_with("zero-downtime: yes\n"));
    }
}
