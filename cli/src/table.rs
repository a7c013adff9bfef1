//! The status as people read it: aligned tables, coloured on a terminal. Pure: a status in, text out.

use std::fmt::Write;

use everup_admin::api::{
    DeploymentState, DeploymentStatus, InstanceState, InstanceStatus, ListenerStatus, ServiceStatus, Status,
    StepState,
};

use crate::verb::upgrade;

/// What follows from that the keeper is gone.
const KEEPER_GONE: &str = "the keeper is gone: traffic goes on, but no process is started, and nothing is reloaded or deployed, until \
                           `everup run` is started again with the same configuration file; it takes over without a gap";

/// The whole status, with a line break at its end. Without `coloured` it holds no escape sequence.
pub(crate) fn render(status: &Status, coloured: bool) -> String {
    let mut text = String::new();
    head(&mut text, status, coloured);
    listeners(&mut text, &status.listeners);
    for service in &status.services {
        text.push('\n');
        service_line(&mut text, service, coloured);
        if let Some(lock) = &service.lock {
            put(&mut text, &format!("  {}", paint(&printable(lock), Colour::Yellow, coloured)));
        }
        deployment(&mut text, service, coloured);
        instances(&mut text, &service.instances, coloured);
    }
    text
}

/// What is being deployed: where it is, both sides, and the steps around the present one.
fn deployment(text: &mut String, service: &ServiceStatus, coloured: bool) {
    let Some(deployment) = &service.deployment else { return };
    let DeploymentStatus { from, to, strategy, text: now, lasted_seconds, replicas, old, new, steps, .. } =
        deployment;
    let (colour, word) = match deployment.state {
        DeploymentState::Held => (Colour::Red, "held"),
        DeploymentState::GoingBack => (Colour::Red, "goes back"),
        DeploymentState::Awaiting | DeploymentState::Paused => (Colour::Yellow, "waits"),
        DeploymentState::Running | DeploymentState::Keeping => (Colour::Green, "deploys"),
        DeploymentState::Done | DeploymentState::RolledBack => (Colour::Dim, "over"),
    };
    let taken = steps.iter().filter(|step| step.state == StepState::Done).count();
    put(
        text,
        &format!(
            "  {} {from} -> {to}  {strategy}  step {} of {}, {}",
            paint(word, colour, coloured),
            (taken + 1).min(steps.len()),
            steps.len(),
            lasting(*lasted_seconds),
        ),
    );
    put(text, &format!("    now: {}", printable(now)));
    if let Some(next) = steps.iter().find(|step| step.state == StepState::Todo) {
        put(text, &format!("    next: {}", next.text));
    }
    for (revision, side) in [(from, old), (to, new)] {
        put(text, &format!("    {revision}: {} up, {} of {replicas} take requests", side.up, side.takes));
    }
}

fn head(text: &mut String, status: &Status, coloured: bool) {
    let Status { node, version, keeper_pid, worker_pid, worker_restarts, generation, connections, .. } =
        status;
    let state = match (status.stopping, status.ready) {
        (true, _) => paint("stopping", Colour::Yellow, coloured),
        (false, true) => paint("ready", Colour::Green, coloured),
        (false, false) => paint("not ready", Colour::Red, coloured),
    };
    let keeper = match status.keeper_gone {
        true => paint("keeper: gone", Colour::Red, coloured),
        false => format!("keeper {keeper_pid}"),
    };
    let replaced = match worker_restarts {
        0 => String::new(),
        n => format!(", replaced {}", times(u64::from(*n))),
    };
    put(
        text,
        &format!(
            "{node}: {state} for {}, everup {version}, {keeper}, worker {worker_pid}{replaced}, \
             table {generation}, {}",
            lasting(status.uptime_seconds),
            counted(*connections, "connection"),
        ),
    );
    if status.keeper_gone {
        put(text, &format!("{} {KEEPER_GONE}", paint("WARNING", Colour::Red, coloured)));
    }
    for warning in &status.warnings {
        put(text, &format!("{} {}", paint("WARNING", Colour::Red, coloured), printable(warning)));
    }
    if let Some(metrics) = &status.metrics {
        put(text, &format!("metrics http://{metrics}/metrics"));
    }
    for worker in &status.leaving {
        let what = upgrade::what_stays(worker).unwrap_or_else(|| "nothing".to_owned());
        let (word, version) = (paint("leaves", Colour::Yellow, coloured), &worker.version);
        let left = lasting(worker.ends_in_seconds);
        put(
            text,
            &format!("worker {} of everup {version} {word}: has {what}, ends within {left}", worker.pid),
        );
    }
}

fn listeners(text: &mut String, listeners: &[ListenerStatus]) {
    for ListenerStatus { protocol, addresses, routes, service, tls } in listeners {
        let protocol = if *tls && protocol == "http" { "https" } else { protocol };
        let default = service.as_ref().map(|service| format!(" -> {service}")).unwrap_or_default();
        let routes = match routes {
            0 => String::new(),
            n => format!(" ({})", counted(*n as u64, "route")),
        };
        put(text, &format!("{protocol:<4} {}{default}{routes}", addresses.join(", ")));
    }
}

