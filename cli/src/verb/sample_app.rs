//! `everup sample-app`: one instance of the sample application that the quickstart runs.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use crate::find;
use crate::sample_app::{Sample, serve};

/// Where it listens and how it behaves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// What it calls itself [default: $EVERUP_INSTANCE, else sample-app]
    #[arg(long)]
    name: Option<String>,
    /// Wait this many milliseconds before every answer but /healthz
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Fail at once, as an application with a mistake in it does
    #[arg(long)]
    fail_start: bool,
}

/// Serves until it is told to stop; exit 0 when every request in flight was finished.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { port, bind, name, delay, fail_start } = args;
    if fail_start {
        println!("sample-app: reading settings");
        println!(
            "sample-app: cannot reach the database at db.example:5432 (this is what --fail-start is for)"
        );
        return Ok(ExitCode::FAILURE);
    }
    let told = |variable, otherwise: &str| std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned());
    let sample = Sample {
        address: SocketAddr::new(bind, port),
        name: name.unwrap_or_else(|| told("EVERUP_INSTANCE", "sample-app")),
        revision: told("EVERUP_REVISION", "none"),
        delay: Duration::from_millis(delay),
    };
    find::block_on(serve(sample))?;
    Ok(ExitCode::SUCCESS)
}
