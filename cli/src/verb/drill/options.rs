//! The command line of `everup drill`. What may be how large stands in [`everup_drill::limits`].

use std::path::PathBuf;
use std::time::Duration;

use everup_drill::limits::{
    BODY, COMMAND, CONNECTIONS, EVERY, FREEZE, RATE, TIMEOUT, TIMES, WARM_UP, WEBSOCKETS,
};

use super::event::EventKind;
use crate::find::Find;

/// How often a command is run against another proxy: some things go wrong only now and then.
const TIMES_OF_COMMAND: u32 = 5;

/// Which everup, and what to do with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(flatten)]
    pub(super) find: Find,
}

/// What a drill does.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// What happens under the load, one after the other [default: kill-instance]
    #[arg(long, value_name = "EVENT,...", value_enum, value_delimiter = ',')]
    events: Vec<EventKind>,
    /// Service to drill [default: the first that everup runs and an http listener leads to]
    #[arg(long)]
    pub(super) service: Option<String>,
    /// Send the load to any other proxy instead, and tell what it loses
    #[arg(
        long,
        value_name = "URL",
        requires = "command",
        conflicts_with_all = ["events", "service", "freeze", "config", "admin"]
    )]
    url: Option<String>,
    /// With --url: the event is this command, run by sh: 'nginx -s reload'
    #[arg(long = "while", value_name = "COMMAND", requires = "url")]
    command: Option<String>,
    /// With --url: the other end is mine, though its address is neither loopback nor private
    #[arg(long, requires = "url")]
    pub(super) i_own_this: bool,
    /// Go through all events so many times [default: 1, with --url 5]
    #[arg(long, value_name = "ROUNDS", value_parser = |text: &str| TIMES.read_whole(text))]
    times: Option<u32>,
    /// From the beginning of an event to that of the next [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| EVERY.read(text))]
    every: Option<f64>,
    /// How long load is sent before the first event [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| WARM_UP.read(text))]
    warm_up: Option<f64>,
    /// How long freeze-instance leaves it frozen [default: 3]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| FREEZE.read(text))]
    freeze: Option<f64>,
    /// How long the command may take before it is killed with its process group [default: 30]
    #[arg(long, value_name = "SECONDS", requires = "url", value_parser = |text: &str| COMMAND.read(text))]
    command_time: Option<f64>,
    /// Requests per second [default: 200]
    #[arg(long, help_heading = "Load", value_parser = |text: &str| RATE.read(text))]
    rate: Option<f64>,
    /// Path of GETs [default: that of --url, else /]
    #[arg(long, help_heading = "Load")]
    pub(super) path: Option<String>,
    /// Every second request is a POST to this path; without it none is
    #[arg(long, help_heading = "Load", value_name = "PATH")]
    pub(super) post: Option<String>,
    /// Size of the body of a POST [default: 1024]
    #[arg(long, help_heading = "Load", value_name = "BYTES", requires = "post",
        value_parser = |text: &str| BODY.read_whole(text))]
    body: Option<u32>,
    /// Kept connections, used in turns; every second request has one of its own [default: 20]
    #[arg(long, help_heading = "Load", value_name = "NUMBER", value_parser = |text: &str| CONNECTIONS.read_whole(text))]
    connections: Option<u32>,
    /// WebSockets beside the requests, a message a second each [default: 0]
    #[arg(long, help_heading = "Load", value_name = "NUMBER", value_parser = |text: &str| WEBSOCKETS.read_whole(text))]
    websockets: Option<u32>,
    /// Path of the WebSockets [default: /ws]
    #[arg(long, help_heading = "Load", value_name = "PATH", requires = "websockets")]
    websocket_path: Option<String>,
    /// How long a request may take before it is lost [default: 10]
    #[arg(long, help_heading = "Load", value_name = "SECONDS", value_parser = |text: &str| TIMEOUT.read(text))]
    timeout: Option<f64>,
    /// Another Host than the URL's; on https also the name that the certificate must be for
    #[arg(long, help_heading = "Load", value_name = "NAME")]
    pub(super) host: Option<String>,
    /// On https, believe whom this file in PEM vouches for
    #[arg(long, help_heading = "Load", value_name = "FILE", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,
    /// On https, believe anybody
    #[arg(long, help_heading = "Load")]
    pub(super) insecure: bool,
    /// Do not ask before it starts
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Draw the latencies with the events marked into this file
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

/// What is drilled.
pub(super) enum Purpose<'a> {
    OwnEverup,
    Proxy { url: &'a str, command: &'a str },
}

impl Options {
    /// As on the command line with `--yes` and nothing else.
    pub(crate) fn unasked() -> Self {
        Self { yes: true, ..Self::default() }
    }

    pub(super) fn purpose(&self) -> Purpose<'_> {
        match (&self.url, &self.command) {
            (Some(url), Some(command)) => Purpose::Proxy { url, command },
            _ => Purpose::OwnEverup,
        }
    }

    pub(super) fn events(&self) -> Vec<EventKind> {
        if self.events.is_empty() { vec![EventKind::KillInstance] } else { self.events.clone() }
    }

    pub(super) fn times(&self) -> u32 {
        let otherwise = if self.url.is_some() { TIMES_OF_COMMAND } else { 1 };
        self.times.unwrap_or(otherwise)
    }

    pub(super) fn every(&self) -> Duration {
        seconds(self.every, 5.0)
    }

    pub(super) fn warm_up(&self) -> Duration {
        seconds(self.warm_up, 2.0)
    }

    pub(super) fn freeze(&self) -> Duration {
        seconds(self.freeze, 3.0)
    }

    pub(super) fn command_time(&self) -> Duration {
        seconds(self.command_time, 30.0)
    }

    pub(super) fn timeout(&self) -> Duration {
        seconds(self.timeout, 10.0)
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate.unwrap_or(200.0)
    }

    pub(super) fn body(&self) -> usize {
        self.body.unwrap_or(1024) as usize
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.unwrap_or(20) as usize
    }

    pub(super) fn websockets(&self) -> usize {
        self.websockets.unwrap_or(0) as usize
    }

    pub(super) fn websocket_path(&self) -> &str {
        self.websocket_path.as_deref().unwrap_or("/ws")
    }
}

fn seconds(given: Option<f64>, otherwise: f64) -> Duration {
    Duration::from_secs_f64(given.unwrap_or(otherwise))
}
