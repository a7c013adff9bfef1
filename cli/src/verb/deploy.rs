//! `everup deploy SERVICE REVISION`: replace what runs by another revision, and watch. It is everup that deploys: whoever
//! watches may leave.

mod follow;

use std::process::ExitCode;

use crate::find::{self, Find};

use follow::Wanted;
pub(crate) use follow::user;

/// What to deploy and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as the configuration names it
    service: String,
    /// The revision; it replaces {revision} in the service's `command`
    revision: String,
    /// rolling or blue-green, instead of the configured strategy
    #[arg(long, value_name = "STRATEGY")]
    strategy: Option<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Return at once instead of watching
    #[arg(long)]
    detach: bool,
    /// Print the deployment as JSON when it is over
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 0: it serves; 1: refused; 3: rolled back; 4: held, it waits for you. 130: left with Ctrl-C, and it goes on.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { service, revision, strategy, reason, detach, json, find } = args;
    find::block_on(async {
        let client = find.connect().await?;
        let by = user();
        let asked = client.deploy(&service, &revision, strategy.as_deref(), (&by, reason.as_deref()));
        let id = asked.await?.message;
        if detach {
            println!("deployment {id} has begun: `everup status` shows it");
            return Ok(ExitCode::SUCCESS);
        }
        follow::follow(&client, &service, &id, Wanted { back: false, json }).await
    })
}

/// Watches the last deployment of a service, whatever it is. `back`: it is wanted to go back.
pub(crate) async fn watch(
    client: &everup_admin::Client,
    service: &str,
    back: bool,
) -> anyhow::Result<ExitCode> {
    let id = client.deployment(service).await?.id;
    follow::follow(client, service, &id, Wanted { back, json: false }).await
}
