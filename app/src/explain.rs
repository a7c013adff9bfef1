//! What the data plane remembers of a request -> the words of the admin API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everup_admin::Refusal;
use everup_admin::api::{ExplainedEvent, ExplainedRequest, Explanation};
use everup_core::calendar;
use everup_core::exchange::Failure;
use everup_gateway::{Event, REMEMBERED, REMEMBERED_TIME, Tale, What};

/// The longest part of an id that is said back.
const ID_BYTES: usize = 128;

/// What is known of the requests with this id; refused if that is nothing.
pub(crate) fn explanation(id: String, tales: &[Tale]) -> Result<Explanation, Refusal> {
    if tales.is_empty() {
        let id: String = id.chars().take(ID_BYTES).collect();
        let minutes = REMEMBERED_TIME.as_secs() / 60;
        return Err(Refusal::NotFound(format!(
            "nothing is remembered of request {id}: only requests that failed, were cut, retried or parked are, for \
             {minutes} minutes, the last {REMEMBERED} of them at most, and not over a restart of the worker"
        )));
    }
    Ok(Explanation { id, requests: tales.iter().map(request).collect() })
}

fn request(tale: &Tale) -> ExplainedRequest {
    let Tale { started, client, method, host, path, listener, route, service, instance, .. } = tale.clone();
    let Tale { id: _, generation, attempts, status, verdict, bytes_in, bytes_out, phases, .. } = *tale;
    ExplainedRequest {
        time: rfc_3339(started),
        client,
        method,
        host,
        path,
        listener: listener as u64 + 1,
        route: route.map(|route| route as u64 + 1),
        service,
        instance,
        table: generation.0,
        attempts,
        status: (status > 0).then_some(status),
        verdict: verdict.word().to_owned(),
        bytes_in,
        bytes_out,
        ms: ms(phases.total()),
        parked_ms: ms(phases.parked),
        queued_ms: ms(phases.queued),
        tried_ms: ms(phases.tried),
        connect_ms: ms(phases.connect),
        first_byte_ms: ms(phases.first_byte),
        last_byte_ms: ms(phases.last_byte),
        events: tale.events.iter().map(event).collect(),
        events_left_out: tale.left_out as u64,
    }
}

fn event(event: &Event) -> ExplainedEvent {
    let Event { at, attempt, lasted, generation, what } = event;
    let (kind, instance, text) = match what {
        What::Parked => ("parked", None, "waited: no instance could take it".to_owned()),
        What::Queued => ("queued", None, "waited in the queue: every instance was at its limit".to_owned()),
        What::Answered { instance, status } => {
            ("answered", Some(instance), format!("answered with {status}"))
        }
        What::Failed { instance, failure, written, answered } => {
            ("failed", Some(instance), in_words(*failure, *written, *answered).to_owned())
        }
    };
    ExplainedEvent {
        at_ms: ms(*at),
        attempt: (*attempt > 0).then_some(*attempt),
        ms: ms(*lasted),
        table: generation.0,
        kind: kind.to_owned(),
        instance: instance.map(|instance| instance.to_string()),
        text,
    }
}

fn in_words(failure: Failure, written: bool, answered: bool) -> &'static str {
    match failure {
        Failure::ConnectRefused => "refused the connection",
        Failure::ConnectFailed => "could not be connected to",
        Failure::ConnectTimeout => "did not take the connection within timeout.connect",
        Failure::HandshakeFailed => "did not agree on TLS with everup",
        Failure::Lost if answered => "broke off in the middle of its answer",
        Failure::Lost if written => "broke off before it had answered",
        Failure::Lost => "closed the connection before it was sent anything",
        Failure::Stale => "closed the connection, kept from an earlier request, as the request was sent",
        Failure::JudgedDown => "was judged down before it had answered",
        Failure::AttemptTimeout => "did not answer within timeout.attempt",
        Failure::BadAnswer if answered => "broke the rules of HTTP in the middle of its answer",
        Failure::BadAnswer => "answered with what is no valid HTTP",
        Failure::RequestTimeout => "did not answer before timeout.request was over",
    }
}

/// To the microsecond.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// UTC, with milliseconds.
fn rfc_3339(time: SystemTime) -> String {
    calendar::rfc_3339(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
