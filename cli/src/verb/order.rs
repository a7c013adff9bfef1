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
        if watch { deploy::watch(&client, &service).await } else { Ok(ExitCode::SUCCESS) }
    })
}
