//! `everup lock` and `everup unlock SERVICE`: keep new revisions from a service, and let them come again.

use std::process::ExitCode;

use crate::find::{self, Find};
use crate::verb::deploy;

/// Which service, and why.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// Why: whoever is refused a deployment is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Which service.
#[derive(clap::Args)]
pub(crate) struct UnlockArgs {
    /// The service, as the configuration names it
    service: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if it is locked already.
pub(crate) fn lock(Args { service, reason, json, find }: Args) -> anyhow::Result<ExitCode> {
    let by = deploy::user();
    let answer =
        find::block_on(async { Ok(find.connect().await?.lock(&service, &by, reason.as_deref()).await?) })?;
    tell(&service, &answer, json)
}

/// Exit 1 if it is not locked.
pub(crate) fn unlock(UnlockArgs { service, json, find }: UnlockArgs) -> anyhow::Result<ExitCode> {
    let by = deploy::user();
    let answer = find::block_on(async { Ok(find.connect().await?.order(&service, "unlock", &by).await?) })?;
    tell(&service, &answer, json)
}

fn tell(service: &str, answer: &everup_admin::api::Done, json: bool) -> anyhow::Result<ExitCode> {
    match json {
        true => println!("{}", serde_json::to_string(answer)?),
        false => println!("{service}: {}", answer.message),
    }
    Ok(ExitCode::SUCCESS)
}
