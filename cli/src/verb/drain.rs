//! `everup drain SERVICE INSTANCE`: no new requests for an instance, and wait until those it has are finished.

use std::process::ExitCode;
use std::time::Duration;

use everup_core::ids::InstanceId;

use crate::find::{self, Find};

/// Which instance, and how long to wait for it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// The instance, as `everup status` names it: `shop-1`, or the address of a fixed one
    instance: String,
    /// Answer after this many seconds at the latest [default: the service's drain.time]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if requests are still in flight when the time is over; the instance stays draining.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, instance, wait, json, find } = args;
    let id = InstanceId::new(service, instance);
    let answer = find::block_on(async { Ok(find.connect().await?.drain(&id, wait).await?) })?;
    if json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!("{id}: {}", answer.message);
    }
    Ok(if answer.drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s').parse::<f64>().map_err(|_| "a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "a number of seconds, 0 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("30s"), Ok(Duration::from_secs(30)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err());
    }
}
