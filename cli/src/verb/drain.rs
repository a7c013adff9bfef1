//! `everup drain SERVICE INSTANCE`: no new requests for an instance, and wait until those it has are finished and
//! its WebSockets closed.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use everup_admin::Client;
use everup_core::ids::InstanceId;

use crate::find::{self, Find};
use crate::table::counted;

/// How often is told what is left.
const LOOK: Duration = Duration::from_secs(1);

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
    let answer = find::block_on(async {
        let client = find.connect().await?;
        tokio::select! {
            answer = client.drain(&id, wait) => Ok(answer?),
            never = tell_what_is_left(&client, &id), if !json => match never {},
        }
    })?;
    if json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!("{id}: {}", answer.message);
    }
    Ok(if answer.drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells every second, if it changed, what the instance has still to finish. Nobody is told what could not be learned: the
/// answer to the drain will say it.
async fn tell_what_is_left(client: &Client, id: &InstanceId) -> Infallible {
    let mut told = None;
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
    loop {
        interval.tick().await;
        let Ok(status) = client.status().await else { continue };
        let services = status.services.iter().filter(|service| service.name == *id.service);
        let mut instances = services.flat_map(|service| &service.instances);
        let Some(instance) = instances.find(|instance| instance.name == *id.instance) else { continue };
        let left = (instance.in_flight.saturating_sub(instance.tunnels), instance.tunnels);
        if left != (0, 0) && told.replace(left) != Some(left) {
            eprintln!("{id}: {} and {} left", counted(left.0, "request"), counted(left.1, "tunnel"));
        }
    }
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
