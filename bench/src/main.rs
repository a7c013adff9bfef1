//! everup beside HAProxy and nginx on the same work, in one run.
//!
//! Each proxy has one data-plane thread, pinned to one core; origin and load share another core. The proxies take
//! turns (A B C, A B C, ...), so that the machine's drift hits all alike, and what is compared is the ratio within a
//! round. The figure is the proxy's own CPU time per request; speed follows from it. This program does not judge:
//! docs/benchmarks.md says what was measured with it and what is promised.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use cell::Cell;
use origin::Origin;
use proxy::{Kind, Proxy};
use table::Results;

mod cell;
mod cores;
mod cpu;
mod load;
mod origin;
mod percentile;
mod ports;
mod proxy;
mod readiness;
mod table;

/// Compares everup with HAProxy and nginx: CPU time of the proxy per request.
#[derive(Parser)]
struct Arguments {
    /// Turns that each proxy takes in each cell.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one measurement in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Comma-separated cells `[tcp:]CONNECTIONS:PATH[:RATE][:big]`. PATH is /, /64k or /1m; RATE in requests per
    /// second, without it (or 0) every connection sends its next request at once; big: 15 header fields.
    #[arg(long, value_delimiter = ',', default_value = cell::DEFAULT)]
    cells: Vec<Cell>,
    /// The everup to measure. Without it this program builds the one beside it.
    #[arg(long)]
    everup: Option<PathBuf>,
    /// One very short round, only to see that everything starts and answers.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        arguments.rounds = 1;
        arguments.seconds = 0.2;
        arguments.cells = vec!["4:/".parse()?, "4:/:200".parse()?, "2:/64k".parse()?, "tcp:2:/".parse()?];
    }
    let everup = match arguments.everup.take() {
        Some(path) => path.canonicalize().with_context(|| format!("no everup at {}", path.display()))?,
        None => build_everup()?,
    };
    let pair = cores::two()?;
    let directory = tempfile::tempdir().context("cannot make a directory for configurations")?;
    cores::pin_this_thread(pair.load)?;
    let origins = [Origin::start()?, Origin::start()?];
    let addresses = origins.each_ref().map(|origin| origin.address);
    let mut proxies = Vec::new();
    for kind in Kind::installed() {
        proxies.push(Proxy::start(kind, &everup, &addresses, directory.path(), &pair)?);
    }
    let results = measure(&arguments, &proxies)?;
    println!("{}", results.to_markdown());
    ensure!(!arguments.smoke || results.errors() == 0, "{} requests failed", results.errors());
    Ok(())
}

/// Lets every proxy take its turn in every cell, as often as was asked.
fn measure(arguments: &Arguments, proxies: &[Proxy]) -> Result<Results> {
    let mut results = Results::default();
    for round in 1..=arguments.rounds {
        for cell in &arguments.cells {
            for proxy in proxies.iter().filter(|proxy| proxy.kind.takes_part_in(cell)) {
                let address = if cell.tcp { proxy.tcp } else { proxy.http };
                let length = Duration::from_secs_f64(arguments.seconds);
                let sample = load::run(cell, address, length, || proxy.cpu_time())
                    .with_context(|| format!("{} in cell {cell}", proxy.kind))?;
                eprintln!(
                    "round {round} {cell} {}: {:.2} us/request",
                    proxy.kind,
                    sample.cpu_per_request_us()
                );
                results.add(cell, proxy.kind, sample);
            }
        }
    }
    Ok(results)
}

/// Builds everup with the profile of this program and returns where it lies: in the same directory.
fn build_everup() -> Result<PathBuf> {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "everup"]);
    if cfg!(debug_assertions) {
        eprintln!("bench: a debug build: its figures mean nothing, use `cargo run --release`");
    } else {
        build.arg("--release");
    }
    if !build.status().context("cannot start cargo")?.success() {
        bail!("everup could not be built");
    }
    let own = std::env::current_exe().context("where this program lies")?;
    Ok(own.with_file_name("everup"))
}
