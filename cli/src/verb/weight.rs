//! `everup weight SERVICE INSTANCE N`: another share for an instance, without touching the configuration. It holds until
//! everup is started anew.

use std::process::ExitCode;

use everup_core::ids::InstanceId;

use crate::find::{self, Find};

/// Which instance, and its weight.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// The instance, as `everup status` names it: `shop-1`, or the address of a fixed one
    instance: String,
    /// Its share beside the others', 1 to 256
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    weight: u32,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if there is no such instance, or its service does not heed weights.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, instance, weight, json, find } = args;
    let id = InstanceId::new(service, instance);
    let answer = find::block_on(async { Ok(find.connect().await?.weigh(&id, weight).await?) })?;
    if json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!("{id}: {}", answer.message);
    }
    Ok(ExitCode::SUCCESS)
}