fn service_line(text: &mut String, service: &ServiceStatus, coloured: bool) {
    let ServiceStatus {
        name,
        balance,
        requests_per_second,
        in_flight,
        parked,
        queued,
        errors,
        retries,
        leaves,
        ..
    } = service;
    let leaves = if *leaves { "  no longer in the configuration" } else { "" };
    let name = paint(name, Colour::Bold, coloured);
    let parked_text = format!("{parked} parked");
    let parked = if *parked > 0 { paint(&parked_text, Colour::Yellow, coloured) } else { parked_text };
    let queued = match queued {
        0 => String::new(),
        some => format!("  {}", paint(&format!("{some} queued"), Colour::Yellow, coloured)),
    };
    let errors_text = counted(*errors, "error");
    let errors = if *errors > 0 { paint(&errors_text, Colour::Red, coloured) } else { errors_text };
    put(
        text,
        &format!(
            "{name}  {balance}  {requests_per_second:.1} requests/s  {in_flight} in flight  {parked}{queued}  {errors}  \
             {}  p50 {}  p99 {}{leaves}",
            if *retries == 1 { "1 retry".to_owned() } else { format!("{retries} retries") },
            milliseconds(service.p50_ms),
            milliseconds(service.p99_ms),
        ),
    );
}

/// The columns of the table of instances; those that are empty for every instance are left out.
const COLUMNS: [&str; 12] = [
    "INSTANCE",
    "STATE",
    "SINCE",
    "ADDRESS",
    "ROLE",
    "WEIGHT",
    "REQUESTS",
    "IN FLIGHT",
    "TUNNELS",
    "PID",
    "REVISION",
    "RESTARTS",
];
const STATE: usize = 1;
/// These hold numbers and are aligned to the right.
const NUMBERS: std::ops::RangeInclusive<usize> = 5..=9;

fn instances(text: &mut String, instances: &[InstanceStatus], coloured: bool) {
    let rows: Vec<[String; COLUMNS.len()]> = instances.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let shown: Vec<(usize, usize)> = (0..COLUMNS.len())
        .map(|column| (column, width(column)))
        .filter(|(_, width)| *width > 0)
        .map(|(column, width)| (column, width.max(COLUMNS[column].len())))
        .collect();
    let titles = shown.iter().map(|&(column, width)| aligned(column, COLUMNS[column], width));
    put(text, &format!("  {}", titles.collect::<Vec<_>>().join("  ")));
    for (row, instance) in rows.iter().zip(instances) {
        let mut line = String::from(" ");
        for &(column, width) in &shown {
            let cell = aligned(column, &row[column], width);
            let cell = if column == STATE { paint(&cell, colour(instance.state), coloured) } else { cell };
            // Writing to a string cannot fail.
            let _ = write!(line, " {cell} ");
        }
        let returns = instance.returns_in_seconds.map(|left| format!("; returns in {left:.0} s"));
        put(text, &format!("{line} {}{}", instance.reason, returns.unwrap_or_default()));
        for logged in &instance.log {
            put(text, &format!("      {} {}", paint("log:", Colour::Dim, coloured), printable(logged)));
        }
    }
}

fn cells(instance: &InstanceStatus) -> [String; COLUMNS.len()] {
    let InstanceStatus { name, address, state, weight, backup, requests, in_flight, tunnels, .. } = instance;
    let unless = |value: u64, usual: u64| if value == usual { String::new() } else { value.to_string() };
    [
        name.clone(),
        state.to_string(),
        lasting(instance.since_seconds),
        if address == name { String::new() } else { address.clone() },
        if *backup { "backup".to_owned() } else { String::new() },
        unless(u64::from(*weight), 1),
        requests.to_string(),
        in_flight.to_string(),
        unless(*tunnels, 0),
        instance.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        instance.revision.clone().unwrap_or_default(),
        unless(instance.restarts, 0),
    ]
}

fn aligned(column: usize, cell: &str, width: usize) -> String {
    if NUMBERS.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
}

/// Adds a line without trailing blanks.
fn put(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// An application's own words must not steer the operator's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
    Bold,
}

/// How a state is shown.
pub(crate) fn colour(state: InstanceState) -> Colour {
    match state {
        InstanceState::Up => Colour::Green,
        InstanceState::Down | InstanceState::Backoff | InstanceState::CrashLooping => Colour::Red,
        InstanceState::Unknown
        | InstanceState::Ejected
        | InstanceState::Draining
        | InstanceState::Starting => Colour::Yellow,
        InstanceState::Drained | InstanceState::Standby | InstanceState::Stopped => Colour::Dim,
    }
}

/// ECMA-48 select graphic rendition.
pub(crate) fn paint(text: &str, colour: Colour, coloured: bool) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Dim => 2,
        Colour::Bold => 1,
    };
    if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

pub(crate) fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Three digits that matter.
pub(crate) fn milliseconds(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2} ms"),
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// The two largest units: `4s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub(crate) fn lasting(seconds: f64) -> String {
    // Negative and absurd values are shown as the nearest that makes sense: `as` saturates.
    let s = seconds as u64;
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, m) => format!("{m}m {}s", s % 60),
        (0, h, m) => format!("{h}h {}m", m % 60),
        (d, h, _) => format!("{d}d {}h", h % 24),
    }
}

#[cfg(test)]
mod tests;
