//! `everup explain ID`: what happened to a request, attempt by attempt, and where its time went; or why a deployment did
//! what it did.

mod deployment;

use std::fmt::Write;
use std::process::ExitCode;

use everup_admin::api::{DeploymentStatus, ExplainedEvent, ExplainedRequest, Explanation};

use crate::find::{self, Find};

/// Which request or deployment.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A request's X-Request-Id, which the application and the access log know and every error page of everup shows; or a
    /// deployment's id, as `everup history` tells it
    #[arg(value_name = "ID")]
    id: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// What was found.
enum Found {
    Request(Box<Explanation>),
    Deployment(Box<DeploymentStatus>),
}

/// Exit 1 if nothing is remembered of it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { id, json, find } = args;
    let found = find::block_on(async {
        let client = find.connect().await?;
        match client.explain(&id).await {
            Ok(explanation) => Ok(Found::Request(Box::new(explanation))),
            Err(why) => match deployment::find(&client, &id).await {
                Some(deployment) => Ok(Found::Deployment(Box::new(deployment))),
                None => Err(why.into()),
            },
        }
    })?;
    match found {
        Found::Request(explanation) if json => println!("{}", serde_json::to_string(&explanation)?),
        Found::Request(explanation) => print!("{}", in_words(&explanation)),
        Found::Deployment(one) if json => println!("{}", serde_json::to_string(&one)?),
        Found::Deployment(one) => print!("{}", deployment::in_words(&one)),
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(explanation: &Explanation) -> String {
    let Explanation { id, requests } = explanation;
    let mut text = String::new();
    for (index, request) in requests.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        tell(&mut text, id, request);
    }
    text
}

fn tell(text: &mut String, id: &str, request: &ExplainedRequest) {
    let ExplainedRequest { time, client, method, host, path, listener, route, service, events, .. } = request;
    let way = route.map_or_else(String::new, |route| format!(", route {route}"));
    put(text, &format!("request {id}: {method} {host}{path}"));
    put(text, &format!("at {time} from {client}, by listener {listener}{way} to service {service}"));
    events.iter().for_each(|event| tell_event(text, event));
    if request.events_left_out > 0 {
        put(
            text,
            &format!(
                "(of what happened in the middle, {} more events are left out)",
                request.events_left_out
            ),
        );
    }
    put(text, &format!("verdict: {}", verdict(request)));
    put(text, &format!("time: {}", times(request)));
    put(text, &format!("bytes: {} in, {} out", request.bytes_in, request.bytes_out));
}

fn tell_event(text: &mut String, event: &ExplainedEvent) {
    let ExplainedEvent { at_ms, attempt, ms, table, instance, text: what, kind: _ } = event;
    let line = match (attempt, instance) {
        (Some(attempt), Some(instance)) => {
            format!("attempt {attempt} (table {table}): {instance} {what}, after {}", lasting(*ms))
        }
        _ => format!("{what} (table {table}), for {}", lasting(*ms)),
    };
    put(text, &format!("{:>14} {line}", format!("+{}", lasting(*at_ms))));
}

fn verdict(request: &ExplainedRequest) -> String {
    let attempts = match request.attempts {
        0 => "no instance was tried".to_owned(),
        1 => "after 1 attempt".to_owned(),
        n => format!("after {n} attempts"),
    };
    let status = request.status.map_or_else(|| "nothing".to_owned(), |status| status.to_string());
    match request.verdict.as_str() {
        "refused" => format!("refused, {attempts}: everup itself answered with {status}"),
        "cut" => format!("cut, {attempts}: the client got {status} and not all of the answer"),
        "client-gone" => format!("client-gone, {attempts}: the client left before it had the answer"),
        word => format!("{word}, {attempts}: the client got {status}"),
    }
}

fn times(request: &ExplainedRequest) -> String {
    let phases = [
        (request.parked_ms, "waiting for an instance"),
        (request.queued_ms, "in the queue"),
        (request.tried_ms, "in attempts that failed"),
        (request.connect_ms, "connecting"),
        (request.first_byte_ms, "until the answer began"),
        (request.last_byte_ms, "until it was whole"),
    ];
    let spent = phases.iter().filter(|(ms, _)| *ms > 0.0);
    let parts: Vec<String> = spent.map(|(ms, what)| format!("{} {what}", lasting(*ms))).collect();
    format!("{} ({})", lasting(request.ms), parts.join(", "))
}

fn lasting(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.3} s", ms / 1000.0) } else { format!("{ms:.3} ms") }
}

fn put(text: &mut String, line: &str) {
    // Clients choose ids and paths: nothing of them may move the cursor. Writing to a string cannot fail.
    let shown = line.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    let _ = writeln!(text, "{}", shown.collect::<String>());
}

#[cfg(test)]
mod tests;
