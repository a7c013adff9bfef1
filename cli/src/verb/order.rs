//! `everup promote`, `pause`, `resume`, `abort` and `rollback SERVICE`: orders about a deployment.

use std::process::ExitCode;

use crate::find::{self, Find};
use crate::verb::deploy;

/// Which service.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// Watch the deployment from then on, as `everup deploy` does
    #[arg(long, short)]
    watch: bool,
    /// Print the answer as JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if there is nothing to which the order applies; with `--watch` as `everup deploy`.
pub(crate) fn run(verb: &str, args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, watch, json, find } = args;
    find::block_on(async {
        let client = find.connect().await?;
        let answer = client.order(&service, verb, &deploy::user()).await?;
        if json {
            println!("{}", serde_json::to_string(&answer)?);
        } else {
            println!("{service}: {}", answer.message);
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        // A rollback of what ended long ago is a deployment forward to the revision before.
        let goes_back = verb == "abort" || verb == "rollback" && answer.message.starts_with("goes back");
        deploy::watch(&client, &service, goes_back).await
    })
}
