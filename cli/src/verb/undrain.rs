//! `everup undrain SERVICE INSTANCE`: a drained instance takes requests again.

use std::process::ExitCode;

use everup_core::ids::InstanceId;

use crate::find::{self, Find};

/// Which instance.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// The instance, as `everup status` names it: `shop-1`, or the address of a fixed one
    instance: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if there is no such instance.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, instance, json, find } = args;
    let id = InstanceId::new(service, instance);
    let answer = find::block_on(async { Ok(find.connect().await?.undrain(&id).await?) })?;
    if json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!("{id}: {}", answer.message);
    }
    Ok(ExitCode::SUCCESS)
}
