//! Watches a deployment: one line for everything that happens, and at the end how it ended.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use everup_admin::api::{DeploymentState, DeploymentStatus};
use everup_admin::{Client, ClientError};

use crate::table::printable;

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(100);

/// A worker that is being replaced answers again within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Exit codes of a deployment.
const ROLLED_BACK: u8 = 3;
const HELD: u8 = 4;
/// As a shell reports SIGINT.
const LEFT: u8 = 130;

/// Who asks, for the history.
pub(crate) fn user() -> String {
    let told = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    told.filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

/// What whoever watches asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// To go back: then that is no failure.
    pub(super) back: bool,
    pub(super) json: bool,
}

/// Tells everything that happens until it is over, or waits for the operator.
pub(super) async fn follow(
    client: &Client,
    service: &str,
    id: &str,
    Wanted { back, json }: Wanted,
) -> anyhow::Result<ExitCode> {
    let mut told = Told { events: 0, head: false };
    loop {
        let Some(deployment) = look(client, service, id).await? else { return Ok(left(service)) };
        if !json {
            told.tell(&deployment)?;
        }
        let code = code(deployment.state).filter(|_| !back || is_over(deployment.state));
        if let Some(code) = code {
            if json {
                println!("{}", serde_json::to_string(&deployment)?);
            } else {
                tell_end(&deployment);
            }
            let came_back = back && deployment.state == DeploymentState::RolledBack;
            return Ok(ExitCode::from(if came_back { 0 } else { code }));
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = tokio::signal::ctrl_c() => return Ok(left(service)),
        }
    }
}

fn left(service: &str) -> ExitCode {
    eprintln!(
        "\neverup: you left; the deployment goes on. `everup status` shows it, `everup abort {service}` stops it"
    );
    ExitCode::from(LEFT)
}

/// None: Ctrl-C.
async fn look(client: &Client, service: &str, id: &str) -> anyhow::Result<Option<DeploymentStatus>> {
    let began = tokio::time::Instant::now();
    loop {
        let asked = tokio::select! {
            asked = client.deployment(service) => asked,
            _ = tokio::signal::ctrl_c() => return Ok(None),
        };
        match asked {
            Ok(deployment) if deployment.id == id => return Ok(Some(deployment)),
            Ok(_) => return earlier(client, service, id).await.map(Some),
            // The worker may just be replaced: the next one goes on with the deployment.
            Err(
                ClientError::Broken { .. } | ClientError::Connect { .. } | ClientError::NotRunning { .. },
            ) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(PERIOD).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Another one has begun meanwhile.
async fn earlier(client: &Client, service: &str, id: &str) -> anyhow::Result<DeploymentStatus> {
    let found = client.deployments(service).await?.into_iter().find(|one| one.id == id);
    found.ok_or_else(|| anyhow::anyhow!("deployment {id} is not known any more"))
}

/// None: it goes on.
fn code(state: DeploymentState) -> Option<u8> {
    match state {
        DeploymentState::Running | DeploymentState::GoingBack | DeploymentState::Paused => None,
        DeploymentState::Keeping | DeploymentState::Done => Some(0),
        DeploymentState::RolledBack => Some(ROLLED_BACK),
        DeploymentState::Awaiting | DeploymentState::Held => Some(HELD),
    }
}

fn is_over(state: DeploymentState) -> bool {
    match state {
        DeploymentState::Done | DeploymentState::RolledBack | DeploymentState::Held => true,
        DeploymentState::Running
        | DeploymentState::Awaiting
        | DeploymentState::Paused
        | DeploymentState::Keeping
        | DeploymentState::GoingBack => false,
    }
}

struct Told {
    events: usize,
    head: bool,
}

impl Told {
    fn tell(&mut self, deployment: &DeploymentStatus) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let DeploymentStatus { id, service, from, to, strategy, events, .. } = deployment;
        if !std::mem::replace(&mut self.head, true) {
            writeln!(out, "{service}: {from} -> {to}, {strategy}, deployment {id}")?;
        }
        for event in events.iter().skip(self.events) {
            writeln!(out, "{:>8.1} s  {}", event.after_seconds, printable(&event.text))?;
        }
        self.events = events.len();
        out.flush()
    }
}

fn tell_end(deployment: &DeploymentStatus) {
    let DeploymentStatus { service, from, to, state, text, log, .. } = deployment;
    if !log.is_empty() {
        println!("last words of the instance that failed:");
        log.iter().for_each(|line| println!("  | {}", printable(line)));
    }
    match state {
        DeploymentState::Keeping => {
            println!("{to} serves; {from} is kept: `everup rollback {service}` goes back at once");
        }
        DeploymentState::Awaiting => {
            println!("{to} waits for you: `everup promote {service}`, or `everup abort {service}`")
        }
        DeploymentState::Held => println!(
            "{}\n`everup resume {service}` goes on, `everup rollback {service}` goes back",
            printable(text)
        ),
        DeploymentState::RolledBack => println!("{}", printable(text)),
        DeploymentState::Running
        | DeploymentState::Paused
        | DeploymentState::GoingBack
        | DeploymentState::Done => {}
    }
}
